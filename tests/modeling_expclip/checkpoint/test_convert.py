import json
import pickle
import urllib.error
import zipfile

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file

from modeling_expclip.checkpoint import convert as convert_module
from modeling_expclip.checkpoint.convert import RELEASED, Released, convert, convert_released
from modeling_expclip.checkpoint.head import load_head
from modeling_expclip.cli.main import main
from tests.conftest import write_clip, write_head
from tests.sync import CODE

FILES = {
    "config.json",
    "model.safetensors",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "golden.safetensors",
    "README.md",
    *CODE,
}


def test_folder_is_complete(checkpoint):
    assert {path.name for path in checkpoint.iterdir()} == FILES
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["model_type"] == "expclip" and config["alignment_dim"] == 48 and config["dtype"] == "float32"
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForZeroShotImageClassification"}
    assert list(config["custom_pipelines"]) == ["facial-expression-recognition"]
    image_processor = json.loads((checkpoint / "processor_config.json").read_text())["image_processor"]
    assert image_processor["size"] == {"height": 32, "width": 32}
    assert (image_processor["resample"], image_processor["do_normalize"], image_processor["do_center_crop"]) == (
        2,
        False,
        False,
    )
    card = ModelCard.load(checkpoint / "README.md")
    assert card.data.pipeline_tag == "zero-shot-image-classification"
    assert "2024/1689" in card.text and "apparent" in card.text


def test_half_precision_sources_become_float32(tmp_path):
    write_clip(tmp_path / "clip")
    from transformers import CLIPModel

    CLIPModel.from_pretrained(tmp_path / "clip", dtype=torch.float16).save_pretrained(tmp_path / "clip")
    torch.save({"mlp.weight": torch.randn(8, 24).half()}, tmp_path / "head.pth")
    convert(str(tmp_path / "clip"), tmp_path / "head.pth", tmp_path / "out")
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.float32}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["text_config"]["dtype"] == "float32"


class Trap:
    def __reduce__(self):
        return (open, ("trap was sprung", "w"))


