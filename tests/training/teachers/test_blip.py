"""BLIP-2 and InstructBLIP with T5: the full model's encoder output, without its decoder."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import BlipImageProcessorPil, T5ForConditionalGeneration

from tests.conftest import picture
from tests.training.small_models import bert_tokenizer
from tests.training.teachers.models import (
    ASK,
    IMAGE_TOKEN,
    OTHER,
    QUERIES,
    SIDE,
    STOCK,
    VISION_KINDS,
    WIDTH,
    t5_tokenizer,
    teacher,
)
from training.teachers.t5_encoders import Blip2Encoder, InstructBlipEncoder


def stock_hidden(kind, folder, faces, instruction):
    """The encoder's output in transformers' own full model, asked in its way: placeholder tokens in the ids."""
    model = STOCK[kind][1].from_pretrained(folder, dtype=torch.float32).eval()
    pixels = BlipImageProcessorPil.from_pretrained(folder)(faces, return_tensors="pt")["pixel_values"]
    ids = [IMAGE_TOKEN] * QUERIES + t5_tokenizer()(instruction).input_ids
    assert ids[-1] == t5_tokenizer().eos_token_id
    inputs = {"pixel_values": pixels, "input_ids": torch.tensor([ids] * len(faces))}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["decoder_input_ids"] = torch.zeros(len(faces), 1, dtype=torch.long)
    if kind == "instructblip":
        question = bert_tokenizer()([instruction] * len(faces), return_tensors="pt")
        inputs |= {"qformer_input_ids": question.input_ids, "qformer_attention_mask": question.attention_mask}
    with torch.no_grad():
        return model(**inputs).language_model_outputs.encoder_last_hidden_state


@VISION_KINDS
def test_blip_equals_transformers_own_encoder(kind, blips, faces):
    hidden = stock_hidden(kind, blips[kind], faces, ASK)
    vectors = teacher(kind, blips[kind])(faces, ASK)
    assert vectors.shape == (3, WIDTH) and vectors.dtype == torch.float32 and vectors.device.type == "cpu"
    torch.testing.assert_close(vectors, hidden.mean(1), atol=1e-5, rtol=0)
    image_only = teacher(kind, blips[kind], pooling="image")(faces, ASK)
    torch.testing.assert_close(image_only, hidden[:, :QUERIES].mean(1), atol=1e-5, rtol=0)
    assert (vectors - image_only).abs().max() > 0.01
    assert (vectors[0] - vectors[1]).abs().max() > 0.01
    assert (vectors - teacher(kind, blips[kind])(faces, OTHER)).abs().max() > 0.01


def test_t5s_decoder_is_never_built(blips, monkeypatch):
    monkeypatch.setattr(T5ForConditionalGeneration, "__init__", lambda *_: pytest.fail("the whole T5 was built"))
    model = teacher("blip2", blips["blip2"]).model
    names = [name for name, _ in model.named_parameters()]
    assert not [name for name in names if "decoder" in name or "lm_head" in name]
    assert sum("language_model" in name for name in names) == 2 * 9 + 3  # 9 a block, embeddings, position bias, norm
    assert model.language_model.shared.weight is model.language_model.encoder.embed_tokens.weight
    assert not model.training


@VISION_KINDS
def test_checkpoints_that_store_the_tied_embeddings_more_than_once(kind, tmp_path, blips, faces):
    """As on the Hub: T5's table under three names, and a head of its own."""
    folder = shutil.copytree(blips[kind], tmp_path / kind)
    state = load_file(folder / "model.safetensors")
    table = state["language_model.shared.weight"]
    for name in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head"):
        state[f"language_model.{name}.weight"] = table.clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(teacher(kind, folder)(faces, ASK), teacher(kind, blips[kind])(faces, ASK))


@pytest.mark.parametrize("fault", ["missing", "shape"])
@pytest.mark.parametrize(
    "name",
    [
        "query_tokens",
        "language_projection.weight",
        "language_model.shared.weight",
        "language_model.encoder.block.1.layer.1.DenseReluDense.wo.weight",
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, blips, name, fault):
    folder = shutil.copytree(blips["blip2"], tmp_path / "blip2")
    state = load_file(folder / "model.safetensors")
    weight = state.pop(name)
    if fault == "shape":
        state[name] = torch.zeros(*weight.shape[:-1], weight.shape[-1] + 1)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"do not fit its config.*{name}"):
        teacher("blip2", folder)


@VISION_KINDS
def test_of_a_model_on_the_hub_only_the_encoders_files_are_fetched(kind, tmp_path, blips, faces, monkeypatch):
    """A Hub of one model whose weights are many files. What it serves is asked for by name, and lands in the Hub's cache."""
    hub, commit = shutil.copytree(blips[kind], tmp_path / "hub"), "0123456789" * 4
    (hub / "model.safetensors").unlink()
    STOCK[kind][1].from_pretrained(blips[kind], dtype=torch.float32).save_pretrained(hub, max_shard_size="8KB")
    weight_map = json.loads((hub / "model.safetensors.index.json").read_text())["weight_map"]
    decoder = {file for name, file in weight_map.items() if ".decoder." in name or ".lm_head." in name}
    rest = {file for name, file in weight_map.items() if not (".decoder." in name or ".lm_head." in name)}
    assert len(decoder - rest) > 3

    cached = tmp_path / "cache" / "models--owner--name"
    snapshot = cached / "snapshots" / commit
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    shutil.copytree(hub, snapshot, ignore=shutil.ignore_patterns("*.safetensors"))
    if kind == "instructblip":  # the Hub has none, and its cache notes that
        nothing = cached / ".no_exist" / commit / "qformer_tokenizer" / "config.json"
        nothing.parent.mkdir(parents=True)
        nothing.touch()
    asked = []

    def serve(source, names, **options):
        assert source == "owner/name" and options["revision"] == commit
        asked.extend(names)
        for name in names:
            shutil.copy(hub / name, snapshot / name)
        return [str(snapshot / name) for name in names]

    monkeypatch.setattr("training.teachers.t5_encoders.cached_files", serve)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    vectors = teacher(kind, "owner/name")(faces, ASK)
    assert set(asked) == rest | {"config.json"}
    assert torch.equal(vectors, teacher(kind, blips[kind])(faces, ASK))
    assert torch.equal(vectors, teacher(kind, hub)(faces, ASK))  # a folder is read where it lies


