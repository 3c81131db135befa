"""Decoder-only models that look at pictures: one hidden state of the full model, averaged."""

import importlib.util
import json

import pytest
import torch
import transformers
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Blip2Processor,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    InstructBlipProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from tests.conftest import picture, small_tokenizer
from tests.training.small_models import QFORMER, bert_tokenizer, random_weights
from tests.training.teachers.models import ASK, QUERIES, SIDE, STOCK, VISION, VISION_KINDS, teacher

NO_VLM = [name for name in ("torchvision", "num2words") if importlib.util.find_spec(name) is None]
needs_vlm = pytest.mark.skipif(bool(NO_VLM), reason=f"needs {', '.join(NO_VLM)} (the extra vlm)")

LLAMA = {"model_type": "llama", "vocab_size": 540, "hidden_size": 32, "intermediate_size": 48}
LLAMA |= {"num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0}
OPT = {"model_type": "opt", "vocab_size": 540, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48}
OPT |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 100}
CHAT = "{% for m in messages %}user: {% for part in m.content %}"
CHAT += "{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}{% endfor %}"
PLAIN_VISION = {key: value for key, value in VISION.items() if key != "initializer_range"}


def image_tokenizer(padding_side="left"):
    tokenizer = small_tokenizer()
    tiles = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    marks = ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *tiles]
    tokenizer.add_tokens(marks, special_tokens=True)
    tokenizer.padding_side = padding_side
    return tokenizer


def write_llava(folder, chat_template=CHAT):
    tokenizer = image_tokenizer()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**PLAIN_VISION).to_dict(),
        text_config=dict(LLAMA),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    random_weights(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    LlavaProcessor(
        CLIPImageProcessorPil(size=size, crop_size=size),
        tokenizer,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template,
    ).save_pretrained(folder)
    return folder


def write_idefics(folder, padding_side):
    """Its pictures become more or fewer tokens by their shape, so that a batch needs padding."""
    tokenizer = image_tokenizer(padding_side)
    config = Idefics3Config(
        vision_config=dict(PLAIN_VISION),
        text_config=dict(LLAMA),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    random_weights(Idefics3ForConditionalGeneration(config)).save_pretrained(folder)
    try:
        images = Idefics3ImageProcessorPil(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})
    except ImportError:
        pytest.skip("this version of transformers prepares Idefics3's pictures with torchvision only")
    Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=CHAT).save_pretrained(folder)
    return folder


def plain_run(model, processor, face, prompt):
    """All hidden states of the full model for one face alone, and which tokens are the image's."""
    inputs = processor(images=[face], text=[prompt], return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True)
    states = getattr(outputs, "language_model_outputs", outputs).hidden_states
    return states, inputs["input_ids"][0] == model.config.image_token_id


def check_image_text(folder, faces, prompt, layers):
    """Each vector of a batch against a plain run; gives the number of tokens of each face."""
    vectors = {
        (pooling, layer): teacher("image-text", folder, pooling=pooling, layer=layer)(faces, ASK)
        for pooling in ("all", "image")
        for layer in layers
    }
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    lengths = []
    for index, face in enumerate(faces):
        states, image = plain_run(model, processor, face, prompt)
        lengths.append(len(image))
        assert 0 < image.sum() < len(image)
        for (pooling, layer), batch in vectors.items():
            expected = states[layer][0, image if pooling == "image" else slice(None)].mean(0)
            torch.testing.assert_close(batch[index], expected, atol=1e-5, rtol=0)
    assert (vectors["all", -1] - vectors["image", -1]).abs().max() > 0.01
    assert (vectors["all", -1] - vectors["all", layers[1]]).abs().max() > 0.01
    return lengths


