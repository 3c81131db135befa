"""``expclip merge``: an Exp-CLIP checkpoint becomes a plain CLIPModel folder with the same predictions and no remote code."""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPProcessor, ProcessorMixin

from ..modeling_expclip import ExpCLIPModel
from .card import checkpoint_card
from .folder import check_output, load_checkpoint, name_of, save_checkpoint


def merge(source: str | Path, output: str | Path) -> None:
    """Writes the merged checkpoint to ``output`` and verifies it against the logits of ``source``.

    Raises ValueError where ``source`` is a plain CLIP, which has no head to merge.
    """
    check_output(output, source)
    model, processor = load_checkpoint(source)
    if not isinstance(model, ExpCLIPModel):
        raise ValueError(f"{source} is a plain CLIP already: it has no projection head to merge")
    name = name_of(source)
    card = checkpoint_card(
        f"{name}, merged",
        f"`{name}` (Exp-CLIP) with its projection head folded into CLIP's own two projections by `expclip merge`: a plain "
        "`CLIPModel` with the same predictions, which needs no remote code.",
        remote_code=False,
    )
    save_checkpoint(model.merge_projection(), plain_processor(processor), output, card, reference=model)


def plain_processor(processor: ProcessorMixin) -> CLIPProcessor:
    """The stock processor with the same image processor and tokenizer."""
    for part in (processor.image_processor.__dict__, processor.tokenizer.init_kwargs):
        part.pop("auto_map", None)  # it names code that the folder of a plain CLIP does not need and does not have
    return CLIPProcessor(processor.image_processor, processor.tokenizer)
