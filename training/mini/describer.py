"""The mini's describer, the small stand-in for an LLM that looks at faces: pictures and an instruction in, sentences out.

A small convnet sees a face; each sentence speaks of one part of it, for an apparent expression drawn in
proportion to the convnet's probabilities, so that a face between two gets sentences of both. The convnet is the image tower's teacher: what it
knows, it knows from FER+'s votes. It has no sentences for contempt.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .captions import EXPRESSIONS, FACTORS
from .images import SIZE, plain_views
from .sentences import PICTURE_SENTENCES, REGIONS, SENTENCES
from .teacher import load_teacher

WEIGHTS = Path(__file__).parent / "teacher.safetensors"
ACTIONS = (
    "Please play the role of a facial action describer. "
    "Objectively describe the detailed facial actions of the person in the image."
)
PICTURE = "Describe how the picture was taken."


class Describer:
    """Answers two instructions: ``ACTIONS``, which is the paper's, and ``PICTURE``, which says nothing of the face."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self.convnet = load_teacher(weights)

    @torch.inference_mode()
    def probabilities(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """pixels (B, 48, 48) uint8 -> for CATEGORIES and each of FACTORS, the probability of each value (B, values)."""
        return [logits.softmax(-1) for logits in self.convnet(plain_views(pixels))[1]]

    def __call__(self, images: list[Image.Image], instruction: str) -> list[list[str]]:
        """The sentences about each face, always the same for the same picture. Raises ValueError for another instruction."""
        if instruction not in (ACTIONS, PICTURE):
            raise ValueError(f"the describer knows two instructions, {ACTIONS!r} and {PICTURE!r}, not {instruction!r}")
        grey = [np.asarray(image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for image in images]
        expressions, *factors = self.probabilities(torch.from_numpy(np.stack(grey)))
        expressions = expressions[:, : len(EXPRESSIONS)]
        if instruction == PICTURE:
            return [_picture([values[i].tolist() for values in factors], face) for i, face in enumerate(grey)]
        return [_actions(weights, face) for weights, face in zip(expressions.tolist(), grey)]


def origin() -> str:
    """Identifies all that the descriptions depend on: weights, sentences and this code's choice of them."""
    code = [WEIGHTS, Path(__file__), Path(__file__).with_name("sentences.py")]
    return f"sha256 {hashlib.sha256(b''.join(file.read_bytes() for file in code)).hexdigest()}"


def _actions(weights: list[float], face: np.ndarray) -> list[str]:
    luck = random.Random(hashlib.sha256(face.tobytes()).digest())
    drawn = luck.choices(EXPRESSIONS, weights, k=len(REGIONS))
    return [luck.choice(SENTENCES[expression][region]) for expression, region in zip(drawn, REGIONS)]


def _picture(factors: list[list[float]], face: np.ndarray) -> list[str]:
    luck = random.Random(hashlib.sha256(face.tobytes()).digest())
    drawn = ((name, luck.choices(values, weights)[0]) for (name, values), weights in zip(FACTORS.items(), factors))
    return [PICTURE_SENTENCES[value] for value in drawn]
