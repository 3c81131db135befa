"""``expclip classify``: files and folders of face images become one row each, in a table, CSV, JSON or Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .checkpoint import load_checkpoint
from .pipeline_expclip import FacialExpressionPipeline
from .processing_expclip import open_image


@dataclass
class Row:
    """What is known of one face; ``box`` and ``detection_score`` stay empty for a picture that is a face crop."""

    path: str
    face: int | None = None
    box: tuple[int, int, int, int] | None = None
    detection_score: float | None = None
    label: str | None = None
    error: str | None = None
    scores: dict[str, float] = field(default_factory=dict)


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are, folders as the image files below them, sorted. Raises FileNotFoundError for a folder without any."""
    readable = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        images = sorted(p for p in path.rglob("*") if p.suffix.lower() in readable and p.is_file())
        if not images:
            raise FileNotFoundError(f"no image files below {path}")
        found += images
    return list(dict.fromkeys(found))


def classify(
    paths: list[Path], model: str, labels: tuple[str, ...], prompts: str, batch_size: int = 16
) -> Iterator[Row]:
    """Yields a row for each path, in order: its label and probabilities, or the reason why it has none."""
    loaded, processor = load_checkpoint(model)
    pipeline = FacialExpressionPipeline(
        model=loaded, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    with tqdm(total=len(paths), desc="classify", unit="image", disable=None) as bar:
        for start in range(0, len(paths), batch_size):
            rows = [Row(str(path)) for path in paths[start : start + batch_size]]
            readable, images = [], []
            for row in rows:
                try:
                    images.append(open_image(row.path))
                    readable.append(row)
                except Exception as error:  # decoders of damaged files raise whatever they please; the row says what
                    row.error = f"{type(error).__name__}: {error}"
            if images:
                answers = pipeline(images, candidate_labels=labels, prompts=prompts, batch_size=len(images))
                for row, answer in zip(readable, answers):
                    scores = {entry["label"]: entry["score"] for entry in answer}
                    row.face, row.label = 0, answer[0]["label"]
                    row.scores = {label: scores[label] for label in labels}
            bar.update(len(rows))
            yield from rows
