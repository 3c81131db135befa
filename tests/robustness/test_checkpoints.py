"""A checkpoint that somebody or something changed: it is refused in one line, or it is what it was; never another model."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from modeling_expclip.checkpoint.load import load_checkpoint, model_type_of
from modeling_expclip.cli.main import main
from modeling_expclip.exporters.runtimes import exported_backend, load_image_tower
from tests.conftest import picture

FILES = ("config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
ABSURD = (None, True, -1, 0, 3, 10**9, 10**30, 1.5, "", "banana", [], [1, 2], {}, {"a": {}}, float("nan"))


@pytest.fixture
def folder(checkpoint, tmp_path) -> Path:
    copied = tmp_path / "copy"
    copied.mkdir()
    restore(checkpoint, copied)
    (tmp_path / "face.png").write_bytes(b"")
    picture().save(tmp_path / "face.png")
    return copied


def restore(checkpoint: Path, folder: Path) -> None:
    """Makes a folder the checkpoint again; hypothesis uses one for all its examples."""
    for path in folder.iterdir():
        path.unlink()
    for path in checkpoint.iterdir():
        if path.suffix != ".py":
            shutil.copyfile(path, folder / path.name)


@pytest.fixture(scope="session")
def right(checkpoint) -> torch.Tensor:
    return answers(*load_checkpoint(checkpoint))


@torch.inference_mode()
def answers(model, processor) -> torch.Tensor:
    texts = ["anger", "a look of FEAR.", "\U0001f600"]
    inputs = processor(images=[picture(), picture(3)], text=texts, padding=True, truncation=True, return_tensors="pt")
    return model(**inputs).logits_per_image


def outcome(folder: Path, right: torch.Tensor, capsys) -> str:
    """``right`` where the model answers as it did, else how it is found out: ``refused`` or ``verify``. The command agrees."""
    try:
        model, processor = load_checkpoint(folder)
        same = torch.allclose(answers(model, processor), right, atol=1e-3)
    except (ValueError, OSError) as error:
        assert str(folder) in str(error) and len(str(error)) < 2000
        capsys.readouterr()
        for command in (["verify"], ["classify", str(folder.parent / "face.png")]):
            code, err = main([*command, "--model", str(folder)]), capsys.readouterr().err
            assert code == 2 or (code == 1 and command == ["verify"])
            lines = [line for line in err.splitlines() if line.startswith("expclip ")]
            assert len(lines) == 1 and str(folder) in lines[0] and "Traceback" not in err
        return "refused"
    if same:
        return "right"
    assert main(["verify", "--model", str(folder)]) == 1
    assert str(folder) in capsys.readouterr().err
    return "verify"


def edited(path: Path, where: tuple[str, ...], value: object = ...) -> None:
    """Sets a value in a JSON file, or deletes it."""
    config = json.loads(path.read_text())
    inner = config
    for key in where[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    path.write_text(json.dumps(config))


def keys_of(value: object, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict) or len(value) > 100:  # a vocabulary is one value
        return []
    return [found for key, inner in value.items() for found in [(*before, key), *keys_of(inner, (*before, key))]]


def places(checkpoint: Path) -> list[tuple[str, tuple[str, ...]]]:
    names = [name for name in FILES if name.endswith(".json")]
    return [(name, where) for name in names for where in keys_of(json.loads((checkpoint / name).read_text()))]


@settings(max_examples=40)
@given(st.data())
def test_any_value_of_any_file(checkpoint, folder, right, capsys, data):
    restore(checkpoint, folder)
    name, where = data.draw(st.sampled_from(places(checkpoint)))
    value = data.draw(st.sampled_from((..., *ABSURD)))
    edited(folder / name, where, value)
    assert outcome(folder, right, capsys)


def test_what_transformers_lists_is_cut(folder, right, capsys):
    edited(folder / "processor_config.json", ("image_processor", "image_processor_type"))
    assert outcome(folder, right, capsys) == "refused"


# What no weight's shape shows must not be made up when it is missing: most defaults are another model's.
@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("config.json", ("text_config",)),
        ("config.json", ("vision_config",)),
        ("config.json", ("vision_config", "num_attention_heads")),
        ("config.json", ("text_config", "num_attention_heads")),
        ("config.json", ("text_config", "hidden_act")),
        ("config.json", ("vision_config", "layer_norm_eps")),
        ("config.json", ("text_config", "eos_token_id")),
        ("config.json", ("alignment_dim",)),
        ("config.json", ("model_type",)),
        ("processor_config.json", ("image_processor",)),
        ("processor_config.json", ("image_processor", "do_normalize")),
        ("processor_config.json", ("image_processor", "do_center_crop")),
        ("processor_config.json", ("image_processor", "size")),
        ("processor_config.json", ("image_processor", "resample")),
        ("tokenizer.json", ("model", "vocab")),
    ],
)
def test_defaults_do_not_stand_in(folder, right, capsys, name, where):
    edited(folder / name, where)
    assert outcome(folder, right, capsys) == "refused"


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("text_config", "hidden_size"), 10**9, "numbers, but the weights are"),
        (("text_config", "num_hidden_layers"), 10**9, "layers cannot be made of"),
        (("vision_config", "num_hidden_layers"), 10**18, "layers cannot be made of"),
        (("text_config", "vocab_size"), 10**15, "the config of"),
        (("text_config", "max_position_embeddings"), 10**12, "numbers, but the weights are"),
        (("vision_config", "image_size"), 10**6, "numbers, but the weights are"),
        (("alignment_dim",), 10**12, "numbers, but the weights are"),
        (("alignment_dim",), 49, r"do not fit its config: .*projection_head\.weight"),
        (("alignment_dim",), 0, "alignment_dim must be at least 1"),
        (("alignment_dim",), "48", "alignment_dim"),
        (("vision_config", "num_attention_heads"), 0, "cannot be instantiated"),
        (("vision_config", "hidden_act"), "tanhh", "cannot be instantiated: .*tanhh"),
        (("text_config", "num_hidden_layers"), 1, "do not fit its config: .*layers.1"),
        (("model_type",), "clip", "do not fit its config: .*projection_head"),
        (("model_type",), "siglip", "is a SigLIP without a head"),
        (("model_type",), "siglip2", "holds a model of type 'siglip2'; expected one of expclip, .*, clip, .*NaFlex"),
        (("model_type",), ["clip"], "no JSON object with a model_type"),
    ],
)
def test_absurd_configs(folder, right, capsys, where, value, message):
    edited(folder / "config.json", where, value)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(folder)
    assert outcome(folder, right, capsys) == "refused"


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("size",), {"height": 10**6, "width": 10**6}, "images of 1000000 pixels a side"),
        (("size",), {"height": 40, "width": 32}, "makes images of 40 x 32, the model reads 32 x 32"),
        (("size",), {"shortest_edge": 32}, "makes images of 32 x 64"),
        (("image_std",), [0, 0, 0], "does not work|finite pixels"),
        (("image_mean",), [0.5] * 7, "does not work"),
        (("resample",), 99, "cannot be read|does not work"),
        (("rescale_factor",), "x", "cannot be read|does not work"),
    ],
)
def test_absurd_processors(folder, right, capsys, where, value, message):
    edited(folder / "processor_config.json", ("image_processor", "do_normalize"), True)
    edited(folder / "processor_config.json", ("image_processor", *where), value)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(folder)
    assert outcome(folder, right, capsys) == "refused"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b"[]", b"null", b"7", b"{" * 40, b"[" * 200_000, b"\xff\xfe", b'{"a": 1}']
)
def test_files_that_are_something_else(folder, right, capsys, name, content):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    found = outcome(folder, right, capsys)
    # The tokenizer's own limits are in tokenizer.json as well.
    assert found == "refused" or name == "tokenizer_config.json"


def rewritten(path: Path, change) -> None:
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


def with_nan(state):
    state["visual_projection.weight"][3, 4] = float("nan")


def with_infinity(state):
    state["logit_scale"].fill_(200.0)


WEIGHTS = {
    "missing": (lambda state: state.pop("text_projection.weight"), r"do not fit its config: .*text_projection\.weight"),
    "many missing": (
        lambda state: [state.pop(name) for name in list(state)[5:]],
        "do not fit its config|the config of",
    ),
    "all missing": (lambda state: state.clear(), "the config of"),
    "one more": (lambda state: state.update(more=torch.ones(2)), "do not fit its config: .*more"),
    "another name": (lambda state: state.update(W=state.pop("projection_head.weight")), "projection_head"),
    "transposed": (
        lambda s: s.update({"text_projection.weight": s["text_projection.weight"].T.contiguous()}),
        "text_proj",
    ),
    "flat": (lambda s: s.update({"text_projection.weight": s["text_projection.weight"].flatten()}), "text_proj"),
    "integers": (lambda s: s.update({"text_projection.weight": s["text_projection.weight"].long()}), r"weight \(I64\)"),
    "bytes": (lambda s: s.update({"logit_scale": s["logit_scale"].to(torch.uint8)}), r"logit_scale \(U8\)"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_changed_weights(folder, right, capsys, name):
    change, message = WEIGHTS[name]
    rewritten(folder / "model.safetensors", change)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(folder)
    assert outcome(folder, right, capsys) == "refused"


@pytest.mark.parametrize("change", [with_nan, with_infinity])
@pytest.mark.parametrize("ending", [".csv", ".json"])
def test_what_is_not_finite_is_no_answer(folder, tmp_path, capsys, change, ending):
    rewritten(folder / "model.safetensors", change)
    output = tmp_path / f"out{ending}"
    code = main(["classify", str(tmp_path / "face.png"), "--model", str(folder), "--output", str(output)])
    assert code == 2 and not output.exists()
    assert "answers with numbers that are not finite" in capsys.readouterr().err
    assert main(["verify", "--model", str(folder)]) == 1


def test_half_precision_is_the_same_model(folder, right, capsys):
    rewritten(folder / "model.safetensors", lambda state: state.update({k: v.double() for k, v in state.items()}))
    assert outcome(folder, right, capsys) == "right"
    assert main(["verify", "--model", str(folder)]) == 1, "the file is another one"


@given(st.data())
@settings(max_examples=25)
def test_damaged_weights(checkpoint, folder, right, capsys, data):
    """A length, a header or values changed, or the end cut off."""
    restore(checkpoint, folder)
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    what = data.draw(st.sampled_from(["length", "header", "cut", "grown"]))
    if what == "length":
        content[:8] = struct.pack(
            "<Q", data.draw(st.sampled_from([0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1]))
        )
    elif what == "header":
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(8, 7 + length))] = data.draw(st.integers(0, 255))
    elif what == "cut":
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content += data.draw(st.binary(min_size=1, max_size=9))
    path.write_bytes(content)
    assert outcome(folder, right, capsys) in ("refused", "verify", "right")


GOLDEN = {
    "prompts": ("[", "7", "[]", "[7]", '{"a": 1}', "[" * 100_000),
    "sha256": ("[", "7", "[]", "{}", '{"config.json": 5}'),
    "logit_tolerance": ("", "x", "nan", "-1"),
    "pixel_tolerance": ("", "x", "nan", "-1"),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in GOLDEN.items() for value in values])
def test_damaged_golden_metadata(folder, capsys, key, value):
    path = folder / "golden.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, metadata=metadata | {key: value})
    assert main(["verify", "--model", str(folder)]) == 1
    err = capsys.readouterr().err
    assert str(folder) in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["images", "pixel_values", "logits_per_image"])
@pytest.mark.parametrize(
    "value", [torch.zeros(0), torch.ones(3, 4), torch.ones(2, 2, 2, 2, dtype=torch.int64), torch.ones(())]
)
def test_damaged_golden_tensors(folder, capsys, name, value):
    path = folder / "golden.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(path) | {name: value}, path, metadata=metadata)
    assert main(["verify", "--model", str(folder)]) == 1
    assert str(folder) in capsys.readouterr().err


DESCRIPTION = {"backend": "onnx", "precision": "fp32", "files": {"image_tower.onnx": "0" * 64}, "versions": {}}


@settings(max_examples=100)
@given(
    st.sampled_from([("backend",), ("precision",), ("files",), ("files", "image_tower.onnx")]),
    st.sampled_from((..., *ABSURD)),
)
@example(("files",), ["image_tower.onnx"])
@example(("files",), {"image_tower.onnx": "0" * 64, "../config.json": ""})
def test_damaged_descriptions_of_an_export(checkpoint, folder, where, value):
    path = folder / "export.json"
    path.write_text(json.dumps(DESCRIPTION))
    (folder / "image_tower.onnx").write_bytes(b"no tower")
    edited(path, where, value)
    with pytest.raises(ValueError, match=r"export\.json|image_tower\.onnx is damaged|was exported for"):
        load_image_tower(str(folder), "onnx")
    try:
        assert exported_backend(str(folder)) in (None, "onnx")  # null: written for others to read
    except ValueError as error:
        assert "export.json is damaged" in str(error)


def test_verify_looks_at_the_exported_tower(folder, capsys):
    (folder / "export.json").write_text(json.dumps(DESCRIPTION))
    (folder / "image_tower.onnx").write_bytes(b"no tower")
    assert main(["verify", "--model", str(folder)]) == 1
    assert "image_tower.onnx is damaged: it is not the file that was exported" in capsys.readouterr().err


def test_a_folder_without_a_config(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match=r"has no config\.json: it is no checkpoint"):
        model_type_of(str(tmp_path))
    (tmp_path / "face.png").write_bytes(b"")
    for command in (["verify"], ["classify", str(tmp_path / "face.png")], ["merge", "--output", str(tmp_path / "out")]):
        (tmp_path / "model").mkdir(exist_ok=True)
        assert main([*command, "--model", str(tmp_path / "model")]) == 2
        assert "has no config.json" in capsys.readouterr().err


def test_what_is_written_does_not_say_where_it_was_read(checkpoint, tmp_path):
    merged = tmp_path / "merged"
    assert main(["merge", "--model", str(checkpoint), "--output", str(merged)]) == 0
    for written in (checkpoint, merged):
        assert not {"is_local", "local_files_only"} & {*json.loads((written / "tokenizer_config.json").read_text())}
