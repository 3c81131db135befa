"""Parquet files of images through `expclip classify`: row by row, resumed row by row."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling_expclip.cli.journal import Journal
from modeling_expclip.cli.main import main
from modeling_expclip.media.parquet import image_rows
from modeling_expclip.media.sources import find_sources
from tests.conftest import picture


def png(seed: int) -> bytes:
    content = io.BytesIO()
    picture(seed).save(content, "PNG")
    return content.getvalue()


def write_table(path: Path, images: list, kind: pa.DataType | None = None, group: int = 5) -> Path:
    table = pa.table({"id": [f"face {i}" for i in range(len(images))], "image": pa.array(images, kind)})
    pq.write_table(table, path, row_group_size=group)
    return path


def structs(images: list) -> list:
    return [None if image is None else {"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)]


def classify(checkpoint, *arguments) -> int:
    return main(["classify", "--model", str(checkpoint), "--prompts", "photo", *map(str, arguments)])


@pytest.fixture
def faces(tmp_path):
    """23 rows, of which two hold no image and one a damaged one."""
    images = [png(i) for i in range(23)]
    images[4] = images[22] = None
    images[10] = images[10][:60]
    return write_table(tmp_path / "faces.parquet", structs(images))


@pytest.mark.parametrize("kind", ["struct", "bytes", "large bytes"])
def test_rows_are_images(checkpoint, faces, tmp_path, kind):
    """As `datasets` writes them, or plain bytes: what the images score as files."""
    if kind != "struct":
        images = [image and image["bytes"] for image in pq.read_table(faces)["image"].to_pylist()]
        write_table(faces, images, pa.binary() if kind == "bytes" else pa.large_binary())
    assert classify(checkpoint, faces, "--output", tmp_path / "out.json") == 0
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["path"] for row in rows] == [f"{faces}#{i}" for i in range(23)]
    assert [i for i, row in enumerate(rows) if row["error"]] == [4, 10, 22]
    assert rows[4]["error"] == "the row holds no image" and "image" in rows[10]["error"]
    for i in (0, 21):
        (tmp_path / f"{i}.png").write_bytes(png(i))
        assert classify(checkpoint, tmp_path / f"{i}.png", "--output", tmp_path / f"{i}.json") == 0
        (alone,) = json.loads((tmp_path / f"{i}.json").read_text())
        assert rows[i]["scores"] == pytest.approx(alone["scores"], abs=1e-6) and rows[i]["face"] == 0


def test_datasets_writes_such_files(checkpoint, tmp_path):
    datasets = pytest.importorskip("datasets")
    faces = datasets.Dataset.from_dict({"image": [picture(i) for i in range(3)]})
    faces.to_parquet(tmp_path / "faces.parquet")
    assert classify(checkpoint, tmp_path / "faces.parquet", "--output", tmp_path / "out.json") == 0
    assert all(row["label"] for row in json.loads((tmp_path / "out.json").read_text()))


def test_only_a_path_is_no_image(checkpoint, tmp_path, capsys):
    """A table may come from a stranger: no file that it names is opened."""
    picture(0).save(tmp_path / "0.png")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    faces = write_table(tmp_path / "faces.parquet", [{"bytes": None, "path": str(tmp_path / "0.png")}], kind)
    assert classify(checkpoint, faces) == 1
    assert "the row holds no image, only the path" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"picture": [b"x"], "label": ["a"]}, "has no column 'image'; its columns are picture, label"),
        ({"image": ["a.png"]}, "its column 'image' holds string; expected the images' bytes"),
        ({"image": [{"path": "a.png"}]}, "its column 'image' holds struct<path: string>"),
    ],
)
def test_a_table_without_images_is_a_wrong_call(checkpoint, tmp_path, capsys, columns, says):
    """Where it is named; below a folder it may be any table, such as an earlier output."""
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    assert classify(checkpoint, tmp_path / "table.parquet", "--output", tmp_path / "out.csv") == 2
    error = capsys.readouterr().err
    assert f"table.parquet{'' if 'has no' in says else ':'} {says}" in error and error.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()
    picture(0).save(tmp_path / "a.png")
    assert [source.path for source in find_sources([str(tmp_path)])] == [str(tmp_path / "a.png")]


def test_tables_below_folders_are_read(checkpoint, faces, tmp_path):
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "damaged.parquet").write_bytes(faces.read_bytes()[:-30])
    kinds = [(Path(s.path).name, s.kind, s.error is None) for s in find_sources([str(tmp_path)])]
    assert kinds == [("a.png", "image", True), ("damaged.parquet", "table", False), ("faces.parquet", "table", True)]
    assert classify(checkpoint, tmp_path, "--output", tmp_path / "out.json") == 0
    rows = json.loads((tmp_path / "out.json").read_text())
    assert len(rows) == 25 and "damaged.parquet cannot be read as Parquet" in rows[1]["error"]


def test_rows_before_damage_are_kept(checkpoint, faces, tmp_path):
    content = bytearray(faces.read_bytes())
    metadata = pq.read_metadata(faces)
    place = metadata.row_group(2).column(1).data_page_offset
    content[place : place + 200] = b"\xff" * 200
    faces.write_bytes(content)
    assert classify(checkpoint, faces, "--output", tmp_path / "out.json") == 0
    *rows, last = json.loads((tmp_path / "out.json").read_text())
    assert [row["path"] for row in rows] == [f"{faces}#{i}" for i in range(10)]
    assert last["path"] == str(faces) and last["error"] and last["label"] is None


def test_a_stopped_run_resumes_after_its_last_row(checkpoint, faces, tmp_path, monkeypatch, capsys):
    assert classify(checkpoint, faces, "--output", tmp_path / "expected.json") == 0
    read, add = [], Journal.add

    def interrupted(self, rows, done=None, reached=None):
        if reached and reached[1] > 12:
            raise KeyboardInterrupt
        add(self, rows, done, reached)

    def counted(path, start=0, stop=None):
        for number, image in image_rows(path, start, stop):
            read.append(number)
            yield number, image

    with monkeypatch.context() as context:
        context.setattr(Journal, "add", interrupted)
        assert classify(checkpoint, faces, "--batch-size", 2, "--output", tmp_path / "out.json") == 130
    monkeypatch.setattr("modeling_expclip.media.classify.image_rows", counted)
    assert classify(checkpoint, faces, "--batch-size", 2, "--output", tmp_path / "out.json") == 0
    assert read == list(range(12, 23))
    assert f"12 rows of {faces} were done before" in capsys.readouterr().err
    expected, rows = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("expected", "out"))
    assert [{**row, "scores": None} for row in rows] == [{**row, "scores": None} for row in expected]
    for row, other in zip(rows, expected):
        assert row["scores"] == pytest.approx(other["scores"], abs=1e-6)
    assert not (tmp_path / "out.json.unfinished").exists()


def test_another_file_of_the_same_name_is_not_gone_on_with(checkpoint, faces, tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("modeling_expclip.media.table.write", interrupt)
        assert classify(checkpoint, faces, "--output", tmp_path / "out.json") == 130
    write_table(faces, structs([png(i) for i in range(9)]))
    assert classify(checkpoint, faces, "--output", tmp_path / "out.json") == 2
    assert "was left by a run with another tables" in capsys.readouterr().err


def test_rows_are_counted_from_where_a_run_resumes(faces):
    whole = list(image_rows(faces))
    for start in (0, 1, 5, 7, 22, 23):
        assert list(image_rows(faces, start)) == whole[start:]


_READ = """
import resource, sys
from modeling_expclip.media.parquet import image_rows
import pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert sum(len(image) for _, image in image_rows(sys.argv[1])) > 2e8
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_a_large_file_is_read_in_little_memory(tmp_path):
    """200 MB in one row group, as `datasets` writes a thousand photos."""
    photos = [bytes([i % 256]) * 400_000 for i in range(510)]
    table = pa.table({"image": pa.array([{"bytes": photo, "path": None} for photo in photos])})
    pq.write_table(table, tmp_path / "photos.parquet", compression="none", use_dictionary=False)
    run = subprocess.run([sys.executable, "-c", _READ, tmp_path / "photos.parquet"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 80, "MB"
