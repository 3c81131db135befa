"""One merged folder, opened by each tool that it is written for, and asked what torch was asked."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, pipeline

from modeling_expclip import MINI, FaceAnalyzer, load_checkpoint, merge, verify
from modeling_expclip.checkpoint.golden import VerificationError
from modeling_expclip.checkpoint.publish import plan
from modeling_expclip.cli.main import main
from modeling_expclip.exporters import agreement
from modeling_expclip.exporters.agreement import compare_tools
from modeling_expclip.exporters.onnx_graphs import GRAPHS, write_graphs
from modeling_expclip.exporters.open_clip_files import open_clip_config, write_open_clip
from tests.conftest import picture, small_clip, small_tokenizer
from tests.modeling_expclip.exporters.node import run_module, transformers_js

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package)

ROOT = Path(__file__).parents[3]
FACES = [ROOT / "space" / "examples" / f"average-{name}.png" for name in ("happiness", "anger", "surprise")]
LABELS, TEMPLATE = ["joyful", "furious", "startled", "bored"], "a {} person"
SUFFIXES = {"fp32": "", "int8": "_quantized"}

CLASSIFY = """
import path from "node:path";
import { env, pipeline } from "@huggingface/transformers";

const [folder, dtype, labels, hypothesis_template, ...images] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = path.dirname(folder);
const options = dtype === "default" ? {} : { dtype };
const classify = await pipeline("zero-shot-image-classification", path.basename(folder), options);
const found = [];
for (const image of images) found.push(await classify(image, JSON.parse(labels), { hypothesis_template }));
console.log(JSON.stringify(found));
"""
TOWERS = """
import path from "node:path";
import {
  AutoProcessor, AutoTokenizer, CLIPTextModelWithProjection, CLIPVisionModelWithProjection, RawImage, env,
} from "@huggingface/transformers";

