import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AlignConfig,
    AlignModel,
    AlignProcessor,
    AltCLIPConfig,
    AltCLIPModel,
    AltCLIPProcessor,
    AutoTokenizer,
    BertConfig,
    BertModel,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    BlipConfig,
    BlipImageProcessorPil,
    BlipModel,
    BlipProcessor,
    ChineseCLIPConfig,
    ChineseCLIPImageProcessorPil,
    ChineseCLIPModel,
    ChineseCLIPProcessor,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    EfficientNetImageProcessorPil,
    FlavaConfig,
    FlavaForPreTraining,
    FlavaImageProcessorPil,
    FlavaProcessor,
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
    VideoMAEImageProcessorPil,
    ViTImageProcessorPil,
    XCLIPConfig,
    XCLIPModel,
    XCLIPProcessor,
)

from modeling_expclip import MINI, ExpCLIPModel, ExpCLIPProcessor, FacialExpressionPipeline
from modeling_expclip.prompts import build_prompts
from tests.conftest import picture, small_clip, small_tokenizer
from tests.training.test_teachers import LETTERS, QFORMER, bert_tokenizer, random_weights
from training.baselines import load_zero_shot_model
from training.farl import load_farl

EXAMPLES = Path(__file__).parents[2] / "space" / "examples"
LABELS = ("happiness", "anger", "a face like rain")
SIDE, FRAMES, QUERIES = 28, 4, 3

SIZE = {"height": SIDE, "width": SIDE}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**TOWER, "vocab_size": 514, "max_position_embeddings": 77, "bos_token_id": 512, "eos_token_id": 513}
TEXT |= {"pad_token_id": 513}
BERT = {**TOWER, "vocab_size": 70, "max_position_embeddings": 90, "pad_token_id": 0}
ROBERTA = {**TOWER, "vocab_size": 514, "max_position_embeddings": 80, "pad_token_id": 1, "project_dim": 20}
VISION = {**TOWER, "image_size": SIDE, "patch_size": 7}
EFFICIENT = {
    "image_size": SIDE,
    "kernel_sizes": [3, 3],
    "in_channels": [32, 8],
    "out_channels": [8, 24],
    "strides": [1, 2],
}
EFFICIENT |= {"num_block_repeats": [1, 1], "expand_ratios": [1, 2], "hidden_dim": 24, "depthwise_padding": []}
EFFICIENT |= {"width_coefficient": 1.0, "depth_coefficient": 1.0}
CLIP_IMAGES = CLIPImageProcessorPil(size=SIZE, crop_size=SIZE)
PADDED = {"padding": "max_length", "max_length": 64}


def siglip2_tokenizer():
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS.replace(" ", "")]
    # On the Hub too: transformers' own default, left, is not how it was trained.
    return Siglip2Tokenizer({word: i for i, word in enumerate(words)}, padding_side="right")


def configured(config_class, text, vision, **options):
    return config_class(text_config=dict(text), vision_config=dict(vision), **options)


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
def faces():
    return [picture(0, (50, 40)), picture(1, (28, 28)), picture(2, (20, 33)).convert("L")]


@pytest.fixture(scope="module")
def clips():
    return [[picture(10 * clip + i, (30, 40)) for i in range(length)] for clip, length in enumerate((5, 1, 3))]


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


def by_hand(logits, prompts="ensemble5"):
    """Logits of each prompt (B, prompts) by a function of the prompts, averaged over each label's."""
    groups = build_prompts(LABELS, prompts)
    with torch.no_grad():
        return torch.stack([logits(group).mean(1) for group in groups], 1)


def close(got, expected, tolerance=1e-4):
    assert got.shape == expected.shape and got.dtype == torch.float32
    assert (expected[0] - expected[1]).abs().max() > 10 * tolerance, "the faces must differ for a test of anything"
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)


def check_features(model, faces, clips):
    """Features computed once are those computed one by one; a clip is the mean of its frames."""
    features = model.image_features(faces)
    assert features.dtype == torch.float32 and features.device.type == "cpu" and not features.requires_grad
    for index, face in enumerate(faces):
        torch.testing.assert_close(model.image_features([face])[0], features[index], atol=1e-4, rtol=0)
    video = model.video_features(clips)
    assert video.shape == features.shape
    for clip, got in zip(clips, video):
        torch.testing.assert_close(got, model.image_features(clip).mean(0), atol=1e-4, rtol=0)
    assert model.logits(video, LABELS, "photo").shape == (3, 3)


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


