"""Zero-shot WAR and UAR of a head, along training, from vectors of labelled faces and prompts that
are computed once.

Before the head everything is frozen, so scoring another W costs two small matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from modeling_expclip.prompts import PROMPT_SETS, build_prompts

from ..data.faces import NoFaceError, contents, face_columns, load_faces, readable_face, warn_of_scenes
from ..data.layouts import split_layout
from ..data.parts import refuse_several_parts
from ..models.clip import FrozenClip
from ..recipe import FacesRecipe
from .metrics.recall import war_uar

_BATCH = 256


@dataclass(frozen=True)
class ZeroShot:
    """``image`` (N, D) features before the head and ``references`` (N,), indices into the classes;
    ``text`` holds for each prompt set the features of its prompts (classes, prompts, D), before the
    head."""

    image: torch.Tensor
    references: torch.Tensor
    text: dict[str, torch.Tensor]

    def predict(self, weight: torch.Tensor, prompts: str) -> torch.Tensor:
        """The class (N,) that a head (H, D) gives each face: logits averaged over a class's
        prompts, as in the paper."""
        prototypes = F.normalize(self.text[prompts] @ weight.T, dim=-1).mean(1)  # (classes, H)
        return (F.normalize(self.image @ weight.T, dim=-1) @ prototypes.T).argmax(1)

    def score(self, weight: torch.Tensor, min_samples: int = 1) -> dict[str, float]:
        """``{prompt set}_war`` and ``_uar`` of a head in percent, and their means over the
        prompt sets, ``mean_war`` and ``mean_uar``."""
        scores = {}
        for prompts in self.text:
            scores[f"{prompts}_war"], scores[f"{prompts}_uar"] = war_uar(
                self.predict(weight, prompts), self.references, min_samples
            )
        for name in ("war", "uar"):
            scores[f"mean_{name}"] = sum(scores[f"{prompts}_{name}"] for prompts in self.text) / len(self.text)
        return scores


def load_zero_shot(source: str, clip: FrozenClip, classes: Sequence[str], faces_recipe: FacesRecipe) -> ZeroShot:
    """Embeds labelled faces (as ``data/faces.py`` loads them) and the five prompt sets of ``classes``.

    Faces of other classes, and images in which the recipe lets faces be looked for and none is
    found, are left out, and their numbers are printed. Raises ValueError when none is left, OSError
    for an image that cannot be read: a score over what happened to be readable would be another
    score.
    """
    layout, path = split_layout(source)
    if Path(path).is_dir():
        refuse_several_parts(Path(path), layout or "NAME")
    faces = load_faces([source], labels="paper", columns=face_columns(faces_recipe), frames=faces_recipe.frames)
    known = [row for row, label in enumerate(faces["label"]) if label in classes]
    if not known:
        raise ValueError(f"{source} has no face labelled {', '.join(classes)}")
    if len(known) < len(faces):
        print(f"{source}: {len(faces) - len(known)} of {len(faces)} faces have other labels and are left out")
    faces = faces.select(known)
    if faces_recipe.crop == "none":
        warn_of_scenes(contents(faces), source, "faces.crop: detect finds the faces")
    parts, labels = [], []
    for start in tqdm(range(0, len(faces), _BATCH), desc=f"embed {source}", unit=" batches"):
        images = []
        for row in faces.select(range(start, min(len(faces), start + _BATCH))):
            try:
                images.append(readable_face(row, faces_recipe))
            except NoFaceError:
                continue
            labels.append(row["label"])
        if images:
            parts.append(clip(images))
    if not labels:
        raise ValueError(f"{source}: no face found in any of {len(faces)} images")
    if len(labels) < len(faces):
        print(
            f"{source}: {len(faces) - len(labels)} of {len(faces)} images show no face that is found, and are left out"
        )
    references = torch.tensor([classes.index(label) for label in labels])
    text = {name: text_features(clip, build_prompts(classes, name)) for name in PROMPT_SETS}
    return ZeroShot(torch.cat(parts), references, text)


@torch.inference_mode()
def text_features(clip: FrozenClip, prompts: list[list[str]]) -> torch.Tensor:
    """Prompts of each class -> (classes, prompts, D) float32, before the head."""
    return clip.texts([prompt for group in prompts for prompt in group]).unflatten(0, (len(prompts), -1))