@VISION_KINDS
def test_only_instructblips_image_tokens_know_the_instruction(kind, blips, faces):
    model = teacher(kind, blips[kind]).model
    queries = []
    handle = model.language_projection.register_forward_hook(lambda _, __, output: queries.append(output))
    asked = teacher(kind, blips[kind])
    asked.model = model
    asked(faces, ASK)
    asked(faces, OTHER)
    handle.remove()
    assert queries[0].shape == (3, QUERIES, WIDTH)
    difference = (queries[0] - queries[1]).abs().max()
    assert difference > 0.01 if kind == "instructblip" else difference == 0


def test_paper_preprocessing_is_squashed_and_not_normalised(blips, faces):
    own, paper = (teacher("blip2", blips["blip2"], preprocessing=name) for name in ("own", "paper"))
    pixels = paper.image_processor(faces, return_tensors="pt")["pixel_values"]
    squashed = [np.asarray(face.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for face in faces]
    expected = torch.from_numpy(np.stack(squashed)).permute(0, 3, 1, 2) / 255  # (B, 3, side, side)
    torch.testing.assert_close(pixels, expected, atol=1e-6, rtol=0)
    assert (own(faces, ASK) - paper(faces, ASK)).abs().max() > 0.01
    seen = []
    paper.model.vision_model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    paper(faces, ASK)
    assert torch.equal(seen[0], pixels)


@VISION_KINDS
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_leaves_what_lavis_leaves_in_float32(kind, dtype, blips, faces):
    half = teacher(kind, blips[kind], dtype=dtype)
    dtypes = {}
    for name, parameter in half.model.named_parameters():
        dtypes.setdefault(name.partition(".")[0], set()).add(parameter.dtype)
    whole = ("qformer", "query_tokens", "language_projection")
    assert all(dtypes.pop(name) == {torch.float32} for name in whole)
    assert dtypes["vision_model"] == {getattr(torch, dtype)} and getattr(torch, dtype) in dtypes["language_model"]

    exact = teacher(kind, blips[kind])(faces, ASK)
    vectors = half(faces, ASK)
    assert vectors.dtype == torch.float32 and not torch.equal(vectors, exact)
    assert torch.cosine_similarity(vectors, exact).min() > 0.99


@VISION_KINDS
def test_float32_between_the_halves_is_nearer_to_float32_throughout(kind, blips, monkeypatch):
    """What `_keep_in_fp32_modules_strict` buys, with the same weights: Q-Former, queries and projection in bfloat16, or not."""
    faces = [picture(seed, (40, 40)) for seed in range(16)]
    exact = teacher(kind, blips[kind])(faces, ASK)
    kept = teacher(kind, blips[kind], dtype="bfloat16")(faces, ASK)
    encoder = {"blip2": Blip2Encoder, "instructblip": InstructBlipEncoder}[kind]
    monkeypatch.setattr(encoder, "_keep_in_fp32_modules_strict", [])
    cast = teacher(kind, blips[kind], dtype="bfloat16")
    assert cast.model.qformer.dtype == torch.bfloat16
    error, error_cast = ((each - exact).pow(2).mean().sqrt().item() for each in (kept, cast(faces, ASK)))
    assert error < 0.95 * error_cast, (
        "root mean square distance; BLIP-2: 0.0085 and 0.0101, InstructBLIP: 0.0045 and 0.0050"
    )


def test_processes_of_torchrun_do_not_share_their_devices(blips, faces, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    model = teacher("blip2", blips["blip2"], device_map="auto").model
    assert not hasattr(model, "hf_device_map")


def test_device_map_gives_the_same(blips, faces):
    vectors = teacher("blip2", blips["blip2"], device_map="cpu")(faces, ASK)
    assert torch.equal(vectors, teacher("blip2", blips["blip2"])(faces, ASK))


def test_a_loss_may_use_the_vectors(blips, faces):
    weight = torch.ones(WIDTH, requires_grad=True)
    (teacher("blip2", blips["blip2"])(faces, ASK) * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("kind", "file", "message"),
    [
        ("blip2", "preprocessor_config.json", "no image processor"),
        ("blip2", "tokenizer.json", "reads 'face' as '<unk>'"),
        ("blip2", "tokenizer_config.json", "does not end a text"),
        ("instructblip", "qformer_tokenizer/tokenizer.json", "qformer_tokenizer that reads 'face' as"),
    ],
)
def test_a_model_without_its_processor_is_refused(tmp_path, blips, kind, file, message):
    folder = shutil.copytree(blips[kind], tmp_path / kind)
    (folder / file).unlink()
    with pytest.raises(ValueError, match=message):
        teacher(kind, folder)


def test_values_that_are_not_finite_name_the_item(blips, faces):
    asked = teacher("blip2", blips["blip2"])

    def spoil(module, inputs, output):
        output[1] = float("nan")

    asked.model.language_projection.register_forward_hook(spoil)
    with pytest.raises(ValueError, match=r"not finite for items \[1\] of 3 of column 'image'"):
        asked(faces, ASK)
