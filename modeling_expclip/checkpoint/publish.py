"""`expclip publish`: a checkpoint folder goes to the Hub whole, in one commit, or not at all.

In: a folder and the name of a repository. Everything is checked before anyone is contacted: the files, the card, the code that the
config names, the golden outputs. `plan` says exactly what would go, `upload` sends that and nothing else.
"""

from __future__ import annotations

import mmap
import os
import re
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, constants
from huggingface_hub.utils import validate_repo_id
from transformers.dynamic_module_utils import get_relative_import_files

from ..exporters.agreement import check_config
from ..exporters.onnx_graphs import FOLDER as GRAPHS
from ..exporters.open_clip_files import CONFIG as OPEN_CLIP
from ..exporters.runtimes import DESCRIPTION, TOWER, check_files
from ..system.files import read_json
from ..system.plain_yaml import read_front_matter
from ..system.terminal import one_line
from .backbones import WITH_HEAD
from .card import PLACEHOLDER
from .golden import VerificationError
from .load import load_checkpoint, model_type_of
from .verify import verify_outputs

CARD = "README.md"
_BELONGS = (".json", ".safetensors", ".py", ".md", ".txt", ".jinja")
_BELONGS_BY_NAME = ("LICENSE", "NOTICE", "recipe.yaml", "log.csv", "training_curve.png")
_TOWER_ENDINGS = (".xml", ".bin", ".onnx", ".data", ".onnx_data")
_PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
# What training and Python leave beside a checkpoint; nobody means to publish it, and nobody should have to delete it first.
_LEFT_OUT = re.compile(r"checkpoint-\d+|runs|__pycache__")
_TEXTS = ("base_model", "datasets", "language", "library_name", "license", "metrics", "pipeline_tag", "tags")
_CONFIGS = ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
_VOCABULARIES = ("tokenizer.json", "vocab.json")  # their words may look like anything
_LOCAL_PATH = re.compile(rb"""(?<![^\s"'=(\[])(?:~?/+|[A-Za-z]:[/\\]+)[^\s"'/\\]+[/\\][^\s"']*""")
_SECRET = re.compile(rb"hf_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY-----")
_HOMES = rb"/(?:home|Users)/[\w.-]+"  # on whatever machine the folder was made
_BELOW = rb"/[\w.~@+-]{2}[\w.~@+/-]*"  # long enough that no weights say it by chance
_WRITE_AGAIN = "write the checkpoint again"


@dataclass(frozen=True)
class Plan:
    """What goes where: `files` are names in the repository with a file on this machine, or with their content."""

    repo: str
    private: bool
    files: dict[str, Path | bytes]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        sizes = {
            name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in self.files.items()
        }
        width = max(map(len, sizes))
        lines = [f"{name:<{width}}  {size:>15,} bytes" for name, size in sizes.items()]
        lines += [f"{name:<{width}}  left out" for name in self.left_out]
        total = f"{len(sizes)} files, {sum(sizes.values()):,} bytes, for the model repository {self.repo}"
        return "\n".join([*lines, f"{total} ({'private' if self.private else 'public'})"])


def plan(folder: str | Path, repo: str, private: bool = False) -> Plan:
    """Checks a checkpoint folder and says what publishing it sends. Contacts nobody.

    Args:
        folder: checkpoint folder on this machine.
        repo: model repository, "owner/name".
        private: only for its owner or organisation.

    Returns:
        What `upload` sends.

    Raises:
        VerificationError: a ValueError; the checkpoint is not what it was when it was written.
        ValueError: a name that the Hub does not allow; files that do not belong; no valid card; code or
            paths that work on this machine only.
        OSError: there is no such checkpoint, or files are missing.
    """
    validate_repo_id(repo)
    if "/" not in repo:
        raise ValueError(f"say whose repository it is: --repo OWNER/{repo}")
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}; a checkpoint is published from a folder on this machine")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json: it is no checkpoint")
    found, left_out = _find_files(folder)
    files: dict[str, Path | bytes] = {**found, CARD: _card(folder, repo)}
    if OPEN_CLIP in found:  # from where it loads the tokenizer
        files[OPEN_CLIP] = found[OPEN_CLIP].read_bytes().replace(PLACEHOLDER.encode(), repo.encode())
    _check_paths(found)
    _check_code(found, model_type_of(str(folder)))
    verify_outputs(folder)
    if OPEN_CLIP in found:
        check_config(found[OPEN_CLIP], *load_checkpoint(folder))
    return Plan(repo, private, files, left_out)


