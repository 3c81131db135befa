"""Models of two towers, each against its own class called by hand."""

import importlib.util
import io
import json
import shutil
import tempfile

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AlignConfig,
    AlignModel,
    AlignProcessor,
    AltCLIPConfig,
    AltCLIPModel,
    AltCLIPProcessor,
    AutoTokenizer,
    BlipConfig,
    BlipImageProcessorPil,
    BlipModel,
    BlipProcessor,
    ChineseCLIPConfig,
    ChineseCLIPImageProcessorPil,
    ChineseCLIPModel,
    ChineseCLIPProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    EfficientNetImageProcessorPil,
    MetaClip2Config,
    MetaClip2Model,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
    SiglipTokenizer,
    ViTImageProcessorPil,
)

from tests.conftest import small_tokenizer
from tests.training.evaluation.adapters.by_hand import (
    BERT,
    CLIP_IMAGES,
    LABELS,
    SIDE,
    SIZE,
    TEXT,
    TOWER,
    VISION,
    by_hand,
    check_features,
    close,
    configured,
)
from tests.training.small_models import LETTERS, bert_tokenizer, random_weights
from training.evaluation.adapters import load_zero_shot_model

ROBERTA = {**TOWER, "vocab_size": 514, "max_position_embeddings": 80, "pad_token_id": 1, "project_dim": 20}
EFFICIENT = {
    "image_size": SIDE,
    "kernel_sizes": [3, 3],
    "in_channels": [32, 8],
    "out_channels": [8, 24],
    "strides": [1, 2],
}
EFFICIENT |= {"num_block_repeats": [1, 1], "expand_ratios": [1, 2], "hidden_dim": 24, "depthwise_padding": []}
EFFICIENT |= {"width_coefficient": 1.0, "depth_coefficient": 1.0}
PADDED = {"padding": "max_length", "max_length": 64}


def siglip2_tokenizer():
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS.replace(" ", "")]
    # On the Hub too: transformers' own default, left, is not how it was trained.
    return Siglip2Tokenizer({word: i for i, word in enumerate(words)}, padding_side="right")


def siglip_tokenizer():
    """SigLIP's own, as google/siglip-* have it: a model of sentencepiece."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="needs sentencepiece (the extra training)")
    model, lines = io.BytesIO(), [f"a photo of {word} {LETTERS}" for word in ("happiness", "anger", "a face like rain")]
    marks = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=50, hard_vocab_limit=False, minloglevel=2, **marks
    )
    with tempfile.NamedTemporaryFile(suffix=".model") as file:
        file.write(model.getvalue())
        file.flush()
        return SiglipTokenizer(file.name)


# model class, config, processor class, image processor, tokenizer, what the text is asked with
DUAL = {
    "clip": (CLIPModel, configured(CLIPConfig, TEXT, VISION), CLIPProcessor, CLIP_IMAGES, small_tokenizer, {}),
    "clip-legacy-eos": (
        CLIPModel,
        configured(CLIPConfig, TEXT | {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}, VISION),
        CLIPProcessor,
        CLIP_IMAGES,
        small_tokenizer,
        {},
    ),
    "metaclip_2": (
        MetaClip2Model,
        configured(MetaClip2Config, TEXT, VISION),
        CLIPProcessor,
        CLIP_IMAGES,
        small_tokenizer,
        {},
    ),
    "siglip": (
        SiglipModel,
        configured(SiglipConfig, TEXT | {"max_position_embeddings": 64}, VISION),
        SiglipProcessor,
        SiglipImageProcessorPil(size=SIZE),
        small_tokenizer,
        PADDED,
    ),
    "siglip-sentencepiece": (
        SiglipModel,
        configured(SiglipConfig, TEXT | {"max_position_embeddings": 64, "pad_token_id": 1, "eos_token_id": 1}, VISION),
        SiglipProcessor,
        SiglipImageProcessorPil(size=SIZE),
        siglip_tokenizer,
        PADDED,
    ),
    "siglip2": (
        Siglip2Model,
        configured(
            Siglip2Config, TEXT | {"max_position_embeddings": 64}, {**TOWER, "patch_size": 7, "num_patches": 16}
        ),
        Siglip2Processor,
        Siglip2ImageProcessorPil(patch_size=7, max_num_patches=20),
        siglip2_tokenizer,
        PADDED | {"images_kwargs": {"patch_size": 7, "max_num_patches": 20}},
    ),
    "align": (
        AlignModel,
        configured(AlignConfig, BERT, EFFICIENT, projection_dim=24),
        AlignProcessor,
        EfficientNetImageProcessorPil(size=SIZE),
        bert_tokenizer,
        {"padding": "max_length", "max_length": 90},
    ),
    "altclip": (
        AltCLIPModel,
        configured(AltCLIPConfig, ROBERTA, VISION, projection_dim=24),
        AltCLIPProcessor,
        CLIP_IMAGES,
        small_tokenizer,
        {"max_length": 78},
    ),
    "chinese_clip": (
        ChineseCLIPModel,
        configured(ChineseCLIPConfig, BERT, VISION),
        ChineseCLIPProcessor,
        ChineseCLIPImageProcessorPil(size=SIZE, crop_size=SIZE),
        bert_tokenizer,
        {},
    ),
    "clipseg": (
        CLIPSegForImageSegmentation,  # what is on the Hub: CLIPSeg's CLIP, under a prefix, and a decoder
        configured(CLIPSegConfig, TEXT, VISION, extract_layers=[0, 1], reduce_dim=8, decoder_num_attention_heads=2),
        CLIPSegProcessor,
        ViTImageProcessorPil(size=SIZE),
        small_tokenizer,
        {},
    ),
    "blip": (
        BlipModel,
        configured(BlipConfig, BERT | {"encoder_hidden_size": 32}, VISION),
        BlipProcessor,
        BlipImageProcessorPil(size=SIZE),
        bert_tokenizer,
        {},
    ),
}


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Writes a random model of the real class with its processor, once: ``write("siglip")``."""
    folders = {}

    def make(name):
        if name not in folders:
            model_class, config, processor_class, images, tokenizer, _ = DUAL[name]
            folders[name] = tmp_path_factory.mktemp(name)
            random_weights(model_class(config)).save_pretrained(folders[name])
            processor_class(images, tokenizer()).save_pretrained(folders[name])
        return folders[name]

    return make


