"""Parts of a model that cannot be loaded: the error in one line, and where only a package is missing, the extra that holds it."""

from __future__ import annotations

from training.command import one_line

# Which extra of pyproject.toml holds what transformers wants for a model's tokenizer or processor.
EXTRAS = {"sentencepiece": "training", "protobuf": "training", "torchvision": "vlm", "num2words": "vlm"}


def not_loaded(model: str, what: str, error: Exception) -> Exception:
    """The error to raise, from ``error``, which transformers gave for ``what`` of a folder or Hub id: an ImportError naming the extra
    for a package that is missing, a ValueError else."""
    words = one_line(error)
    missing = [name for name in EXTRAS if name in words.lower()] if isinstance(error, ImportError) else []
    if missing:
        extra = EXTRAS[missing[0]]
        return ImportError(
            f"the {what} of {model} needs {' and '.join(missing)}, which is not installed: "
            f'pip install -e ".[{extra}]" in the clone of this repository'
        )
    return ValueError(f"{model} (folder or Hub id) has no {what} to load: {words}")
