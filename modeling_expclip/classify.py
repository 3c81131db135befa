"""``expclip classify``: files and folders of face images become one row each, in a table, CSV, JSON or Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from .checkpoint import load_checkpoint
from .pipeline_expclip import FacialExpressionPipeline
from .processing_expclip import image_endings, open_image


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


def find_images(paths: Iterable[str]) -> list[Row]:
    """A row for each file or URL as given, and for each image file below a folder, sorted.

    A folder without any gives a row that says so.
    """
    endings = image_endings()
    rows: dict[str, Row] = {}
    for given in paths:
        if not _is_folder(given):
            rows[given] = Row(given)
            continue
        images = sorted(p for p in Path(given).rglob("*") if p.suffix.lower() in endings and p.is_file())
        for image in images:
            rows[str(image)] = Row(str(image))
        if not images:
            rows[given] = Row(given, error="no image files below this folder")
    return list(rows.values())


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:  # a name too long, no permission: reading it will say so in its row
        return False


def classify(rows: list[Row], model: str, labels: tuple[str, ...], prompts: str, batch_size: int = 16) -> Iterator[Row]:
    """Fills in and yields the rows, in order: each with its label and probabilities, or the reason why it has none."""
    loaded, processor = load_checkpoint(model)
    pipeline = FacialExpressionPipeline(
        model=loaded, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    with tqdm(total=len(rows), desc="classify", unit="image", disable=None) as bar:
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            readable, images = [], []
            for row in batch:
                if row.error is not None:
                    continue
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
            bar.update(len(batch))
            yield from batch
