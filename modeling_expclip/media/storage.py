"""Files on object storage, by addresses such as `s3://bucket/faces/a.jpg`, through fsspec."""

from __future__ import annotations

import tempfile
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

# Not all that fsspec knows: some of its protocols read this machine's files, or what other addresses name.
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub", "memory": "fsspec"}
_LARGEST = 100 * 2**20  # bytes of one image


def is_stored(path: Any) -> bool:
    """Whether this is an address on object storage."""
    return isinstance(path, str) and path.partition("://")[0] in _PACKAGES and "://" in path


def local_path(name: str) -> Path:
    """An option's value as a path on this machine. Raises ArgumentTypeError for an empty one, as of a variable that is not set, and for an
    address."""
    if not name:
        raise ArgumentTypeError("the name is empty")
    if "://" in name:
        raise ArgumentTypeError(f"{name!r} is an address; give a path on this machine")
    return Path(name)


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Clients raise errors of many kinds: without credentials, for buckets and keys that are not there, for networks. All become
    OSError that names the address."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        said = "is not there" if isinstance(error, FileNotFoundError) else f"may not be opened ({error})"
        raise type(error)(f"{address} {said}") from error
    except ImportError as error:
        package = _PACKAGES[address.partition("://")[0]]
        raise ImportError(f"{address} needs the package {package}: pip install {package}") from error
    except Exception as error:
        named = f"{type(error).__name__}: {error}"
        hint = "; give its credentials as its own tools want them" if "credential" in named.lower() else ""
        raise OSError(f"{address} cannot be reached: {named}{hint}") from error


def _system(address: str) -> tuple[Any, str]:
    import fsspec

    return fsspec.core.url_to_fs(address)


def read_stored(address: str) -> bytes:
    """A file's content. Raises OSError where it cannot be had, or is larger than an image may be."""
    with _told(address):
        system, path = _system(address)
        with system.open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise OSError(f"{address} is larger than {_LARGEST} bytes")
    return content


def open_stored(address: str) -> BinaryIO:
    """A file to read from and seek in. Raises OSError where it cannot be had."""
    with _told(address):
        system, path = _system(address)
        return system.open(path, "rb")


def find_stored(address: str) -> list[str]:
    """The addresses of a file, or of all files below a folder, or that a pattern with `*`, `?` or `[` fits, sorted.

    Raises:
        FileNotFoundError: where there is none, OSError where it cannot be asked.
    """
    with _told(address):
        system, path = _system(address)
        system.invalidate_cache()  # what another program has written since
        if any(sign in path for sign in "*?["):
            found = [name for name, info in system.glob(path, detail=True).items() if info["type"] == "file"]
        else:
            found = list(system.find(path))
    if not found:
        raise FileNotFoundError(f"there is no file at {address}; correct the address or leave it out")
    return sorted(system.unstrip_protocol(name) for name in found)


class Folder:
    """A folder of this disk or of object storage, whose files appear whole.

    Args:
        place: a path or an address; the folder is made with its first file.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = str(place).rstrip("/")
        self._stored = is_stored(self.place)

    def names(self) -> set[str]:
        """The names in it; none where it is not there."""
        if not self._stored:
            return {path.name for path in Path(self.place).iterdir()} if Path(self.place).is_dir() else set()
        with _told(self.place):
            system, path = _system(self.place)
            system.invalidate_cache()
            return (
                {name.rstrip("/").rpartition("/")[2] for name in system.ls(path, detail=False)}
                if system.isdir(path)
                else set()
            )

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Gives a path of this disk to write to; what lies there at the end becomes the file `name`."""
        if not self._stored:
            yield Path(self.place, name)
            return
        with tempfile.TemporaryDirectory(prefix="expclip-") as folder:
            yield Path(folder, name)
            with _told(self.place):  # an object is there whole or not at all
                system, path = _system(self.place)
                system.put_file(str(Path(folder, name)), f"{path}/{name}")

    def read(self, name: str) -> bytes:
        if not self._stored:
            return Path(self.place, name).read_bytes()
        with _told(self.place):
            system, path = _system(self.place)
            return system.cat_file(f"{path}/{name}")

    def remove(self, name: str) -> None:
        if not self._stored:
            Path(self.place, name).unlink(missing_ok=True)
            return
        with _told(self.place):
            system, path = _system(self.place)
            system.rm_file(f"{path}/{name}")

    def counts(self, names: list[str]) -> tuple[int, int]:
        """The number of rows of these Parquet files, and of those with an `error`."""
        import pyarrow.compute as pc
        import pyarrow.dataset as ds

        if not names:
            return 0, 0
        with _told(self.place):
            system, path = _system(self.place) if self._stored else (None, self.place)
            table = ds.dataset([f"{path}/{name}" for name in names], filesystem=system, format="parquet")
            rows = table.count_rows()
            return rows, rows - table.count_rows(filter=pc.field("error").is_null())
