"""``python -m tests.benchmarks.ray_engine``: ``expclip classify --engine ray`` with 1 and 2 actors against the plain command.

Each is run with few files and with many, as a user runs it; what the many take longer is the speed, start-up aside. The memory of the
driver and of the largest actor is asked for ten times a second.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.results import record
from tests.conftest import picture

WAYS = {
    "plain": (),
    "ray, 1 actor": ("--engine", "ray", "--actors", "1"),
    "ray, 2 actors": ("--engine", "ray", "--actors", "2"),
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


def resident(pid: str) -> int:
    """Bytes of a process that are in memory and not shared; 0 of one that has gone."""
    try:
        total, shared = Path("/proc", pid, "statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(total) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def actors() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::MapWorker"):
                found.append(path.parent.name)
        except OSError:  # it has gone
            continue
    return found


def run(options: tuple[str, ...], faces: Path, output: Path) -> tuple[float, int, int]:
    """Seconds, and the most memory of driver and actor, in bytes."""
    command = [sys.executable, "-m", "modeling_expclip.cli.main", "classify", str(faces), "--no-faces", *options]
    start, driver, actor = time.monotonic(), 0, 0
    with subprocess.Popen(
        [*command, "--output", str(output)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            driver = max(driver, resident(str(process.pid)))
            actor = max([actor, *map(resident, actors())])
            time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - start, driver, actor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=2_000)
    parser.add_argument("--many", type=int, default=20_000)
    arguments = parser.parse_args()
    rows, speeds = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few, many = (write_pictures(folder / f"faces-{n}", n) for n in (arguments.few, arguments.many))
        for number, (way, options) in enumerate(WAYS.items()):
            ending = "" if options else ".parquet"
            short, *before = run(options, few, folder / f"few-{number}{ending}")
            long, *after = run(options, many, folder / f"many-{number}{ending}")
            speeds[way] = (arguments.many - arguments.few) / (long - short)
            print(
                f"{way}: {speeds[way]:.0f} faces a second, {short:.1f} s for {arguments.few}, {long:.1f} s for {arguments.many}"
            )
            for who, one, other in zip(("driver", "actor"), before, after):
                if other:
                    rows.append((f"{way}: more memory of {who}", (other - one) / 2**20, "MiB", "", 1))
            if options:
                target = ">= 0.9" if way.endswith("2 actors") else ""
                rows.append((f"{way} / plain", speeds[way] / speeds["plain"], "ratio", target, 1))
    record("ray_engine", rows)


if __name__ == "__main__":
    main()