@pytest.mark.parametrize(("chat_template", "prompt"), [(CHAT, f"user: <image>{ASK}"), (None, f"<image>{ASK}")])
def test_llava_equals_the_plain_model(tmp_path, faces, chat_template, prompt):
    check_image_text(write_llava(tmp_path, chat_template), faces, prompt, (-1, 0, 2))


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_padding_does_not_matter(tmp_path, padding_side):
    faces = [picture(0, (50, 40)), picture(1, (20, 60)), picture(2, (30, 30))]
    lengths = check_image_text(write_idefics(tmp_path, padding_side), faces, f"user: <image>{ASK}", (-1, 1))
    assert len(set(lengths)) == 2


def test_one_tile_of_each_face(tmp_path, faces):
    """With the longest edge of one tile a face is as many tokens as one picture, and the vector is that of the model run so."""
    folder = write_idefics(tmp_path, "right")
    whole, tile = teacher("image-text", folder), teacher("image-text", folder, longest_edge=SIDE)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    before = len(plain_run(model, processor, faces[0], tile.prompt(ASK))[1])
    AutoProcessor.from_pretrained(folder, size={"longest_edge": SIDE}).save_pretrained(tmp_path / "smaller")
    states, image = plain_run(model, AutoProcessor.from_pretrained(tmp_path / "smaller"), faces[0], tile.prompt(ASK))
    assert len(image) < before
    torch.testing.assert_close(tile(faces, ASK)[0], states[-1][0].mean(0), atol=1e-5, rtol=0)
    assert (tile(faces, ASK) - whole(faces, ASK)).abs().max() > 0.01
    with pytest.raises(ValueError, match="does not resize by the longest edge"):
        teacher("image-text", write_llava(tmp_path / "llava"), longest_edge=SIDE)


