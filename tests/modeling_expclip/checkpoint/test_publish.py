"""Publishing, with the Hub replaced by a stub that has its signatures and remembers what it was sent."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import httpx
import pytest
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file, save_file

from modeling_expclip.checkpoint import publish
from modeling_expclip.checkpoint.merge import merge
from modeling_expclip.cli.main import main
from tests.conftest import picture
from tests.modeling_expclip.checkpoint.test_convert import FILES

REPO = "someone/expclip-small"


@pytest.fixture
def folder(checkpoint, tmp_path) -> Path:
    """A copy of a checkpoint, to be spoilt."""
    return shutil.copytree(checkpoint, tmp_path / "mine")


@pytest.fixture
def hub(monkeypatch):
    """A Hub without repositories. Whatever reaches the network past it fails."""
    api = create_autospec(HfApi, instance=True)
    api.create_repo.side_effect = lambda repo, **_: f"https://hub/{repo}"
    api.model_info.return_value = SimpleNamespace(private=True)
    monkeypatch.setattr(publish, "HfApi", lambda: api)

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return api


def call(folder: Path, *options: str, repo: str = REPO) -> int:
    return main(["publish", "--model", str(folder), "--repo", repo, *options])


def sent(hub) -> dict[str, bytes]:
    """The files of the one commit there was."""
    ((repo, operations), _) = hub.create_commit.call_args
    assert hub.create_commit.call_count == 1 and repo == REPO
    contents = {}
    for operation in operations:
        with operation.as_file() as file:
            contents[operation.path_in_repo] = file.read()
    return contents


def refused(hub, folder: Path, capsys, *options: str, code: int = 2, **others: str) -> str:
    """The one line that says why nothing was sent."""
    assert call(folder, *options, **others) == code
    assert not hub.method_calls
    printed = capsys.readouterr()
    assert not printed.out and len(printed.err.splitlines()) == 1
    return printed.err


def test_all_of_a_checkpoint_goes_in_one_commit(folder, hub, capsys):
    assert call(folder) == 0
    files = sent(hub)
    assert set(files) == FILES
    for name in FILES - {"README.md"}:
        assert files[name] == (folder / name).read_bytes(), name
    card = files["README.md"].decode()
    assert f'model="{REPO}"' in card and "PATH_OR_HUB_ID" not in card
    assert ModelCard(card).data.library_name == "transformers"
    hub.create_repo.assert_called_once_with(REPO, private=False, exist_ok=True)
    assert f"https://hub/{REPO}" in capsys.readouterr().out


def test_a_dry_run_lists_what_would_go_and_contacts_nobody(folder, hub, capsys):
    assert call(folder, "--dry-run") == 0
    assert not hub.method_calls
    *listed, total, last = capsys.readouterr().out.splitlines()
    sizes = {line.split()[0]: int(line.split()[1].replace(",", "")) for line in listed}
    assert "nothing was sent" in last and f"{sum(sizes.values()):,} bytes" in total and f"{REPO} (public)" in total
    assert call(folder) == 0
    assert sizes == {name: len(content) for name, content in sent(hub).items()}


def test_private(folder, hub, capsys):
    assert call(folder, "--private", "--dry-run") == 0
    assert f"{REPO} (private)" in capsys.readouterr().out
    assert call(folder, "--private") == 0
    hub.create_repo.assert_called_once_with(REPO, private=True, exist_ok=True)
    assert set(sent(hub)) == FILES


def test_private_does_not_go_to_a_repository_that_is_public_already(folder, hub, capsys):
    hub.model_info.return_value = SimpleNamespace(private=False)
    assert call(folder, "--private") == 2
    assert "exists and is public" in capsys.readouterr().err and not hub.create_commit.called


@pytest.mark.parametrize("repo", ["expclip", "a/b/c", "someone/my model", "someone/..", "/expclip", "datasets/a/b"])
def test_bad_names_are_refused_before_any_work(hub, capsys, tmp_path, repo):
    error = refused(hub, tmp_path / "not there", capsys, repo=repo)
    assert "OWNER/expclip" in error or "repo" in error.lower()


def test_only_folders_with_a_checkpoint_are_published(hub, capsys, tmp_path):
    assert "no folder" in refused(hub, tmp_path / "not there", capsys)
    assert "no folder" in refused(hub, "openai/clip-vit-base-patch32", capsys)
    assert "has no config.json" in refused(hub, tmp_path, capsys)


def test_a_checkpoint_that_does_not_verify_is_not_published(folder, hub, capsys):
    config = json.loads((folder / "processor_config.json").read_text())
    config["image_processor"]["do_normalize"] = True
    (folder / "processor_config.json").write_text(json.dumps(config))
    assert "preprocessing has changed" in refused(hub, folder, capsys, code=1)
    assert "preprocessing has changed" in refused(hub, folder, capsys, "--dry-run", code=1)


@pytest.mark.parametrize("name", ["golden.safetensors", "model.safetensors"])
def test_missing_or_damaged_parts_are_not_published(folder, hub, capsys, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:1000])
    assert "cannot be read" in refused(hub, folder, capsys, code=1)
    (folder / name).unlink()
    assert name in refused(hub, folder, capsys, code=1)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (None, "has no README.md"),
        ("", "must begin with metadata"),
        ("# Only words", "must begin with metadata"),
        ("---\nlibrary_name: transformers\n---\n", "has a pipeline_tag"),
        ("---\ntags: [a, b\nlicense: mit\n---\n", "cannot be read"),
        ("---\n- a list\n---\n", "cannot be read"),
        ("---\nlibrary_name: t\npipeline_tag: z\nlanguage: no\n---\n", "language must be text"),
        ("---\nlibrary_name: t\npipeline_tag: z\nmodel-index: 3\n---\n", "cannot be read"),
        (
            "---\nlibrary_name: t\npipeline_tag: z\nlicense: mit\nlicense: other\n---\n",
            "the key 'license' stands twice",
        ),
        ("---\nlibrary_name: t\npipeline_tag: z\na: &a [ha, ha]\nb: [*a, *a]\n---\n", "the alias *a is not read"),
        ("---\nlibrary_name: t\npipeline_tag: z\na: !!python/name:os.system x\n---\n", "cannot be read"),
        ("---\nlibrary_name: t\npipeline_tag: z\na: " + "[" * 5000 + "\n---\n", "cannot be read"),
        ("---\nlibrary_name: t\npipeline_tag: z\na: !!bool x\n---\n", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_cards_the_hub_could_not_read(folder, hub, capsys, card, message):
    (folder / "README.md").unlink()
    if card is not None:
        (folder / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    assert message in refused(hub, folder, capsys, "--dry-run")


@pytest.mark.parametrize("name", ["weights.pth", "pytorch_model.bin", "image_tower.bin", "optimizer.pt", "x.pkl"])
def test_pickles_are_refused(folder, hub, capsys, name):
    (folder / name).write_bytes(b"x")
    assert f"{name} (pickles may hold any code)" in refused(hub, folder, capsys)


def test_all_that_does_not_belong_is_named(folder, hub, capsys, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    (folder / "broken.json").symlink_to(folder / "nowhere.json")
    (folder / "copy.txt").symlink_to("config.json")
    (folder / ".env").write_text("HF_TOKEN=x")
    (folder / "data").mkdir()
    (folder / "face.png").write_bytes(b"x")
    error = refused(hub, folder, capsys)
    for wrong in (
        "link.json (a link out of the folder)",
        "broken.json (not a file)",
        ".env (hidden)",
        "data (a folder)",
        "face.png (no file of a checkpoint)",
    ):
        assert wrong in error
    assert "copy.txt" not in error


def test_what_training_and_python_leave_beside_a_checkpoint_stays_here(folder, hub, capsys):
    for name in ("checkpoint-40", "runs", "__pycache__"):
        (folder / name).mkdir()
        (folder / name / "state.pt").write_bytes(b"x")
    for name in ("recipe.yaml", "log.csv", "training_curve.png"):
        (folder / name).write_text("recipe:")
    assert call(folder) == 0
    assert set(sent(hub)) == FILES | {"recipe.yaml", "log.csv", "training_curve.png"}
    left = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("left out")]
    assert left == ["__pycache__", "checkpoint-40", "runs"]
    shutil.rmtree(folder / "runs")
    (folder / "runs").symlink_to(folder / "checkpoint-40")
    assert call(folder) == 2


@pytest.mark.parametrize("path", ["/home/me/faces", "~/faces/all", "C:\\\\faces\\\\all"])
def test_paths_of_this_machine_are_not_published(folder, hub, capsys, path):
    (folder / "recipe.yaml").write_text(f"origin:\n  data: caers={path}\n  said: and/or, https://hub/a/b\n")
    assert "recipe.yaml names a path of this machine" in refused(hub, folder, capsys)
    (folder / "recipe.yaml").write_text("origin:\n  data: faces/all\n  said: and/or, https://hub/a/b\n")
    (folder / "extra.json").write_text(f'{{"name_or_path": "{path}"}}')
    assert "extra.json names a path of this machine" in refused(hub, folder, capsys)
    (folder / "extra.json").unlink()
    assert call(folder, "--dry-run") == 0


def with_tower(folder: Path, content: bytes) -> None:
    (folder / "image_tower.onnx").write_bytes(content)
    description = {
        "backend": "onnx",
        "precision": "fp32",
        "files": {"image_tower.onnx": hashlib.sha256(content).hexdigest()},
    }
    (folder / "export.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    "place",
    [Path.home(), Path.cwd(), tempfile.gettempdir(), sysconfig.get_path("purelib"), "/home/someone", "/Users/someone"],
)
def test_paths_within_binaries_are_not_published(folder, hub, capsys, place):
    path = f"{place}/package/module.py".encode()
    with_tower(folder, b"\x08\n\x12\x99" + path + b"\x00\xff")
    assert f"image_tower.onnx names a path of this machine: {path.decode()}" in refused(hub, folder, capsys)
    with_tower(folder, b"\x08\n/tmp/\x01\xff/home/\x00/Users/a\xfe")
    assert call(folder, "--dry-run") == 0
    capsys.readouterr()
    state = load_file(folder / "model.safetensors")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt", "source": path.decode()})
    assert "model.safetensors names a path of this machine" in refused(hub, folder, capsys)


@pytest.mark.parametrize("name", ["tokenizer.json", "more.safetensors", "notes.txt", "prompts.py", "log.csv"])
def test_every_file_is_looked_through(folder, hub, capsys, name):
    with (folder / name).open("ab") as file:
        file.write(f"\n# {Path.home()}/faces/all".encode())
    assert f"{name} names a path of this machine" in refused(hub, folder, capsys)


@pytest.mark.parametrize("secret", ["hf_" + "a1B2" * 9, "AKIA" + "A1B2" * 4, "-----BEGIN RSA PRIVATE KEY-----"])
def test_tokens_and_keys_are_refused(folder, hub, capsys, secret):
    (folder / "notes.txt").write_text(f"mine: {secret}\n")
    error = refused(hub, folder, capsys)
    assert "notes.txt holds what looks like a token or a private key" in error and secret not in error


@pytest.mark.parametrize("content", [r'{"a": "\/mnt\/anna\/private"}', '{"a": "(/mnt/anna/private)"}'])
def test_paths_in_json_however_they_are_written(folder, hub, capsys, content):
    (folder / "extra.json").write_text(content)
    assert "extra.json names a path of this machine: /mnt/anna/private" in refused(hub, folder, capsys)


def test_weights_by_chance_name_nothing(folder, hub):
    """Random bytes between the beginnings of paths: no weights are refused for what they happen to be."""
    noise, places = random.Random(0), [b"/home/", b"/tmp/", b"/Users/", str(Path.home()).encode() + b"/"]
    with_tower(folder, b"".join(noise.randbytes(500) + noise.choice(places) + bytes([0, 255]) for _ in range(4000)))
    assert call(folder, "--dry-run") == 0


def without_auto_map(config: dict) -> None:
    del config["auto_map"], config["custom_pipelines"]


def code_of_another_repository(config: dict) -> None:
    config["auto_map"]["AutoModel"] = "someone/else--modeling_expclip.ExpCLIPModel"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_auto_map, "names no code"),
        (code_of_another_repository, "takes someone/else--modeling_expclip.ExpCLIPModel from elsewhere"),
        ("pipeline_expclip.py", "takes pipeline_expclip.FacialExpressionPipeline from elsewhere"),
        ("prompts.py", "needs prompts.py"),
        (lambda config: config["auto_map"].update(AutoModel=7), "names code by 7"),
    ],
)
def test_code_that_would_be_missing_on_the_hub(folder, hub, capsys, spoil, message):
    if callable(spoil):
        config = json.loads((folder / "config.json").read_text())
        spoil(config)
        (folder / "config.json").write_text(json.dumps(config))
    else:
        (folder / spoil).unlink()
        # Else the model's file, which imports the pipeline's, is the first that lacks something.
        model = (folder / "modeling_expclip.py").read_text()
        (folder / "modeling_expclip.py").write_text(model.replace("from .pipeline_expclip import", "# from"))
    assert message in refused(hub, folder, capsys)


def test_a_merged_checkpoint_needs_no_code(checkpoint, hub, tmp_path):
    merge(checkpoint, tmp_path / "plain")
    assert call(tmp_path / "plain") == 0
    assert set(sent(hub)) == {name for name in FILES if not name.endswith(".py")} | {"preprocessor_config.json"}


def test_an_exported_tower_belongs_and_is_checked(folder, hub, capsys):
    towers = {"image_tower.xml": b"<net/>", "image_tower.bin": b"weights"}
    for name, content in towers.items():
        (folder / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in towers.items()}
    description = {"backend": "openvino", "precision": "fp32", "files": digests}
    (folder / "export.json").write_text(json.dumps(description))
    assert call(folder) == 0
    assert set(sent(hub)) == FILES | {"export.json", *towers}

    hub.reset_mock()
    capsys.readouterr()
    (folder / "image_tower.bin").write_bytes(b"changed")
    assert "image_tower.bin is damaged: it is not the file that was exported" in refused(hub, folder, capsys, code=1)
    (folder / "image_tower.bin").write_bytes(b"weights")
    for name in ("weights.pth", "image_tower.pth"):
        (folder / name).write_bytes(b"weights")
        description["files"][name] = digests["image_tower.bin"]
    (folder / "export.json").write_text(json.dumps(description))
    error = refused(hub, folder, capsys)
    assert "weights.pth (pickles" in error and "image_tower.pth (pickles" in error and "image_tower.bin" not in error


def http_error(status: int) -> HfHubHTTPError:
    response = httpx.Response(status, request=httpx.Request("POST", "https://hub/api"))
    return HfHubHTTPError(f"{status} Client Error.\n\nRequest ID: 1\nwhat the Hub said", response=response)


@pytest.mark.parametrize("step", ["create_repo", "create_commit"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (http_error(401), "log in first"),
        (http_error(403), "may not write"),
        (http_error(500), "what the Hub said"),
        (httpx.ConnectError("[Errno -2] Name or service not known"), "ConnectError"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_errors_of_the_hub_are_one_line(folder, hub, capsys, step, error, message):
    getattr(hub, step).side_effect = error
    assert call(folder) == 2
    printed = capsys.readouterr().err
    assert f"publishing to {REPO} failed" in printed and message in printed and len(printed.splitlines()) == 1
    assert hub.create_commit.called == (step == "create_commit")


VISITOR = """
import sys
from PIL import Image
from transformers import pipeline

recognise = pipeline(model=sys.argv[1], trust_remote_code=True)
assert not any(name.startswith("modeling_expclip") for name in sys.modules), "the library leaked in"
assert type(recognise).__name__ == "FacialExpressionPipeline"
assert len(recognise(Image.open(sys.argv[2]))) == 7
print("everything worked")
"""


def test_what_was_sent_works_from_the_hub(folder, hub, tmp_path):
    """The commit as a visitor's cache has it, under the repository's name: the folder it came from is gone."""
    assert call(folder) == 0
    cached, commit = tmp_path / "cache" / "hub" / f"models--{REPO.replace('/', '--')}", "0" * 40
    for name, content in sent(hub).items():
        (cached / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
        (cached / "snapshots" / commit / name).write_bytes(content)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    shutil.rmtree(folder)
    picture().save(tmp_path / "face.png")
    (tmp_path / "visitor.py").write_text(VISITOR)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "visitor.py", REPO, "face.png"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and "everything worked" in run.stdout, run.stderr[-3000:]
