"""Which samples a benchmark reads, and which frames: parts of data sets, the paper's lists, FER+'s votes, short clips, labels that are numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset, Features, Image, Value

from modeling_expclip import LABEL_SETS
from modeling_expclip.media.video import sample_clip
from tests.conftest import picture
from training.data.faces import load_faces
from training.evaluation.samples import load_samples
from training.evaluation.zero_shot import load_zero_shot
from training.recipe import FacesRecipe


def save(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path)


def load(name: str, source: object, **options) -> dict:
    return load_samples(name, str(source), LABEL_SETS.get(name), **options)


def clip(folder: Path, count: int) -> None:
    for frame in range(count):
        save(folder / f"{frame}.png", frame)


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("rafdb", "train/4/a.png", "test/4/b.png"),
        ("rafdb", "DATASET/train/4/a.png", "DATASET/test/4/b.png"),
        ("affectnet7", "train_set/images/0.jpg", "val_set/images/1.jpg"),
        ("affectnet8", "train/0/a.jpg", "valid/0/b.jpg"),
        ("ferplus", "FER2013Train/a.png", "FER2013Test/b.png"),
        ("ferplus", "data/FER2013Valid/a.png", "data/FER2013Test/b.png"),
        ("afew", "Train_AFEW/Happy/1/0.png", "Val_AFEW/Happy/2/0.png"),
        ("mine", "Training/happy/a.png", "PublicTest/happy/b.png"),
        ("mine", "PublicTest/happy/a.png", "PrivateTest/happy/b.png"),
    ],
)
def test_a_root_of_several_parts_is_not_read_whole(tmp_path, name, train, test):
    save(tmp_path / train)
    save(tmp_path / test)
    depth = 2 if train.startswith(("DATASET", "data")) else 1
    parts = ["/".join(Path(path).parts[:depth]) for path in (train, test)]
    with pytest.raises(
        ValueError, match=f"holds several parts of a data set, {parts[0]} and {parts[1]}, .*one of them"
    ):
        load(name, tmp_path)
    with pytest.raises(ValueError) as caught:
        load(name, tmp_path)
    assert str(caught.value).endswith(f"such as {name}={tmp_path / parts[1]}")


def test_training_refuses_such_roots_where_it_asks_for_a_part_or_scores(tmp_path):
    for name in ("train/4/a.png", "test/4/b.png"):
        save(tmp_path / name)
    with pytest.raises(ValueError, match="train and test, which would be read as one; .* such as rafdb-train="):
        load_faces([f"rafdb-train={tmp_path}"])
    with pytest.raises(ValueError, match="train and test, which would be read as one; .* such as rafdb="):
        load_zero_shot(f"rafdb={tmp_path}", None, LABEL_SETS["rafdb"], FacesRecipe())


def test_parts_are_parts_only_where_both_hold_data(tmp_path):
    for name in ("test/4/a.png", "test_subjects/5/b.png"):
        save(tmp_path / name)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "log.txt").write_text("no image")
    assert load("rafdb", tmp_path)["all"].labels == ["happiness", "sadness"]
    for name in ("Happy/training camp/0.png", "Sad/test drive/0.png"):  # clips, which may be called as they like
        save(tmp_path / "clips" / name)
    assert load("afew", tmp_path / "clips")["all"].labels == ["happiness", "sadness"]


def test_parquet_files_of_several_parts(tmp_path):
    rows = {"image": [{"bytes": b"x", "path": None}], "label": ["happy"]}
    features = Features({"image": Image(), "label": Value("string")})
    for name in ("train-00000-of-00001", "validation-00000-of-00001"):
        Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match="train-00000-of-00001.parquet and validation-.* such as mine=.*validation"):
        load("mine", tmp_path)
    assert len(load("mine", tmp_path / "validation-00000-of-00001.parquet")["all"]) == 1


VOTES = """Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF
Training,fer0000000.png,6,0,0,1,3,0,0,0,0,0
Training,,0,0,0,0,0,0,0,0,0,10
PublicTest,fer0000001.png,0,9,1,0,0,0,0,0,0,0
PrivateTest,fer0000002.png,0,0,0,0,8,2,0,0,0,0
PrivateTest,fer0000003.png,0,0,0,0,5,5,0,0,0,0
PrivateTest,fer0000004.png,1,0,0,0,0,0,0,0,9,0
PrivateTest,fer0000005.png,0,0,0,0,0,0,2,8,0,0
"""


def test_ferplus_votes_beside_its_images(tmp_path, capsys):
    """FER+ publishes one file of votes for all of FER2013; the benchmark is its PrivateTest."""
    (tmp_path / "fer2013new.csv").write_text(VOTES)
    for i in range(5):
        save(tmp_path / "images" / f"fer000000{i}.png", i)
    for root in (tmp_path, tmp_path / "images"):
        samples = load("ferplus", root)["all"]
        assert [(Path(id).name, label) for id, label in zip(samples.ids, samples.labels)] == [
            ("fer0000002.png", "anger"), ("fer0000005.png", "contempt")
        ]  # fmt: skip
        assert "2 of 4 faces are left out: a tie, or most votes say unknown or no face" in capsys.readouterr().err
        assert samples.frames(0)[0].tobytes() == picture(2).tobytes()
        with pytest.raises(OSError):  # its image is missing, so its row says so
            samples.frames(1)
        train = load_faces([f"ferplus-train={root}"], labels="paper")
        assert train["label"] == ["neutral"]
        with pytest.raises(ValueError, match="lists training and test faces together; choose ferplus-train="):
            load_faces([f"ferplus={root}"])
    alone = tmp_path / "FER2013Test"
    save(alone / "fer0000002.png")
    assert load_faces([f"ferplus={alone}"], labels="paper")["label"] == ["anger"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("Usage,Image name", "Image,Usage", "line 1: expected the columns usage,image name,neutral"),
        ("PublicTest,", "Test,", "line 4: expected one of Training, PublicTest, PrivateTest, got 'Test'"),
        ("8,2,0,0,0,0", "8,2,0", "line 5: expected a usage, an image and ten votes"),
    ],
)
def test_ferplus_votes_of_another_form(tmp_path, before, after, message):
    save(tmp_path / "fer0000002.png")
    (tmp_path / "fer2013new.csv").write_text(VOTES.replace(before, after, 1))
    with pytest.raises(ValueError, match=f"fer2013new.csv, {message}"):
        load("ferplus", tmp_path)


def test_suprise_is_a_spelling_of_surprise(tmp_path):
    save(tmp_path / "Suprise" / "a.png")
    assert load("mine", tmp_path)["all"].labels == ["Suprise"]
    assert load_samples("mine", str(tmp_path), LABEL_SETS["rafdb"])["all"].labels == ["surprise"]


def annotation(folder: Path, names: dict[str, str]) -> Path:
    folder.mkdir()
    for name, lines in names.items():
        (folder / name).write_text(lines)
    return folder


def test_the_authors_folder_of_lists(tmp_path):
    """One folder holds all benchmarks' lists, in whatever case, and names clips by absolute paths."""
    clip(tmp_path / "frames" / "1", 3)
    line = f"{tmp_path}/frames/1 3"
    names = {f"DFEW_set_{fold}_test.txt": f"{line} {fold}" for fold in range(1, 6)}
    names |= {f"MAFW_set_{fold}_test.txt": f"{line} {fold + 5}" for fold in range(1, 6)}
    names |= {f"DFEW_set_{fold}_train.txt": f"{line} 0" for fold in range(1, 6)}
    names |= {"FERV39k_test.txt": f"{line} 0", "afew_val.txt": f"{line} 1"}
    folder = annotation(tmp_path / "annotation", names)
    assert [f["labels"] for f in map(vars, load("dfew", folder).values())] == [
        ["sadness"], ["neutral"], ["anger"], ["surprise"], ["disgust"]
    ]  # fmt: skip
    assert load("mafw", folder)["5"].labels == ["disappointment"]
    assert load("ferv39k", folder)["all"].labels == ["happiness"]
    assert load("afew", folder)["all"].labels == ["sadness"]
    (folder / "dfew_set_1_test_again.txt").write_text(line)
    with pytest.raises(ValueError, match="several lists of fold 1 of dfew: DFEW_set_1_test.txt, dfew_set_1_test_again"):
        load("dfew", folder)