def write_blip_with_opt(folder, kind):
    tokenizer = image_tokenizer()
    images = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    config_class, model_class = STOCK[kind]
    config = config_class(
        vision_config=dict(VISION),
        qformer_config=dict(QFORMER),
        text_config=dict(OPT),
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    random_weights(model_class(config)).save_pretrained(folder)
    if kind == "blip2":
        Blip2Processor(images, tokenizer, num_query_tokens=QUERIES).save_pretrained(folder)
    else:
        InstructBlipProcessor(images, tokenizer, bert_tokenizer(), QUERIES).save_pretrained(folder)
    return folder


@VISION_KINDS
def test_blips_without_t5_are_image_text(kind, tmp_path, faces):
    folder = write_blip_with_opt(tmp_path, kind)
    with pytest.raises(ValueError, match=r"'opt'.*kind 'image-text'"):
        teacher(kind, folder)
    check_image_text(folder, faces, ASK, (-1, 1))


def test_image_text_refusals(tmp_path, blips, clip_folder):
    folder = write_llava(tmp_path)
    for layer in (4, -5):
        with pytest.raises(ValueError, match=f"3 layers: expected layer in 0..3 or -1, got {layer}"):
            teacher("image-text", folder, layer=layer)
    with pytest.raises(ValueError, match="kind 'blip2' or 'instructblip'"):
        teacher("image-text", blips["instructblip"])
    with pytest.raises(ValueError, match="type 'llava'; kind 'blip2' expects 'blip-2'"):
        teacher("blip2", folder)
    (folder / "processor_config.json").unlink()
    with pytest.raises(ValueError, match="processor"):
        teacher("image-text", folder)


# Qwen-VL and SmolVLM: their classes, as small as they come. Their video processors want torchvision, also for pictures alone.
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
QWEN_TEXT = {"vocab_size": 540, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
QWEN_TEXT |= {"num_attention_heads": 2, "num_key_value_heads": 2, "rope_parameters": ROPE}
QWEN_EYES = {"depth": 2, "num_heads": 2, "patch_size": 7, "spatial_merge_size": 2, "temporal_patch_size": 2}
QWEN = {
    "Qwen2VL": QWEN_EYES | {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2},
    "Qwen2_5_VL": QWEN_EYES
    | {
        "hidden_size": 32,
        "intermediate_size": 48,
        "out_hidden_size": 32,
        "window_size": 28,
        "fullatt_block_indexes": [1],
    },
}
QWEN_CHAT = CHAT.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
QWEN_MARKS = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"]


def write_qwen(folder, name):
    """Pictures keep their shape, so that each becomes a number of tokens of its own."""
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(QWEN_MARKS, special_tokens=True)
    start, image, end, video = tokenizer.convert_tokens_to_ids(QWEN_MARKS)
    config = getattr(transformers, f"{name}Config")(
        text_config=dict(QWEN_TEXT),
        vision_config=dict(QWEN[name]),
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    random_weights(getattr(transformers, f"{name}ForConditionalGeneration")(config)).save_pretrained(folder)
    sizes = {"patch_size": 7, "size": {"shortest_edge": 28 * 28, "longest_edge": 70 * 70}}
    tokenizer.chat_template = QWEN_CHAT
    tokenizer.save_pretrained(folder)
    write_processor(
        folder,
        f"{name}Processor",
        {"image_processor_type": "Qwen2VLImageProcessor", **sizes},
        {"video_processor_type": "Qwen2VLVideoProcessor", **sizes},
    )
    return folder


def write_smolvlm(folder):
    tokenizer = image_tokenizer()
    config = transformers.SmolVLMConfig(
        vision_config=dict(PLAIN_VISION),
        text_config=dict(LLAMA),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    random_weights(transformers.SmolVLMForConditionalGeneration(config)).save_pretrained(folder)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    sizes = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    write_processor(
        folder,
        "SmolVLMProcessor",
        {"image_processor_type": "SmolVLMImageProcessor", **sizes},
        {"video_processor_type": "SmolVLMVideoProcessor", **sizes},
        image_seq_len=4,
    )
    return folder


def write_processor(folder, name, images, videos, **options):
    """By hand: without torchvision such a processor cannot be made, and a folder from the Hub must be refused well."""
    whole = {"processor_class": name, "image_processor": images, "video_processor": videos, **options}
    (folder / "processor_config.json").write_text(json.dumps(whole))


@needs_vlm
@pytest.mark.parametrize("name", QWEN)
def test_qwen_vl_equals_the_plain_model(tmp_path, name):
    faces = [picture(0, (50, 40)), picture(1, (20, 60)), picture(2, (30, 30))]
    prompt = f"user: <|vision_start|><|image_pad|><|vision_end|>{ASK}"
    lengths = check_image_text(write_qwen(tmp_path, name), faces, prompt, (-1, 1))
    assert len(set(lengths)) > 1


@needs_vlm
def test_smolvlm_equals_the_plain_model(tmp_path, faces):
    check_image_text(write_smolvlm(tmp_path), faces, f"user: <image>{ASK}", (-1, 1))


def refuses_without(folder, package):
    with pytest.raises(
        ImportError, match=f"needs {package}, which is not installed: pip install 'expclip\\[vlm\\]'"
    ) as caught:
        teacher("image-text", folder)
    assert caught.value.__cause__ is not None


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_without_torchvision_the_error_names_the_extra(tmp_path):
    for name in QWEN:
        refuses_without(write_qwen(tmp_path, name), "torchvision")


def test_an_error_of_transformers_for_any_package_names_the_extra(tmp_path, monkeypatch, clip_folder):
    """Also where the packages are installed: transformers' own words."""
    folder = write_llava(tmp_path)
    wording = transformers.utils.import_utils.TORCHVISION_IMPORT_ERROR.format("SmolVLMVideoProcessor")
    for package, words in (
        ("torchvision", wording),
        (
            "num2words",
            "Package `num2words` is required to run SmolVLM processor. Install it with `pip install num2words`.",
        ),
    ):

        def missing(*_, words=words, **__):
            raise ImportError(words)

        with monkeypatch.context() as patch:
            patch.setattr(AutoProcessor, "from_pretrained", missing)
            refuses_without(folder, package)
