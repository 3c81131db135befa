"""``python -m tests.benchmarks.ray_engine``: how ``--engine ray`` grows with processes and with rows.

``expclip classify`` with 1 and 2 actors and the plain command, and ``expclip embed`` with 1 and 2 tasks, are run with few files and with many,
as a user runs them; what the many take longer is the speed, start-up aside. Then ``classify`` is run with very many files and a tiny model,
while the memory of the driver and of the largest actor is looked at twice a second. ``--figure PNG`` draws both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from modeling_expclip.cli.on_ray import PART_SIZE
from tests.benchmarks.results import record
from tests.conftest import picture, write_clip

CLASSIFY = {
    "plain": (),
    "ray, 1 actor": ("--engine", "ray", "--actors", "1"),
    "ray, 2 actors": ("--engine", "ray", "--actors", "2"),
}
EMBED = {
    "ray, 1 task": ("--engine", "ray", "--processes", "1"),
    "ray, 2 tasks": ("--engine", "ray", "--processes", "2"),
}


def write_pictures(folder: Path, count: int) -> Path:
    """Small JPEGs, of which few differ, for it is not their content that costs."""
    folder.mkdir()
    contents = []
    for seed in range(10):
        picture(seed, (64, 64)).save(folder / f"{seed}.jpg")
        contents.append((folder / f"{seed}.jpg").read_bytes())
    for i in range(10, count):
        (folder / f"{i}.jpg").write_bytes(contents[i % 10])
    return folder


def resident(pid: str) -> float:
    """MiB of a process that are in memory and not shared; 0 of one that has gone."""
    try:
        total, shared = Path("/proc", pid, "statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(total) - int(shared)) * os.sysconf("SC_PAGE_SIZE") / 2**20


def actors() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::MapWorker"):
                found.append(path.parent.name)
        except OSError:  # it has gone
            continue
    return found


def run(command: list[str], parts: Path | None = None) -> tuple[float, list[tuple[int, float, float]]]:
    """Seconds, and with the folder of ``parts``, over time: rows that are written, MiB of the driver and of the largest actor."""
    start, seen = time.monotonic(), []
    with subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # fmt: skip
        while process.poll() is None:
            if parts:
                rows = PART_SIZE * len(list(parts.glob("part-*.parquet")))
                seen.append((rows, resident(str(process.pid)), max([0.0, *map(resident, actors())])))
            time.sleep(0.5 if parts else 0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - start, seen


def classify(faces: Path, output: Path, options: tuple[str, ...]) -> list[str]:
    return ["modeling_expclip.cli.main", "classify", str(faces), "--no-faces", "--output", str(output), *options]


def embed(faces: Path, output: Path, options: tuple[str, ...]) -> list[str]:
    return ["training.embed", "mini", "--data", str(faces), "--output", str(output), "--shard-size", "500", *options]


def speeds(folder: Path, few: int, many: int) -> dict[str, float]:
    """Faces a second of each way."""
    found = {}
    # The embedding pass, which also runs a teacher, gets fewer.
    for kind, ways, command, counts in (
        ("classify", CLASSIFY, classify, (few, many)),
        ("embed", EMBED, embed, (few // 2, many // 4)),
    ):
        faces = {count: write_pictures(folder / f"{kind}-{count}", count) for count in counts}
        for number, (way, options) in enumerate(ways.items()):
            ending = "" if options else ".parquet"
            seconds = [run(command(faces[n], folder / f"{kind}-{number}-{n}{ending}", options))[0] for n in counts]
            found[f"{kind}, {way}"] = (counts[1] - counts[0]) / (seconds[1] - seconds[0])
            print(f"{kind}, {way}: {found[f'{kind}, {way}']:.0f} faces a second; seconds for {counts}: {seconds}", flush=True)  # fmt: skip
    return found


def memory(folder: Path, rows: int) -> list[tuple[int, float, float]]:
    faces = write_pictures(folder / f"faces-{rows}", rows)
    options = ("--model", str(write_clip(folder / "tiny")), "--engine", "ray", "--actors", "2")
    return run(classify(faces, folder / "rows", options), folder / "rows")[1]


def draw(path: Path, rates: dict[str, float], seen: list[tuple[int, float, float]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.barh([*rates][::-1], [*rates.values()][::-1], color="#5b6ee1")
    left.set_xlabel("faces a second, start-up aside")
    for column, name, style in ((1, "driver", "-"), (2, "largest actor", "--")):
        right.plot([row[0] for row in seen], [row[column] for row in seen], style, label=name)
    right.set_xlabel("rows written")
    right.set_ylabel("memory, MiB")
    right.set_ylim(bottom=0)
    right.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=2_000)
    parser.add_argument("--many", type=int, default=20_000, help="files whose speed is measured")
    parser.add_argument("--rows", type=int, default=200_000, help="files during which memory is looked at")
    parser.add_argument("--figure", type=Path, metavar="PNG")
    arguments = parser.parse_args()
    if arguments.rows < 20 * PART_SIZE:
        parser.error(f"--rows {arguments.rows} are too few to see memory grow; give at least {20 * PART_SIZE}")
    with tempfile.TemporaryDirectory() as name:
        rates = speeds(Path(name), arguments.few, arguments.many)
        plain = rates["classify, plain"]
        rows = [
            (f"classify, {way} / plain", rates[f"classify, {way}"] / plain, "ratio", ">= 0.9" if "2" in way else "", 1)
            for way in CLASSIFY
            if way != "plain"
        ]
        one, two = (rates[f"embed, {way}"] for way in EMBED)
        record("ray_engine", [*rows, ("embed, 2 tasks / 1 task", two / one, "ratio", "", 1)])
        seen = memory(Path(name), arguments.rows)
    early = [row for row in seen if 2 * PART_SIZE <= row[0] <= 5 * PART_SIZE]
    late = [row for row in seen if row[0] >= arguments.rows // 2]
    rows = []
    for column, who in ((1, "driver"), (2, "largest actor")):
        more = max(row[column] for row in late) - max(row[column] for row in early)
        subject = f"{who}, more memory in the second half of {arguments.rows} rows than in the first {5 * PART_SIZE}"
        rows.append((subject, more, "MiB", "flat", 1))
    record("ray_engine", rows)
    if arguments.figure:
        draw(arguments.figure, rates, seen)


if __name__ == "__main__":
    main()
