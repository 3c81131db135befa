"""``expclip benchmark``; from a clone also ``python -m training.benchmark``."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from modeling_expclip.media.storage import local_path
from modeling_expclip.prompts import LABEL_SETS, PROMPT_SETS, check_labels

from .evaluation.bands import band_names
from .support.command import run

BEYOND_TOLERANCE = 1


def main(argv: list[str] | None = None, prog: str = f"python -m {__spec__.name}") -> int:
    """Runs a command line, by default the process's own, and returns its exit code. Errors are raised."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Evaluates models zero-shot on the paper's benchmarks or on labelled data of your own."
    )
    parser.add_argument(
        "--model",
        nargs="+",
        required=True,
        metavar="[NAME=]MODEL",
        help="folders or Hub ids; see training/evaluation/adapters.py",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        action="extend",
        required=True,
        metavar="NAME=[LAYOUT=]PATH",
        help=f"a benchmark ({', '.join(LABEL_SETS)}), or any other name for labelled data of your own",
    )
    parser.add_argument(
        "--prompts", nargs="+", choices=["all", *PROMPT_SETS], default=["all"], help="prompt sets (default: all)"
    )
    candidates = parser.add_mutually_exclusive_group()
    candidates.add_argument(
        "--labels", metavar="A,B,C", help="candidates for data of your own (default: its own classes)"
    )
    candidates.add_argument("--label-set", choices=LABEL_SETS, help="or a benchmark's")
    parser.add_argument(
        "--class-names", metavar="A,B,C", help="what labels that are numbers mean: a name for 0, for 1 ..."
    )
    parser.add_argument(
        "--frames-root",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=DIR",
        help="where the clips of annotation lists lie, if the lists name them on another machine",
    )
    parser.add_argument(
        "--short-clips",
        choices=["paper", "uniform"],
        help="clips of 16 frames or fewer: the first frame 16 times, as the paper's code does, or the rule for longer ones "
        "(default: paper for its benchmarks, uniform for data of your own)",
    )
    parser.add_argument(
        "--crop",
        choices=["detect", "yunet", "mtcnn"],
        help="find the largest face of each image, with any detector or with this one (default: take images for face crops)",
    )
    parser.add_argument(
        "--min-samples",
        type=int,
        default=1,
        metavar="N",
        help="adds a column uar_minN, the mean recall of the classes with at least N samples (uar: of the classes that occur)",
    )
    parser.add_argument(
        "--vote-classes",
        metavar="A,B,C",
        help="what the counts in a Parquet column `votes` are of, in their order (default for ten counts: FER+'s)",
    )
    parser.add_argument(
        "--fit-temperature",
        metavar="NAME",
        help="fit each model's temperature on the --data of this name, and report the agreement with votes with and without it",
    )
    parser.add_argument("--group", metavar="COLUMN", help="Parquet column with a group of people; scores each group")
    parser.add_argument(
        "--bands", metavar="A,B,C", help="of a --group of numbers: where another group begins, such as 18,30,45"
    )
    parser.add_argument(
        "--min-group",
        type=int,
        default=10,
        metavar="N",
        help="groups whose measure rests on fewer samples are named and not compared (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=local_path,
        required=True,
        metavar="DIR",
        help="folder for results.csv, report.md and predictions",
    )
    parser.add_argument("--batch-size", type=int, default=64, help="images in one forward pass (default: %(default)s)")
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        default="float32",
        help="number format of the models (default: %(default)s)",
    )
    parser.add_argument(
        "--expect", choices=["reported"], help="compare with the paper's logs; exit code 1 beyond --tolerance"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1.5,
        metavar="POINTS",
        help="percentage points that a result may differ from a reported one (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    own, class_names = _listed(arguments.labels), _listed(arguments.class_names)
    if arguments.label_set:
        own = LABEL_SETS[arguments.label_set]
    prompts = list(PROMPT_SETS) if "all" in arguments.prompts else list(dict.fromkeys(arguments.prompts))
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size is {arguments.batch_size}; it must be at least 1")
    if arguments.min_samples < 1:
        raise ValueError(f"--min-samples is {arguments.min_samples}; it must be at least 1")
    if arguments.min_group < 1:
        raise ValueError(f"--min-group is {arguments.min_group}; it must be at least 1")
    bands, vote_classes = _numbers(arguments.bands), _listed(arguments.vote_classes)
    if bands and not arguments.group:
        raise ValueError("--bands are of a --group; say with --group COLUMN of which")
    if bands:
        band_names(bands)  # numbers that make no bands are no reason to look at the data first
    roots = dict(_named_path("--frames-root", given) for given in arguments.frames_root)

    from modeling_expclip.system.lock import only_run

    from .evaluation.report import agreement_in_words, differences, gap_in_words, write_report
    from .evaluation.run import Pair, evaluate, folder_name
    from .support.processes import rank

    pairs = []
    for given in arguments.model:
        name, model = _named_model(given)
        for data in arguments.data:
            benchmark, source = _named_path("--data", data)
            settings = {
                "class_names": class_names,
                "frames_root": roots.get(benchmark),
                "short_clips": arguments.short_clips,
                "crop": arguments.crop,
                "bands": bands,
                "vote_classes": vote_classes,
            }
            classes = LABEL_SETS.get(benchmark, own)
            pairs.append(
                Pair(
                    name,
                    model,
                    benchmark,
                    source,
                    classes,
                    arguments.group,
                    min_samples=arguments.min_samples,
                    **settings,
                )
            )
    unknown = sorted({*roots} - {pair.benchmark for pair in pairs})
    if unknown:
        raise ValueError(f"--frames-root {unknown[0]}=...: there is no --data {unknown[0]}=...")
    places = [(folder_name(pair.name), pair.benchmark) for pair in pairs]
    twice = {place for place in places if places.count(place) > 1}
    if twice:
        raise ValueError(f"{' on '.join(sorted(twice)[0])} is given twice; give models names with NAME=MODEL")
    if arguments.fit_temperature not in (None, *(pair.benchmark for pair in pairs)):
        raise ValueError(
            f"--fit-temperature {arguments.fit_temperature}: there is no --data {arguments.fit_temperature}=..."
        )
    with only_run(arguments.output, rank()):
        results = evaluate(
            pairs,
            prompts,
            arguments.output,
            batch_size=arguments.batch_size,
            dtype=arguments.dtype,
            min_group=arguments.min_group,
            fit_temperature=arguments.fit_temperature,
        )
        if not results.rows:  # another process of torchrun writes
            return 0
        write_report(results, arguments.output)
    for row in results.rows:
        print(
            f"{row['model']:24} {row['benchmark']:20} {row['fold']:5} {row['prompt_set']:12} UAR {row['uar']:6.2f}  WAR {row['war']:6.2f}  n {row['n']}"
        )
    for row in results.panel:
        print(
            f"{row['model']:24} {row['benchmark']:20} {row['fold']:5} {row['prompt_set'] or '':12} {agreement_in_words(row)}"
        )
    for row in results.gaps:
        print(
            f"{row['model']:24} {row['benchmark']:20} {row['fold']:5} {row['prompt_set']:12} {row['measure']}: {gap_in_words(row)}"
        )
    tables = ["results.csv", "classes.csv"]
    if results.groups:
        tables += ["groups.csv", "gaps.csv"]
    tables += ["differences.csv"] if results.differences else []
    tables += ["panel.csv"] if results.panel else []
    print(f"wrote {', '.join(tables)}, report.md and report.html to {arguments.output}")
    if arguments.expect and not _as_reported(differences(results.rows), arguments.tolerance):
        return BEYOND_TOLERANCE
    return 0


def _listed(given: str | None) -> tuple[str, ...] | None:
    return tuple(check_labels(label.strip() for label in given.split(","))) if given else None


def _numbers(given: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(band) for band in given.split(",")) if given else ()
    except ValueError as error:
        raise ValueError(f"--bands {given}: expected numbers, such as 18,30,45") from error


def _named_path(option: str, given: str) -> tuple[str, str]:
    name, equals, path = given.partition("=")
    if not equals or not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"{option} {given}: expected NAME=PATH, such as rafdb=path/to/RAF-DB/test")
    return name, path


