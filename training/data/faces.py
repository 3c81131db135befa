"""Any face data becomes one ``datasets`` schema: ``id`` (string), ``image`` (not decoded yet) and
``label`` (string or null).

In: paths of folders, Parquet files, annotation lists, or Hub ids. Out: a Dataset, or a Stream when
streaming, from which ``read_image`` makes RGB faces; columns that a teacher or the cropping reads
are kept beside the three.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import datasets
from datasets import ClassLabel, Dataset, Features, Image, IterableDataset, Value
from PIL import Image as PIL

from modeling_expclip.media.crop_check import crops_warning
from modeling_expclip.media.detectors import FaceDetector
from modeling_expclip.media.faces import crop_face
from modeling_expclip.media.images import image_endings, open_image
from modeling_expclip.prompts import canonical_label

from ..recipe import FacesRecipe
from ..support.processes import rank
from .layouts import Entry, find_entries, split_layout
from .streams import Stream, joined
from .table_files import file_below, with_paths

Faces = Dataset | Stream
Labels = Literal["none", "paper", "own"]
SCHEMA = {"id": Value("string"), "image": Image(decode=False), "label": Value("string")}
FINDS_FACES = ("detect", "yunet", "mtcnn")  # values of ``crop``
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_faces(
    sources: Sequence[str],
    *,
    labels: Labels = "none",
    columns: Iterable[str] = (),
    frames: int = 1,
    streaming: bool = False,
) -> Faces:
    """Loads one or several sources, one after the other, as one table.

    Args:
        sources: ``PATH`` or ``LAYOUT=PATH``: a Parquet file or a folder of them, a folder of images
            (LAYOUTS names the layouts; default ``folders``), an annotation list ``*.txt``; or a Hub
            id ``owner/name`` or ``owner/name:split`` (default: the split ``train``). Of several
            sources, ids are prefixed with what tells their paths apart.
        labels: ``none`` does not look at labels, whatever they are; ``paper`` maps them to the
            paper's names, where an unknown one is an error; ``own`` takes the data's own words, or
            numbers as text. A face without a label is an error for both.
        columns: further columns to keep; a source without one is an error.
        frames: images taken from each clip of video, from the middles of equal segments.
        streaming: do not download or convert a Hub id or Parquet files first.

    Raises FileNotFoundError for data that is not there, ValueError for data that is not what it
    should be.
    """
    if not sources:
        raise ValueError("no face data given; pass --data PATH")
    reserved = sorted(set(columns) & set(SCHEMA))
    if reserved:
        raise ValueError(
            f"the column {reserved[0]!r} cannot be a further column beside {', '.join(SCHEMA)}; rename it in the data"
        )
    names = _names([split_layout(source)[1] for source in sources]) if len(sources) > 1 else [""]
    parts = [_load(source, name, labels, tuple(columns), frames, streaming) for source, name in zip(sources, names)]
    if len(parts) == 1:
        return parts[0]
    return joined(parts) if all(isinstance(part, Stream) for part in parts) else datasets.concatenate_datasets(parts)


def image_bytes(record: dict[str, Any]) -> bytes:
    """The encoded image of a row. Raises OSError when its file cannot be read."""
    image = record["image"]
    if image is None or (image["bytes"] is None and image["path"] is None):
        raise FileNotFoundError("the row has no image")
    if image["bytes"] is not None:
        return image["bytes"]
    path = Path(image["path"])
    if path.exists() and not path.is_file():  # a FIFO would be waited for, a device read without end
        raise OSError(f"{path} is no regular file")
    return path.read_bytes()


def face_columns(faces: FacesRecipe) -> list[str]:
    """The columns that ``face_of`` reads besides the image."""
    return ["box"] if faces.crop == "boxes" else []


class NoFaceError(ValueError):
    """An image in which a face was looked for and none was found."""


@functools.cache
def face_detector(crop: str) -> FaceDetector:
    """What finds faces for a ``crop`` of FINDS_FACES; said once. Raises ImportError without OpenCV,
    OSError or ValueError without its weights."""
    try:
        detector = FaceDetector("auto" if crop == "detect" else crop)
    except (ImportError, OSError, ValueError) as error:
        raise type(error)(f"faces are looked for (crop: {crop}; crop: none takes them as they are): {error}") from error
    if rank() == 0:
        print(detector, file=sys.stderr)
    return detector


def crop_in_use(crop: str | None) -> str | None:
    """``crop`` as caches and results record it, which must not hold faces of two detectors:
    ``detect`` where YuNet finds them, as it always meant, else ``mtcnn``."""
    if crop not in FINDS_FACES:
        return crop
    return "mtcnn" if face_detector(crop).name == "mtcnn" else "detect"


def face_of(record: dict[str, Any], content: bytes, faces: FacesRecipe) -> tuple[PIL.Image, Sequence[float] | None]:
    """The face of a row, prepared as the recipe says, and the box (x0, y0, x1, y1) it was cut out
    of, if it was.

    Raises OSError or ValueError for what cannot be read or cropped, NoFaceError where none is found.
    """
    if faces.crop == "none":
        return read_image(content), None
    if faces.crop in FINDS_FACES:
        return find_face(read_image(content), faces.crop, faces.margin)
    if record["box"] is None:
        raise ValueError("the row has no box to crop")
    return read_image(content, record["box"], faces.margin), record["box"]


def find_face(image: PIL.Image, crop: str, margin: float = 0.0) -> tuple[PIL.Image, tuple[int, int, int, int]]:
    """The largest face, cut out, and its box. Raises NoFaceError."""
    found = face_detector(crop)(image)
    if not found:
        raise NoFaceError("no face found")
    return crop_face(image, found[0], margin), found[0].box


def warn_of_scenes(images: Iterable[bytes | PIL.Image], name: str, remedy: str) -> None:
    """Says, of the first images of what is taken for face crops, if they are none. ``images``: no
    more than a few are taken."""
    if rank() == 0 and (warning := crops_warning(images)):
        print(f"{name}: {warning}: {remedy}", file=sys.stderr)


def contents(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """The encoded images of those rows that have one."""
    for record in rows:
        try:
            yield image_bytes(record)
        except (OSError, ValueError):  # the run itself lists it
            continue


def readable_face(record: dict[str, Any], faces: FacesRecipe) -> PIL.Image:
    """``face_of`` a row that may not be passed over. Raises OSError naming it where its image
    cannot be read, NoFaceError as it does."""
    try:
        return face_of(record, image_bytes(record), faces)[0]
    except (MemoryError, NoFaceError):
        raise
    except Exception as error:  # decoders raise many kinds on damaged files
        raise OSError(f"the face {record['id']} cannot be read: {type(error).__name__}: {error}") from error


def read_image(content: bytes, box: Sequence[float] | None = None, margin: float = 0.0) -> PIL.Image:
    """Decodes a face as RGB, upright, and crops it to ``box`` (x0, y0, x1, y1 in pixels) widened by
    ``margin`` of its sides.

    Raises OSError or ValueError for what is no image, or a box that does not lie in it.
    """
    image = open_image(content)
    if box is None:
        return image
    x0, y0, x1, y1 = box
    dx, dy = margin * (x1 - x0), margin * (y1 - y0)
    inside = (
        max(0, round(x0 - dx)),
        max(0, round(y0 - dy)),
        min(image.width, round(x1 + dx)),
        min(image.height, round(y1 + dy)),
    )
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise ValueError(f"the box {list(box)} holds nothing of an image of {image.width} x {image.height} pixels")
    return image.crop(inside)


def sample_frames(count: int, wanted: int) -> list[int]:
    """Indices of ``wanted`` frames of ``count``: the middles of equal segments, none twice in a
    short clip."""
    return sorted({int((i + 0.5) * count / wanted) for i in range(wanted)})


def _names(paths: list[str]) -> list[str]:
    """What tells paths apart: as many of their last parts as it takes."""
    parts = [Path(path).parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return [name.strip("/") + "/" for name in names]
    raise ValueError(f"the same data is given twice: {', '.join(sorted({p for p in paths if paths.count(p) > 1}))}")


def _load(source: str, prefix: str, labels: Labels, columns: tuple[str, ...], frames: int, streaming: bool) -> Faces:
    layout, path = split_layout(source)
    folder = Path(path)
    parquet = [folder] if folder.suffix == ".parquet" and not folder.is_dir() else []
    if folder.is_dir() and not layout:
        parquet = sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))
        if parquet and any(file.suffix.lower() in image_endings() for file in folder.rglob("*")):
            raise ValueError(
                f"{folder} holds images and Parquet files; give the one or the other, as folders={folder} or its files"
            )
    if parquet and not layout:
        # The files of one source lie in one folder.
        return _table(_read_parquet(parquet, streaming), path, prefix, labels, columns, parquet[0].parent)
    if not layout and not folder.exists() and _HUB_ID.fullmatch(path.partition(":")[0]):
        name, _, split = path.partition(":")
        try:
            table = datasets.load_dataset(name, split=split or "train", streaming=streaming)
        except (OSError, ValueError) as error:
            raise type(error)(f"there is no {path!r} on this disk, and as a Hub data set it failed: {error}") from error
        return _table(table, path, prefix, labels, columns, None)
    if folder.is_file() and folder.suffix != ".txt":
        raise ValueError(f"{path} is neither a folder, a .parquet file, nor an annotation list (.txt)")
    entries = find_entries(folder, layout or ("list" if folder.is_file() else "folders"))
    if columns:
        raise ValueError(f"{path}: the columns {', '.join(columns)} are needed; put images and columns into Parquet")
    return _from_entries(entries, path, prefix, labels, frames)


def _read_parquet(files: list[Path], streaming: bool) -> Dataset | IterableDataset:
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"no file {file}")
    try:
        return datasets.load_dataset(
            "parquet", data_files=[str(file) for file in files], split="train", streaming=streaming
        )
    # Damaged, without rows, or with notes on its columns that datasets takes for its own.
    except (
        datasets.exceptions.DatasetGenerationError,
        ValueError,
        OSError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
    ) as error:
        if getattr(error, "errno", None) is not None:  # the disk's, not the file's
            raise
        raise ValueError(
            f"{', '.join(map(str, files))} cannot be read as Parquet: {error.__cause__ or error}"
        ) from error


def _from_entries(entries: list[Entry], source: str, prefix: str, labels: Labels, frames: int) -> Dataset:
    rows: dict[str, list] = {name: [] for name in SCHEMA}
    for entry in entries:
        label = _known(entry.label, f"{source}: {entry.id}", labels)
        chosen = sample_frames(len(entry.frames), frames)
        for i in chosen:
            rows["id"].append(prefix + (entry.id if len(entry.frames) == 1 else f"{entry.id}/{entry.frames[i].name}"))
            rows["image"].append({"bytes": None, "path": str(entry.frames[i])})
            rows["label"].append(label)
    return Dataset.from_dict(rows, features=Features(SCHEMA))


def _table(
    table: Dataset | IterableDataset,
    source: str,
    prefix: str,
    labels: Labels,
    columns: tuple[str, ...],
    folder: Path | None,
) -> Faces:
    """A table with an image column -> the schema. Images that are files lie below ``folder``; None
    for a Hub id's."""
    if table.features is None:
        table = table._resolve_features()  # a streamed table may not know its columns before its first rows
    features = table.features
    image = "image" if "image" in features else next((n for n, f in features.items() if isinstance(f, Image)), None)
    wanted = [*columns, *(["label"] if labels != "none" else [])]
    missing = [name for name in wanted if name not in features]
    if image is None or missing:
        lacking = ", ".join(missing if image is not None else ["image", *missing])
        raise ValueError(f"{source} has no column {lacking}; its columns are {', '.join(features)}")
    if not _holds_images(features[image]):
        raise ValueError(f"{source}: column {image!r} holds {features[image]}; expected images, encoded or as paths")
    kept = dict.fromkeys(
        [image, *columns, *(["id"] if "id" in features else []), *(["label"] if labels != "none" else [])]
    )
    for name in kept.keys() - {image}:
        if _opens_files(features[name]):
            raise ValueError(f"{source}: column {name!r} holds {features[name]}; expected text or numbers, not files")
    table = table.select_columns(list(kept)).cast_column(image, Image(decode=False))
    if image != "image":
        table = table.rename_column(image, "image")
    stem = Path(source.partition(":")[0]).stem
    names = _label_names(features["label"], source, labels) if labels != "none" else None

    def own(record: dict[str, Any], row: int) -> dict[str, Any]:
        number = record.get("id", f"{stem}-{row:08d}")
        if number is None:
            raise ValueError(f"{source}: row {row} has no id; give every face one, or leave the column out")
        where = f"{source}: {number}"
        return {"id": f"{prefix}{number}", "label": _known(_word(record.get("label"), names, where), where, labels)}

    def place(path: str, row: int) -> str:
        return file_below(path, folder, f"{source}: row {row}")

    def streamed(record: dict[str, Any], row: int) -> dict[str, Any]:
        image = record["image"]
        if image and image["bytes"] is None and image["path"] is not None:
            image = {**image, "path": place(image["path"], row)}
        return {"image": image, **own(record, row)}

    if isinstance(table, IterableDataset):
        return Stream([(table, streamed)])
    table = with_paths(table, place)
    # Not map(), which would copy every image into another file to add two small columns.
    small = table.select_columns([name for name in ("id", "label") if name in table.column_names])
    rows = (
        [own(record, row) for row, record in enumerate(small)]
        if small.column_names
        else [own({}, r) for r in range(len(table))]
    )
    table = table.remove_columns([name for name in ("id", "label") if name in table.column_names])
    table = table.add_column("id", [row["id"] for row in rows], feature=Value("string"))
    return table.add_column("label", [row["label"] for row in rows], feature=Value("string"))