const [folder, image, ...prompts] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = path.dirname(folder);
const name = path.basename(folder);
const [processor, tokenizer] = [await AutoProcessor.from_pretrained(name), await AutoTokenizer.from_pretrained(name)];
const vision = await CLIPVisionModelWithProjection.from_pretrained(name);
const text = await CLIPTextModelWithProjection.from_pretrained(name);
const { image_embeds } = await vision(await processor(await RawImage.read(image)));
const { text_embeds } = await text(tokenizer(prompts, { padding: true, truncation: true }));
console.log(JSON.stringify([image_embeds.tolist(), text_embeds.tolist()]));
"""


@pytest.fixture(scope="module")
def merged(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("merged") / "expclip-mini-merged"
    options = ["--onnx", "--open-clip", "--output", str(folder)]
    assert main(["merge", "--model", MINI, *options]) == 0
    return folder


@pytest.fixture
def copy(merged, tmp_path) -> Path:
    return shutil.copytree(merged, tmp_path / "copy")


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> list[Path]:
    """The faces as large as the model reads them, so that no tool resizes."""
    folder = tmp_path_factory.mktemp("crops")
    for face in FACES:
        Image.open(face).convert("RGB").resize((48, 48), Image.Resampling.BILINEAR).save(folder / face.name)
    return [folder / face.name for face in FACES]


@pytest.fixture(scope="session")
def node(tmp_path_factory) -> Path:
    kept = ROOT / ".venv"
    return transformers_js(kept if kept.is_dir() else tmp_path_factory.mktemp("npm"))


def in_torch(folder: Path, files: list[Path]) -> list[dict[str, float]]:
    classify = pipeline("zero-shot-image-classification", model=str(folder))
    images = [Image.open(file).convert("RGB") for file in files]
    return by_label(classify(images, candidate_labels=LABELS, hypothesis_template=TEMPLATE))


def by_label(answers: list[list[dict]]) -> list[dict[str, float]]:
    return [{entry["label"]: entry["score"] for entry in answer} for answer in answers]


def prompts() -> list[str]:
    return [TEMPLATE.format(label) for label in LABELS]


def difference(found: list[dict[str, float]], expected: list[dict[str, float]]) -> float:
    return max(abs(one[label] - other[label]) for one, other in zip(found, expected) for label in LABELS)


def test_what_a_merged_folder_holds(merged):
    names = {file.relative_to(merged).as_posix() for file in merged.rglob("*") if file.is_file()}
    assert {name for name in names if "/" in name} == {
        f"onnx/{name}{suffix}.onnx" for name in GRAPHS for suffix in SUFFIXES.values()
    }
    assert {"preprocessor_config.json", "open_clip_config.json", "open_clip_model.safetensors"} < names
    assert json.loads((merged / "config.json").read_text())["transformers.js_config"] == {"dtype": "fp32"}
    for name in GRAPHS:  # what names a place of its making
        assert not re.search(rb"[\w-]+/[\w.-]+\.py|stack_trace", (merged / "onnx" / f"{name}.onnx").read_bytes())
    weights = (merged / "onnx" / "vision_model.onnx").stat().st_size
    assert (merged / "onnx" / "vision_model_quantized.onnx").stat().st_size < 0.4 * weights


def test_verify_asks_each_tool_that_is_installed(merged, capsys):
    tools = {"ONNX Runtime": "onnxruntime", "open_clip": "open_clip", "sentence-transformers": "sentence_transformers"}
    installed = {tool for tool, package in tools.items() if importlib.util.find_spec(package)}
    differences = verify(merged)
    assert {*differences} == {"pixel_values", "logits_per_image"} | installed
    assert max(differences.values()) < 1e-3
    assert main(["verify", "--model", str(merged)]) == 0
    printed = capsys.readouterr().out
    assert [tool for tool in installed if f"{tool}: largest difference" not in printed] == []
    named = re.findall("not asked, for not installed or too old: (.+)", printed)
    assert named == ([", ".join(tool for tool in tools if tool not in installed)] if len(installed) < 3 else [])


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/text_model_quantized.onnx"])
def test_verify_notices_a_changed_graph(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(VerificationError, match=f"{name} is damaged: it is not the file"):
        verify(copy)


def test_a_folder_that_sentence_transformers_would_follow_elsewhere(copy):
    pytest.importorskip("sentence_transformers")
    (copy / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]')
    with pytest.raises(VerificationError, match="holds a modules.json, which `expclip merge` does not write"):
        verify(copy)


def test_sentence_transformers_that_run_code_of_folders_are_not_asked(copy, monkeypatch):
    pytest.importorskip("sentence_transformers")
    assert "sentence-transformers" in compare_tools(str(copy), *load_checkpoint(copy))
    monkeypatch.setattr(agreement, "version", lambda name: "5.1.0")
    monkeypatch.setattr(agreement, "_sentence_transformers", lambda *_: pytest.fail("asked"))
    assert "sentence-transformers" not in compare_tools(str(copy), *load_checkpoint(copy))


def test_an_answer_of_another_shape_is_no_answer(copy, monkeypatch):
    monkeypatch.setattr(agreement, "_onnx_runtime", lambda *_: torch.zeros(1, 1))
    with pytest.raises(VerificationError, match=r"ONNX Runtime answers logits_per_image of shape \(1, 1\), not"):
        verify(copy)


def test_a_damaged_open_clip_config_is_not_published(copy):
    (copy / "open_clip_config.json").write_text("{}")
    with pytest.raises(VerificationError, match="was changed or is damaged"):
        plan(copy, "owner/name")


def test_graphs_of_another_model_answer_otherwise(copy):
    write_graphs(small_changes(load_checkpoint(copy)[0]), copy, ["model"])
    with pytest.raises(VerificationError, match="in ONNX Runtime logits_per_image differ"):
        compare_tools(str(copy), *load_checkpoint(copy))


def small_changes(model: CLIPModel) -> CLIPModel:
    weight = model.text_projection.weight
    with torch.no_grad():
        weight += 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["preprocess_cfg"].update(interpolation="bicubic"),
        lambda config: config["model_cfg"].update(quick_gelu=True),
        lambda config: config["model_cfg"]["text_cfg"].pop("hf_tokenizer_name"),
    ],
)
def test_verify_notices_a_changed_open_clip_config(copy, change):
    path = copy / "open_clip_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(VerificationError, match=r"open_clip_config\.json was changed or is damaged"):
        verify(copy)


def test_sentence_transformers(merged):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(merged), device="cpu")
    images = model.encode([Image.open(face).convert("RGB") for face in FACES], convert_to_tensor=True)
    scale = CLIPModel.from_pretrained(merged).logit_scale.exp()
    cosines = sentence_transformers.util.cos_sim(images, model.encode(prompts(), convert_to_tensor=True))
    found = (scale * cosines).softmax(-1).tolist()
    assert difference([dict(zip(LABELS, row)) for row in found], in_torch(merged, FACES)) < 1e-3


@pytest.mark.parametrize("dtype", ["default", "fp32", "q8"])
def test_transformers_js(merged, node, crops, dtype):
    found = json.loads(run_module(node, CLASSIFY, merged, dtype, json.dumps(LABELS), TEMPLATE, *crops))
    assert difference(by_label(found), in_torch(merged, crops)) < (0.05 if dtype == "q8" else 1e-3)


def test_transformers_js_with_its_own_resizing(merged, node):
    found = json.loads(run_module(node, CLASSIFY, merged, "fp32", json.dumps(LABELS), TEMPLATE, *FACES))
    assert difference(by_label(found), in_torch(merged, FACES)) < 0.05


def test_towers_in_transformers_js(merged, node, crops):
    model, processor = load_checkpoint(merged)
    images, texts = json.loads(run_module(node, TOWERS, merged, crops[0], *prompts()))
    inputs = processor(images=Image.open(crops[0]), text=prompts(), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model.get_image_features(inputs["pixel_values"]).pooler_output
        torch.testing.assert_close(torch.tensor(images), expected, atol=1e-3, rtol=0)
        expected = model.get_text_features(inputs["input_ids"]).pooler_output
        torch.testing.assert_close(torch.tensor(texts), expected, atol=1e-3, rtol=0)


def test_open_clip(merged):
    open_clip = pytest.importorskip("open_clip")
    found = by_open_clip(open_clip, merged, prompts(), [Image.open(face).convert("RGB") for face in FACES])
    found = [dict(zip(LABELS, row)) for row in found.softmax(-1).tolist()]
    assert difference(found, in_torch(merged, FACES)) < 1e-3


@torch.inference_mode()
def by_open_clip(open_clip, folder: Path, prompts: list[str], images: list[Image.Image]) -> torch.Tensor:
    name = f"local-dir:{folder}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    model.eval()
    image = model.encode_image(torch.stack([preprocess(image) for image in images]), normalize=True)
    text = model.encode_text(open_clip.get_tokenizer(name)(prompts), normalize=True)
    return model.logit_scale.exp() * image @ text.T


def openai_like(**changes) -> tuple[CLIPModel, CLIPProcessor]:
    """As OpenAI's CLIPs are: quick_gelu, the old id for the end of a text, the centre of a bicubic resize, mean and standard deviation."""
    config = small_clip(legacy_eos=True).config
    parts = {
        name: getattr(config, name).to_dict() | {"hidden_act": "quick_gelu"}
        for name in ("text_config", "vision_config")
    }
    parts["text_config"] |= changes
    model = CLIPModel(CLIPConfig(**parts, projection_dim=24)).eval()
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return model, CLIPProcessor(images, small_tokenizer())


