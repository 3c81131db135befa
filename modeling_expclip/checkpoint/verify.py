"""`expclip verify`: is a checkpoint still what it was when it was written?"""

from __future__ import annotations

from pathlib import Path

from ..exporters.runtimes import exported_backend, load_image_tower
from . import golden
from .golden import VerificationError
from .load import load_checkpoint, model_type_of


def verify(source: str | Path) -> dict[str, float]:
    """Loads a checkpoint, recomputes its golden outputs, and loads its exported image tower where it has one.

    Of a folder on this machine, the files are compared with their recorded sha256 as well.

    Args:
        source: checkpoint folder or Hub id.

    Returns:
        The largest absolute difference of each golden output: `pixel_values` (0 to 1 before
        normalisation) and `logits_per_image`.

    Raises:
        VerificationError: a ValueError; a difference is beyond the tolerance stored in the checkpoint,
            or a file was changed, is damaged or missing.
        OSError: there is no such checkpoint.
        ImportError: it was exported for a runtime that is not installed.
    """
    model_type_of(str(source))  # what is not there was not changed
    differences = verify_outputs(source)
    try:
        backend = exported_backend(str(source))
        if backend is not None:
            load_image_tower(str(source), backend)  # which compares its files with their sha256
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
