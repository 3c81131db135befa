"""The images of a Parquet file's rows, read a few at a time: `datasets` and the Hub keep images so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .storage import is_stored, open_stored

ENDING = ".parquet"
_COLUMN = "image"
_ROWS = 16  # read at once; photos of 10 MB are then some 160 MB
_BUFFER = 2**20  # bytes of the file read at once, instead of a whole column


class NoImagesError(ValueError):
    """A Parquet file that holds no images."""


def check_images(path: str | Path) -> int:
    """The number of rows of a Parquet file with a column `image`.

    The column holds the files' bytes, or structs of `bytes` and `path` as `datasets` writes them.

    Raises:
        NoImagesError: without such a column.
        ValueError, OSError: for a damaged file or none.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(_opened(path)) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
    except (OSError, ValueError, LookupError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
    if schema.names.count(_COLUMN) > 1:
        raise NoImagesError(f"{path} has {schema.names.count(_COLUMN)} columns '{_COLUMN}'; give each its own name")
    if _COLUMN not in schema.names:
        raise NoImagesError(f"{path} has no column '{_COLUMN}'; its columns are {', '.join(schema.names)}")
    kind = schema.field(_COLUMN).type
    if not (_is_bytes(kind) or (_field(kind, "bytes") is not None and _is_bytes(_field(kind, "bytes").type))):
        raise NoImagesError(
            f"{path}: its column '{_COLUMN}' holds {kind}; expected the images' bytes, alone or as 'bytes' of a struct"
        )
    return count


def image_groups(path: str | Path) -> list[int]:
    """The number of rows of each group of rows, which is what can be read without what comes before it."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(_opened(path)) as file:
        return [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]


def image_rows(path: str | Path, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes | str]]:
    """The number and image of each row from row `start` on, counted from 0, up to row `stop`, which is left out.

    Yields:
        the image's bytes or, of a row without, a sentence that says so.

    Raises:
        OSError or ValueError (pyarrow's are both) for a damaged file, after the rows before the damage.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(_opened(path), buffer_size=_BUFFER, pre_buffer=False) as file:
        number = 0
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if stop is not None and number >= stop:
                return
            if number + count <= start:
                number += count
                continue
            for batch in file.iter_batches(_ROWS, [group], [_COLUMN], use_threads=False):
                for value in batch.column(0):
                    if stop is not None and number >= stop:
                        return
                    if number >= start:
                        yield number, image_of(value.as_py())
                    number += 1


def image_of(value: bytes | str | Mapping[str, Any] | None) -> bytes | str:
    """The image's bytes that a cell holds or, of one without, a sentence that says so. A path in it is not opened."""
    if isinstance(value, Mapping):
        content, path = value.get("bytes"), value.get("path")
    else:
        content, path = (None, value) if isinstance(value, str) else (value, None)
    if isinstance(content, (bytes, bytearray, memoryview)) and len(content):
        return bytes(content)
    if path:
        return f"the row holds no image, only the path {path!r}; write the table with the images in it (of `datasets`: Image(decode=False) shows the paths)"
    return "the row holds no image"


def _opened(path: str | Path) -> Any:
    return open_stored(path) if isinstance(path, str) and is_stored(path) else path


def _is_bytes(kind) -> bool:
    import pyarrow as pa

    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _field(kind, name: str):
    import pyarrow as pa

    index = kind.get_field_index(name) if pa.types.is_struct(kind) else -1
    return None if index < 0 else kind.field(index)
