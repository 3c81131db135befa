"""The images of a Parquet file's rows, read a few at a time: `datasets` and the Hub keep images so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
        with pq.ParquetFile(path) as file:
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


def image_rows(path: str | Path, start: int = 0) -> Iterator[tuple[int, bytes | str]]:
    """The number and image of each row from row `start` on, counted from 0.

    Yields:
        the image's bytes or, of a row without, a sentence that says so.

    Raises:
        OSError or ValueError (pyarrow's are both) for a damaged file, after the rows before the damage.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
        number = 0
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if number + count <= start:
                number += count
                continue
            for batch in file.iter_batches(_ROWS, [group], [_COLUMN], use_threads=False):
                for value in batch.column(0):
                    if number >= start:
                        yield number, _image(value.as_py())
                    number += 1


def _image(value: bytes | dict[str, Any] | None) -> bytes | str:
    content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if content:
        return content
    if path:
        return f"the row holds no image, only the path {path!r}; write the table with the images in it (of `datasets`: Image(decode=False) shows the paths)"
    return "the row holds no image"


def _is_bytes(kind) -> bool:
    import pyarrow as pa

    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _field(kind, name: str):
    import pyarrow as pa

    index = kind.get_field_index(name) if pa.types.is_struct(kind) else -1
    return None if index < 0 else kind.field(index)