@pytest.mark.parametrize("name", DUAL)
def test_dual_encoders_equal_the_class_called_by_hand(name, write, faces, clips):
    model_class, _, processor_class, images, _, options = DUAL[name]
    folder = write(name)
    plain = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    plain = plain.clip if name == "clipseg" else plain
    processor = processor_class(images, AutoTokenizer.from_pretrained(folder))
    options = {"padding": True, "truncation": True, "max_length": 77, **options}

    def logits(prompts):
        inputs = processor(images=[face.convert("RGB") for face in faces], text=prompts, return_tensors="pt", **options)
        return plain(**inputs).logits_per_image

    model = load_zero_shot_model(str(folder), device=torch.device("cpu"))
    features = model.image_features(faces)
    for prompts in ("class_name", "ensemble5"):
        close(model.logits(features, LABELS, prompts), by_hand(logits, prompts))
    check_features(model, faces, clips)


@pytest.mark.parametrize("name", ["clip", "siglip", "align"])
def test_half_precision_computes_but_gives_float32(name, write, faces):
    half, exact = (load_zero_shot_model(str(write(name)), dtype=dtype) for dtype in ("bfloat16", "float32"))
    features = half.image_features(faces)
    assert half.model.dtype == torch.bfloat16 and features.dtype == torch.float32
    assert torch.cosine_similarity(features, exact.image_features(faces)).min() > 0.99
    assert half.logits(features, LABELS, "photo").dtype == torch.float32


@pytest.mark.parametrize(
    ("file", "message"), [("preprocessor_config.json", "no image processor"), ("tokenizer.json", "tokenizer")]
)
@pytest.mark.parametrize("name", ["clip", "siglip", "align"])
def test_a_model_without_its_processor_is_refused(tmp_path, write, name, file, message):
    folder = shutil.copytree(write(name), tmp_path / name)
    if file == "preprocessor_config.json":
        file = "processor_config.json"
    (folder / file).unlink()
    with pytest.raises(ValueError, match=message):
        load_zero_shot_model(str(folder))


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            None,
            marks=pytest.mark.skipif(
                importlib.util.find_spec("sentencepiece") is not None, reason="sentencepiece is installed"
            ),
            id="really",
        ),
        transformers.utils.import_utils.SENTENCEPIECE_IMPORT_ERROR,
        transformers.utils.import_utils.PROTOBUF_IMPORT_ERROR,
    ],
)
def test_without_its_package_the_error_names_the_extra(tmp_path, write, words, monkeypatch):
    folder = shutil.copytree(write("siglip"), tmp_path / "siglip")
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(b"what only sentencepiece can read")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "SiglipTokenizer"}))
    if words is not None:  # also where the packages are installed: transformers' own words

        def missing(*_, **__):
            raise ImportError(words.format("SiglipTokenizer"))

        monkeypatch.setattr(AutoTokenizer, "from_pretrained", missing)
    package = "protobuf" if words and "protobuf" in words else "sentencepiece"
    expected = f"the tokenizer of .* needs {package}, which is not installed: pip install 'expclip\\[training\\]'"
    with pytest.raises(ImportError, match=expected) as caught:
        load_zero_shot_model(str(folder))
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("name", ["clip", "siglip", "clipseg"])
@pytest.mark.parametrize("fault", ["missing", "shape"])
def test_weights_that_do_not_fit_are_refused(tmp_path, write, name, fault):
    folder = shutil.copytree(write(name), tmp_path / name)
    state = load_file(folder / "model.safetensors")
    key = next(key for key in state if key.endswith("text_model.final_layer_norm.weight"))
    weight = state.pop(key)
    if fault == "shape":
        state[key] = torch.ones(len(weight) + 1)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="do not fit its config.*final_layer_norm"):
        load_zero_shot_model(str(folder))
