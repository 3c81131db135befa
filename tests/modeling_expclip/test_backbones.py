"""The head on MetaCLIP 2 and SigLIP: converted, loaded, asked by strangers, trusted, merged or refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import (
    AutoModel,
    CLIPImageProcessorPil,
    MetaClip2Model,
    Siglip2Config,
    Siglip2Model,
    SiglipImageProcessorPil,
    SiglipModel,
    pipeline,
)

from modeling_expclip import (
    LANGUAGES,
    ExpMetaCLIP2Model,
    ExpSigLIPModel,
    FacialExpressionPipeline,
    convert,
    load_checkpoint,
    verify,
)
from modeling_expclip.checkpoint.head import with_head
from modeling_expclip.cli.main import main
from tests.backbones import write_metaclip2, write_siglip2
from tests.conftest import STOCK, picture, write_head
from tests.modeling_expclip.test_remote_code import STRANGER
from tests.sync import CODE

KINDS = {
    "metaclip_2": (write_metaclip2, MetaClip2Model, ExpMetaCLIP2Model, 16, "metaclip2_expclip.py"),
    "siglip": (write_siglip2, SiglipModel, ExpSigLIPModel, 24, "siglip_expclip.py"),
}
LABELS = [words["labels"][0] for words in LANGUAGES.values()]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folders of a backbone and of a checkpoint made of it: ``written("siglip")``."""
    made = {}

    def make(kind):
        if kind not in made:
            write, _, _, width, _ = KINDS[kind]
            folder = tmp_path_factory.mktemp(kind)
            head = write_head(folder / "head.pth", projection_dim=width)
            convert(write(folder / "plain"), head, folder / "expclip")
            made[kind] = folder / "plain", folder / "expclip"
        return made[kind]

    return make


