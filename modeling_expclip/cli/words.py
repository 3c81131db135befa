"""Labels and prompts as people give them to a command: lists, files, names, templates."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..media.label_sets import ALL_SETS
from ..prompts import DEFAULT_LABEL_SET, PROMPT_SETS, check_labels, check_prompts

_COMMENT = "#"


def add_words(command: argparse.ArgumentParser, paths: argparse.Action) -> None:
    """Adds `--labels`, `--label-set`, `--multi-label` and `--prompts`; `paths` is the command's argument for paths."""
    chosen = command.add_mutually_exclusive_group()
    chosen.add_argument(
        "--labels",
        metavar="A,B,C|FILE",
        help="own labels, separated by commas; or a UTF-8 file with one a line (lines that begin with # are comments)",
    )
    chosen.add_argument(
        "--label-set",
        choices=ALL_SETS,
        help="or the labels of a benchmark (default: rafdb, which are happiness, sadness, neutral, anger, surprise, disgust, fear); "
        "or action_units, whose scores are each unit's own; valence_arousal, whose two scores lie between -1 and 1; emonet40",
    )
    command.add_argument(
        "--multi-label",
        action="store_true",
        help="score each label by itself, 0 to 1, instead of against the other labels; a row is without a label where no score "
        "reaches one half",
    )
    command.add_argument(
        "--prompts",
        nargs="+",
        action=_Prompts,
        paths=paths,
        default="ensemble10",
        metavar="NAME|TEMPLATE",
        help=f"a prompt set ({', '.join(PROMPT_SETS)}; default: %(default)s), or own templates such as 'a {{}} face'",
    )


def words_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `--labels`, `--label-set`, `--multi-label` and `--prompts` say, as arguments of `FaceAnalyzer.photo`.

    Raises:
        ValueError: for labels that `check_labels` refuses, FileNotFoundError for a file that is not there.
    """
    given = arguments.labels
    return {
        "labels": None if given is None else _read(Path(given)) if _is_file_name(given) else _listed(given),
        "label_set": (arguments.label_set or DEFAULT_LABEL_SET) if given is None else None,
        "prompts": check_prompts(arguments.prompts),
        "multi_label": arguments.multi_label,
    }


def _listed(given: str) -> tuple[str, ...]:
    return tuple(check_labels(label.strip() for label in given.split(",")))


def _is_file_name(given: str) -> bool:
    """A text without a comma would be one label, which fits every face: it is a file where it looks like one."""
    if "," in given:
        return given.lower().endswith(".txt") and Path(given).is_file()
    return given.lower().endswith(".txt") or any(sep in given for sep in (os.sep, os.altsep) if sep) or _is_file(given)


def _is_file(given: str) -> bool:
    try:
        return Path(given).is_file()
    except (OSError, ValueError):  # no name of a file: too long, or with a null
        return False


def _read(file: Path) -> tuple[str, ...]:
    if not _is_file(str(file)):
        raise FileNotFoundError(
            f"--labels: there is no file {str(file)!r}; labels of your own are separated by commas, as in joyful,bored"
        )
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"--labels: {file} is no text in UTF-8 ({error.reason}); save it as UTF-8") from error
    try:
        return tuple(check_labels(line for line in lines if line and not line.startswith(_COMMENT)))
    except ValueError as error:
        raise ValueError(f"--labels {file}: {error}") from error


class _Prompts(argparse.Action):
    """Takes a prompt set's name or templates, and leaves to the paths what follows them: `--prompts photo FOLDER`."""

    def __init__(self, *args: Any, paths: argparse.Action, **options: Any) -> None:
        super().__init__(*args, **options)
        self._paths = paths

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str] | Any,
        option: str | None = None,
    ) -> None:
        if values[0] in PROMPT_SETS:
            prompts, others = values[0], values[1:]
        else:
            count = next((i for i, value in enumerate(values) if i and _is_path(value)), len(values))
            prompts, others = values[:count], values[count:]
            if count == 1 and "{" not in values[0]:
                prompts = values[0]  # the name of no prompt set, and an error that lists those there are
        setattr(namespace, self.dest, prompts)
        if others:
            setattr(namespace, self._paths.dest, [*(getattr(namespace, self._paths.dest) or []), *others])
            self._paths.required = False


def _is_path(value: str) -> bool:
    return "{" not in value and ("://" in value or os.path.lexists(value))