def upload(planned: Plan) -> str:
    """Creates the repository where there is none, and commits the files to it.

    Returns:
        The repository's address.

    Raises:
        OSError: the Hub refuses or cannot be reached.
        ValueError: the repository exists and is public, but a private one was asked for. Nothing of the
            checkpoint has been published then.
    """
    api, repo = HfApi(), planned.repo
    try:
        address = api.create_repo(repo, private=planned.private, exist_ok=True)
        # An existing repository keeps its visibility, whatever was asked for.
        exposed = planned.private and not api.model_info(repo).private
        if not exposed:
            # Not upload_folder: it splits slow uploads into several commits, and half a checkpoint is none.
            operations = [
                CommitOperationAdd(name, file if isinstance(file, bytes) else str(file.resolve()))
                for name, file in planned.files.items()
            ]
            api.create_commit(repo, operations, commit_message="Publish an Exp-CLIP checkpoint")
    except Exception as error:  # the Hub's, HTTP's and the network's have no class in common
        raise OSError(f"publishing to {repo} failed: {_reason(error)}") from error
    if exposed:
        raise ValueError(f"{repo} exists and is public; make it private on the Hub first, or leave --private out")
    return str(address)


def _find_files(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The checkpoint's files by name, and the folders that are left out. Raises ValueError naming everything that does not belong."""
    towers, files, left_out, wrong = _towers(folder), {}, [], []
    graphs = [] if (folder / GRAPHS).is_symlink() else (folder / GRAPHS).glob("*")
    for path in sorted([*folder.iterdir(), *graphs]):
        name = path.relative_to(folder).as_posix()
        if path.name == GRAPHS and path.is_dir() and not path.is_symlink():
            continue
        if _LEFT_OUT.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            left_out.append(path.name)
        elif objection := _objection(path, name, towers):
            wrong.append(f"{name} ({objection})")
        else:
            files[name] = path
    if wrong:
        raise ValueError(f"{folder} holds what does not belong into a published checkpoint: {', '.join(wrong)}")
    return files, tuple(left_out)


def _objection(path: Path, name: str, towers: set[str]) -> str | None:
    if path.name.startswith("."):
        return "hidden"
    if not path.name.isprintable():  # it would move the cursor of whoever lists the files; and bytes that are no UTF-8
        return "a name that cannot be shown"
    if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
        return "a link out of the folder"
    if path.is_dir():
        return "a folder"
    if not path.is_file():
        return "not a file"
    if name in towers or ("/" not in name and (path.suffix in _BELONGS or name in _BELONGS_BY_NAME)):
        return None
    return "pickles may hold any code" if path.suffix in _PICKLES else "no file of a checkpoint"


def _towers(folder: Path) -> set[str]:
    """Files for other runtimes, which the golden outputs do not cover, by their names in the repository."""
    try:
        check_files(str(folder))
    except ValueError as error:
        raise VerificationError(str(error)) from error
    if not (folder / DESCRIPTION).is_file():
        return set()
    names = read_json(folder / DESCRIPTION, "export the checkpoint again")["files"]
    return {name for name in names if name.startswith((f"{TOWER}.", f"{GRAPHS}/")) and name.endswith(_TOWER_ENDINGS)}


def _card(folder: Path, repo: str) -> bytes:
    """The card with the repository's name in its examples. Raises FileNotFoundError or ValueError where the Hub could not read it."""
    path = folder / CARD
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {CARD}; a checkpoint is published with its model card")
    try:
        text = path.read_text(encoding="utf-8-sig")
        # Read as a recipe is, before the Hub's own reader, which accepts aliases and repeated keys, has it.
        metadata = read_front_matter(text)
        if metadata:
            ModelCard(text)
    except Exception as error:  # what the Hub's metadata must be, it says with many kinds
        raise ValueError(f"the metadata of {path} cannot be read: {_short(error)}") from error
    for key in ("library_name", "pipeline_tag"):
        if not isinstance(metadata.get(key), str):
            raise ValueError(f"{path} must begin with metadata, YAML between two lines of ---, that has a {key}")
    for key in _TEXTS:
        values = metadata.get(key, [])
        if not isinstance(values, str) and not (isinstance(values, list) and all(isinstance(v, str) for v in values)):
            raise ValueError(
                f"{path}: {key} must be text or a list of texts, got {values!r} (YAML reads a bare no as false)"
            )
    return text.replace(PLACEHOLDER, repo).encode()


def _check_paths(files: dict[str, Path]) -> None:
    """Raises ValueError for a path of this machine, which leads nowhere elsewhere and may tell more than its owner wants, and for what
    looks like a token or a private key."""
    machine = re.compile(b"(?:" + b"|".join([*_own_folders(), _HOMES]) + b")" + _BELOW)
    for name, file in files.items():
        if not file.stat().st_size:  # nothing cannot be mapped
            continue
        patterns = [machine]
        if file.suffix in (".json", ".yaml") and name not in _VOCABULARIES:
            patterns.append(_LOCAL_PATH)
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if _SECRET.search(content):
                raise ValueError(f"{file} holds what looks like a token or a private key; take it out, and revoke it")
            text = content[:].replace(b"\\/", b"/") if file.suffix == ".json" else content  # JSON may write slashes so
            found = next((match[0] for pattern in patterns if (match := pattern.search(text))), None)
        if found is not None:
            raise ValueError(
                f"{file} names a path of this machine: {found.decode(errors='replace')}; take it out, or write the file again "
                "with `expclip convert`, `merge` or `export`"
            )


def _own_folders() -> list[bytes]:
    """Where files of this machine and user lie: what compilers, loggers and caches write into what they make."""
    places = [str(Path.home()), os.getcwd(), tempfile.gettempdir(), sysconfig.get_path("purelib"), constants.HF_HOME]
    places.append(str(Path(__file__).parents[1]))
    named = {os.fsencode(name(place)) for place in places for name in (os.path.abspath, os.path.realpath)}
    return [re.escape(name) for name in sorted(named) if len(name) > 3]  # not the root, which is no place


def _check_code(files: dict[str, Path], model_type: str | None) -> None:
    """Raises ValueError where the configs name code that would not be published with them."""
    references = [
        (name, ref) for name in _CONFIGS if name in files for ref in _references(read_json(files[name], _WRITE_AGAIN))
    ]
    if model_type in WITH_HEAD and "config.json" not in dict(references):
        raise ValueError(f"{files['config.json']} names no code (auto_map), without which nobody could load it")
    for name, reference in references:
        if not isinstance(reference, str):
            raise ValueError(f"{files[name]} names code by {reference!r}; expected text such as module.Class")
        module = f"{reference.partition('.')[0]}.py"
        if module not in files:  # "OWNER/NAME--module.Class" is code of another repository
            raise ValueError(f"{files[name]} takes {reference} from elsewhere; the folder must hold the code it names")
        try:
            needed = {Path(file).name for file in get_relative_import_files(files[module])}
        except FileNotFoundError as error:
            needed = {Path(error.filename).name}
        if missing := sorted(needed - files.keys()):
            raise ValueError(f"{files[module]} needs {', '.join(missing)}, which the folder does not hold")


def _references(value: Any) -> Iterator[str]:
    """Every "module.Class" that a config names, in dicts within dicts."""
    left = [value]
    while left:  # not by recursion: JSON may be nested deeper than Python calls
        held = left.pop()
        for key, inner in held.items() if isinstance(held, dict) else ():
            if key == "auto_map":
                parts = inner.values() if isinstance(inner, dict) else [inner]
                yield from (ref for part in parts for ref in (part if isinstance(part, list) else [part]) if ref)
            elif key == "impl":
                yield inner
            else:
                left.append(inner)


def _reason(error: Exception) -> str:
    status: Any = getattr(getattr(error, "response", None), "status_code", None)
    hints = {401: "log in first, with `hf auth login` or HF_TOKEN", 403: "your token may not write there"}
    return f"{hints.get(status, type(error).__name__)}: {_short(error)}"


def _short(error: Exception) -> str:
    return one_line(error)[:300]
