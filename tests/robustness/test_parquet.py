"""Parquet files, of faces and of the embedding cache, that are cut off, overwritten or hold something else."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import picture
from tests.robustness.commands import ask, refusal, write_recipe
from tests.training.conftest import write_faces
from training.data.faces import image_bytes, load_faces
from training.embeddings.fill import embed
from training.embeddings.pairs import load_pairs
from training.recipe import load_recipe

few = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Where to write (as a share of the file), and what; or where to cut.
damage = st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=12)) | st.tuples(st.floats(0, 0.999), st.none())


def damaged(content: bytes, where: float, what: bytes | None) -> bytes:
    place = int(where * len(content))
    return content[:place] if what is None else content[:place] + what + content[place + len(what) :]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing of this stays among the user's own data sets."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def png() -> bytes:
    content = io.BytesIO()
    picture(0, (12, 10)).save(content, "PNG")
    return content.getvalue()


def test_damaged_faces_are_read_or_refused(tmp_path):
    whole = write_faces(tmp_path / "whole.parquet", 6).read_bytes()
    path = tmp_path / "damaged.parquet"

    @given(damage)
    @few
    def check(given_damage):
        path.write_bytes(damaged(whole, *given_damage))
        try:
            rows = list(load_faces([str(path)], labels="own", columns=["embedding"]))
        except (ValueError, OSError) as error:
            assert "damaged.parquet" in str(error)
            return
        assert len(rows) == 6  # never a part of them
        assert [len(image_bytes(row)) > 0 for row in rows]

    check()


def test_a_damaged_stream_is_embedded_or_named(tmp_path, clip_folder):
    whole = write_faces(tmp_path / "whole.parquet", 6).read_bytes()
    path, recipe = tmp_path / "damaged.parquet", load_recipe(write_recipe(tmp_path / "r.yaml", clip_folder))

    @given(damage)
    @settings(few, max_examples=12)
    def check(given_damage):
        path.write_bytes(damaged(whole, *given_damage))
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        try:
            embed(recipe, [str(path)], tmp_path / "cache", 4, streaming=True)
        except ValueError as error:
            assert "damaged.parquet" in str(error) or "faces face-" in str(error) or "no face" in str(error)
        else:
            made = json.loads((tmp_path / "cache" / "manifest.json").read_text())["sets"].values()
            assert all(0 < entry["rows"] <= 6 for entry in made)

    check()


def test_the_command_refuses_half_a_file_in_one_line(tmp_path, clip_folder):
    faces = write_faces(tmp_path / "faces.parquet", 6)
    faces.write_bytes(faces.read_bytes()[:-50])
    recipe = write_recipe(tmp_path / "r.yaml", clip_folder)
    for options in ((), ("--streaming",)):
        line = refusal("embed", recipe, "--data", faces, "--output", tmp_path / f"cache{len(options)}", *options)
        assert "faces.parquet cannot be read as Parquet" in line
    line = refusal("benchmark", "--model", clip_folder, "--data", f"mine={faces}", "--output", tmp_path / "out")
    assert "faces.parquet cannot be read as Parquet" in line


IMAGES = [{"bytes": png(), "path": None}] * 3
WRONG = {
    "numbers for images": ({"image": [1, 2, 3]}, Features({"image": Value("int64")}), "column 'image' holds"),
    "lists for images": ({"image": [[1], [2], [3]]}, None, "column 'image' holds"),
    "records for images": ({"image": [{"a": 1}] * 3}, None, "column 'image' holds"),
    "no image column": ({"picture": [1, 2, 3]}, None, "no column image"),
    "no rows": ({"image": []}, Features({"image": Image()}), "cannot be read"),
    "no images": ({"image": [None] * 3}, Features({"image": Image()}), "no face could be embedded"),
    "paths to nowhere": ({"image": ["1.png", "a/2.png", "3.png"]}, None, "no face could be embedded"),
    "files elsewhere": ({"image": ["/nowhere/1.png", "1.png", "2.png"]}, None, "row 0 names the file '/nowhere/1.png'"),
    "ids twice": ({"image": IMAGES, "id": ["a", "b", "a"]}, None, "the id 'a' occurs twice"),
    "ids missing": ({"image": IMAGES, "id": ["a", None, "b"]}, None, "row 1 has no id"),
    "text for vectors": ({"image": IMAGES, "embedding": ["x", "y", "z"]}, None, "column 'embedding': expected a list of numbers"),
    "empty vectors": ({"image": IMAGES, "embedding": [[], [], []]}, Features({"image": Image(), "embedding": datasets.List(Value("float32"))}),
                      "expected a list of numbers"),
    "vectors that are not finite": ({"image": IMAGES, "embedding": [[float("nan")] * 30] * 3}, None, "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_other_columns_are_named(tmp_path, clip_folder, name):
    columns, features, message = WRONG[name]
    count = len(next(iter(columns.values())))
    if "embedding" not in columns:
        columns = {**columns, "embedding": [[1.0] * 30] * count}
        features = features and Features({**features, "embedding": datasets.List(Value("float32"))})
    path = tmp_path / "faces.parquet"
    Dataset.from_dict(columns, features=features).to_parquet(path)
    recipe = write_recipe(tmp_path / "r.yaml", clip_folder)
    assert message in refusal("embed", recipe, "--data", path, "--output", tmp_path / "cache")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([0.5, 1.0, 2.0]), "labels are .*, numbers without names"),
        (pa.array([["a"], ["b"], ["c"]]), "labels are .*, numbers without names"),
        (pa.array([True, False, True]), "labels are .*, numbers without names"),
        (pa.array([None, None, None], pa.string()), "has no label"),
    ],
)
def test_labels_of_another_type(tmp_path, clip_folder, column, message):
    table = pa.table({"image": pa.array([png()] * 3), "label": column})
    pq.write_table(table, tmp_path / "faces.parquet")
    with pytest.raises(ValueError, match=message):
        load_faces([str(tmp_path / "faces.parquet")], labels="own")
    data = f"mine={tmp_path / 'faces.parquet'}"
    assert "faces.parquet" in refusal("benchmark", "--model", clip_folder, "--data", data, "--output", tmp_path / "out")


def test_a_label_beyond_its_classes(tmp_path):
    """A Parquet file says what its numbers mean apart from the numbers, and need not be right."""
    features = Features({"image": Image(), "label": ClassLabel(names=["happy", "sad"])})
    Dataset.from_dict({"image": IMAGES, "label": [0, 1, 1]}, features=features).to_parquet(tmp_path / "faces.parquet")
    table = pq.read_table(tmp_path / "faces.parquet")
    table = table.set_column(table.schema.get_field_index("label"), "label", pa.array([0, 1, 5]))
    pq.write_table(table, tmp_path / "faces.parquet")
    with pytest.raises(ValueError, match=r"faces\.parquet.*5"):
        load_faces([str(tmp_path / "faces.parquet")], labels="own")


def write_table(path: Path, *files: str, **columns) -> str:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": png(), "path": "/the/name/it/had.png"}, None, *({"bytes": None, "path": file} for file in files)]
    pq.write_table(pa.table({"image": pa.array(rows, kind), **columns}), path)
    return str(path)


@pytest.fixture
def album(tmp_path) -> Path:
    """A folder for a table, with a file and a link to it, and what must not be opened."""
    folder = tmp_path / "album"
    (folder / "a").mkdir(parents=True)
    for file in (folder / "a" / "1.png", tmp_path / "secret.png"):
        file.write_bytes(png())
    (folder / "inward.png").symlink_to("a/1.png")
    (folder / "outward.png").symlink_to(tmp_path / "secret.png")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo.png")
    return folder


@pytest.mark.parametrize("streaming", [False, True])
def test_files_below_the_table_are_read(album, monkeypatch, tmp_path, streaming):
    monkeypatch.chdir(tmp_path)  # not below the folder of the call
    table = write_table(album / "t.parquet", "a/1.png", "inward.png", "missing.png")
    faces = list(load_faces([table], streaming=streaming))
    assert [image_bytes(faces[row]) for row in (0, 2, 3)] == [png()] * 3
    assert [face["id"] for face in faces] == [f"t-{row:08}" for row in range(5)]
    with pytest.raises(FileNotFoundError, match="missing.png"):
        image_bytes(faces[4])


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "file",
    "SECRET ../secret.png a/../../secret.png outward.png up/secret.png fifo.png device.png /dev/zero /dev/ptmx a . "
    "http://localhost/1.png file:///etc/hostname zip://a::1.png hf://datasets/a/b/1.png ABSOLUTE NUL LONG".split(),
)
def test_files_elsewhere_are_refused_by_row(album, tmp_path, file, streaming):
    file = {"SECRET": f"{tmp_path}/secret.png", "ABSOLUTE": f"{album}/a/1.png", "NUL": "a\0b", "LONG": "x" * 5000}.get(
        file, file
    )
    table = write_table(album / "t.parquet", "a/1.png", file)
    with pytest.raises(ValueError, match=r"t\.parquet: row 3 names the file"):
        list(load_faces([table], streaming=streaming))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_no_other_column_is_opened(tmp_path, monkeypatch, nested, streaming):
    """datasets opens what a column of pictures names as soon as a row is asked for."""
    picture().save(tmp_path / "secret.png")
    kind = datasets.List(Image()) if nested else Image()
    secret = {"bytes": None, "path": str(tmp_path / "secret.png")}
    rows = {"image": IMAGES, "caption": [[secret] if nested else secret] * 3}
    table = Dataset.from_dict(rows, features=Features({"image": Image(), "caption": kind}))
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="column 'caption' holds .*; expected text or numbers"):
        list(load_faces([str(tmp_path / "t.parquet")], columns=["caption"], streaming=streaming))


def test_no_fifo_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(OSError, match="1.png is no regular file"):
        image_bytes({"image": {"bytes": None, "path": str(tmp_path / "1.png")}})


@pytest.fixture
def cached(tmp_path, clip_folder):
    """A recipe, its faces and their cache."""
    data, cache = write_faces(tmp_path / "faces.parquet", 40, width=30), tmp_path / "cache"
    recipe = write_recipe(tmp_path / "r.yaml", clip_folder)
    embed(load_recipe(recipe), [str(data)], cache, 16)
    return recipe, data, cache


def test_a_damaged_cache_is_read_as_it_was_or_refused(tmp_path, cached):
    recipe, _, cache = cached
    wanted = load_recipe(recipe)
    whole = list(load_pairs(cache, wanted.clip, wanted.teacher).blocks())
    shards = sorted(cache.glob("*/part-*.parquet"))

    @given(st.sampled_from(shards), damage)
    @settings(few, max_examples=150)
    def check(shard, given_damage):
        content = shard.read_bytes()
        shard.write_bytes(damaged(content, *given_damage))
        try:
            pairs = list(load_pairs(cache, wanted.clip, wanted.teacher).blocks())
        except ValueError as error:
            assert str(cache) in str(error)
        else:
            for found, expected in zip(pairs, whole, strict=True):
                assert all(map(torch.equal, found, expected))
        finally:
            shard.write_bytes(content)

    check()


def test_a_shard_of_other_columns(tmp_path, cached):
    recipe, _, cache = cached
    shard = sorted(cache.glob("teacher-*/part-*.parquet"))[1]
    table = pq.read_table(shard)
    for wrong in (
        table.drop_columns(["embedding"]),
        table.drop_columns(["id"]),
        table.replace_schema_metadata({}),
        table.set_column(1, "embedding", pa.array(["x"] * len(table))).replace_schema_metadata(table.schema.metadata),
        table.set_column(1, "embedding", pa.array([[1.0]] * len(table))).replace_schema_metadata(table.schema.metadata),
    ):
        pq.write_table(wrong, shard)
        line = refusal("train", recipe, "--embeddings", cache, "--output-dir", tmp_path / "run")
        assert f"{shard} is damaged" in line and "remove it and run expclip embed again" in line
    assert not (tmp_path / "run" / "config.json").exists()


def test_what_the_advice_says_mends_the_cache(tmp_path, cached):
    recipe, data, cache = cached
    before = {path: path.read_bytes() for path in cache.rglob("*.parquet")}
    shard = sorted(before)[0]
    shard.write_bytes(shard.read_bytes()[:-9])
    again = ("embed", recipe, "--data", data, "--output", cache, "--shard-size", 16)
    assert f"{shard} is damaged" in refusal(*again)
    shard.unlink()
    assert ask(*again)[0] == 0
    assert {path: path.read_bytes() for path in cache.rglob("*.parquet")} == before


NOTES = ["", "\xff", "null", "[]", "{", '{"format": 1}', '{"format": 1, "data": {}, "sets": {"x": 1}}', '{"format": 1, "data": [], "sets": []}',
         '{"recipe": 1, "origin": "x"}', "[" * 100000]  # fmt: skip


@pytest.mark.parametrize("content", NOTES, ids=lambda note: repr(note[:40]))
def test_damaged_notes_of_a_cache_are_named(tmp_path, cached, content):
    recipe, data, cache = cached
    for note in ("manifest.json", next(cache.glob("clip-*")).name + "/set.json"):
        kept = (cache / note).read_bytes()
        (cache / note).write_bytes(content.encode("latin-1"))
        embedding = refusal("embed", recipe, "--data", data, "--output", cache, "--shard-size", 16)
        assert str(cache / note) in embedding
        if note == "manifest.json":
            assert str(cache / note) in refusal(
                "train", recipe, "--embeddings", cache, "--output-dir", tmp_path / "run"
            )
        (cache / note).write_bytes(kept)


def test_a_manifest_with_a_piece_missing(tmp_path, cached):
    recipe, _, cache = cached
    whole = json.loads((cache / "manifest.json").read_text())
    for place in (("data", "shards"), ("data", "fingerprint"), ("sets", next(iter(whole["sets"])), "origin")):
        wrong = json.loads(json.dumps(whole))
        inner = wrong
        for name in place[:-1]:
            inner = inner[name]
        del inner[place[-1]]
        (cache / "manifest.json").write_text(json.dumps(wrong))
        assert "manifest.json" in refusal("train", recipe, "--embeddings", cache, "--output-dir", tmp_path / "run")


@pytest.mark.parametrize("content", ["", "\xff", "null", "{}", '{"request": {}, "rows": [{}], "groups": []}'])
def test_a_damaged_note_of_a_finished_benchmark(tmp_path, clip_folder, content):
    data = write_faces(tmp_path / "faces.parquet", 8)
    command = ("benchmark", "--model", f"m={clip_folder}", "--data", f"mine={data}", "--prompts", "photo")
    command = (*command, "--output", tmp_path / "out")
    assert ask(*command)[0] == 0
    table = (tmp_path / "out" / "m" / "mine" / "predictions.parquet").read_bytes()
    note = tmp_path / "out" / "m" / "mine" / "rows.json"
    note.write_bytes(content.encode("latin-1"))
    assert f"{note}" in (line := refusal(*command)) and "remove it" in line
    note.unlink()
    assert ask(*command)[0] == 0
    assert (tmp_path / "out" / "m" / "mine" / "predictions.parquet").read_bytes() == table


@pytest.mark.parametrize("content", ["{", "\xff", "a: b: c", "", "null"])
def test_a_damaged_recipe_of_a_run(tmp_path, cached, content):
    recipe, _, cache = cached
    command = ("train", recipe, "--embeddings", cache, "--output-dir", tmp_path / "run")
    assert ask(*command)[0] == 0
    shutil.rmtree(tmp_path / "run" / "runs")
    (tmp_path / "run" / "config.json").unlink()
    (tmp_path / "run" / "recipe.yaml").write_bytes(content.encode("latin-1"))
    assert str(tmp_path / "run") in (line := refusal(*command)) and "choose another --output-dir" in line
