"""``python -m tests.benchmarks.prompt_sets --data NAME=PATH ...``: the five prompt sets in one evaluation, against five evaluations.

Labelled faces and the mini come in; the ratio of the times leaves, in one process and start-up left out, after the results of both ways and of a
second run were found to be the same.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from modeling_expclip.prompts import LABEL_SETS, PROMPT_SETS
from training.evaluation.run import Pair, evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=PATH")
    arguments = parser.parse_args()
    sources = (data.partition("=") for data in arguments.data)
    pairs = [Pair("expclip-mini", "expclip-mini", name, path, LABEL_SETS["rafdb"]) for name, _, path in sources]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def timed(prompts: list[str], output: str) -> tuple[float, list[dict]]:
            start = time.perf_counter()
            rows = evaluate(pairs, prompts, folder / output, batch_size=64, dtype="float32").rows
            rows = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
            return time.perf_counter() - start, sorted(rows, key=lambda row: (row["benchmark"], row["prompt_set"]))

        timed(["photo"], "warm-up")
        together, results = timed(list(PROMPT_SETS), "together")
        apart = [timed([name], name) for name in PROMPT_SETS]
        _, again = timed(list(PROMPT_SETS), "again")
    one_by_one = sorted(
        (row for _, rows in apart for row in rows), key=lambda row: (row["benchmark"], row["prompt_set"])
    )
    if not results == again == one_by_one:
        raise SystemExit("the results differ")
    seconds = sum(time for time, _ in apart)
    print(
        f"five evaluations of one prompt set / one of five: {seconds / together:.2f} ({seconds:.1f} s and {together:.1f} s)"
    )


if __name__ == "__main__":
    main()
