"""Files on object storage and in tar archives: what is read, and that what cannot be is a row or one line. fsspec's memory stands for
a store."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling_expclip.cli.main import main
from modeling_expclip.media import parts
from modeling_expclip.media.archive import archived_images
from modeling_expclip.media.parquet import image_rows
from modeling_expclip.media.sources import Source, find_sources
from modeling_expclip.media.storage import Folder, find_stored, read_stored
from tests.conftest import picture


def png(seed: int) -> bytes:
    content = io.BytesIO()
    picture(seed).save(content, "PNG")
    return content.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def classify(checkpoint, *arguments) -> int:
    return main(["classify", "--model", str(checkpoint), "--prompts", "photo", "--no-faces", *map(str, arguments)])


@pytest.fixture
def faces(tmp_path) -> Path:
    """What lies about in a folder, and in a store."""
    folder = tmp_path / "faces"
    (folder / "more").mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.png").write_bytes(png(i))
    (folder / "more" / "empty.jpg").touch()
    (folder / "notes.txt").write_text("none")
    samples = {"a.png": png(3), "a.json": b"{}", "b.png": png(4)[:50], "c.png": png(5)}
    whole = write_tar(folder / "whole.tar", samples).read_bytes()
    (folder / "cut.tar").write_bytes(whole[: len(whole) // 4])
    pq.write_table(pa.table({"image": [png(6), None, png(7)]}), folder / "table.parquet", row_group_size=2)
    pq.write_table(pa.table({"numbers": [1, 2]}), folder / "other.parquet")
    return folder


@pytest.fixture
def store(faces) -> str:
    memory = fsspec.filesystem("memory")
    memory.put(f"{faces}/", "/bucket/faces", recursive=True)
    yield "memory://bucket/faces"
    memory.rm("/bucket", recursive=True)


def rows_of(output: Path, folder: str) -> dict[str, dict]:
    return {row["path"].replace(folder, "", 1): row for row in json.loads(output.read_text())}


def test_a_store_is_read_as_a_folder_is(checkpoint, faces, store, tmp_path):
    assert classify(checkpoint, faces, "--output", tmp_path / "here.json") == 0
    assert classify(checkpoint, store, "--output", tmp_path / "there.json") == 0
    here, there = (
        rows_of(tmp_path / "here.json", str(faces)),
        rows_of(tmp_path / "there.json", "memory:///bucket/faces"),
    )
    assert list(here) == list(there)
    errors = {"/cut.tar", "/more/empty.jpg", "/table.parquet#1", "/whole.tar#b.png"}
    assert {name for name, row in here.items() if row["error"]} == errors
    for name, row in here.items():
        assert there[name]["scores"] == row["scores"] and bool(there[name]["error"]) == bool(row["error"])


def test_patterns_choose_files(faces, store, checkpoint, tmp_path):
    assert [Path(source.path).name for source in find_sources([f"{faces}/[01].png"])] == ["0.png", "1.png"]
    assert [Path(source.path).name for source in find_sources([f"{store}/*.tar"])] == ["cut.tar", "whole.tar"]
    with pytest.raises(FileNotFoundError, match=r"nothing-\*"):
        find_sources([f"{store}/nothing-*"])
    with pytest.raises(FileNotFoundError, match=r"nothing-\*"):
        find_sources([f"{faces}/nothing-*"])


def test_a_name_with_signs_of_a_pattern_is_a_name(faces):
    (faces / "[1].png").write_bytes(png(1))
    assert [source.path for source in find_sources([f"{faces}/[1].png"])] == [f"{faces}/[1].png"]


def test_videos_of_a_store_are_rows_that_say_so(store):
    fsspec.filesystem("memory").pipe("/bucket/faces/film.mp4", b"no film")
    (film,) = [source for source in find_sources([store]) if source.path.endswith("film.mp4")]
    assert "copy it to a disk" in film.error


def test_a_key_that_vanished_is_one_row(checkpoint, store, tmp_path, monkeypatch):
    found = find_sources([store])
    for name in ("0.png", "table.parquet", "whole.tar"):
        fsspec.filesystem("memory").rm(f"/bucket/faces/{name}")
    monkeypatch.setattr("modeling_expclip.media.sources.find_sources", lambda *_: found)
    assert classify(checkpoint, store, "--output", tmp_path / "out.json") == 0
    rows = rows_of(tmp_path / "out.json", "memory:///bucket/faces")
    for name in ("/0.png", "/table.parquet", "/whole.tar"):
        assert "is not there" in rows[name]["error"]
    assert rows["/1.png"]["label"]


def test_a_store_whose_package_is_missing_names_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(ImportError, match="pip install gcsfs"):
        find_stored("gs://bucket/faces")


def test_other_protocols_of_fsspec_are_no_addresses(tmp_path):
    """They would read this machine's files for whoever names them."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(0))
    for address in (f"file://{secret}", f"local://{secret}", f"simplecache::file://{secret}"):
        (source,) = find_sources([address])
        from modeling_expclip.media.images import open_image

        with pytest.raises(OSError):
            open_image(source.path)


