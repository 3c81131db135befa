"""Face data as it lies on disk, in each layout we say we read."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.conftest import picture
from training.data.faces import load_faces, sample_frames
from training.data.layouts import find_entries


def save(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path)


def labels(source):
    faces = load_faces([source], labels="paper")
    return dict(zip(faces["id"], faces["label"]))


def test_folders_named_after_classes_map_through_the_aliases(tmp_path):
    for name in ("Happy/b.png", "Angry/10.png", "Angry/9.png", "Neutral/deep/c.png"):
        save(tmp_path / name)
    (tmp_path / "Happy" / "notes.txt").write_text("no image")
    (tmp_path / "Happy" / ".hidden.png").write_text("no image")
    with pytest.raises(ValueError, match="'deep'"):
        labels(str(tmp_path))
    (tmp_path / "Neutral" / "deep" / "c.png").rename(tmp_path / "Neutral" / "c.png")
    found = labels(f"caers={tmp_path}")
    assert found == {
        "Angry/9.png": "anger",
        "Angry/10.png": "anger",
        "Happy/b.png": "happiness",
        "Neutral/c.png": "neutral",
    }
    assert list(found) == ["Angry/9.png", "Angry/10.png", "Happy/b.png", "Neutral/c.png"]


def test_links_are_followed_and_the_order_is_total(tmp_path):
    for name in ("real/1.png", "real/01.png", "real/001.png", "real/1\u00b22.png"):
        save(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "back").symlink_to(tmp_path, target_is_directory=True)
    save(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert load_faces([str(tmp_path / "data")])["id"] == ["linked/a.png"]
    assert load_faces([str(tmp_path / "real")])["id"][:3] == ["001.png", "01.png", "1.png"]


def test_a_name_that_is_not_utf_8_is_named(tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    picture().save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", name)
    with pytest.raises(ValueError, match=r"caf\\xe9.png': the name is not UTF-8"):
        load_faces([str(tmp_path)])


def test_an_equals_sign_in_a_path_is_no_layout(tmp_path):
    save(tmp_path / "a=1" / "x.png")
    save(tmp_path / "b=1" / "x.png")
    assert load_faces([f"folders={tmp_path / 'a=1'}"])["id"] == ["x.png"]
    assert load_faces([str(tmp_path / "a=1"), str(tmp_path / "b=1")])["id"] == ["a=1/x.png", "b=1/x.png"]


def test_labels_are_not_looked_at_unless_wanted(tmp_path):
    save(tmp_path / "batch 1" / "a.png")
    save(tmp_path / "b.png")
    faces = load_faces([str(tmp_path)])
    assert faces["label"] == [None, None]
    with pytest.raises(ValueError, match="b.png has no label"):
        load_faces([str(tmp_path)], labels="paper")


def test_rafdb_by_folder_numbers_and_by_its_list(tmp_path):
    for number in range(1, 8):
        save(tmp_path / "folders" / "train" / str(number) / f"{number}.png")
    expected = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    assert list(labels(f"rafdb={tmp_path / 'folders'}").values()) == expected
    save(tmp_path / "basic" / "Image" / "aligned" / "test_0001_aligned.jpg")
    table = tmp_path / "basic" / "EmoLabel" / "list_patition_label.txt"
    table.parent.mkdir()
    table.write_text("test_0001.jpg 6\n")
    assert labels(f"rafdb-test={tmp_path / 'basic'}") == {"Image/aligned/test_0001_aligned.jpg": "anger"}
    with pytest.raises(ValueError, match="choose rafdb-train=.* or rafdb-test="):
        load_faces([f"rafdb={tmp_path / 'basic'}"])
    save(tmp_path / "basic" / "Image" / "aligned" / "train_0001_aligned.jpg")
    table.write_text("train_0001.jpg 2\ntest_0001.jpg 6\n")
    assert labels(f"rafdb-train={tmp_path / 'basic'}") == {"Image/aligned/train_0001_aligned.jpg": "fear"}
    table.write_text("test_0001.jpg 8\n")
    with pytest.raises(ValueError, match="test_0001_aligned.jpg: unknown label '8'"):
        labels(f"rafdb-test={tmp_path / 'basic'}")


def test_affectnet_by_annotations_and_without_contempt(tmp_path):
    for number in (0, 6, 7):
        save(tmp_path / "images" / f"{number}.jpg")
        (tmp_path / "annotations").mkdir(exist_ok=True)
        np.save(tmp_path / "annotations" / f"{number}_exp.npy", str(number))
    assert list(labels(f"affectnet8={tmp_path}").values()) == ["neutral", "anger", "contempt"]
    assert list(labels(f"affectnet7={tmp_path}").values()) == ["neutral", "anger"]


def test_ferplus_takes_the_class_with_most_votes(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "FER2013Test" / name)
    (tmp_path / "FER2013Test" / "label.csv").write_text(
        'a.png,"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0,0\nb.png,"(0, 0, 48, 48)",0,0,0,0,0,0,0,9,1,0\n'
        'c.png,"(0, 0, 48, 48)",0,0,0,0,0,0,0,0,0,10\n'
    )
    found = labels(f"ferplus={tmp_path}")
    assert found == {"FER2013Test/a.png": "neutral", "FER2013Test/b.png": "contempt"}
    (tmp_path / "FER2013Test" / "label.csv").write_text("name,box,neutral,happiness,a,b,c,d,e,f,g,h\n")
    with pytest.raises(ValueError, match=r"label.csv, line 1: expected an image, its box and ten votes"):
        labels(f"ferplus={tmp_path}")


def test_clips_are_folders_of_frames(tmp_path):
    for frame in range(1, 13):
        save(tmp_path / "Sad" / "clip7" / f"{frame}.png", frame)
    (entry,) = find_entries(tmp_path, "clips")
    assert (entry.id, entry.label, len(entry.frames)) == ("Sad/clip7", "Sad", 12)
    assert [frame.stem for frame in entry.frames] == [str(number) for number in range(1, 13)]
    faces = load_faces([f"clips={tmp_path}"], labels="paper", frames=3)
    assert faces["id"] == ["Sad/clip7/3.png", "Sad/clip7/7.png", "Sad/clip7/11.png"]
    assert faces["label"] == ["sadness"] * 3


def test_the_papers_annotation_lists(tmp_path):
    for frame in range(4):
        save(tmp_path / "my clips" / "one" / f"{frame}.png", frame)
    save(tmp_path / "single.png")
    table = tmp_path / "test.txt"
    table.write_text("my clips/one 4 3\nsingle.png 1 10\n\n")
    found = labels(str(table))
    assert found == {"my clips/one/2.png": "anger", "single.png": "disappointment"}
    for line, message in (
        ("my clips/two 4 3", "line 1: there is no .*my clips/two"),
        ("my clips/one 4 11", "unknown label '11'"),
        ("my clips/one four 3", "path num_frames label"),
    ):
        table.write_text(line)
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load_faces([str(table)], labels="paper")


def test_sampled_frames_are_the_middles_of_equal_segments():
    assert sample_frames(16, 16) == list(range(16))
    assert sample_frames(100, 4) == [12, 37, 62, 87]
    assert sample_frames(3, 16) == [0, 1, 2]
    assert sample_frames(1, 1) == [0]


@pytest.mark.parametrize("layout", ["folders", "rafdb", "affectnet8", "ferplus", "clips"])
def test_nothing_there_is_an_error_that_names_the_place(tmp_path, layout):
    with pytest.raises(FileNotFoundError, match="no images below"):
        load_faces([f"{layout}={tmp_path}"])
    with pytest.raises(FileNotFoundError, match="no face data at .*nowhere"):
        load_faces([f"{layout}={tmp_path / 'nowhere'}"])
