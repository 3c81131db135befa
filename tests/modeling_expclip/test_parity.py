"""Equality with the paper: with its own code's outputs where shared/ is, and everywhere with its few lines written again."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPModel

from modeling_expclip import LABEL_SETS, PROMPT_SETS, ExpCLIPModel, ExpCLIPProcessor, FacialExpressionPipeline
from modeling_expclip.checkpoint.convert import convert
from modeling_expclip.checkpoint.head import load_head
from modeling_expclip.checkpoint.load import load_checkpoint
from modeling_expclip.checkpoint.merge import merge
from modeling_expclip.prompts import build_prompts
from tests.conftest import picture, small_tokenizer, write_clip, write_head


def pipeline_of(folder) -> FacialExpressionPipeline:
    model, processor = load_checkpoint(folder)
    return FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )


def logits_of(pipeline, embeds, prompts):
    """Logits of embeddings after the head against the pipeline's prototypes for MAFW's classes."""
    embeds = torch.nn.functional.normalize(embeds, dim=-1)
    return pipeline.model.logit_scale.exp() * embeds @ pipeline.class_prototypes(LABEL_SETS["mafw"], prompts).T


@pytest.fixture(scope="module", params=["as released", "legacy eos_token_id"])
def parity(request, shared, tmp_path_factory):
    """The parity checkpoint: as it is, and with the eos_token_id 2 of OpenAI's configs on the Hub."""
    folder = tmp_path_factory.mktemp("parity")
    clip = shared / "parity" / "clip"
    if request.param != "as released":
        copy = folder / "clip"
        copy.mkdir()
        for file in clip.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        config = json.loads((copy / "config.json").read_text())
        config["text_config"] |= {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
        (copy / "config.json").write_text(json.dumps(config))
        clip = copy
    convert(str(clip), shared / "parity" / "projection_head.pth", folder / "expclip")
    merge(folder / "expclip", folder / "merged")
    images = [Image.open(path) for path in sorted((shared / "parity" / "images").iterdir())]
    return folder, images, load_file(shared / "parity" / "expected.safetensors")


def test_pixels_and_embeddings_equal_the_papers(parity):
    folder, images, expected = parity
    model, processor = (
        ExpCLIPModel.from_pretrained(folder / "expclip"),
        ExpCLIPProcessor.from_pretrained(folder / "expclip"),
    )
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixels, expected["pixel_values"], atol=1e-6, rtol=0)
    with torch.inference_mode():
        before = model.visual_projection(model.vision_model(pixels).pooler_output)
        image_embeds = model.get_image_features(pixels).pooler_output
        video_embeds = model.get_video_features(pixels[6:].unflatten(0, (2, 8))).pooler_output
    torch.testing.assert_close(before, expected["clip_image_embeds"], atol=1e-4, rtol=0)
    image_embeds, video_embeds = (torch.nn.functional.normalize(e, dim=-1) for e in (image_embeds[:6], video_embeds))
    torch.testing.assert_close(image_embeds, expected["image_embeds"], atol=1e-4, rtol=0)
    torch.testing.assert_close(video_embeds, expected["video_embeds"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("prompts", PROMPT_SETS)
@pytest.mark.parametrize("kind", ["expclip", "merged"])
def test_logits_equal_the_papers(parity, kind, prompts):
    folder, images, expected = parity
    pipeline = pipeline_of(folder / kind)
    with torch.inference_mode():
        pixels = pipeline.image_processor(images=images, return_tensors="pt")["pixel_values"]
        embeds = pipeline.model.get_image_features(pixels).pooler_output
    clips = embeds[6:].unflatten(0, (2, 8)).mean(1)
    image_logits, video_logits = logits_of(pipeline, embeds[:6], prompts), logits_of(pipeline, clips, prompts)
    torch.testing.assert_close(image_logits, expected[f"{prompts}.image_logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(video_logits, expected[f"{prompts}.video_logits"], atol=1e-4, rtol=0)
    answers = pipeline(images[:6], label_set="mafw", prompts=prompts, batch_size=3)
    for answer, logits in zip(answers, expected[f"{prompts}.image_logits"]):
        scores = {entry["label"]: entry["score"] for entry in answer}
        assert [scores[label] for label in LABEL_SETS["mafw"]] == pytest.approx(logits.softmax(-1).tolist(), abs=1e-4)


@pytest.mark.parametrize("legacy_eos", [False, True])
@pytest.mark.parametrize("prompts", ["class_name", "ensemble10"])
def test_the_papers_computation_on_an_own_fixture(tmp_path, legacy_eos, prompts):
    clip_folder = write_clip(tmp_path / "clip", seed=5, legacy_eos=legacy_eos)
    head = write_head(tmp_path / "head.pth", seed=6)
    convert(str(clip_folder), head, tmp_path / "expclip")
    images = [picture(seed) for seed in range(3)]
    labels = LABEL_SETS["affectnet8"]

    # The paper's evaluation: logits of every prompt, averaged over the prompts of a class.
    clip, weight, tokenizer = CLIPModel.from_pretrained(clip_folder), load_head(head), small_tokenizer()
    groups = build_prompts(labels, prompts)
    with torch.inference_mode():
        pixels = ExpCLIPProcessor.from_pretrained(tmp_path / "expclip")(images=images, return_tensors="pt")
        v = clip.get_image_features(**pixels).pooler_output @ weight.T
        v = v / v.norm(dim=-1, keepdim=True)
        per_class = []
        for group in groups:
            ids = tokenizer(group, padding=True, truncation=True, max_length=77, return_tensors="pt")
            t = clip.get_text_features(**ids).pooler_output @ weight.T
            per_class.append((clip.logit_scale.exp() * v @ (t / t.norm(dim=-1, keepdim=True)).T).mean(1))
        expected = torch.stack(per_class, 1).softmax(-1)

    for answer, row in zip(
        pipeline_of(tmp_path / "expclip")(images, candidate_labels=labels, prompts=prompts), expected
    ):
        scores = {entry["label"]: entry["score"] for entry in answer}
        assert [scores[label] for label in labels] == pytest.approx(row.tolist(), abs=1e-5)