def test_open_clips_config_of_a_clip_like_openais():
    config = open_clip_config(*openai_like(), "a/b")
    assert config["model_cfg"]["quick_gelu"] is True
    assert config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "a/b"
    preprocessing = config["preprocess_cfg"]
    assert (preprocessing["resize_mode"], preprocessing["interpolation"]) == ("shortest", "bicubic")
    assert preprocessing["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])


def test_open_clips_config_of_the_papers_pixels(checkpoint, tmp_path):
    """Squashed, bilinear, not normalised."""
    merge(checkpoint, tmp_path / "merged", open_clip=True)
    config = json.loads((tmp_path / "merged" / "open_clip_config.json").read_text())
    assert config["preprocess_cfg"] == {
        "size": 32, "mode": "RGB", "mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear", "resize_mode": "squash",
    }  # fmt: skip
    assert config["model_cfg"]["vision_cfg"]["head_width"] == 20 and not (tmp_path / "merged" / "onnx").exists()
    assert main(["verify", "--model", str(tmp_path / "merged")]) == 0


@pytest.mark.parametrize("eos", [2, 513, 7])
def test_open_clip_opens_a_clip_like_openais(tmp_path, eos):
    open_clip = pytest.importorskip("open_clip")
    model, processor = openai_like(eos_token_id=eos)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    write_open_clip(model, processor, tmp_path, "a/b")
    texts = ["joyful", "so very furious"]
    inputs = processor(images=[picture(1), picture(2)], text=texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs).logits_per_image
    found = by_open_clip(open_clip, tmp_path, texts, [picture(1), picture(2)])
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda model, images: setattr(model.config.text_config, "hidden_act", "relu"), "not 'relu'"),
        (lambda model, images: setattr(model.config.vision_config, "layer_norm_eps", 1e-6), "not 1e-06"),
        (
            lambda model, images: setattr(images, "resample", 1),
            "cannot preprocess as this checkpoint does .*resample 1",
        ),
        (lambda model, images: setattr(images, "do_resize", False), "cannot preprocess"),
        (lambda model, images: setattr(images, "size", {"height": 32, "width": 40}), "cannot preprocess"),
    ],
)
def test_what_open_clip_has_no_word_for(spoil, message):
    model, processor = openai_like()
    spoil(model, processor.image_processor)
    with pytest.raises(ValueError, match=message):
        open_clip_config(model, processor, "a/b")


