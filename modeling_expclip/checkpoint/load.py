"""A checkpoint folder or Hub id becomes a model and its processor.

In: a folder or Hub id. Out: the model in eval mode and its processor, from this library's code and never from the folder's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import CLIPProcessor, PreTrainedConfig, PreTrainedModel, ProcessorMixin, SiglipModel

from ..processing_expclip import ExpCLIPProcessor, to_pil_processor
from ..system.terminal import reason_of
from .backbones import WITH_HEAD, backbone_class
from .validation import WRONG_CONFIG, check_complete, check_config, check_processor


def load_checkpoint(source: str | Path, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Loads an Exp-CLIP or a plain CLIP or MetaCLIP 2, whatever code its folder holds.

    Args:
        source: checkpoint folder or Hub id.
        dtype: of the model's weights; they are stored in float32.

    Returns:
        The model in eval mode on the CPU, an `ExpCLIPModel`, a `CLIPModel` or those of another backbone, and its processor.

    Raises:
        ValueError: another kind of model; a config or processor that is damaged or does not fit the
            weights; weights that are missing, left over or of another shape.
        OSError: there is no such checkpoint, or files are missing.
    """
    source = str(source)
    config = _read_config(source)
    model_type = config.get("model_type")
    model_class = backbone_class(source, model_type)
    if model_class is SiglipModel:
        raise ValueError(
            f"{source} is a SigLIP without a head; `expclip train` and `expclip convert` put one on it, and `expclip benchmark` scores it"
        )
    processor_class = ExpCLIPProcessor if model_type in WITH_HEAD else CLIPProcessor
    if model_type in WITH_HEAD:
        check_complete(source, config)
    check_config(source, model_class)
    model = load_weights(model_class, source, dtype)
    try:
        processor = processor_class.from_pretrained(source, trust_remote_code=False)
    except OSError:
        raise
    except Exception as error:  # tokenizers raises no other class
        raise ValueError(f"the processor or tokenizer in {source} cannot be read: {reason_of(error)}") from error
    # A plain CLIP's is torchvision's where that is installed.
    processor.image_processor = to_pil_processor(processor.image_processor)
    check_processor(source, processor, model)
    return model, processor


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
    """`from_pretrained` that fails where weights are missing, left over or of another shape.

    Args:
        model_class: what to load, a CLIP or any other of transformers' models.
        source: folder or Hub id.
        dtype: of the weights.
        revision: branch, tag or commit on the Hub.
        leftover: accept weights that the model has no place for.
        unused: weights that may be missing, by how their names begin.
        options: passed to `from_pretrained`.

    Returns:
        The model in eval mode.

    Raises:
        ValueError: the weights cannot be read or do not fit the config.
        OSError: there is no such checkpoint, or files are missing.
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


def model_type_of(source: str, revision: str | None = None) -> str | None:
    """The model type in the config of a folder or Hub id, None where the config has none.

    Raises:
        ValueError: the config is damaged.
        OSError: there is no such folder or repository, or it has no config.
    """
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


def _some(names: list[str]) -> list[str]:
    return names if len(names) <= 6 else [*names[:5], f"and {len(names) - 5} more"]