def openai_names(clip):
    """A CLIPModel's weights as OpenAI's code would store them."""
    state, old = {}, clip.state_dict()
    for tower, prefix in (("vision_model", "visual."), ("text_model", "")):
        for layer in range(2):
            theirs, ours = f"{prefix}transformer.resblocks.{layer}", f"{tower}.encoder.layers.{layer}"
            for kind in ("weight", "bias"):
                parts = [old[f"{ours}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                state[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(parts)
                pairs = {"attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
                pairs |= {"ln_1": "layer_norm1", "ln_2": "layer_norm2"}
                for their, our in pairs.items():
                    state[f"{theirs}.{their}.{kind}"] = old[f"{ours}.{our}.{kind}"]
    for kind in ("weight", "bias"):
        state[f"visual.ln_pre.{kind}"] = old[f"vision_model.pre_layrnorm.{kind}"]
        state[f"visual.ln_post.{kind}"] = old[f"vision_model.post_layernorm.{kind}"]
        state[f"ln_final.{kind}"] = old[f"text_model.final_layer_norm.{kind}"]
    embeddings = "vision_model.embeddings"
    state["visual.class_embedding"] = old[f"{embeddings}.class_embedding"]
    state["visual.positional_embedding"] = old[f"{embeddings}.position_embedding.weight"]
    state["visual.conv1.weight"] = old[f"{embeddings}.patch_embedding.weight"]
    state["visual.proj"] = old["visual_projection.weight"].T.clone()
    state["token_embedding.weight"] = old["text_model.embeddings.token_embedding.weight"]
    state["positional_embedding"] = old["text_model.embeddings.position_embedding.weight"]
    state["text_projection"] = old["text_projection.weight"].T.clone()
    state["logit_scale"] = old["logit_scale"]
    return state


@pytest.fixture(scope="module")
def farl(tmp_path_factory):
    """A random CLIP and its weights in a file as FaRL's, with what its pretraining left there."""
    wide = {"hidden_size": 64, "num_attention_heads": 1}
    clip = random_weights(CLIPModel(configured(CLIPConfig, TEXT | wide, VISION | wide | {"image_size": 35})))
    clip.text_model.final_layer_norm.bias.data += 1
    state = openai_names(clip)
    state["visual.mask_token"] = torch.zeros(64)
    state["visual.lm_transformer.resblocks.0.attn.in_proj_weight"] = torch.zeros(192, 64)
    state["visual.lm_head.weight"], state["visual.ln_lm.bias"] = torch.zeros(100, 64), torch.zeros(64)
    path = tmp_path_factory.mktemp("farl") / "farl.pth"
    torch.save({"state_dict": state, "epoch": 64}, path)
    small_tokenizer().save_pretrained(path.parent / "tokenizer")
    return path, clip, state


def test_farl_is_the_clip_it_was_made_of(farl, faces, clips):
    path, clip, _ = farl
    loaded, images = load_farl(path)
    assert all(torch.equal(weight, clip.state_dict()[name]) for name, weight in loaded.state_dict().items())
    assert images.size == {"shortest_edge": 35} and images.image_mean == CLIPImageProcessorPil().image_mean
    processor = CLIPProcessor(images, small_tokenizer())
    rgb = [face.convert("RGB") for face in faces]

    def logits(prompts):
        options = {"padding": True, "truncation": True, "max_length": 77, "return_tensors": "pt"}
        return clip(**processor(images=rgb, text=prompts, **options)).logits_per_image

    model = load_zero_shot_model(f"farl:{path}", tokenizer=str(path.parent / "tokenizer"))
    close(model.logits(model.image_features(faces), LABELS, "ensemble5"), by_hand(logits))
    check_features(model, faces, clips)


class Code:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {"model": state}, "key 'state_dict', as FaRL's files do; found: model"),
        (lambda state: [1], "found: list"),
        (lambda state: {"state_dict": state, "code": Code()}, "refused: it is not a plain state dict"),
        (lambda state: {"state_dict": state | {"ln_final.weight": None}}, "tensor of floats for 'ln_final.weight'"),
        (lambda state: {"state_dict": state | {"ln_final.weight": torch.ones(3)}}, "'wrong shape': 'text_model.final"),
        (lambda state: {"state_dict": state | {"ln_final.bias": torch.full((64,), torch.nan)}}, "'not finite': 'text"),
        (lambda state: {"state_dict": state | {"visual.layer1.weight": torch.ones(3)}}, "'unknown': 'visual.layer1"),
        (lambda state: {"state_dict": {k: v for k, v in state.items() if k != "logit_scale"}}, "'missing': 'logit_sc"),
        (
            lambda state: {"state_dict": {"mlp.weight": torch.ones(3, 3)}},
            "is no ViT CLIP with OpenAI's names: visual.c",
        ),
        (lambda state: {"state_dict": state | {"text_projection": torch.ones(3)}}, "is no ViT CLIP.* text_projection"),
    ],
)
def test_farl_refuses_anything_else(tmp_path, farl, change, message, capsys):
    torch.save(change(farl[2]), tmp_path / "farl.pth")
    with pytest.raises(ValueError, match=message):
        load_farl(tmp_path / "farl.pth")
    assert "executed" not in capsys.readouterr().out


