"""Small random models for the teachers that look at pictures."""

import pytest
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipImageProcessorPil,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    T5Tokenizer,
)

from tests.training.small_models import LETTERS, QFORMER, bert_tokenizer, random_weights
from training.recipe import TeacherRecipe
from training.teachers.registry import load_teacher

ASK = "describe the facial actions."
OTHER = "what is the weather like?"
QUERIES, SIDE, WIDTH, VOCABULARY = 4, 28, 24, 40
IMAGE_TOKEN = VOCABULARY - 1
T5 = {"model_type": "t5", "vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 2}
T5 |= {"num_heads": 3, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION |= {"image_size": SIDE, "patch_size": 7, "initializer_range": 0.2}
STOCK = {
    "blip2": (Blip2Config, Blip2ForConditionalGeneration),
    "instructblip": (InstructBlipConfig, InstructBlipForConditionalGeneration),
}
VISION_KINDS = pytest.mark.parametrize("kind", STOCK)


def t5_tokenizer():
    special = ["<pad>", "</s>", "<unk>", "▁"]
    scores = [(piece, 0.0) for piece in special] + [(letter, -3.0) for letter in LETTERS if letter != " "]
    return T5Tokenizer(scores, extra_ids=0)


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


def teacher(kind, folder, **options):
    return load_teacher(TeacherRecipe(kind, str(folder), **options))
