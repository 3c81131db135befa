"""What runs on Ray, all in one file, so that one cluster serves all: `classify --engine ray`, ExpressionScorer, `embed --engine ray`.

A server of S3's kind on this machine stands for object storage.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import torch

from modeling_expclip import ExpressionScorer
from modeling_expclip.cli import on_ray
from modeling_expclip.cli.main import main
from modeling_expclip.system import stall
from modeling_expclip.system.cluster import connected
from tests.conftest import picture
from tests.modeling_expclip.media.test_storage import png, write_tar

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytest.importorskip("ray.data")


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """The client of an S3 server; what is started later finds it by its environment."""
    boto3 = pytest.importorskip("boto3")
    server_of = pytest.importorskip("moto.server")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        client = boto3.client("s3")
        yield client
    server.stop()


@pytest.fixture(scope="session")
def cluster(s3):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("OMP_NUM_THREADS", "1")
        with connected() as ray:
            yield ray


@pytest.fixture
def faces(tmp_path) -> Path:
    """30 files, a table and two archives; of these, damaged: two files, a row, an archive."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for i in range(28):
        (folder / f"{i:02}.png").write_bytes(png(i))
    (folder / "empty.jpg").touch()
    (folder / "cut.png").write_bytes(png(0)[:70])
    table = pa.table({"image": [*map(png, range(40, 49)), png(3)[:60]]})
    pq.write_table(table, folder / "table.parquet", row_group_size=3)
    whole = write_tar(folder / "whole.tar", {f"{i}.png": png(i) for i in range(50, 56)}).read_bytes()
    (folder / "part.tar").write_bytes(whole[: len(whole) // 2])
    return folder


def command(checkpoint, *arguments) -> list[str]:
    return ["classify", "--model", str(checkpoint), "--prompts", "photo", "--no-faces", *map(str, arguments)]


def on_cluster(checkpoint, *arguments) -> int:
    return main(command(checkpoint, *arguments, "--engine", "ray", "--part-size", 4, "--actors", 2))


def rows_of(table: pa.Table, folder: object = "") -> list[dict]:
    rows = [{**row, "path": row["path"].replace(str(folder), "", 1)} for row in table.to_pylist()]
    return sorted(rows, key=lambda row: (row["path"], row["face"] or 0))


def assert_same(found: list[dict], expected: list[dict]) -> None:
    assert [row["path"] for row in found] == [row["path"] for row in expected]
    for one, other in zip(found, expected):
        numbers = [name for name, value in other.items() if isinstance(value, float)]
        assert [one[name] for name in numbers] == pytest.approx([other[name] for name in numbers], abs=1e-5)
        assert {k: v for k, v in one.items() if k not in numbers} == {
            k: v for k, v in other.items() if k not in numbers
        }


@pytest.fixture
def expected(checkpoint, faces, tmp_path) -> pa.Table:
    assert main(command(checkpoint, faces, "--output", tmp_path / "plain.parquet")) == 0
    return pq.read_table(tmp_path / "plain.parquet")


def test_the_rows_are_those_of_the_plain_command(checkpoint, faces, expected, tmp_path, cluster, capsys):
    output = tmp_path / "out"
    assert on_cluster(checkpoint, faces, "--output", output) == 0
    found = pa.dataset.dataset(output).to_table()
    assert found.schema == expected.schema
    assert_same(rows_of(found), rows_of(expected))
    failed = sum(row["error"] is not None for row in found.to_pylist())
    assert f"{failed} of {len(found)} rows hold an error" in capsys.readouterr().err
    assert all(name.startswith("part-") for name in os.listdir(output))

    before = set(os.listdir(output))
    assert on_cluster(checkpoint, faces, "--output", output) == 2  # finished: nothing to resume
    assert "add --overwrite" in capsys.readouterr().err
    assert set(os.listdir(output)) == before
    assert on_cluster(checkpoint, faces, "--output", output, "--overwrite") == 0
    assert not before & set(os.listdir(output))
    assert_same(rows_of(pa.dataset.dataset(output).to_table()), rows_of(expected))


@pytest.mark.parametrize("words", [("--labels", "joyful,tired", "--multi-label"), ("--label-set", "valence_arousal")])
def test_scores_that_need_no_sum_are_those_of_the_plain_command(checkpoint, faces, tmp_path, cluster, words):
    assert main(command(checkpoint, faces, *words, "--output", tmp_path / "plain.parquet")) == 0
    assert on_cluster(checkpoint, faces, *words, "--output", tmp_path / "out") == 0
    found, expected = pa.dataset.dataset(tmp_path / "out").to_table(), pq.read_table(tmp_path / "plain.parquet")
    assert found.schema == expected.schema
    assert_same(rows_of(found), rows_of(expected))


def test_a_killed_run_loses_and_doubles_nothing(checkpoint, faces, expected, tmp_path):
    output = tmp_path / "out"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}  # a cluster for each
    arguments = command(checkpoint, faces, "--output", output, "--engine", "ray", "--part-size", 1, "--actors", 1)
    code, killed = None, 0
    while code is None:
        run = subprocess.Popen(
            [sys.executable, "-m", "modeling_expclip.cli.main", *arguments], env=environment, stderr=subprocess.PIPE
        )
        if killed < 2:
            before = len(list(output.glob("part-*")))
            while run.poll() is None and len(list(output.glob("part-*"))) == before:
                time.sleep(0.02)
            time.sleep(random.random() / 10)
            run.send_signal(signal.SIGKILL)
            killed += run.wait() == -signal.SIGKILL
        if run.wait() != -signal.SIGKILL:
            code = run.returncode
        run.stderr.close()
    assert code == 0 and killed
    assert_same(rows_of(pa.dataset.dataset(output).to_table()), rows_of(expected))


def test_a_stopped_run_goes_on_with_its_own_plan(checkpoint, faces, expected, tmp_path, cluster, monkeypatch, capsys):
    """And says so where the command is another one."""
    output = tmp_path / "out"

    def stop(*_):
        raise OSError("the cable was pulled")

    with monkeypatch.context() as patch:
        patch.setattr(on_ray, "_share_out", stop)
        assert on_cluster(checkpoint, faces, "--output", output) == 2
    assert "the same command resumes" in capsys.readouterr().err
    (faces / "late.png").write_bytes(png(9))
    (faces / "00.png").unlink()
    assert on_cluster(checkpoint, faces, "--output", output, "--labels", "a,b") == 2
    assert "another labels" in capsys.readouterr().err
    assert on_cluster(checkpoint, faces, "--output", output) == 0
    found, wanted = rows_of(pa.dataset.dataset(output).to_table()), rows_of(expected)
    assert found[0]["error"].startswith("FileNotFoundError")
    assert_same(found[1:], wanted[1:])


def test_object_storage_in_and_out(checkpoint, faces, expected, tmp_path, cluster, s3, capsys):
    s3.create_bucket(Bucket="faces")
    for path in faces.iterdir():
        s3.upload_file(str(path), "faces", f"in/{path.name}")
    assert on_cluster(checkpoint, "s3://faces/in", "--output", "s3://faces/out") == 0
    folder = tmp_path / "copy"
    folder.mkdir()
    names = [entry["Key"] for entry in s3.list_objects_v2(Bucket="faces", Prefix="out/")["Contents"]]
    assert all(name.startswith("out/part-") for name in names)
    for name in names:
        s3.download_file("faces", name, str(folder / Path(name).name))
    found, wanted = rows_of(pa.dataset.dataset(folder).to_table(), "s3://faces/in"), rows_of(expected, faces)
    for row in [*found, *wanted]:
        row["error"] = bool(row["error"])  # it names the file
    assert_same(found, wanted)
    assert on_cluster(checkpoint, "s3://faces/in", "--output", "s3://faces/out") == 2
    assert "add --overwrite" in capsys.readouterr().err


def test_a_key_that_vanishes_is_a_row(checkpoint, cluster, s3, monkeypatch, tmp_path):
    s3.create_bucket(Bucket="vanishing")
    for i in range(3):
        s3.put_object(Bucket="vanishing", Key=f"{i}.png", Body=png(i))
    share_out = on_ray._share_out

    def later(*arguments):
        s3.delete_object(Bucket="vanishing", Key="1.png")
        share_out(*arguments)

    monkeypatch.setattr(on_ray, "_share_out", later)
    assert on_cluster(checkpoint, "s3://vanishing", "--output", tmp_path / "out") == 0
    errors = [row["error"] for row in rows_of(pa.dataset.dataset(tmp_path / "out").to_table())]
    assert errors[0] is errors[2] is None and errors[1].startswith("FileNotFoundError: s3://vanishing/1.png")


def test_missing_credentials_and_buckets_are_one_line(checkpoint, s3, tmp_path, monkeypatch, capsys):
    import s3fs

    assert on_cluster(checkpoint, "s3://nowhere/faces", "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "s3://nowhere/faces" in error and error.count("\n") == 1
    s3fs.S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert on_cluster(checkpoint, "s3://faces/in", "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "s3://faces/in cannot be reached" in error and "credentials" in error and error.count("\n") == 1
    s3fs.S3FileSystem.clear_instance_cache()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, says",
    [
        ((), "name one with --output"),
        (("--output", "faces.csv"), "writes a folder"),
        (("--output", "s3://"), "names no bucket"),
        (("--output", "s3:///faces"), "names no bucket"),  # an empty variable's
        (("--output", "out", "--actors", "0"), "--actors 0"),
        (("--output", "out", "--actor-cpus", "1000"), "does not fit"),
        (("--output", "out", "--actor-gpus", "1000"), "does not fit"),
    ],
)
def test_wrong_calls(checkpoint, faces, tmp_path, cluster, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert main(command(checkpoint, faces, *arguments, "--engine", "ray")) == 2
    assert says in capsys.readouterr().err
    assert main(command(checkpoint, faces, "--actors", "2")) == 2
    assert "add --engine ray" in capsys.readouterr().err


def test_an_output_with_other_files_is_not_replaced(checkpoint, faces, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.txt").write_text("all of it")
    assert on_cluster(checkpoint, faces, "--output", output, "--overwrite") == 2
    assert "thesis.txt" in capsys.readouterr().err and (output / "thesis.txt").exists()


def test_an_input_among_parts_is_not_replaced(checkpoint, faces, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    table = output / "part-0.parquet"  # as other programs name theirs
    pq.write_table(pa.table({"image": [next(faces.glob("*.png")).read_bytes()]}), table)
    content = table.read_bytes()
    assert on_cluster(checkpoint, output, "--output", output, "--overwrite") == 2
    assert f"{table} is an input; choose another folder" in capsys.readouterr().err
    assert table.read_bytes() == content


def test_without_ray_the_extra_is_named(checkpoint, faces, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert on_cluster(checkpoint, faces, "--output", tmp_path / "out") == 2
    assert "extra ray" in capsys.readouterr().err


def test_actors_have_the_commands_priority(cluster):
    """Else whatever runs beside the command leaves them next to nothing."""
    assert ray.get(ray.remote(num_cpus=0)(lambda: os.nice(0)).remote()) == os.nice(0)


def test_torch_has_an_actors_share_of_threads(checkpoint, tmp_path):
    """Not as many as OMP_NUM_THREADS of who started Ray says: actors would stand in each other's way."""
    before = torch.get_num_threads()
    scorer = ExpressionScorer(str(checkpoint), labels=["joyful"])
    writer = on_ray.PartWriter(scorer, {}, {}, os.getcwd(), before + 1, {})
    try:
        assert writer({"name": ["part-0.parquet"], "part": ["no part"]})["error"] != [""]
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_run_that_waits_says_for_what(checkpoint, faces, tmp_path, cluster, monkeypatch):
    """Another job has all processors, until the run has said so."""

    class Other:
        def there(self):
            pass

    said: list[str] = []
    monkeypatch.setattr(stall, "PATIENCE", 0.5)
    cpus = ray.cluster_resources()["CPU"]
    other = ray.remote(num_cpus=cpus)(Other).remote()
    ray.get(other.there.remote())

    def listen(line: str, **_) -> None:
        said.append(line)
        if "2 wait" in line or len(said) == 12:  # no test hangs because a sentence was changed
            ray.kill(other)

    monkeypatch.setattr(stall, "print", listen, raising=False)
    assert on_cluster(checkpoint, faces, "--output", tmp_path / "out") == 0
    why = f"of its actors 0 work, 0 are starting and 2 wait for a place; free in the cluster: 0 of {cpus:g} CPUs"
    assert any(line.startswith("no part was finished in") and why in line for line in said), said


def test_an_error_of_an_actor_is_the_commands(checkpoint, faces, tmp_path, cluster, capsys):
    assert on_cluster(tmp_path, faces, "--output", tmp_path / "out") == 2
    assert str(tmp_path) in capsys.readouterr().err.splitlines()[-1]


# ExpressionScorer, in the engines it is for.


@pytest.fixture
def scorer(checkpoint) -> ExpressionScorer:
    return ExpressionScorer(str(checkpoint), labels=["a", "b"], prompts="photo")


@pytest.fixture
def scores(scorer) -> pa.Table:
    return scorer({"image": [png(i) for i in range(6)], "path": [f"{i}.png" for i in range(6)]})


def test_scorer_in_ray_data(checkpoint, scores, tmp_path, cluster):
    import ray.data

    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    table = ray.data.read_binary_files(str(tmp_path), include_paths=True).map_batches(
        ExpressionScorer,
        fn_constructor_kwargs={"model": str(checkpoint), "labels": ["a", "b"], "prompts": "photo", "image": "bytes"},
        batch_size=4,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=0,  # where there is only one processor, the task that reads the files has it
    )
    found = [{**row, "path": Path(row["path"]).name} for row in table.take_all()]
    assert_same(sorted(found, key=lambda row: row["path"]), scores.to_pylist())


def test_scorer_in_datasets(scorer, scores):
    datasets = pytest.importorskip("datasets")

    features = datasets.Features({"path": datasets.Value("string"), "image": datasets.Image()})
    rows = {"path": [f"{i}.png" for i in range(6)], "image": [picture(i) for i in range(6)]}
    found = datasets.Dataset.from_dict(rows, features=features).map(scorer, batched=True, batch_size=4)
    assert_same([{**row} for row in found], scores.to_pylist())


def test_scorer_in_spark(scorer, scores):
    """What Spark's workers do: the function arrives as its pickle, and is given an iterator of DataFrames."""
    from ray import cloudpickle

    scorer({"image": [png(0)]})  # loaded already, and yet small to send
    sent = cloudpickle.dumps(scorer)
    assert len(sent) < 10_000
    frame = pd.DataFrame({"image": [png(i) for i in range(6)], "path": [f"{i}.png" for i in range(6)]})
    (first, second) = cloudpickle.loads(sent)(iter([frame[:4], frame[4:]]))
    found = pa.Table.from_pandas(pd.concat([first, second]), schema=scorer.schema, preserve_index=False)
    assert_same(found.to_pylist(), scores.to_pylist())


def test_scorer_opens_no_paths(scorer, tmp_path):
    """A table's author must not have files of its reader opened."""
    (tmp_path / "secret.png").write_bytes(png(0))
    path = str(tmp_path / "secret.png")
    found = scorer({"image": [path, {"bytes": None, "path": path}, None, b"", png(0)], "path": [*"abcde"]}).to_pylist()
    assert [row["label"] is None and row["error"] is not None for row in found] == [True, True, True, True, False]


def test_scorer_opens_nothing_that_hides_in_bytes(scorer, tmp_path):
    (tmp_path / "face.png").write_bytes(png(0))
    path = str(tmp_path / "face.png")
    hidden = [{"bytes": {"image": path}}, {"bytes": {"bytes": None, "path": path}}, {"image": path}, [path]]
    for cell in hidden:
        assert "the row holds no image" in scorer({"image": [cell]}).to_pylist()[0]["error"], cell


def test_shares_of_a_device_are_all_used():
    options = argparse.Namespace(actors=None, actor_cpus=0.1, actor_gpus=0.2)
    assert on_ray._actors(options, {"CPU": 16, "GPU": 1}, 99) == (5, 0.1, 0.2)


def test_scorer_takes_arrays_and_names_a_missing_column(scorer, scores):
    pixels = np.stack([np.asarray(picture(i)) for i in range(6)])
    found = scorer({"image": pixels}).to_pylist()
    assert [row["a"] for row in found] == pytest.approx(scores["a"].to_pylist(), abs=1e-5)
    assert found[0]["path"] is None
    with pytest.raises(ValueError, match="no column 'image'; its columns are picture"):
        scorer({"picture": pixels})


def test_scorer_scores_labels_by_themselves(checkpoint):
    one = ExpressionScorer(str(checkpoint), labels=["a"], prompts="photo", multi_label=True)
    two = ExpressionScorer(str(checkpoint), labels=["a", "b"], prompts="photo", multi_label=True)
    found, beside = (scorer({"image": [png(0)]}).to_pylist()[0]["a"] for scorer in (one, two))
    assert found == pytest.approx(beside, abs=1e-6) and found < 1


def test_scorer_refuses_wrong_arguments_at_once():
    with pytest.raises(ValueError, match="label"):
        ExpressionScorer(labels=[])
    with pytest.raises(TypeError, match="marjin"):
        ExpressionScorer(marjin=1)


# The embedding pass.


def test_embedding_on_ray_writes_the_same_shards(clip_folder, tmp_path, cluster):
    pytest.importorskip("datasets")
    import yaml

    from tests.training.conftest import write_faces
    from training.embed import main as embed

    faces = write_faces(tmp_path / "faces.parquet", 22, broken=(5,))
    recipe = tmp_path / "recipe.yaml"
    sections = {"clip": {"model": str(clip_folder), "preprocessing": "paper"}, "teacher": {"kind": "vectors"}}
    recipe.write_text(yaml.safe_dump(sections | {"faces": {"batch_size": 8}, "training": {"max_steps": 5}}))

    def shards(engine: str, *more: str) -> dict[str, bytes]:
        output = tmp_path / engine
        data = ["--data", str(faces), "--output", str(output), "--shard-size", "8"]
        assert embed([str(recipe), *data, "--engine", engine, *more]) == 0
        return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("part-*.parquet")}

    plain = shards("local")
    assert len(plain) == 6
    assert shards("ray", "--processes", "2") == plain