def test_content_is_read_up_to_a_limit(store, monkeypatch):
    monkeypatch.setattr("modeling_expclip.media.storage._LARGEST", 20)
    with pytest.raises(OSError, match="larger than 20 bytes"):
        read_stored(f"{store}/0.png")


def test_parts_of_a_table_are_read_alone(faces):
    table = faces / "table.parquet"
    assert [number for number, _ in image_rows(table, 1, 2)] == [1]
    assert [number for number, _ in image_rows(table, 2, 3)] == [2]


def test_an_archive_resumes_after_its_first_images(faces):
    assert [name for name, _ in archived_images(str(faces / "whole.tar"), 1)] == ["b.png", "c.png"]


@pytest.mark.parametrize("damage", ["header", "end", "garbage", "nothing"])
def test_a_damaged_archive_is_told_after_what_came_before(tmp_path, damage):
    """tarfile itself takes all of these but garbage for the end."""
    path = write_tar(tmp_path / "faces.tar", {"a.png": b"1", "b.png": b"2"})
    content = bytearray(path.read_bytes())
    if damage == "header":
        content[2 * 512 : 2 * 512 + 300] = bytes(range(1, 251)) + bytes(50)
    path.write_bytes(
        {"header": content, "end": content[: 4 * 512], "garbage": b"no archive" * 200, "nothing": b""}[damage]
    )
    seen = []
    with pytest.raises(OSError, match="no tar archive, or damaged or cut off"):
        seen.extend(name for name, _ in archived_images(str(path)))
    assert seen == {"header": ["a.png"], "end": ["a.png", "b.png"]}.get(damage, [])


def test_members_that_are_no_files_or_too_large_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_expclip.media.archive._LARGEST", 10)
    path = tmp_path / "faces.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        member = tarfile.TarInfo("large.png")
        member.size = 11
        archive.addfile(member, io.BytesIO(bytes(11)))
    assert list(archived_images(str(path))) == [("large.png", "OSError: it is larger than 10 bytes")]


def test_an_archive_without_images_says_so(tmp_path):
    with pytest.raises(ValueError, match="holds no image files"):
        list(archived_images(str(write_tar(tmp_path / "notes.tar", {"a.txt": b"1"}))))


def signed(kind: bytes, size: int) -> bytes:
    """A header with a size in the form that tar has for numbers beyond 8 GB, which may be negative."""
    member = tarfile.TarInfo("x")
    member.type = kind
    block = bytearray(member.tobuf())
    block[124:136] = (size % 256**12).to_bytes(12, "big")
    block[124] |= 0x80
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.REGTYPE], ids=["pax", "file"])
@pytest.mark.parametrize("size", [-512, 2**70])
def test_an_archive_made_to_hang_or_to_break_is_an_error(tmp_path, size, kind):
    whole = write_tar(tmp_path / "faces.tar", {"a.png": b"1"}).read_bytes()[:1024]
    (tmp_path / "made.tar").write_bytes(whole + signed(kind, size) + bytes(1024))
    found = archived_images(str(tmp_path / "made.tar"))
    assert next(found) == ("a.png", b"1")
    with pytest.raises(OSError, match="is no tar archive, or damaged or cut off"):
        list(found)


def test_an_archive_of_headers_of_headers_is_an_error(tmp_path):
    (tmp_path / "deep.tar").write_bytes(signed(tarfile.XHDTYPE, 0) * 3000 + bytes(1024))
    with pytest.raises(OSError, match="damaged or cut off"):
        list(archived_images(str(tmp_path / "deep.tar")))


def test_a_table_that_changed_ends_a_run_of_parts(tmp_path):
    table = tmp_path / "faces.parquet"
    pq.write_table(pa.table({"image": [png(0), png(1)]}), table)
    folder = Folder(tmp_path / "out")
    parts.Run.begin(folder, {}, False, parts.cut([Source(str(table), "table")], 1))
    assert parts.Run.left(folder, {}).missing() == [0]
    pq.write_table(pa.table({"image": [png(0)]}), table)
    with pytest.raises(ValueError, match="faces.parquet has changed since the run of"):
        parts.Run.left(folder, {})
