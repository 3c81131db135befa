"""ExpressionScorer: a function on batches of a table with images, for engines that share tables out among machines."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from .. import MINI
from ..prompts import DEFAULT_PROMPTS, check_prompts
from .analyzer import FaceAnalyzer
from .classify import Classifier
from .label_sets import Words
from .parquet import image_of
from .table import Layout, Row


class ExpressionScorer:
    """
    Turns batches with a column of images into rows of scores, the columns of ``expclip classify``.

    It works as it stands in Ray Data, `datasets` and Spark. It is sent to other processes as its arguments, and each loads the model once,
    with its first batch.

    ```python
    >>> table.map_batches(ExpressionScorer, fn_constructor_kwargs={"labels": ["bored", "excited"]}, compute=ActorPoolStrategy(size=4))
    >>> dataset.map(ExpressionScorer(labels=["bored", "excited"]), batched=True)
    >>> frame.mapInPandas(scorer, from_arrow_schema(scorer.schema))
    ```

    Args:
        model: a checkpoint (folder or Hub id), see [`FaceAnalyzer`]. A folder must be there on every machine. Default: expclip-mini.
        labels, label_set, prompts, multi_label, contrasts: see [`FaceAnalyzer.photo`].
        faces: find the faces first, a row each; False takes each image for one face, and gives as many rows as there were.
        image: the column of images: a file's content, a struct with it as ``bytes``, arrays (height, width, 3) uint8 of RGB or PIL images.
            Paths in it are not opened, for who wrote the table is not who reads it.
        path: the column that becomes the rows' ``path``, as text; where it is missing they have none.
        analyzer: further arguments of [`FaceAnalyzer`]: ``margin``, ``batch_size``, ``device``...

    Raises ValueError for wrong labels and prompts, TypeError for unknown arguments. A batch raises what ``FaceAnalyzer`` does for models
    that cannot be loaded, and ValueError without the column; an image that cannot be read is a row with ``error``.
    """

    def __init__(
        self,
        model: str | Path = MINI,
        labels: Sequence[str] | None = None,
        *,
        label_set: str | None = None,
        prompts: str | Sequence[str] = DEFAULT_PROMPTS,
        multi_label: bool = False,
        contrasts: Mapping[str, Any] | None = None,
        faces: bool = False,
        image: str = "image",
        path: str = "path",
        **analyzer: Any,
    ) -> None:
        if not isinstance(model, (str, Path)):
            raise ValueError(
                f"model must be a checkpoint's folder or Hub id, for others load it; got {type(model).__name__}"
            )
        self._words: dict[str, Any] = {
            "labels": None if labels is None else tuple(labels),
            "label_set": label_set,
            "prompts": check_prompts(prompts),
            "multi_label": multi_label,
            "contrasts": contrasts,
        }
        self.labels = Words.choose(**self._words).labels
        self._layout = Layout(self.labels)
        self._layout.check()
        self._columns = (image, path)
        self._options = {"faces": faces, **analyzer}
        inspect.signature(FaceAnalyzer).bind(model, **self._options)
        # The embedded model lies elsewhere on a machine with another environment.
        self._model = None if str(model) == MINI else str(model)

    @property
    def schema(self) -> pa.Schema:
        """The columns of the answers, and their types."""
        return self._layout.schema()

    @cached_property
    def classifier(self) -> Classifier:
        """The loaded model, for other work with the same words."""
        return Classifier(FaceAnalyzer(self._model or MINI, **self._options), self._words)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "classifier"}

    def __call__(self, batch: Any) -> Any:
        """Scores a batch.

        Args:
            batch: columns by name (lists or arrays), an Arrow table, or a DataFrame; or an iterator of any of these.

        Returns:
            an Arrow table with the columns of ``schema``; of a DataFrame, a DataFrame; of an iterator, an iterator of these.
        """
        if isinstance(batch, Iterator):
            return map(self, batch)
        names = batch.column_names if isinstance(batch, pa.Table) else list(batch)
        image, path = self._columns
        if image not in names:
            raise ValueError(f"the batch has no column {image!r}; its columns are {', '.join(map(str, names))}")
        images = _listed(batch[image])
        paths = _listed(batch[path]) if path in names else [None] * len(images)
        table = self._table(images, paths)
        if isinstance(batch, (Mapping, pa.Table)):
            return table
        import pandas as pd

        return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)

    def _table(self, images: list[Any], paths: list[Any]) -> pa.Table:
        without: dict[int, str] = {}

        def readable() -> Iterator[tuple[int, Any]]:
            for number, image in enumerate(images):
                if not isinstance(image, (np.ndarray, Image.Image)):  # all else could hold a path or an address
                    image = image_of(image)
                if isinstance(image, str):
                    without[number] = image
                else:
                    yield number, image

        found = dict(self.classifier.rows(readable(), str))
        values = []
        for number, path in enumerate(paths):
            name = None if path is None else str(path)
            rows = found[number] if number in found else [Row("", error=without[number])]
            values += [self._layout.values(row) | {"path": name} for row in rows]
        return pa.Table.from_pylist(values, schema=self.schema)


def _listed(column: Any) -> list[Any]:
    """The cells of a column; an array of many images stays an array for each."""
    if isinstance(column, pa.ChunkedArray):
        return column.to_pylist()
    return (
        list(column)
        if isinstance(column, (np.ndarray, list))
        else column.tolist()
        if hasattr(column, "tolist")
        else list(column)
    )
