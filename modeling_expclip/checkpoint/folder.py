"""The old names of load.py, save.py and processors.py, until every caller has followed."""

from .load import load_checkpoint, load_weights, model_type_of
from .save import save_checkpoint

__all__ = ["load_checkpoint", "load_weights", "model_type_of", "save_checkpoint"]