@pytest.mark.parametrize("legacy_eos", [False, True])
def test_graphs_answer_for_any_number_of_images_and_texts(tmp_path, legacy_eos):
    import onnxruntime

    model = small_clip(legacy_eos=legacy_eos)
    write_graphs(model, tmp_path)
    sessions = {name: onnxruntime.InferenceSession(str(tmp_path / "onnx" / f"{name}.onnx")) for name in GRAPHS}
    for images, texts, tokens in ((1, 1, 2), (3, 1, 77), (1, 70, 9), (2, 2, 5)):
        pixels = torch.rand(images, 3, 32, 32)
        ids = torch.randint(0, 512, (texts, tokens), generator=torch.Generator().manual_seed(tokens))
        ids[:, -1] = 513
        mask = torch.ones_like(ids)
        with torch.inference_mode():
            output = model(input_ids=ids, pixel_values=pixels, attention_mask=mask)
            image, text = model.get_image_features(pixels).pooler_output, model.get_text_features(ids).pooler_output
        inputs = {"input_ids": ids.numpy(), "pixel_values": pixels.numpy(), "attention_mask": mask.numpy()}
        names = [given.name for given in sessions["model"].get_outputs()]
        for name, found in zip(names, sessions["model"].run(None, inputs)):
            np.testing.assert_allclose(found, output[name], atol=1e-4)
        for name, given, expected in (("vision_model", "pixel_values", image), ("text_model", "input_ids", text)):
            np.testing.assert_allclose(sessions[name].run(None, {given: inputs[given]})[0], expected, atol=1e-4)


def test_only_the_graphs_that_were_asked_for(tmp_path):
    write_graphs(small_clip(), tmp_path, ["text_model"])
    assert [file.name for file in (tmp_path / "onnx").iterdir()] == ["text_model.onnx"]


