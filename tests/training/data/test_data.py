"""Tables of faces: Parquet, several sources at once, streaming, boxes; and what is no face data."""

from __future__ import annotations

import io

import datasets
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from tests.conftest import picture
from training.data.faces import SCHEMA, image_bytes, load_faces, read_image


def png(seed=0):
    content = io.BytesIO()
    picture(seed).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def table(tmp_path):
    def write(name="faces.parquet", count=5, features=None, **columns):
        rows = {"image": [{"bytes": png(i), "path": None} for i in range(count)], **columns}
        features = Features({"image": Image(), **(features or {})})
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(rows, features=features).to_parquet(path)
        return str(path)

    return write


def test_parquet_becomes_the_schema(table):
    features = {"label": ClassLabel(names=["Happy", "contemptuous"]), "id": Value("int64"), "age": Value("int64")}
    path = table(count=2, features=features, label=[1, 0], id=[17, 4], age=[1, 2])
    faces = load_faces([path], labels="paper")
    assert dict(faces.features) == SCHEMA
    assert faces["id"] == ["17", "4"]
    assert faces["label"] == ["contempt", "happiness"]
    assert image_bytes(faces[1]) == png(1)
    assert read_image(image_bytes(faces[0])).tobytes() == picture(0).tobytes()


def test_rows_without_ids_get_their_number(table):
    assert load_faces([table()])["id"][:2] == ["faces-00000000", "faces-00000001"]


def test_several_sources_keep_their_ids_apart(table):
    one, two = table("a/faces.parquet", 2), table("b/faces.parquet", 1)
    ids = load_faces([one, two])["id"]
    assert ids == ["a/faces.parquet/faces-00000000", "a/faces.parquet/faces-00000001", "b/faces.parquet/faces-00000000"]
    with pytest.raises(ValueError, match="given twice"):
        load_faces([one, one])


def test_streaming_gives_the_same_rows(table):
    path = table(features={"caption": Value("string")}, caption=list("abcde"))
    streamed = list(load_faces([path], columns=["caption"], streaming=True))
    assert streamed == list(load_faces([path], columns=["caption"]))


def test_a_folder_of_parquet_files_is_read_in_order(table, tmp_path):
    table("many/2.parquet", 1, {"id": Value("string")}, id=["second"])
    table("many/1.parquet", 1, {"id": Value("string")}, id=["first"])
    assert load_faces([str(tmp_path / "many")])["id"] == ["first", "second"]


@pytest.mark.parametrize(
    "label,feature,message",
    [
        (["happy", "grumpy"], Value("string"), "faces-00000001: unknown label 'grumpy'"),
        ([0, 1], ClassLabel(names=["happy", "grumpy"]), "faces-00000001: unknown label 'grumpy'"),
        (["happy", None], Value("string"), "faces-00000001 has no label"),
        ([0, 1], Value("int64"), "numbers without names"),
    ],
)
def test_labels_that_are_not_known_are_named(table, label, feature, message):
    path = table(count=2, features={"label": feature}, label=label)
    with pytest.raises(ValueError, match=message):
        load_faces([path], labels="paper")
    assert load_faces([path])["label"] == [None, None]


def test_missing_columns_are_named(table, tmp_path):
    with pytest.raises(ValueError, match="no column caption, label; its columns are image"):
        load_faces([table()], labels="paper", columns=["caption"])
    Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "text.parquet")
    with pytest.raises(ValueError, match="no column image; its columns are text"):
        load_faces([str(tmp_path / "text.parquet")])


def test_rows_must_have_ids_where_there_is_a_column_of_them(table):
    with pytest.raises(ValueError, match="row 1 has no id"):
        load_faces([table(count=2, features={"id": Value("string")}, id=["a", None])])
    with pytest.raises(ValueError, match="'label' cannot be a further column"):
        load_faces([table()], columns=["label"])


def test_images_beside_parquet_are_not_left_out_silently(table, tmp_path):
    table("mixed/faces.parquet", 2)
    picture().save(tmp_path / "mixed" / "x.png")
    with pytest.raises(ValueError, match="holds images and Parquet files"):
        load_faces([str(tmp_path / "mixed")])
    table("clone/data/train.parquet", 2)
    assert len(load_faces([str(tmp_path / "clone")])) == 2


def test_an_image_column_of_another_name_is_found(tmp_path):
    rows = {"face": [{"bytes": png(), "path": None}]}
    Dataset.from_dict(rows, features=Features({"face": Image()})).to_parquet(tmp_path / "f.parquet")
    assert image_bytes(load_faces([str(tmp_path / "f.parquet")])[0]) == png()


def test_what_is_no_face_data_is_an_error(tmp_path, monkeypatch):
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 but not really")
    with pytest.raises(ValueError, match="broken.parquet cannot be read as Parquet"):
        load_faces([str(broken)])
    with pytest.raises(FileNotFoundError, match="no file .*nowhere.parquet"):
        load_faces([str(tmp_path / "nowhere.parquet")])
    # written with pyarrow, because older datasets writes no empty table
    pq.write_table(Features({"image": Image()}).arrow_schema.empty_table(), tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="empty.parquet cannot be read"):
        load_faces([str(tmp_path / "empty.parquet")])
    (tmp_path / "faces.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="neither a folder"):
        load_faces([str(tmp_path / "faces.zip")])
    with pytest.raises((OSError, ValueError), match="as a Hub data set it failed"):
        load_faces(["nobody/no-such-faces"])
    with pytest.raises(ValueError, match="--data"):
        load_faces([])


def test_hub_ids_and_splits_reach_load_dataset(monkeypatch):
    asked = []

    def load(name, split, streaming):
        asked.append((name, split, streaming))
        return Dataset.from_dict({"image": [{"bytes": png(), "path": None}]}, features=Features({"image": Image()}))

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(load_faces(["owner/faces"])) == len(load_faces(["owner/faces:test"], streaming=True)) == 1
    assert asked == [("owner/faces", "train", False), ("owner/faces", "test", True)]


def test_boxes_are_cut_out_with_a_margin():
    content = png()  # 50 x 40
    whole = read_image(content)
    assert read_image(content, (10, 5, 30, 25)).size == (20, 20)
    assert read_image(content, (10, 5, 30, 25)).tobytes() == whole.crop((10, 5, 30, 25)).tobytes()
    assert read_image(content, (10, 5, 30, 25), margin=0.5).size == (40, 35)  # cut at the picture's upper edge
    for box in ((60, 5, 80, 25), (30, 5, 10, 25)):
        with pytest.raises(ValueError, match="holds nothing of an image of 50 x 40"):
            read_image(content, box)
