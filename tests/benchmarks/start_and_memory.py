"""``python -m tests.benchmarks.start_and_memory``: the command's start, and what a long video costs in memory."""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.results import record
from tests.benchmarks.subjects import medians
from tests.conftest import write_video


def run(*command: str) -> str:
    return subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True).stdout


MEASURED = """
import resource, sys
from modeling_expclip.cli.main import main
main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    ways = {
        "help": lambda: run("-m", "modeling_expclip.cli.main", "--help"),
        "import": lambda: run("-c", "from transformers import CLIPModel"),
    }
    times = medians(ways, arguments.repeats)
    rows = [
        ("expclip --help / importing CLIPModel", times["help"] / times["import"], "x", "<= 0.25", arguments.repeats)
    ]
    record("start", rows)

    generator = np.random.default_rng(0)
    small = [Image.fromarray(generator.integers(0, 256, (9, 16, 3), dtype=np.uint8)) for _ in range(20)]
    pictures = [image.resize((640, 360), 3) for image in small]
    with tempfile.TemporaryDirectory() as folder:
        peaks = {}
        for seconds in (10, 600):
            path = Path(folder) / f"{seconds}.mp4"
            write_video(path, itertools.islice(itertools.cycle(pictures), 25 * seconds), 25, preset="ultrafast")
            faces = ["--faces"] if os.environ.get("EXPCLIP_YUNET") else []
            printed = run("-c", MEASURED, "classify", str(path), *faces, "--output", f"{path}.csv")
            peaks[seconds] = int(printed.rpartition("peak")[2])
    rows = [
        ("peak memory of a ten-second video", peaks[10], "MB", "", 1),
        ("more for a ten-minute one", peaks[600] - peaks[10], "MB", "<= 150", 1),
    ]
    record("expclip classify on video, 640 x 360, 25 fps" + (", --faces" if faces else ""), rows)


if __name__ == "__main__":
    main()
