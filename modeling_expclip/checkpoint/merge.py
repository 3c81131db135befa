"""`expclip merge`: an Exp-CLIP becomes a plain CLIPModel folder with the same predictions and no remote code."""

from __future__ import annotations

from pathlib import Path

from ..modeling_expclip import ExpCLIPModel
from .card import checkpoint_card
from .load import load_checkpoint
from .processors import plain_processor
from .save import check_output, name_of, save_checkpoint


def merge(source: str | Path, output: str | Path) -> None:
    """Writes a plain CLIP with the projection head folded into CLIP's own two projections.

    What was written must give the logits of `source`.

    Args:
        source: Exp-CLIP checkpoint, folder or Hub id.
        output: folder to write; nothing, or an empty folder, may be there.

    Raises:
        ValueError: `source` is a plain CLIP, which has no head to merge, or cannot be loaded.
        OSError: there is no such checkpoint, or `output` cannot be written. Nothing is left at `output` then.
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