def by_hand(kind, plain, faces, texts):
    """Embeddings (faces, D) and (texts, D) of the real class, called as its documentation says."""
    model = KINDS[kind][1].from_pretrained(plain).eval()
    images = (SiglipImageProcessorPil if kind == "siglip" else CLIPImageProcessorPil).from_pretrained(plain)
    pixels = images(faces, return_tensors="pt")["pixel_values"]
    tokenizer = json.loads((plain / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    if kind == "siglip":
        ids = [[vocabulary.get(letter, 3) for letter in text.lower().replace(" ", "▁")] for text in texts]
        rows = torch.tensor([row + [1] + [0] * (63 - len(row)) for row in ids])
    else:
        numbers = {piece: i for i, (piece, _) in enumerate(vocabulary)}
        ids = [[0, *(numbers.get(letter, 3) for letter in "▁" + text.replace(" ", "▁")), 2] for text in texts]
        rows = torch.tensor([row + [1] * (77 - len(row)) for row in ids])
    with torch.no_grad():
        return model, model.get_image_features(pixels).pooler_output, model.get_text_features(rows).pooler_output


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_the_backbone_then_the_head(kind, written):
    plain, folder = written(kind)
    faces, texts = [picture(1), picture(2)], ["a Face", "eine Freude", "幸福"]
    model, image, text = by_hand(kind, plain, faces, texts)
    ours, processor = load_checkpoint(folder)
    assert type(ours) is KINDS[kind][2]
    inputs = processor(images=faces, text=texts, return_tensors="pt")
    with torch.no_grad():
        output = ours(**inputs)
        video = ours.get_video_features(inputs["pixel_values"][None]).pooler_output
    weight = ours.projection_head.weight
    image, text = image @ weight.T, text @ weight.T
    cosines = torch.nn.functional.cosine_similarity(image[:, None], text[None], dim=-1)
    bias = model.logit_bias if kind == "siglip" else 0
    torch.testing.assert_close(output.logits_per_image, model.logit_scale.exp() * cosines + bias, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.logits_per_text, output.logits_per_image.T)
    torch.testing.assert_close(output.image_embeds.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(video[0], image.mean(0), atol=1e-5, rtol=1e-4)
    assert ours.freeze_clip().projection_head.weight.requires_grad
    assert [name for name, weight in ours.named_parameters() if weight.requires_grad] == ["projection_head.weight"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_that_keeps_angles_gives_the_backbones_own_logits(kind, written):
    plain, folder = written(kind)
    _, processor = load_checkpoint(folder)
    model = KINDS[kind][1].from_pretrained(plain).eval()
    width = KINDS[kind][3]
    ours = with_head(model, torch.linalg.qr(torch.randn(40, width)).Q)
    inputs = processor(images=[picture(3)], text=["fear", "joy"], padding="max_length", return_tensors="pt")
    inputs.data.pop("attention_mask", None)  # SigLIP's own is called without
    with torch.no_grad():
        expected, got = model(**inputs).logits_per_image, ours(**inputs).logits_per_image
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_folders_carry_the_code_they_need_and_no_other_backbones(kind, written, checkpoint):
    _, folder = written(kind)
    own = KINDS[kind][-1]
    assert {path.name for path in folder.glob("*.py")} == {*CODE, own}
    assert {path.name for path in checkpoint.glob("*.py")} == CODE
    named = json.loads((folder / "config.json").read_text())["auto_map"]
    assert {reference.partition(".")[0] + ".py" for reference in named.values()} == {own}
    for file in checkpoint.glob("*.py"):  # of a CLIP: an older transformers need not have the others' classes
        assert "MetaClip2" not in file.read_text() and "Siglip" not in file.read_text()
    assert verify(folder)["logits_per_image"] < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_strangers_session(kind, written, tmp_path):
    _, folder = written(kind)
    script = tmp_path / "stranger.py"
    script.write_text(STRANGER.replace('"ExpCLIPModel"', f'"{KINDS[kind][2].__name__}"'))
    picture().save(tmp_path / "face.png")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    command = [sys.executable, str(script), str(folder), str(tmp_path / "face.png"), str(tmp_path / "saved")]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and "everything worked" in run.stdout, run.stderr[-3000:]


@pytest.mark.parametrize("kind", KINDS)
def test_the_library_opens_it_without_trust(kind, written):
    _, folder = written(kind)
    recognize = pipeline("facial-expression-recognition", model=str(folder))
    assert type(recognize) is FacialExpressionPipeline and type(recognize.model) is KINDS[kind][2]
    answer = recognize(picture(5), candidate_labels=LABELS, hypothesis_template="{}")
    assert {entry["label"] for entry in answer} == set(LABELS)
    assert sum(entry["score"] for entry in answer) == pytest.approx(1, abs=1e-5)
    stock = pipeline("zero-shot-image-classification", model=str(folder))
    other = stock(picture(5), candidate_labels=LABELS, hypothesis_template="{}")
    assert [e["score"] for e in other] == pytest.approx([e["score"] for e in answer], abs=max(STOCK, 1e-4))


@pytest.mark.parametrize("kind", KINDS)
def test_long_texts_are_cut_and_case_counts_where_it_did_in_training(kind, written):
    _, folder = written(kind)
    model, processor = load_checkpoint(folder)
    long = processor.tokenizer.backend_tokenizer
    long.no_truncation()
    ids = torch.tensor([long.encode("a face like rain " * 9).ids])
    assert ids.shape[1] > 77
    with torch.no_grad():
        cut = model.get_text_features(ids).pooler_output
        limit = model.config.text_config.max_position_embeddings
        ids = torch.cat([ids[:, : limit - 1], ids[:, -1:]], 1)
        torch.testing.assert_close(cut, model.get_text_features(ids).pooler_output, atol=1e-5, rtol=1e-4)
        upper, lower = (
            model.get_text_features(processor(text=word, return_tensors="pt")["input_ids"]).pooler_output
            for word in ("JOY", "joy")
        )
    assert torch.equal(upper, lower) == (kind == "siglip")


def test_metaclip2_takes_up_the_head(written, tmp_path, capsys):
    _, folder = written("metaclip_2")
    merged = tmp_path / "merged"
    assert main(["merge", "--model", str(folder), "--output", str(merged)]) == 0
    assert type(AutoModel.from_pretrained(merged)) is MetaClip2Model
    assert not list(merged.glob("*.py")) and "trust_remote_code" not in (merged / "README.md").read_text()
    assert not [path.name for path in merged.glob("*.json") if "auto_map" in path.read_text()]
    images, labels = [picture(seed) for seed in range(3)], LABELS
    before, after = (pipeline("zero-shot-image-classification", model=str(each)) for each in (folder, merged))
    for one, other in zip(before(images, candidate_labels=labels), after(images, candidate_labels=labels)):
        assert [entry["label"] for entry in one] == [entry["label"] for entry in other]
        assert [entry["score"] for entry in one] == pytest.approx([entry["score"] for entry in other], abs=1e-5)
    assert main(["verify", "--model", str(merged)]) == 0
    assert main(["merge", "--model", str(folder), "--open-clip", "--output", str(tmp_path / "open")]) == 2
    assert "a CLIP only" in capsys.readouterr().err


def test_siglip_does_not_and_says_what_to_do(written, tmp_path, capsys):
    _, folder = written("siglip")
    assert main(["merge", "--model", str(folder), "--output", str(tmp_path / "merged")]) == 2
    assert "expclip export --backend onnx" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


def test_siglips_graphs_need_no_code_of_ours(written, tmp_path):
    """ONNX Runtime alone, with token ids and pixels, gives the logits of the checkpoint up to the scale and the bias."""
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime (the extra export)")
    pytest.importorskip("onnxscript", reason="needs onnxscript (the extra export)")
    _, folder = written("siglip")
    exported = tmp_path / "exported"
    assert main(["export", "--model", str(folder), "--backend", "onnx", "--output", str(exported)]) == 0
    assert {path.name for path in (exported / "onnx").iterdir()} == {"vision_model.onnx", "text_model.onnx"}
    model, processor = load_checkpoint(exported)
    assert type(model) is ExpSigLIPModel
    assert "trust_remote_code=True" in (exported / "README.md").read_text()
    texts = ["joy", "a face like rain", *LABELS]
    inputs = processor(images=[picture(1), picture(2)], text=texts, padding="max_length", return_tensors="pt")
    sides = []
    for name, given in (("vision_model", "pixel_values"), ("text_model", "input_ids")):
        session = runtime.InferenceSession(exported / "onnx" / f"{name}.onnx", providers=["CPUExecutionProvider"])
        sides.append(torch.from_numpy(session.run(None, {given: inputs[given].numpy()})[0]))
    with torch.no_grad():
        expected = model(**inputs).logits_per_image
    cosines = torch.nn.functional.cosine_similarity(sides[0][:, None], sides[1][None], dim=-1)
    torch.testing.assert_close(model.logit_scale.exp() * cosines + model.logit_bias, expected, atol=1e-3, rtol=0)
    assert main(["verify", "--model", str(exported)]) == 0
    picture(1).save(tmp_path / "face.png")
    for backend in ("torch", "onnx"):
        arguments = ["classify", str(tmp_path / "face.png"), "--model", str(exported), "--backend", backend]
        assert main([*arguments, "--output", str(tmp_path / f"{backend}.json")]) == 0
    one, other = (json.loads((tmp_path / f"{name}.json").read_text())[0]["scores"] for name in ("torch", "onnx"))
    assert list(one.values()) == pytest.approx(list(other.values()), abs=1e-4)


def test_what_cannot_carry_a_head_is_refused(tmp_path, written, capsys):
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Siglip2Config(text_config=dict(vision), vision_config={**vision, "patch_size": 7, "num_patches": 16})
    Siglip2Model(config).save_pretrained(tmp_path / "naflex")
    head = write_head(tmp_path / "head.pth", projection_dim=32)
    for name in ("naflex",):
        assert (
            main(["convert", "--clip", str(tmp_path / name), "--head", str(head), "--output", str(tmp_path / "o")]) == 2
        )
        assert "type 'siglip2'" in capsys.readouterr().err
    plain, _ = written("siglip")
    with pytest.raises(ValueError, match="a SigLIP without a head"):
        load_checkpoint(plain)
    (plain / "tokenizer.json").rename(plain / "kept.json")
    try:
        arguments = ["convert", "--clip", str(plain), "--head", str(head), "--output", str(tmp_path / "out")]
        assert main(arguments) == 2 and "has no tokenizer.json" in capsys.readouterr().err
    finally:
        (plain / "kept.json").rename(plain / "tokenizer.json")
    model = ExpSigLIPModel.from_pretrained(written("siglip")[1])
    with pytest.raises(ValueError, match="no return_loss"):
        model(input_ids=torch.ones(1, 64, dtype=torch.long), pixel_values=torch.rand(1, 3, 32, 32), return_loss=True)