def _opens_files(feature: Any) -> bool:
    """Whether ``datasets`` would open what a column names when a row is read, as it does for
    images, sound and video."""
    inner = feature.values() if isinstance(feature, dict) else [getattr(feature, "feature", None)]
    return hasattr(feature, "decode_example") or any(_opens_files(part) for part in inner if part is not None)


def _holds_images(feature: Any) -> bool:
    if isinstance(feature, dict):  # as datasets stores an image, without saying so
        return set(feature) == {"bytes", "path"}
    return isinstance(feature, Image) or getattr(feature, "dtype", "").removeprefix("large_") in ("string", "binary")


def _label_names(feature: Any, source: str, labels: Labels) -> list[str] | None:
    if isinstance(feature, ClassLabel):
        return feature.names
    dtype = getattr(feature, "dtype", "")
    if dtype in ("string", "large_string") or (labels == "own" and "int" in dtype):
        return None
    raise ValueError(f"{source}: labels are {feature}, numbers without names; store them as ClassLabel or as strings")


def _word(label: int | str | None, names: list[str] | None, where: str) -> str | None:
    if names is None and label is not None:
        return str(label)
    if label is None or label < 0:
        return None
    if label >= len(names):
        raise ValueError(f"{where}: label {label} is beyond the {len(names)} classes {', '.join(names)}")
    return names[label]


def _known(label: str | None, where: str, labels: Labels) -> str | None:
    if labels == "none":
        return None
    if not isinstance(label, str):
        raise ValueError(f"{where} has no label")
    if labels == "own":
        return label
    try:
        return canonical_label(label)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
