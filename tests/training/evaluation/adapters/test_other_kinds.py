"""Models that are more than two towers: FLAVA, BLIP-2, X-CLIP, and Exp-CLIP itself."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import (
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    BlipImageProcessorPil,
    FlavaConfig,
    FlavaForPreTraining,
    FlavaImageProcessorPil,
    FlavaProcessor,
    XCLIPModel,
    XCLIPProcessor,
)

from modeling_expclip import MINI, ExpCLIPModel, ExpCLIPProcessor, FacialExpressionPipeline
from tests.conftest import picture, small_clip, small_tokenizer
from tests.training.evaluation.adapters.by_hand import (
    BERT,
    FRAMES,
    LABELS,
    QUERIES,
    SIDE,
    SIZE,
    TOWER,
    VISION,
    by_hand,
    check_features,
    close,
)
from tests.training.small_models import bert_tokenizer, random_weights
from training.evaluation.adapters import load_zero_shot_model

EXAMPLES = Path(__file__).parents[4] / "space" / "examples"


@pytest.fixture(scope="module")
def flava(tmp_path_factory):
    """As on the Hub: the whole FLAVA with its pretraining heads and codebook, the towers under a prefix."""
    folder = tmp_path_factory.mktemp("flava")
    config = FlavaConfig(
        text_config=dict(BERT),
        image_config=VISION | {"vocab_size": 16},
        multimodal_config=dict(TOWER),
        image_codebook_config={"num_groups": 4, "num_blocks_per_group": 1, "hidden_size": 8, "vocab_size": 16},
        hidden_size=32,
        projection_dim=24,
    )
    random_weights(FlavaForPreTraining(config)).save_pretrained(folder)
    images = FlavaImageProcessorPil(size=SIZE, crop_size=SIZE)
    FlavaProcessor(images, bert_tokenizer()).save_pretrained(folder)
    return folder


def test_flava_equals_its_contrastive_head(flava, faces, clips):
    plain = FlavaForPreTraining.from_pretrained(flava).eval()
    tokenizer, images = bert_tokenizer(), FlavaImageProcessorPil(size=SIZE, crop_size=SIZE)
    pixels = images([face.convert("RGB") for face in faces], return_tensors="pt")["pixel_values"]

    def logits(prompts):
        columns = []
        for prompt in prompts:  # it pairs images and texts, so each image gets the same text
            tokens = tokenizer([prompt] * len(faces), return_tensors="pt")
            output = plain(**tokens, input_ids_masked=tokens["input_ids"], pixel_values=pixels, return_loss=False)
            columns.append(output.contrastive_logits_per_image[:, 0])
        return torch.stack(columns, 1)

    model = load_zero_shot_model(str(flava))
    features = model.image_features(faces)
    assert features.shape == (3, 24)
    close(model.logits(features, LABELS, "ensemble5"), by_hand(logits))
    check_features(model, faces, clips)


@pytest.mark.parametrize("kind", ["blip2-itc", "blip2-itm"])
def test_blip2_equals_the_class_called_by_hand(kind, blip2, faces, clips):
    plain = Blip2ForImageTextRetrieval.from_pretrained(blip2, dtype=torch.float32).eval()
    queries = QUERIES if plain.config.image_token_index is not None else None
    processor = Blip2Processor(BlipImageProcessorPil(size=SIZE), bert_tokenizer(), num_query_tokens=queries)
    rgb = [face.convert("RGB") for face in faces]

    def logits(prompts):
        if kind == "blip2-itc":
            return plain(**processor(images=rgb, text=prompts, padding=True, return_tensors="pt")).logits_per_image
        columns = []
        for prompt in prompts:
            inputs = processor(images=rgb, text=[prompt] * len(rgb), return_tensors="pt")
            probability = plain(**inputs, use_image_text_matching_head=True).logits_per_image.softmax(1)[:, 1]
            columns.append(probability.logit())
        return torch.stack(columns, 1)

    model = load_zero_shot_model(f"{kind}:{blip2}")
    features = model.image_features(faces)
    assert features.shape == ((3, QUERIES, 12) if kind == "blip2-itc" else (3, 17, 32))
    close(model.logits(features, LABELS, "ensemble5"), by_hand(logits))
    check_features(model, faces, clips)


def test_xclip_equals_the_class_called_by_hand(xclip, faces):
    folder, images = xclip
    plain = XCLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = XCLIPProcessor(images, small_tokenizer())
    # what each clip of these lengths shows as a clip of four frames
    shown = {4: [0, 1, 2, 3], 9: [1, 3, 5, 7], 3: [0, 1, 1, 2], 2: [0, 0, 1, 1], 1: [0, 0, 0, 0]}
    clips = [[picture(10 * length + i, (30, 40)) for i in range(length)] for length in shown]

    def logits(prompts):
        rows = []
        for clip, chosen in zip(clips, shown.values()):
            pixels = processor(videos=[clip[i] for i in chosen], return_tensors="pt")["pixel_values"]
            pixels = pixels.reshape(1, FRAMES, 3, SIDE, SIDE)
            tokens = small_tokenizer()(prompts, padding=True, truncation=True, max_length=77, return_tensors="pt")
            rows.append(plain(pixel_values=pixels, **tokens).logits_per_video[0])
        return torch.stack(rows)

    model = load_zero_shot_model(str(folder))
    features = model.video_features(clips)
    assert features.shape == (5, 1 + 16, 24) and features.dtype == torch.float32
    close(model.logits(features, LABELS, "ensemble5"), by_hand(logits))
    for index, clip in enumerate(clips):
        torch.testing.assert_close(model.video_features([clip])[0], features[index], atol=1e-4, rtol=0)
    torch.testing.assert_close(model.image_features([clip[0]]), features[-1:], atol=1e-4, rtol=0)
    assert model.image_features(faces).shape == (3, 17, 24)


@pytest.mark.parametrize("prompts", ["photo", "ensemble10"])
def test_expclip_equals_its_pipeline(prompts):
    processor = ExpCLIPProcessor.from_pretrained(MINI)
    pipeline = FacialExpressionPipeline(
        model=ExpCLIPModel.from_pretrained(MINI).eval(),
        tokenizer=processor.tokenizer,
        image_processor=processor.image_processor,
    )
    model = load_zero_shot_model("expclip-mini", device=torch.device("cpu"))
    for name in ("average-fear.png", "average-happiness.png"):
        face = Image.open(EXAMPLES / name)
        logits = model.logits(model.image_features([face]), LABELS, prompts)
        got = dict(zip(LABELS, logits[0].softmax(-1).tolist()))
        for entry in pipeline(face, candidate_labels=LABELS, prompts=prompts):
            assert got[entry["label"]] == pytest.approx(entry["score"], abs=1e-5)


def test_expclip_on_clips_and_without_its_head(checkpoint, clip_folder, faces):
    clips = [[picture(10 * clip + i) for i in range(3)] for clip in range(2)]
    model, plain = load_zero_shot_model(str(checkpoint)), ExpCLIPModel.from_pretrained(checkpoint).eval()
    processor = ExpCLIPProcessor.from_pretrained(checkpoint)
    pixels = torch.stack([processor(images=clip, return_tensors="pt")["pixel_values"] for clip in clips])
    with torch.no_grad():
        expected = plain.get_video_features(pixels).pooler_output
    torch.testing.assert_close(model.video_features(clips), expected, atol=1e-5, rtol=0)
    check_features(model, faces, [*clips, clips[0][:1]])

    alone, towers = load_zero_shot_model(f"clip-of:{checkpoint}"), small_clip()

    def logits(prompts):
        return towers(**processor(images=faces, text=prompts, return_tensors="pt")).logits_per_image

    features = alone.image_features(faces)
    close(alone.logits(features, LABELS, "ensemble5"), by_hand(logits))
    assert features.shape == (3, 24) and model.image_features(faces).shape == (3, 48)
    with pytest.raises(ValueError, match="of type 'clip'; clip-of: expects one of type 'expclip'"):
        load_zero_shot_model(f"clip-of:{clip_folder}")


@pytest.mark.parametrize("kind", ["blip2-itc:", "blip2-itm:", ""])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_of_networks_that_compare(kind, dtype, blip2, xclip, faces):
    model = load_zero_shot_model(kind + str(blip2 if kind else xclip[0]), dtype=dtype)
    logits = model.logits(model.image_features(faces), LABELS, "photo")
    assert logits.dtype == torch.float32 and logits.isfinite().all()


def test_blip2_asks_which_of_its_scores(blip2):
    with pytest.raises(ValueError, match=f"more than one way; choose blip2-itc:{blip2} or blip2-itm:{blip2}"):
        load_zero_shot_model(str(blip2))
