"""`expclip merge`: an Exp-CLIP becomes a plain CLIPModel (or MetaClip2Model) folder with the same predictions and no remote code, for
every tool that opens one.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

from transformers import CLIPModel, CLIPProcessor, PreTrainedModel

from ..exporters.agreement import int8_agreement
from ..exporters.int8 import QUANTIZED, quantize_weights
from ..exporters.onnx_graphs import FOLDER, GRAPHS, write_graphs
from ..exporters.open_clip_files import write_open_clip
from ..exporters.runtimes import describe
from ..modeling_expclip import ExpCLIPMixin
from . import golden
from .card import PLACEHOLDER, checkpoint_card
from .load import load_checkpoint
from .processors import plain_processor, save_processor
from .save import check_output, name_of, whole_folder
from .verify import verify, verify_outputs

INT8_AGREEMENT = 0.98  # 0.9996 on expclip-mini
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def merge(source: str | Path, output: str | Path, onnx: bool = False, open_clip: bool = False) -> None:
    """Writes a plain CLIP with the projection head folded into CLIP's own two projections.

    What was written must give the logits of `source`, in torch and in each tool it is written for that
    is installed.

    Args:
        source: Exp-CLIP checkpoint, folder or Hub id.
        output: folder to write; nothing, or an empty folder, may be there.
        onnx: also write `onnx/`, for transformers.js and ONNX Runtime.
        open_clip: also write open_clip's two files.

    Raises:
        ValueError: `source` has no head to merge, or a backbone that cannot take it up (SigLIP), or cannot be
            loaded; open_clip has no word for a part of it.
        ImportError: `onnx` needs packages that are missing.
        OSError: there is no such checkpoint, or `output` cannot be written. Nothing is left at `output` then,
            nor after the other errors.
    """
    check_output(output, source)
    if onnx and not all(map(importlib.util.find_spec, _ONNX_PACKAGES)):
        raise ImportError(f'--onnx needs the packages {", ".join(_ONNX_PACKAGES)}: pip install "expclip[export]"')
    model, processor = load_checkpoint(source)
    if not isinstance(model, ExpCLIPMixin):
        raise ValueError(f"{source} is a plain {type(model).__name__} already: it has no projection head to merge")
    merged, processor = model.merge_projection(), plain_processor(processor)
    if open_clip and not isinstance(merged, CLIPModel):
        raise ValueError(f"open_clip's files are written for a CLIP only; {source} is a {type(merged).__name__}")
    with whole_folder(output) as folder:
        if open_clip:
            write_open_clip(merged, processor, folder, PLACEHOLDER)
        if onnx:
            write_graphs(merged, folder)
            _write_int8(folder, processor)
            describe(folder, None, "fp32", _ONNX_PACKAGES)
            _configure_transformers_js(merged, folder)
        merged.save_pretrained(folder)
        save_processor(processor, folder)
        tools = ["sentence-transformers", *["transformers.js"] * onnx, *["open_clip"] * open_clip]
        card = _card(name_of(source), merged, tools if isinstance(merged, CLIPModel) else [])
        (folder / "README.md").write_text(card, encoding="utf-8")
        golden.write(model, processor, folder)
        if onnx or open_clip:
            verify(folder)
        else:
            verify_outputs(folder)


def _write_int8(folder: Path, processor: CLIPProcessor) -> None:
    """Small graphs beside the exact ones, where they agree with them."""
    for name in GRAPHS:
        quantize_weights(folder / FOLDER / f"{name}.onnx")
    agreement = int8_agreement(folder, processor)
    if not agreement >= INT8_AGREEMENT:  # a NaN fails too
        for file in (folder / FOLDER).glob(f"*{QUANTIZED}.onnx"):
            file.unlink()
        warnings.warn(
            f"no int8 graphs were written: their embeddings have a mean cosine of {agreement:.4f} with float32's, and "
            f"{INT8_AGREEMENT} is needed",
            stacklevel=3,
        )


def _configure_transformers_js(merged: PreTrainedModel, folder: Path) -> None:
    """Says which graphs it loads unless told otherwise, in a browser too, and which have weights in a file of their own."""
    large = {file.name.removesuffix("_data"): 1 for file in (folder / FOLDER).glob("*.onnx_data")}
    options = {"dtype": "fp32"} | ({"use_external_data_format": large} if large else {})
    setattr(merged.config, "transformers.js_config", options)


def _card(name: str, merged: PreTrainedModel, tools: list[str]) -> str:
    return checkpoint_card(
        f"{name}, merged",
        f"`{name}` (Exp-CLIP) with its projection head folded into the backbone's own two projections by `expclip merge`: a plain "
        f"`{type(merged).__name__}` with the same predictions, which needs no remote code.",
        remote_code=False,
        tools=tools,
        side=merged.config.vision_config.image_size,
    )