def bad_heads(folder):
    weight = torch.randn(48, 24)
    good = write_head(folder / "good.pth").read_bytes()
    nan = weight.clone()
    nan[3, 4] = float("nan")
    torch.save({"mlp.weight": torch.randn(48, 32)}, folder / "width.pth")
    (folder / "cut.pth").write_bytes(good[: len(good) // 2])
    (folder / "start.pth").write_bytes(good[:3])
    (folder / "empty.pth").write_bytes(b"")
    (folder / "text.pth").write_text("not a head")
    (folder / "code.pth").write_bytes(pickle.dumps({"mlp.weight": Trap()}))
    torch.save({"mlp.weight": Trap()}, folder / "code-in-zip.pth")
    torch.save({"fc.weight": weight}, folder / "key.pth")
    torch.save(weight, folder / "tensor.pth")
    torch.save({"mlp.weight": weight[0]}, folder / "vector.pth")
    torch.save({"mlp.weight": weight.long()}, folder / "integers.pth")
    torch.save({"mlp.weight": nan}, folder / "nan.pth")
    torch.save({"mlp.weight": "a string"}, folder / "string.pth")
    torch.save({"mlp.weight": torch.zeros(48, 24)}, folder / "zeros.pth")
    torch.save({"mlp.weight": weight.to_sparse()}, folder / "sparse.pth")
    one = torch.ones(1)
    torch.save({"mlp.weight": one.expand(10**6, 10**6)}, folder / "stride-0.pth")
    torch.save({"mlp.weight": weight.flatten()[:100].clone().as_strided((48, 24), (1, 1))}, folder / "overlapping.pth")
    torch.save({"mlp.weight": torch.empty(10**6, 10**6, device="meta")}, folder / "meta.pth")
    torch.save({"mlp.weight": torch.nested.nested_tensor([weight, weight[:3]])}, folder / "nested.pth")
    torch.save({"mlp.weight": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)}, folder / "quantised.pth")
    torch.save({"mlp.weight": weight, "other": [[one.half().expand(10**6, 10**6)]]}, folder / "other.pth")
    with zipfile.ZipFile(folder / "good.pth") as stored, zipfile.ZipFile(folder / "packed.pth", "w") as packed:
        for entry in stored.infolist():
            content = stored.read(entry) if "/data/" not in entry.filename else bytes(48 * 24 * 4)
            packed.writestr(entry.filename, content, zipfile.ZIP_DEFLATED)
    torch.save({"mlp.weight": weight}, folder / "old.pth", _use_new_zipfile_serialization=False)
    old = (folder / "old.pth").read_bytes()
    for length in (28, 49, 77, 300, len(old) - 9):
        (folder / f"old-cut-{length}.pth").write_bytes(old[:length])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("width", "expected a head of shape (H, 24)"),
        ("cut", "cut off"),
        ("start", "refused"),
        ("empty", "cut off: EOFError"),
        ("text", "refused"),
        ("code", "refused"),
        ("code-in-zip", "refused"),
        ("key", "found: fc.weight"),
        ("tensor", "must hold one tensor"),
        ("vector", "must be a matrix"),
        ("integers", "must be a matrix of floats"),
        ("nan", "not finite"),
        ("string", "must be a matrix"),
        ("zeros", "only zeros"),
        ("sparse", "no plain array of numbers"),
        ("stride-0", "is 4,000,000,000,000 bytes, but the file holds 4 for it"),
        ("overlapping", "is 4,608 bytes, but the file holds 400 for it"),
        ("meta", "no plain array of numbers"),
        ("nested", "no plain array of numbers"),
        ("quantised", "no plain array of numbers"),
        ("other", "is 2,000,000,000,000 bytes, but the file holds 2 for it"),
        ("packed", "unpacks to"),
        ("old-cut-28", "old-cut-28.pth"),
        ("old-cut-49", "old-cut-49.pth"),
        ("old-cut-77", "old-cut-77.pth"),
        ("old-cut-300", "old-cut-300.pth"),
        ("missing", "no head file"),
    ],
)
def test_bad_heads_give_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, clip_folder, name, message):
    monkeypatch.chdir(tmp_path)
    bad_heads(tmp_path)
    output = tmp_path / "work" / "out"
    code = main(
        ["convert", "--clip", str(clip_folder), "--head", str(tmp_path / f"{name}.pth"), "--output", str(output)]
    )
    error = capsys.readouterr().err.strip()
    assert code == 2
    assert (message in error and f"{name}.pth" in error) or "expected a head" in error
    assert len(error.splitlines()) == 1
    assert not list((tmp_path / "work").glob("*")) and not (tmp_path / "trap was sprung").exists()


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ("nowhere/at/all", "no folder 'nowhere/at/all'"),
        ("./gone", "no folder './gone'"),
        ("BLIP", "'blip'"),
    ],
)
def test_bad_clips(tmp_path, capsys, head_file, clip, message):
    if clip == "BLIP":
        (tmp_path / "blip").mkdir()
        (tmp_path / "blip" / "config.json").write_text('{"model_type": "blip"}')
        clip = str(tmp_path / "blip")
    assert main(["convert", "--clip", clip, "--head", str(head_file), "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_clip_with_missing_weights_is_refused(tmp_path, head_file):
    from safetensors.torch import save_file

    weights = write_clip(tmp_path / "clip") / "model.safetensors"
    state = load_file(weights)
    del state["visual_projection.weight"]
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"do not fit its config.*visual_projection\.weight"):
        convert(str(tmp_path / "clip"), head_file, tmp_path / "out")


def test_existing_output_is_kept(tmp_path, clip_folder, head_file):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        convert(str(clip_folder), head_file, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (".", "is the folder this runs in"),
        ("../source", "is, contains or lies in"),
        ("../source/new", "is, contains or lies in"),
        ("../link/new", "is, contains or lies in"),
        ("../source/..", "is, contains or lies in"),
        ("../file/new", "file is a file, not a folder"),
        ("../full", "full is there already; add --overwrite to replace it"),
        ("../link-to-full", "is there already; add --overwrite to replace it"),
        ("a\0b", "null byte"),
    ],
)
def test_outputs_are_judged_before_any_work(tmp_path, monkeypatch, capsys, clip_folder, head_file, output, message):
    for name in ("here", "source", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "full" / "mine").write_text("")
    (tmp_path / "link").symlink_to("source")
    (tmp_path / "link-to-full").symlink_to("full")
    monkeypatch.chdir(tmp_path / "here")

    def work(*_, **__):
        raise AssertionError("work was begun")

    for target in (
        "checkpoint.convert.load_head",
        "checkpoint.merge.load_checkpoint",
        "exporters.export.load_checkpoint",
    ):
        monkeypatch.setattr(f"modeling_expclip.{target}", work)
    before = sorted(tmp_path.rglob("*"))
    for command in (
        ["convert", "--head", str(head_file), "--clip"],
        ["merge", "--model"],
        ["export", "--backend", "onnx", "--model"],
    ):
        assert main([*command, "../source", "--output", output]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1, error
        assert sorted(tmp_path.rglob("*")) == before


def test_a_model_given_as_the_folder_above_keeps_its_name(tmp_path, monkeypatch, clip_folder, head_file, checkpoint):
    (tmp_path / "my-clip").symlink_to(clip_folder)
    monkeypatch.chdir(checkpoint)
    assert main(["merge", "--model", ".", "--output", str(tmp_path / "merged")]) == 0
    assert f"# {checkpoint.name}, merged" in (tmp_path / "merged" / "README.md").read_text()
    monkeypatch.chdir(clip_folder)
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    assert main(["convert", "--clip", ".", "--head", str(head_file), "--output", str(tmp_path / "out")]) == 0
    assert f"# Exp-CLIP on {clip_folder.name}" in (tmp_path / "real" / "README.md").read_text()
    assert (tmp_path / "out").is_symlink()


def test_released_models_are_the_ones_of_the_design():
    assert {name: (r.clip, r.blob[:8]) for name, r in RELEASED.items()} == {
        "b32": ("openai/clip-vit-base-patch32", "c7d28eb6"),
        "b16": ("openai/clip-vit-base-patch16", "6f2b877f"),
        "l14": ("openai/clip-vit-large-patch14", "febcf344"),
    }
    assert all(r.head.endswith(f"checkpoint/ExpCLIP_{name.upper()}_model.pth") for name, r in RELEASED.items())


@pytest.mark.parametrize("right", [True, False])
def test_released_head_is_checked_against_its_blob_id(tmp_path, monkeypatch, clip_folder, head_file, right):
    content = head_file.read_bytes()
    import hashlib

    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest() if right else "0" * 40  # noqa: S324
    asked = []

    def download(url, path, *_, **__):
        asked.append(url)
        with open(path, "wb") as file:
            file.write(content)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setitem(RELEASED, "b32", Released(str(clip_folder), RELEASED["b32"].head, blob))
    if right:
        convert_released("b32", tmp_path / "out")
        assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    else:
        with pytest.raises(ValueError, match="not the released head: git blob id"):
            convert_released("b32", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert asked == [RELEASED["b32"].head]


def test_released_without_a_network_says_so(tmp_path, monkeypatch, capsys):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(convert_module.torch.hub, "download_url_to_file", offline)
    assert main(["convert", "--released", "b32", "--output", str(tmp_path / "out")]) == 2
    assert "no network" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_unknown_released_model(tmp_path):
    with pytest.raises(ValueError, match="no released model 'b14'; expected one of b32, b16, l14"):
        convert_released("b14", tmp_path / "out")


def test_head_reader_gives_float32(head_file):
    weight = load_head(head_file)
    assert weight.shape == (48, 24) and weight.dtype == torch.float32


def test_images_are_read_as_the_checkpoint_says(checkpoint):
    from modeling_expclip import ExpCLIPProcessor

    pixels = ExpCLIPProcessor.from_pretrained(checkpoint)(images=Image.new("RGB", (9, 7), "white"), return_tensors="pt")
    assert torch.equal(pixels["pixel_values"], torch.ones(1, 3, 32, 32))