def test_the_backend_onnx_reads_a_merged_folder(merged):
    images = [Image.open(face) for face in FACES]
    for backend in (None, "onnx"):
        analyzer = FaceAnalyzer(str(merged), backend=backend, faces=False)
        found = [face["scores"] for (face,) in analyzer.photos(images, LABELS)]
        exact = [face["scores"] for (face,) in FaceAnalyzer(MINI, faces=False).photos(images, LABELS)]
        assert difference(found, exact) < 1e-4


def test_int8_that_disagrees_is_left_out(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setattr("modeling_expclip.checkpoint.merge.int8_agreement", lambda *_: float("nan"))
    with pytest.warns(UserWarning, match="no int8 graphs were written: .* mean cosine of nan"):
        merge(checkpoint, tmp_path / "out", onnx=True)
    assert {file.name for file in (tmp_path / "out" / "onnx").iterdir()} == {f"{name}.onnx" for name in GRAPHS}
    assert main(["verify", "--model", str(tmp_path / "out")]) == 0


def test_missing_packages(tmp_path, checkpoint, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else find_spec(name))
    with pytest.raises(ImportError, match=r'--onnx needs the packages onnx, .*pip install "expclip\[export\]"'):
        merge(checkpoint, tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


def test_publishing_names_the_repository_where_open_clip_looks(merged):
    planned = plan(merged, "owner/name")
    names = {file.relative_to(merged).as_posix() for file in merged.rglob("*") if file.is_file()}
    assert {*planned.files} == names
    config = json.loads(planned.files["open_clip_config.json"])
    assert config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "owner/name"
    assert 'SentenceTransformer("owner/name")' in planned.files["README.md"].decode()


@pytest.mark.parametrize("name", ["onnx/notes.onnx", "onnx/face.png", "onnx/config.json"])
def test_publishing_refuses_what_nobody_recorded(copy, name):
    (copy / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=re.escape(f"{name} (no file of a checkpoint)")):
        plan(copy, "owner/name")


def test_a_published_folder_still_verifies(copy):
    for name, content in plan(copy, "owner/name").files.items():
        if isinstance(content, bytes):
            (copy / name).write_bytes(content)
    assert "ONNX Runtime" in verify(copy)


def test_overwrite(copy, checkpoint):
    assert main(["merge", "--model", str(checkpoint), "--output", str(copy), "--overwrite"]) == 0
    assert not (copy / "onnx").exists()


@pytest.mark.parametrize("tool", ["transformers", "sentence-transformers", "open_clip"])
def test_the_cards_python(merged, tmp_path, monkeypatch, tool):
    pytest.importorskip(tool.replace("-", "_"))
    exec(compile(example(merged, tool, tmp_path, monkeypatch), "card", "exec"), {})  # noqa: S102, our own text


def test_the_cards_javascript(merged, node, tmp_path, monkeypatch):
    code = example(merged, "transformers.js", tmp_path, monkeypatch)
    path = tmp_path / "face.jpg"
    lines = code.replace('"face.jpg"', json.dumps(str(path))).replace("await classify", "const found = await classify")
    local = (
        'import { env } from "@huggingface/transformers"; env.localModelPath = "/"; env.allowRemoteModels = false;\n'
    )
    (best, *_) = json.loads(run_module(node, f"{local}{lines}\nconsole.log(JSON.stringify(found));"))
    assert best["label"] == "happiness"


def example(folder: Path, tool: str, place: Path, monkeypatch) -> str:
    """The code of the card for a tool, where a photo lies, of the folder instead of a repository."""
    Image.open(FACES[0]).convert("RGB").save(place / "face.jpg")
    monkeypatch.chdir(place)
    card = (folder / "README.md").read_text()
    section = card if tool == "transformers" else card.partition(f"### {tool}\n")[2]
    code = re.search(r"```(?:python|js)\n(.*?)```", section, re.DOTALL)[1]
    return code.replace("hf-hub:", "local-dir:").replace("PATH_OR_HUB_ID", str(folder))
