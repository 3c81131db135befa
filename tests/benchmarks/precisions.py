"""``python -m tests.benchmarks.precisions --data PARQUET --calibration PARQUET``: what bfloat16 and int8 cost the mini in accuracy.

Labelled faces, read once, pass each exported image tower; the differences of WAR to torch in float32 leave. The faces that
calibrate int8 come from another file.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from modeling_expclip import LABEL_SETS, MINI, FaceAnalyzer
from modeling_expclip.exporters.export import export
from tests.benchmarks.results import record
from tests.benchmarks.subjects import EXPORTS

LABELS = LABEL_SETS["rafdb"]
TARGETS = {"bf16": "within 0.2", "int8": "within 0.5"}


def read(file: str, count: int | None = None) -> tuple[list[Image.Image], np.ndarray]:
    """Faces and labels; ``count`` of them, evenly spread."""
    rows = pq.read_table(file, columns=["image", "label"]).to_pylist()
    rows = rows if count is None else [rows[i * len(rows) // count] for i in range(count)]
    images = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in rows]
    return images, np.array([row["label"] for row in rows])


def accuracy(analyzer: FaceAnalyzer, images: list[Image.Image], references: np.ndarray) -> float:
    predictions = [LABELS.index(face["label"]) for (face,) in analyzer.photos(images, LABELS)]
    return 100 * float(np.mean(np.array(predictions) == references))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--calibration", required=True)
    arguments = parser.parse_args()
    images, references = read(arguments.data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "faces").mkdir()
        for number, image in enumerate(read(arguments.calibration, 300)[0]):
            image.save(folder / "faces" / f"{number}.png")

        def measured(source: str, **options: str) -> float:
            return accuracy(FaceAnalyzer(source, faces=False, batch_size=64, **options), images, references)

        reference = measured(MINI)
        found = {"torch bf16": measured(MINI, precision="bf16")}
        for backend, precision in EXPORTS:
            output = str(folder / f"{backend}-{precision}")
            export(MINI, output, backend, precision, [str(folder / "faces")] if precision == "int8" else ())
            found[f"{backend} {precision}"] = measured(output)
            print(
                f"{backend} {precision}: {found[f'{backend} {precision}']:.2f} (torch fp32 {reference:.2f})", flush=True
            )
    rows = [("WAR of torch fp32", reference, "%", "", 1)]
    rows += [
        (f"WAR of {what} less torch fp32's", war - reference, "points", TARGETS.get(what.split()[1], ""), 1)
        for what, war in found.items()
    ]
    record(f"expclip-mini, {Path(arguments.data).parent.name}, {len(images)} faces, ensemble10", rows)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