def test_lists_of_another_benchmark_are_not_taken(tmp_path):
    folder = annotation(tmp_path / "lists", {f"MAFW_set_{fold}.txt": "1 3 0" for fold in range(1, 6)})
    with pytest.raises(FileNotFoundError, match="no images below"):
        load("dfew", folder)


def test_clips_of_another_machine_are_found_below_a_frames_root(tmp_path):
    for name in ("a", "b"):
        clip(tmp_path / "here" / "clip_224" / name, 2)
    table = tmp_path / "test.txt"
    table.write_text("/data/elsewhere/DFEW/clip_224/a 2 0\n/data/elsewhere/DFEW/clip_224/b 2 1\n")
    with pytest.raises(
        FileNotFoundError,
        match=r"test.txt, line 1: there is no /data/elsewhere/DFEW/clip_224/a.*2 of the list's 2 are missing.*--frames-root",
    ):
        load("afew", table)
    for root in (tmp_path / "here", tmp_path / "here" / "clip_224"):
        samples = load("afew", table, frames_root=str(root))["all"]
        assert samples.labels == ["happiness", "sadness"] and samples.ids[0] == "/data/elsewhere/DFEW/clip_224/a"
        assert samples.frames(0)[0].tobytes() == picture(0).tobytes()
    with pytest.raises(FileNotFoundError, match=f"there is no {tmp_path}/nowhere/data/elsewhere"):
        load("afew", table, frames_root=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="is no annotation list; leave the frames root of afew out"):
        load("afew", tmp_path / "here", frames_root=str(tmp_path))


