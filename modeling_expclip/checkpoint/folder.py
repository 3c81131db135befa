"""Checkpoint folders: load one, write one whole.

A folder is built beside its destination, verified there, and only then given its name: a failure leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import CLIPModel, CLIPProcessor, PreTrainedConfig, PreTrainedModel, ProcessorMixin

from ..modeling_expclip import ExpCLIPModel
from ..processing_expclip import ExpCLIPProcessor, to_pil_processor
from ..system.files import check_apart
from . import golden
from .validation import WRONG_CONFIG, check_complete, check_config, check_processor, reason_of


def model_type_of(source: str, revision: str | None = None) -> str | None:
    """The model type in the config of a folder or Hub id, None where it names none. Raises OSError where there is no config."""
    return _read_config(source, revision).get("model_type")


def _read_config(source: str, revision: str | None = None) -> dict[str, Any]:
    folder = Path(source)
    if not folder.is_dir() and (source.count("/") != 1 or source.startswith((".", "/", "~"))):
        raise FileNotFoundError(f"no folder {source!r}, and it is not a Hub id such as 'owner/name'")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{source} has no config.json: it is no checkpoint")
    try:
        config = PreTrainedConfig.get_config_dict(source, revision=revision)[0]
        if not isinstance(config.get("model_type"), (str, type(None))):
            raise TypeError
        return config
    except OSError as error:
        if folder.is_dir():
            raise OSError(f"the config.json of {source} cannot be read: {error}") from error
        raise OSError(f"there is no folder {source!r} with a config, and as a Hub id it failed: {error}") from error
    except WRONG_CONFIG as error:  # a list, a number, brackets within brackets within brackets
        raise ValueError(f"the config.json of {source} is no JSON object with a model_type: it is damaged") from error


def load_weights(
    model_class: type[PreTrainedModel],
    source: str,
    dtype: torch.dtype,
    revision: str | None = None,
    *,
    leftover: bool = False,
    unused: tuple[str, ...] = (),
    **options: Any,
) -> PreTrainedModel:
    """``from_pretrained`` that accepts no weight missing, left over or of another shape: it raises ValueError.

    Args:
        leftover: accept weights the model has no place for, as of a checkpoint that holds more than this model.
        unused: weights that may be missing, by how their names begin.
        options: for ``from_pretrained``.
    """
    try:
        model, report = model_class.from_pretrained(
            source,
            revision=revision,
            dtype=dtype,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report, with their names
            **options,
        )
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"the weights in {source} cannot be read: {reason_of(error)}") from error
    report["missing_keys"] = [name for name in report["missing_keys"] if not name.startswith(unused)]
    if leftover:
        report.pop("unexpected_keys")
    wrong = {kind: _some(sorted(map(str, names))) for kind, names in report.items() if names}
    if wrong:
        raise ValueError(f"the weights in {source} do not fit its config: {wrong}")
    return model.eval()


def _some(names: list[str]) -> list[str]:
    return names if len(names) <= 6 else [*names[:5], f"and {len(names) - 5} more"]


def load_checkpoint(folder: str | Path, dtype: torch.dtype = torch.float32) -> tuple[CLIPModel, ProcessorMixin]:
    """Loads an Exp-CLIP or plain CLIP checkpoint (folder or Hub id) with this library's code, whatever code the folder holds.

    Raises ValueError for another kind of model, for a config or processor that is damaged or makes no model for these weights, and when
    weights are missing, too many or of the wrong shape; OSError for missing files.
    """
    folder = str(folder)
    classes = {"expclip": (ExpCLIPModel, ExpCLIPProcessor), "clip": (CLIPModel, CLIPProcessor)}
    config = _read_config(folder)
    model_type = config.get("model_type")
    if model_type not in classes:
        raise ValueError(f"{folder} holds a model of type {model_type!r}; expected one of {', '.join(classes)}")
    model_class, processor_class = classes[model_type]
    if model_type == "expclip":
        check_complete(folder, config)
    check_config(folder, model_class)
    model = load_weights(model_class, folder, dtype)
    try:
        processor = processor_class.from_pretrained(folder, trust_remote_code=False)
    except OSError:
        raise
    except Exception as error:  # tokenizers raises no other class
        raise ValueError(f"the processor or tokenizer in {folder} cannot be read: {reason_of(error)}") from error
    processor.image_processor = to_pil_processor(
        processor.image_processor
    )  # a plain CLIP's is torchvision's where that is
    check_processor(folder, processor, model)
    return model, processor


def check_output(output: str | Path, source: str | Path | None = None) -> None:
    """Raises ValueError or OSError where a checkpoint made from ``source`` (folder or Hub id) cannot become ``output``, or should not.

    Links and ``..`` are followed first. Nothing is written, so that it can be asked before any work.
    """
    place = Path(os.path.realpath(output))
    if source is not None and Path(source).is_dir():
        check_apart(place, Path(source))
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise FileExistsError(f"{output} exists and is not an empty folder; choose another --output or remove it first")
    if place == Path.cwd():
        raise FileExistsError(f"--output {output} is the folder this runs in, which cannot be replaced; name a new one")
    above = next(folder for folder in place.parents if folder.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"--output {output}: {above} is a file, not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"--output {output}: nothing can be written to {above}")


def name_of(source: str | Path) -> str:
    """What a checkpoint (folder or Hub id) is called, also where it was given as ``.`` or ``..``."""
    return Path(os.path.realpath(source) if Path(source).is_dir() else source).name


@contextmanager
def whole_folder(output: str | Path) -> Iterator[Path]:
    """Gives a temporary folder beside ``output`` that takes its name at the end, or disappears on any error."""
    check_output(output)
    output = Path(os.path.realpath(output))  # not a link, whose name a folder cannot take
    output.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp and safetensors make what only their owner can read
        for file in part.iterdir():
            file.chmod(0o644)
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
    reference: CLIPModel | None = None,
) -> None:
    """Writes model, processor, remote code, golden outputs and card to ``output``, loads them again and verifies them.

    ``reference`` is the model whose logits the folder must reproduce, by default ``model`` itself.
    """
    with whole_folder(output) as folder:
        model.save_pretrained(folder)
        save_processor(processor, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        golden.write(reference or model, processor, folder)
        golden.verify(*load_checkpoint(folder), folder)


def save_processor(processor: ProcessorMixin, folder: Path) -> None:
    """Writes the processor's and tokenizer's files to ``folder``, without what transformers notes of where it read them."""
    for name in ("is_local", "local_files_only"):
        processor.tokenizer.init_kwargs.pop(name, None)
    processor.save_pretrained(folder)