def test_farl_files_that_are_not_whole(tmp_path, farl):
    (tmp_path / "cut.pth").write_bytes(farl[0].read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut.pth"):
        load_farl(tmp_path / "cut.pth")
    with pytest.raises(FileNotFoundError, match="pass FaRL's .pth"):
        load_zero_shot_model(f"farl:{tmp_path / 'none.pth'}")
    with pytest.raises(ValueError, match="has no revision"):
        load_zero_shot_model(f"farl:{farl[0]}", revision="main")


def test_many_items_pass_in_several_batches(clip_folder, xclip, monkeypatch):
    images = [picture(i) for i in range(5)]
    for folder in (clip_folder, xclip[0]):
        model = load_zero_shot_model(str(folder))
        features = model.image_features(images)
        whole = model.logits(features, LABELS, "ensemble5")
        with monkeypatch.context() as patch:
            patch.setattr("training.baselines._BATCH", 2)
            torch.testing.assert_close(model.image_features(images), features, atol=1e-5, rtol=0)
            again = load_zero_shot_model(str(folder)).logits(features, LABELS, "ensemble5")
        torch.testing.assert_close(again, whole, atol=1e-4, rtol=0)


def test_prompts_are_encoded_once(clip_folder, monkeypatch):
    model = load_zero_shot_model(str(clip_folder))
    features, calls = model.image_features([picture()]), []
    tower = model.model.get_text_features
    monkeypatch.setattr(model.model, "get_text_features", lambda **tokens: calls.append(1) or tower(**tokens))
    first = model.logits(features, LABELS, "photo")
    assert torch.equal(model.logits(features, list(LABELS), "photo"), first) and len(calls) == 1
    model.logits(features, LABELS, "expression")
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["clip", "siglip", "align"])
def test_half_precision_computes_but_gives_float32(name, write, faces):
    half, exact = (load_zero_shot_model(str(write(name)), dtype=dtype) for dtype in ("bfloat16", "float32"))
    features = half.image_features(faces)
    assert half.model.dtype == torch.bfloat16 and features.dtype == torch.float32
    assert torch.cosine_similarity(features, exact.image_features(faces)).min() > 0.99
    assert half.logits(features, LABELS, "photo").dtype == torch.float32


@pytest.mark.parametrize("kind", ["blip2-itc:", "blip2-itm:", ""])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_of_networks_that_compare(kind, dtype, blip2, xclip, faces):
    model = load_zero_shot_model(kind + str(blip2 if kind else xclip[0]), dtype=dtype)
    logits = model.logits(model.image_features(faces), LABELS, "photo")
    assert logits.dtype == torch.float32 and logits.isfinite().all()


def test_unsupported_models_are_refused(tmp_path, clip_folder, xclip):
    BertModel(BertConfig(**BERT)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"type 'bert', which is not supported; expected one of expclip, clip, siglip"):
        load_zero_shot_model(str(tmp_path))
    with pytest.raises(ValueError, match="unknown kind 'vilt' in 'vilt:a/b'; choose one of clip-of:, blip2-itc:"):
        load_zero_shot_model("vilt:a/b")
    with pytest.raises(ValueError, match="of type 'xclip'; blip2-itm: expects one of type 'blip-2'"):
        load_zero_shot_model(f"blip2-itm:{xclip[0]}")
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        load_zero_shot_model(str(clip_folder), dtype="int8")
    with pytest.raises(FileNotFoundError, match="no folder './nowhere'"):
        load_zero_shot_model("./nowhere")


def test_blip2_asks_which_of_its_scores(blip2):
    with pytest.raises(ValueError, match=f"more than one way; choose blip2-itc:{blip2} or blip2-itm:{blip2}"):
        load_zero_shot_model(str(blip2))


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


def test_clips_without_frames_are_named(clip_folder, xclip):
    for folder in (clip_folder, xclip[0]):
        model = load_zero_shot_model(str(folder))
        with pytest.raises(ValueError, match=r"clips \[1\] of 2 have no frames"):
            model.video_features([[picture()], []])
        with pytest.raises(ValueError, match="pass at least one"):
            model.image_features([])
