"""Fixtures: faces, clips, and the models that two files ask."""

import pytest
from transformers import (
    Blip2Config,
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    BlipImageProcessorPil,
    VideoMAEImageProcessorPil,
    XCLIPConfig,
    XCLIPModel,
    XCLIPProcessor,
)

from tests.conftest import picture, small_tokenizer
from tests.training.evaluation.adapters.by_hand import (
    CLIP_IMAGES,
    FRAMES,
    QUERIES,
    SIDE,
    SIZE,
    TEXT,
    VISION,
    configured,
)
from tests.training.small_models import QFORMER, bert_tokenizer, random_weights


@pytest.fixture(scope="module")
def faces():
    return [picture(0, (50, 40)), picture(1, (28, 28)), picture(2, (20, 33)).convert("L")]


@pytest.fixture(scope="module")
def clips():
    return [[picture(10 * clip + i, (30, 40)) for i in range(length)] for clip, length in enumerate((5, 1, 3))]


@pytest.fixture(scope="module", params=["plain", "with image tokens"])
def blip2(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip2")
    config = Blip2Config(
        vision_config=VISION | {"initializer_range": 0.2},
        qformer_config=QFORMER | {"vocab_size": 80, "use_qformer_text_input": True},
        text_config={"model_type": "opt", "hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 10},
        num_query_tokens=QUERIES,
        image_text_hidden_size=12,
        image_token_index=None if request.param == "plain" else 70,
    )
    random_weights(Blip2ForImageTextRetrieval(config)).save_pretrained(folder)
    images = BlipImageProcessorPil(size=SIZE)
    Blip2Processor(
        images, bert_tokenizer(), num_query_tokens=None if request.param == "plain" else QUERIES
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["CLIP", "VideoMAE"])
def xclip(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("xclip")
    vision = VISION | {"num_frames": FRAMES, "mit_hidden_size": 24, "mit_intermediate_size": 32}
    vision |= {"mit_num_hidden_layers": 1, "mit_num_attention_heads": 2, "drop_path_rate": 0.0}
    config = configured(XCLIPConfig, TEXT, vision, projection_dim=24, prompt_num_attention_heads=2, prompt_alpha=0.5)
    random_weights(XCLIPModel(config)).save_pretrained(folder)
    images = CLIP_IMAGES
    if request.param == "VideoMAE":  # as on the Hub
        images = VideoMAEImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIZE)
    XCLIPProcessor(images, small_tokenizer()).save_pretrained(folder)
    return folder, images
