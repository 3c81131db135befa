"""Files that appear whole: written under a temporary name beside their own, which they take at the end."""

from __future__ import annotations

import csv
import errno
import glob
import hashlib
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .terminal import printable

LONGEST_NAME = 230  # bytes; file systems take 255, and what is added to a name while its file is written needs some
_DIGITS = 12
_ABANDONED = 3600  # seconds
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}  # what a disk says, and not a network
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}  # file systems that sync no folders


def check_apart(output: Path, *sources: Path) -> None:
    """Raises ValueError where the folder ``output`` is, contains or lies in one of ``sources``, whatever links and ``..`` lead there."""
    place = Path(os.path.realpath(output))
    for source in sources:
        origin = Path(os.path.realpath(source))
        # By what the system says they are, for names may differ: of letters on some disks, of mounts on others.
        for inner, outer in ((place, origin), (origin, place)):
            if outer.exists() and any(path.exists() and path.samefile(outer) for path in (inner, *inner.parents)):
                raise ValueError(
                    f"--output {output} is, contains or lies in {source}, from which it would be made; "
                    "choose a folder apart from it"
                )


def distinct_names(wanted: Mapping[str, str], longest: int) -> dict[str, str]:
    """Names of files for things that may be called alike: what each is ``wanted`` to be called, cut at ``longest`` bytes where it is
    longer, and told from its like by a digest of the thing."""
    names = {thing: printable(os.fsencode(name).decode("utf-8", "backslashreplace")) for thing, name in wanted.items()}
    often = Counter(name.casefold() for name in names.values())  # some file systems do not tell A from a
    marked = {}
    for thing, name in names.items():
        mark = f"-{hashlib.sha256(os.fsencode(thing)).hexdigest()[:8]}"
        marked[thing] = name.encode()[: longest - len(mark)].decode(errors="ignore") + mark
        if often[name.casefold()] > 1 or len(name.encode()) > longest:
            names[thing] = marked[thing]
    alike = len({name.casefold() for name in names.values()}) < len(
        names
    )  # one may be called as another that is marked
    return marked if alike else names


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a temporary name that becomes ``path`` at the end, or disappears on an error; a killed process leaves ``.*.part``."""
    # Not the process's id, which processes on other machines that share the folder may have too.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:_DIGITS]}.part")
    try:
        with written_to(path):
            yield part
            replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Removes what killed runs left of ``path``. Only for who holds its lock: another run's would go as well."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * _DIGITS}.part"):
        left.unlink(missing_ok=True)


def sweep_folder(folder: Path) -> None:
    """Removes what runs left in ``folder`` that were killed while they wrote: such files that nobody has written to for an hour, for
    processes that work together hold different locks."""
    for left in folder.rglob(f".*.{'[0-9a-f]' * _DIGITS}.part"):
        with suppress(FileNotFoundError):  # another process swept it
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()


def replace(part: Path, path: Path) -> None:
    """Gives ``part`` the name ``path`` once its content is on the disk, so that a power cut leaves the old file or the new one."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Puts the names in ``folder`` on the disk."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders; others may not read them
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(opened)


@contextmanager
def written_to(path: Path) -> Iterator[None]:
    """Says of a write that failed where it was: the system names no file when a disk is full, and safetensors raises no OSError."""
    try:
        yield
    except SafetensorError as error:
        raise _not_written(path, str(error)) from error
    except OSError as error:
        if error.errno not in _DISK or error.filename is not None:
            raise
        raise _not_written(path, str(error.strerror)) from error


def _not_written(path: Path, reason: str) -> OSError:
    return OSError(f"{path} cannot be written ({reason}); once that is mended, the same command continues")


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_json(path: Path, remedy: str) -> Any:
    """What ``write_json`` wrote. Raises ValueError naming the file, and ``remedy``, where it holds something else."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from error


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def file_id(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """The same for all names of a file or folder, links among them; None where there is none, or it cannot be asked."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
