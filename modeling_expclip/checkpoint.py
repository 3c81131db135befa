"""Checkpoint folders: load one, write one whole.

A folder is built beside its destination, verified there, and only then given its name: a failure leaves nothing behind.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import CLIPModel, CLIPProcessor, PreTrainedConfig, ProcessorMixin

from . import golden
from .modeling_expclip import ExpCLIPModel
from .processing_expclip import ExpCLIPProcessor


def load_checkpoint(folder: str | Path, dtype: torch.dtype = torch.float32) -> tuple[CLIPModel, ProcessorMixin]:
    """Loads an Exp-CLIP or plain CLIP checkpoint (folder or Hub id) with this library's code, whatever code the folder holds.

    Raises ValueError for another kind of model, or when weights are missing, too many or of the wrong shape.
    """
    folder = str(folder)
    if not Path(folder).is_dir() and (folder.count("/") != 1 or folder.startswith((".", "/", "~"))):
        raise FileNotFoundError(f"no checkpoint folder {folder!r}, and it is not a Hub id such as 'owner/name'")
    model_type = PreTrainedConfig.get_config_dict(folder)[0].get("model_type")
    classes = {"expclip": (ExpCLIPModel, ExpCLIPProcessor), "clip": (CLIPModel, CLIPProcessor)}
    if model_type not in classes:
        raise ValueError(f"{folder} holds a model of type {model_type!r}; expected one of {', '.join(classes)}")
    model_class, processor_class = classes[model_type]
    model, report = model_class.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    wrong = {kind: sorted(map(str, names)) for kind, names in report.items() if names}
    if wrong:
        raise ValueError(f"the weights in {folder} do not fit its config: {wrong}")
    return model.eval(), processor_class.from_pretrained(folder)


@contextmanager
def whole_folder(output: str | Path) -> Iterator[Path]:
    """Gives a temporary folder beside ``output`` that takes its name at the end, or disappears on any error."""
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} exists and is not an empty folder; choose another --output or remove it first")
    output.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp makes private folders
        if output.exists():
            output.rmdir()
        part.rename(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def save_checkpoint(
    model: CLIPModel,
    processor: ProcessorMixin,
    output: str | Path,
    card: str,
    reference: Callable[..., torch.Tensor] | None = None,
) -> None:
    """Writes model, processor, remote code, golden outputs and card to ``output``, loads them again and verifies them.

    ``reference`` is the model whose logits the folder must reproduce, by default ``model`` itself.
    """
    with whole_folder(output) as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        golden.write(reference or model, processor, folder)
        golden.verify(*load_checkpoint(folder), folder)
