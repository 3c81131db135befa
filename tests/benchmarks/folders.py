"""``python -m tests.benchmarks.folders``: JPEG files through ``expclip classify``, against the bare image tower on ready tensors.

Start-up aside, same precision, in short turns, for the speed of a machine changes from minute to minute. What is missing to 1 is what
reading, resizing, scoring and writing cost.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import torch

from modeling_expclip import LABEL_SETS
from modeling_expclip.cli.journal import Journal
from modeling_expclip.media import table as tables
from modeling_expclip.media.analyzer import FaceAnalyzer
from modeling_expclip.media.classify import Classifier
from modeling_expclip.media.sources import find_sources
from tests.benchmarks.results import record
from tests.benchmarks.subjects import medians, subjects, write_jpegs

LABELS = LABEL_SETS["rafdb"]


WAYS = {  # subject, torch's precision, target
    "torch fp32": ("merged", "fp32", ">= 0.9"),
    "torch bf16": ("merged", "bf16", ">= 0.8"),
    "openvino bf16": ("openvino bf16", "fp32", ">= 0.8"),
    "openvino int8": ("openvino int8", "fp32", ">= 0.8"),
}
TURNS = 4  # for all files once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"{', '.join(WAYS)} (default: all)")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    arguments = parser.parse_args()
    count = arguments.files // TURNS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jpegs = [str(write_jpegs(folder / f"jpegs-{turn}", count)) for turn in range(TURNS)]
        folders = subjects(folder / "vit-b32", "vit-b32", (("openvino", "bf16"), ("openvino", "int8")))
        for what in arguments.ways or WAYS:
            source, precision, target = WAYS[what]
            analyzer = FaceAnalyzer(
                folders[source], faces=False, precision=precision, batch_size=arguments.batch_size, workers=2
            )
            classifier = Classifier(analyzer, {"labels": LABELS})
            batch, turns = torch.rand(arguments.batch_size, 3, 224, 224), itertools.cycle(jpegs)

            def bare(tower=analyzer._run_tower, batch=batch) -> None:
                for start in range(0, count, len(batch)):
                    tower(batch[: count - start])

            def command(classifier=classifier, turns=turns) -> None:
                journal = Journal(folder / "out.csv", {}, overwrite=True)
                for found in classifier(find_sources([next(turns)])):
                    journal.add(found.rows, found.path if found.done else None)
                tables.write(journal.rows(), LABELS, folder / "out.csv")
                journal.close(finished=True)

            repeats = TURNS * arguments.repeats
            times = medians({"bare": bare, "command": command}, repeats)
            subject = f"rate / rate of the bare tower, {what}"
            record(
                f"vit-b32, {arguments.files} JPEG files of 256 x 256 through expclip classify",
                [(subject, times["bare"] / times["command"], "x", target, repeats)],
            )


if __name__ == "__main__":
    main()
