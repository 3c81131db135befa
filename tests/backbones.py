"""Small random models of other backbones than CLIP, in the files that their repositories on the Hub have."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    MetaClip2Config,
    MetaClip2Model,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    XLMRobertaTokenizer,
)

SIDE = 32
_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = {**_TOWER, "hidden_size": 24, "image_size": SIDE, "patch_size": 8}
# Latin, Greek, Cyrillic, Arabic, Hangul and Han: one piece a character.
_LETTERS = [chr(code) for first, last in ((33, 1300), (0x600, 0x660), (0x4E00, 0x9FA0)) for code in range(first, last)]


def write_metaclip2(folder: Path) -> Path:
    """As facebook/metaclip-2-worldwide-*: XLM-R's tokenizer, texts that end with token 2, CLIP's preprocessing."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    tokenizer = XLMRobertaTokenizer([*pieces, *((letter, -3.0) for letter in _LETTERS)])
    text = {**_TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 77}
    text |= {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": None}
    torch.manual_seed(0)
    config = MetaClip2Config(text_config=text, vision_config=_VISION, projection_dim=16)
    MetaClip2Model(config).eval().save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size=size, crop_size=size).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_siglip2(folder: Path) -> Path:
    """As google/siglip2-base-patch16-224: its config says siglip and nothing of special tokens, its tokenizer is called Gemma's and
    has upper case, its preprocessing names no crop."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *_LETTERS]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    marks = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    settings = {
        "tokenizer_class": "GemmaTokenizer",
        "model_max_length": 64,
        "padding_side": "right",
        "model_input_names": ["input_ids"],
        **marks,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(marks))
    text = {**_TOWER, "hidden_size": 24, "num_attention_heads": 2, "vocab_size": len(words)}
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=_VISION)).eval()
    with torch.no_grad():  # as large as the released ones'; the stock initialisation leaves them, and biases, at zero
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-16.5)
        for weight in model.parameters():
            if weight.ndim == 1 and weight.numel() > 1:
                weight.add_(0.2 * torch.randn(weight.shape))
    model.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}, resample=2).save_pretrained(folder)
    return folder
