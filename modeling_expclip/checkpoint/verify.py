"""`expclip verify`: is a checkpoint still what it was when it was written?"""

from __future__ import annotations

from pathlib import Path

from ..exporters.agreement import compare_tools
from ..exporters.runtimes import check_files, exported_backend, load_image_tower
from ..modeling_expclip import ExpCLIPMixin
from . import golden
from .golden import VerificationError
from .load import load_checkpoint, model_type_of


def verify(source: str | Path) -> dict[str, float]:
    """Loads a checkpoint, recomputes its golden outputs, and loads its exported image tower where it has one.

    Other tools that a plain CLIP is written for, and that are installed, are asked as well: ONNX Runtime,
    open_clip and sentence-transformers. Of a folder on this machine, the files are compared with their
    recorded sha256.

    Args:
        source: checkpoint folder or Hub id.

    Returns:
        The largest absolute difference of each golden output: `pixel_values` (0 to 1 before
        normalisation) and `logits_per_image`; and that of the logits in each other tool, by its name.

    Raises:
        VerificationError: a ValueError; a difference is beyond the tolerance stored in the checkpoint,
            or a file was changed, is damaged or missing.
        OSError: there is no such checkpoint.
        ImportError: it was exported for a runtime that is not installed.
    """
    source = str(source)
    model_type_of(source)  # what is not there was not changed
    try:
        model, processor = load_checkpoint(source)
        differences = golden.compare(model, processor, source)
        check_files(source)
        if backend := exported_backend(source):
            load_image_tower(source, backend)
        if not isinstance(model, ExpCLIPMixin):
            differences |= compare_tools(source, model, processor)
    except VerificationError:
        raise
    except (ValueError, OSError) as error:
        raise VerificationError(str(error)) from error
    return differences


def verify_outputs(source: str | Path) -> dict[str, float]:
    """As `verify`, of the model in torch only: no other runtime is needed."""
    try:
        return golden.compare(*load_checkpoint(source), source)
    except VerificationError:
        raise
    except (ValueError, OSError) as error:
        raise VerificationError(str(error)) from error