def _named_model(given: str) -> tuple[str, str]:
    """``NAME=MODEL``, or a model named by the last part of its path; of an Exp-CLIP without its
    head the name says so."""
    name, equals, model = given.partition("=")
    if equals and re.fullmatch(r"[\w.-]+", name):
        return name, model
    kind, colon, path = given.partition(":")
    bare = colon and kind == "clip-of"
    return re.sub(r"[^\w.-]+", "-", Path(path if bare else given).name) + (" without head" if bare else ""), given


def _as_reported(compared: list[dict], tolerance: float) -> bool:
    """Whether all results are within ``tolerance`` points of the reported ones; prints those that
    are not."""
    if not compared:
        raise ValueError(
            "--expect reported: nothing to compare; name models as the logs do, such as --model exp-clip-b32=PATH, "
            "and use the paper's benchmarks and prompt sets"
        )
    wrong = [row for row in compared if max(abs(row["d_uar"]), abs(row["d_war"])) > tolerance]
    for row in wrong:
        print(
            f"beyond {tolerance:g} points: {row['model']} on {row['benchmark']}, {row['prompt_set']}: UAR {row['uar']:.2f} "
            f"(reported {row['reported_uar']:.2f}), WAR {row['war']:.2f} (reported {row['reported_war']:.2f})",
            file=sys.stderr,
        )
    print(
        f"{len(compared) - len(wrong)} of {len(compared)} results are within {tolerance:g} points of the reported ones"
    )
    return not wrong


if __name__ == "__main__":
    run(__spec__.name, main)