def test_other_numbers_of_frames_are_counted(tmp_path, capsys):
    for name, count in (("a", 3), ("b", 2), ("c", 1)):
        clip(tmp_path / name, count)
    (tmp_path / "test.txt").write_text("a 4 0\nb 2 1\nc 9 2\n")
    samples = load("afew", tmp_path / "test.txt")["all"]
    assert (len(samples), samples.frames_differ) == (3, 2)
    assert (
        "2 of 3 clips have another number of frames than the list says, such as a (3, not 4)" in capsys.readouterr().err
    )


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 100])
@pytest.mark.parametrize("rule", ["paper", "uniform"])
def test_clips_are_sampled_as_classify_does(tmp_path, count, rule):
    clip(tmp_path / "Happy" / "one", count)
    expected = [frame.image.tobytes() for frame in sample_clip(tmp_path / "Happy" / "one", rule, 25)]
    samples = load("afew", tmp_path, short_clips=rule)["all"]
    assert [image.tobytes() for image in samples.frames(0)] == expected
    assert len(set(expected)) == (1 if rule == "paper" and count <= 16 else min(count, 16))


def test_the_papers_rule_is_the_papers_benchmarks_own(tmp_path):
    clip(tmp_path / "Happy" / "one", 3)
    assert load("afew", tmp_path)["all"].short_clips == "paper"
    assert load_samples("mine", f"clips={tmp_path}", None)["all"].short_clips == "uniform"
    assert load_samples("mine", str(tmp_path), None)["all"].short_clips is None  # images


def test_labels_that_are_numbers(tmp_path):
    rows = {"image": [{"bytes": b"x", "path": None}] * 3, "label": [0, 2, 1]}
    Dataset.from_dict(rows, features=Features({"image": Image(), "label": Value("int64")})).to_parquet(
        tmp_path / "f.parquet"
    )
    for i in range(3):
        save(tmp_path / "folders" / str(i) / "a.png")
    names = ("happy", "sad", "odd")
    for source, expected in ((tmp_path / "f.parquet", ["happy", "odd", "sad"]), (tmp_path / "folders", list(names))):
        with pytest.raises(ValueError, match="is labelled 0, a number without a name; say with --class-names"):
            load("mine", source)
        assert load("mine", source, class_names=names)["all"].labels == expected
        with pytest.raises(ValueError, match="label 2 is beyond the 2 class names happy, sad"):
            load("mine", source, class_names=names[:2])
    assert load_samples("mine", str(tmp_path / "folders"), ("0", "1", "2"))["all"].labels == ["0", "1", "2"]
