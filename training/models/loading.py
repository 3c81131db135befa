"""What loading any model shares: the dtypes it may compute in, and the error, in one line, for a
part that cannot be loaded."""

from __future__ import annotations

import torch

from modeling_expclip.system.terminal import one_line

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Which extra of pyproject.toml holds what transformers wants for a model's tokenizer or processor.
EXTRAS = {"sentencepiece": "training", "protobuf": "training", "torchvision": "vlm", "num2words": "vlm"}


def not_loaded(model: str, what: str, error: Exception) -> Exception:
    """The error to raise, from ``error``, which transformers gave for ``what`` of a folder or Hub
    id: an ImportError naming the extra for a package that is missing, a ValueError else."""
    words = one_line(error)
    missing = [name for name in EXTRAS if name in words.lower()] if isinstance(error, ImportError) else []
    if missing:
        extra = EXTRAS[missing[0]]
        return ImportError(
            f"the {what} of {model} needs {' and '.join(missing)}, which is not installed: "
            f"pip install 'expclip[{extra}]'"
        )
    return ValueError(f"{model} (folder or Hub id) has no {what} to load: {words}")
