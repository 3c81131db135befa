"""What training reads of a cache: CLIP's and the teacher's vector of each face, joined on ``id``."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from ..recipe import ClipRecipe, TeacherRecipe
from .cache import MANIFEST, complete_set, read_manifest


@dataclass(frozen=True)
class Pairs:
    """What training reads: for each face its ``image`` (N, D) and ``teacher`` (N, H) vector,
    float32, and its id.

    ``origin`` says what they were made from: the faces, what else the teacher read, CLIP's and the
    teacher's weights.
    """

    ids: list[str]
    image: torch.Tensor
    teacher: torch.Tensor
    origin: dict[str, str]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """A whole batch at once, as torch's DataLoader asks for it where it can: (B, D) and (B, H)."""
        chosen = torch.tensor(rows)
        return {"image": self.image[chosen], "teacher": self.teacher[chosen]}


def load_pairs(cache: Path, clip: ClipRecipe, teacher: TeacherRecipe) -> Pairs:
    """Joins CLIP's and the teacher's vectors on ``id``.

    Raises FileNotFoundError where there is no cache, ValueError where it is not complete or does
    not hold the recipe's sets.
    """
    if not (cache / MANIFEST).is_file():
        raise FileNotFoundError(f"no embedding cache at {cache}; make one with `expclip embed`")
    if len(teacher.instructions) > 1:
        raise ValueError(
            f"the recipe has {len(teacher.instructions)} instructions and a head learns from one; "
            "choose it with --override teacher.instruction='...'"
        )
    manifest = read_manifest(cache)
    sets = [complete_set(cache, manifest["sets"], clip), complete_set(cache, manifest["sets"], teacher)]
    first, second = sets
    faces = range(manifest["data"]["shards"])
    most = sum(first.rows(index) for index in faces)
    ids, items = [], hashlib.sha256()
    image, teachers = torch.empty(0, 1), torch.empty(0, 1)
    for index in faces:
        if first.digest(index) != second.digest(index):
            raise ValueError(f"shard {index} of {first.folder} and {second.folder} hold different faces; embed again")
        (left, features), (right, vectors) = first.read(index), second.read(index)
        place = {name: row for row, name in enumerate(right)}
        rows = [row for row, name in enumerate(left) if name in place]
        if not rows:
            continue
        if not ids:  # at once for all: joined from parts in the end, they would be there twice
            image, teachers = torch.empty(most, features.shape[1]), torch.empty(most, vectors.shape[1])
        if vectors.shape[1] != teachers.shape[1]:
            raise ValueError(
                f"{second.folder} holds vectors of {teachers.shape[1]} and {vectors.shape[1]} numbers; they must be of one length"
            )
        new = slice(len(ids), len(ids) + len(rows))
        image[new] = torch.from_numpy(features[rows])
        teachers[new] = torch.from_numpy(vectors[[place[left[row]] for row in rows]])
        ids += [left[row] for row in rows]
        items.update(second.items(index).encode())
    if len(set(ids)) < len(ids):
        twice = next(name for name, count in Counter(ids).items() if count > 1)
        raise ValueError(
            f"{cache}: the id {twice!r} stands for two faces; give every face an id of its own and embed again"
        )
    if len(ids) < 2:
        raise ValueError(
            f"{cache} has {len(ids)} faces with both vectors; training compares faces, so it needs 2 or more"
        )
    origins = {kind: manifest["sets"][each.folder.name]["origin"] for kind, each in zip(("clip", "teacher"), sets)}
    origins |= {"data": manifest["data"]["fingerprint"], "items": items.hexdigest()}
    return Pairs(ids, image[: len(ids)], teachers[: len(ids)], origins)
