"""Annotation files that are damaged, of another program or of another data set: they are read, or their line is named."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import picture
from training.data.faces import image_bytes, load_faces, read_image
from training.data.layouts import find_entries
from training.evaluation.samples import load_samples

# Where each layout keeps what it reads about its images.
TABLES = {
    "list": Path("test.txt"),
    "rafdb-test": Path("EmoLabel/list_patition_label.txt"),
    "ferplus": Path("label.csv"),
    "affectnet8": Path("annotations/face_exp.npy"),
}
PARTS = ["face.png", "clip", "clip/0.png", "test_0001.jpg", "train_1.jpg", "1", "7", "10", "11", "-1", "1.0", "x", "", "\u0661", ".", "..",
         "../..", "/etc/passwd", "\0", "a" * 300, "nan", "1e999", '"', '"(0, 0, 48, 48)"', "9" * 5000]  # fmt: skip
lines = st.lists(st.sampled_from(PARTS), max_size=13).flatmap(
    lambda parts: st.sampled_from([" ", "\t", ",", ";", "  "]).map(lambda between: between.join(parts))
)
texts = st.tuples(st.lists(lines, max_size=4), st.sampled_from(["\n", "\r\n", "\r", "\n\n"])).map(
    lambda t: t[1].join(t[0])
)
contents = st.one_of(
    st.binary(max_size=80),
    texts.map(str.encode),
    texts.map(lambda t: t.encode("utf-16")),
    texts.map(lambda t: b"\xef\xbb\xbf" + t.encode()),
)


def data_set(root: Path) -> Path:
    """A folder in which every layout finds an image."""
    for name in ("face.png", "clip/0.png", "clip/1.png", "images/face.png", "Image/aligned/test_0001_aligned.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(0, (12, 10)).save(root / name)
    return root


def written(root: Path, layout: str, content: bytes) -> str:
    table = root / TABLES[layout]
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_bytes(content)
    return str(table) if layout == "list" else f"{layout}={root}"


@pytest.mark.parametrize("layout", TABLES)
def test_any_content_is_read_or_named(layout):
    @given(contents, st.sampled_from(["none", "own", "paper"]))
    @settings(max_examples=80)
    def check(content, labels):
        with tempfile.TemporaryDirectory() as folder:
            source = written(data_set(Path(folder)), layout, content)
            try:
                faces = load_faces([source], labels=labels)
            except (ValueError, OSError) as error:
                assert folder in str(error) and len(str(error)) < 1200
                return
            assert len(faces) and len(set(faces["id"])) == len(faces)
            assert labels == "none" or None not in faces["label"]

    check()


@given(contents)
@settings(max_examples=80)
def test_any_votes_of_ferplus_are_read_or_named(content):
    with tempfile.TemporaryDirectory() as folder:
        header = b"Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
        (data_set(Path(folder)) / "fer2013new.csv").write_bytes(header + content)
        for part in ("", "-test"):
            try:
                faces = load_faces([f"ferplus{part}={folder}"], labels="paper")
            except (ValueError, OSError) as error:
                assert folder in str(error) and len(str(error)) < 1200
            else:
                assert len(faces) and None not in faces["label"]


@pytest.mark.parametrize("layout", ["list", "ferplus"])
def test_benchmarks_read_the_same_or_name_it(layout):
    @given(contents)
    @settings(max_examples=60)
    def check(content):
        with tempfile.TemporaryDirectory() as folder:
            source = written(data_set(Path(folder)), layout, content)
            try:
                samples = load_samples("mine", source, None)["all"]
            except (ValueError, OSError) as error:
                assert folder in str(error)
                return
            assert len(samples) == len(samples.labels) > 0

    check()


@pytest.mark.parametrize(
    ("layout", "content", "message"),
    [
        ("list", b"clip 2 3\nclip;2;3\n", "test.txt, line 2: expected `path num_frames label`"),
        ("list", b"clip 2 3\n\n\nface.png 1\n", "line 4: expected"),
        ("list", b"clip 2 3\nclip 2 4\n", "line 2: clip stands in .*line 1 already"),
        ("list", b"clip 2 3\r\ncaf\xe9 2 3\r\n", "line 2 is not UTF-8"),
        ("list", "clip 2 3\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("list", "clip 2 3\n".encode("utf-16-le"), "line 1 holds a zero byte"),
        ("list", b"clip -2 3", "line 1: expected"),
        ("list", b"../clip 2 3", r"line 1: there is no .*/\.\./clip, or it holds no images \(1 of the list's 1 are missing\)"),
        ("list", b"clip 2 3\nimages/none.png 1 3\nannotations 1 3", r"line 2: there is no .*none.png.*\(2 of the list's 3 "),
        ("list", b"a" * 300 + b" 1 3", "line 1: (File name too long|there is no)"),
        ("list", b"clip 2 12", "test.txt: clip: unknown label '12'"),
        ("list", b"", "no images below"),
        ("rafdb-test", b"test_0001.jpg 3\nhello\n", "line 2: expected `train_00001.jpg 5`"),
        ("rafdb-test", b"test_0001.jpg,3\n", "line 1: expected"),
        ("rafdb-test", b"test_0001.jpg 3 4\n", "line 1: expected"),
        ("rafdb-test", b"../../test_0001.jpg 3\n", "line 1: expected"),
        ("rafdb-test", b"train_0001.jpg 3\n", "no images below"),
        ("ferplus", b'face.png,"(0, 0, 9, 9)",1,2\n', "line 1: expected an image, its box and ten votes"),
        ("ferplus", b'face.png,"(0, 0, 9, 9)",0,0,0,0,0,0,0,0,0,0\n', "line 1: expected"),
        ("ferplus", b'face.png,"(0, 0, 9, 9)",nan,0,0,0,0,0,0,0,0,1\n', "line 1: expected"),
        ("ferplus", b'/etc/passwd,"(0, 0, 9, 9)",1,0,0,0,0,0,0,0,0,0\n', "line 1: expected"),
        ("ferplus", b'\n"face.png,1,0,0,0,0,0,0,0,0,0,0\n', "line 2: expected"),
        ("affectnet8", b"", "face_exp.npy: expected the number of a class"),
        ("affectnet8", b"7", "face_exp.npy: expected the number of a class"),
    ],
)  # fmt: skip
def test_the_line_is_named(tmp_path, layout, content, message):
    source = written(data_set(tmp_path), layout, content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_faces([source], labels="paper")


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r", b"\n\n  \n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_editors_may_end_and_begin_files_as_they_like(tmp_path, ending, mark):
    for layout, rows, expected in (
        ("list", [b"clip 2 3", b"face.png 1 0"], ["anger", "happiness"]),
        ("rafdb-test", [b"test_0001.jpg 6", b"train_0002.jpg 1"], ["anger"]),
        ("ferplus", [b'face.png,"(0, 0, 9, 9)",0,0,0,0,9,0,0,0,0,0'], ["anger"]),
    ):
        source = written(data_set(tmp_path / layout), layout, mark + ending.join(rows) + ending)
        assert load_faces([source], labels="paper")["label"] == expected


def test_paths_may_lead_out_of_a_lists_folder(tmp_path):
    """Annotations often lie beside their images, and the paper's own name them from the root."""
    root = data_set(tmp_path / "data")
    (root / "lists").mkdir()
    table = root / "lists" / "test.txt"
    table.write_text(f"../face.png 1 0\n{root / 'clip'} 2 3\n")
    faces = load_faces([str(table)], labels="paper", frames=2)
    assert faces["label"] == ["happiness", "anger", "anger"]
    assert {read_image(image_bytes(face)).size for face in faces} == {(12, 10)}


def test_a_file_in_a_list_that_is_no_image_is_not_shown(tmp_path):
    """Nothing of the file's content gets into the message."""
    (tmp_path / "secret").write_text("the password")
    (tmp_path / "test.txt").write_text("secret 1 0\n")
    (face,) = load_faces([str(tmp_path / "test.txt")])
    with pytest.raises(OSError, match="not an image of a known format") as caught:
        read_image(image_bytes(face))
    assert "password" not in str(caught.value)


@given(st.binary(max_size=60), st.integers(0, 200), st.sampled_from(["1", 7, [1, 2], {"a": 1}, None, 1.5, 2**40]))
@settings(max_examples=100)
def test_affectnets_numbers_cut_and_overwritten(tail, place, value):
    with tempfile.TemporaryDirectory() as folder:
        root, file = data_set(Path(folder)), Path(folder) / TABLES["affectnet8"]
        file.parent.mkdir()
        np.save(file, np.array(value), allow_pickle=True)
        content = file.read_bytes()
        file.write_bytes(content[:place] + tail + content[place + len(tail) :])
        try:
            (entry,) = find_entries(root, "affectnet8")
        except (ValueError, OSError) as error:
            assert "face_exp.npy: expected the number of a class" in str(error)
        else:
            assert entry.label
