"""Files that the rows of a table name: only regular ones below the table are opened, for a table
may come from a stranger."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Image
from huggingface_hub.constants import HF_HUB_CACHE


def with_paths(table: Dataset, place: Callable[[str, int], str]) -> Dataset:
    """The table with ``place`` of each file that a row names, and its number. The bytes of other
    rows are neither read nor copied."""
    chunks, row, changed = [], 0, False
    for chunk in table.data.column("image").chunks:
        content, paths = chunk.flatten()
        named = pc.and_(pc.is_null(content), pc.is_valid(paths)).to_pylist()
        if any(named):
            changed = True
            whole = [
                place(path.as_py(), row + i) if mine else path.as_py()
                for i, (path, mine) in enumerate(zip(paths, named))
            ]
            parts = [content, pa.array(whole, paths.type)]
            chunk = pa.StructArray.from_arrays(parts, fields=[*chunk.type], mask=chunk.is_null())
        chunks.append(chunk)
        row += len(chunk)
    if not changed:
        return table
    names, fingerprint = table.column_names, f"{table._fingerprint}-placed"  # or it would read all bytes to make one
    column = pa.chunked_array(chunks)
    table = table.add_column("placed", column, new_fingerprint=fingerprint, feature=Image(decode=False))
    return table.remove_columns("image").rename_column("placed", "image").select_columns(names)


def file_below(path: str, folder: Path | None, where: str) -> str:
    """The whole path of a file that a row names. Raises ValueError, naming the row, for any but a
    regular file below ``folder``.

    Without a folder, of a Hub id, the file must be one that was downloaded. A file that is missing
    is found so when it is read.
    """
    roots = [folder] if folder is not None else [Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]
    try:
        outward = "://" in path or (folder is not None and (Path(path).is_absolute() or ".." in Path(path).parts))
        place = Path(os.path.realpath(roots[0] / path))
        inside = not outward and any(place.is_relative_to(os.path.realpath(root)) for root in roots)
        wrong = None if inside and (place.is_file() or not place.exists()) else "no regular file below its table"
    except (ValueError, OSError) as error:
        wrong = str(error)
    if wrong:
        raise ValueError(
            f"{where} names the file {path[:200]!r}: {wrong}; put the files into the folder of the table and name them from there, "
            "or the images into the table"
        )
    return str(place)
