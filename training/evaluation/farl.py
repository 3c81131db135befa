"""FaRL's released file as a CLIP that transformers can run.

In: a ``.pth`` whose ``state_dict`` names a CLIP's weights as OpenAI does. Out: a `CLIPModel`, its
image processor and tokenizer. FaRL ("General Facial Representation Learning in a Visual-Linguistic
Manner", CVPR 2022) is not on the Hub in this form.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from modeling_expclip.checkpoint.pth import read_pth

# What the file may hold beside a CLIP: FaRL's masked-image part, which only its pretraining used,
# and notes on sizes.
_NOT_CLIP = re.compile(
    r"visual\.(lm_transformer|ln_lm|lm_head)\.|(visual\.mask_token|input_resolution|context_length|vocab_size)$"
)
_HEAD_WIDTH = 64  # of every attention head in every CLIP of OpenAI's
_LOGIT_SCALE = 100  # the bound at which OpenAI holds it; its CLIPs all end there
_TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_RENAMED = (
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),  # transformers spells it so
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


def load_farl(path: str | Path) -> tuple[CLIPModel, CLIPImageProcessorPil]:
    """Reads FaRL's weights as a CLIPModel in float32, with CLIP's own preprocessing at the size
    they were trained for.

    A file without ``logit_scale`` gets CLIP's usual one, which is printed.

    Raises FileNotFoundError, or ValueError for anything but the whole, finite weights of a CLIP
    with OpenAI's names under the key ``state_dict``. Nothing pickled is executed.
    """
    path = Path(path)
    state = _read(path)
    if "logit_scale" not in state:
        state["logit_scale"] = torch.tensor(math.log(_LOGIT_SCALE))
        print(
            f"{path} has no logit_scale: its probabilities use CLIP's usual {_LOGIT_SCALE}; which label is the likeliest "
            "does not depend on it"
        )
    config = _config(state, path)
    model = CLIPModel(config)
    weights = _renamed(state)
    expected = model.state_dict()
    wrong = {
        "missing": sorted(set(expected) - set(weights)),
        "unknown": sorted(set(weights) - set(expected)),
        "wrong shape": sorted(n for n, w in weights.items() if n in expected and w.shape != expected[n].shape),
        "not finite": sorted(n for n, w in weights.items() if not w.isfinite().all()),
    }
    wrong = {kind: ", ".join(names[:5]) for kind, names in wrong.items() if names}
    if wrong:
        raise ValueError(f"{path} does not hold the weights of a CLIP (names as in CLIPModel): {wrong}")
    model.load_state_dict(weights)
    side = config.vision_config.image_size
    images = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return model.eval(), images


def _read(path: Path) -> dict[str, torch.Tensor]:
    """The CLIP tensors in the file, on the CPU, by OpenAI's names."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {str(path)!r}; pass FaRL's .pth, such as FaRL-Base-Patch16-LAIONFace20M-ep64.pth"
        )
    content = read_pth(path)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} must hold a dict under the key 'state_dict', as FaRL's files do; found: {found}")
    state = {name: value for name, value in state.items() if not _NOT_CLIP.match(str(name))}
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or not value.is_floating_point():
            raise ValueError(f"{path}: expected a tensor of floats for {name!r}, got {type(value).__name__}")
    return {str(name): value.float() for name, value in state.items()}


def _config(state: dict[str, torch.Tensor], path: Path) -> CLIPConfig:
    """The sizes of a CLIP, read off its weights' shapes."""
    dimensions = {
        "visual.conv1.weight": 4,  # (width, 3, patch, patch)
        "visual.positional_embedding": 2,  # (patches + 1, width)
        "visual.transformer.resblocks.0.mlp.c_fc.weight": 2,  # (inner, width)
        "token_embedding.weight": 2,  # (words, text width)
        "positional_embedding": 2,  # (positions, text width)
        "transformer.resblocks.0.mlp.c_fc.weight": 2,
        "text_projection": 2,  # (text width, D)
    }
    bad = [name for name, count in dimensions.items() if name not in state or state[name].ndim != count]
    if bad:
        raise ValueError(f"{path} is no ViT CLIP with OpenAI's names: {', '.join(bad)} missing or of another form")
    width, _, _, patch = state["visual.conv1.weight"].shape
    words, text_width = state["token_embedding.weight"].shape
    if width % _HEAD_WIDTH or text_width % _HEAD_WIDTH:
        raise ValueError(f"{path}: expected widths in multiples of {_HEAD_WIDTH}, got {width} and {text_width}")
    return CLIPConfig(
        vision_config={
            "hidden_size": width,
            "intermediate_size": len(state["visual.transformer.resblocks.0.mlp.c_fc.weight"]),
            "num_hidden_layers": _layers(state, "visual.transformer"),
            "num_attention_heads": width // _HEAD_WIDTH,
            "image_size": patch * round((len(state["visual.positional_embedding"]) - 1) ** 0.5),
            "patch_size": patch,
        },
        text_config={
            "vocab_size": words,
            "hidden_size": text_width,
            "intermediate_size": len(state["transformer.resblocks.0.mlp.c_fc.weight"]),
            "num_hidden_layers": _layers(state, "transformer"),
            "num_attention_heads": text_width // _HEAD_WIDTH,
            "max_position_embeddings": len(state["positional_embedding"]),
            # The last two words; OpenAI's text tower pools where the largest id stands, which is the end's.
            "bos_token_id": words - 2,
            "eos_token_id": words - 1,
            "pad_token_id": words - 1,
        },
        projection_dim=state["text_projection"].shape[1],
    )


def _layers(state: dict[str, torch.Tensor], tower: str) -> int:
    return len({name.split(".resblocks.")[1].split(".")[0] for name in state if name.startswith(f"{tower}.resblocks.")})


def _renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """OpenAI's names -> CLIPModel's. Projections turn round, and one matrix for q, k and v becomes
    three."""
    weights = {}
    for name, value in state.items():
        if name in _TRANSPOSED:
            weights[_TRANSPOSED[name]] = value.T.contiguous()
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if ".attn.in_proj_" in name:
            layer, kind = name.split(".attn.in_proj_")  # kind: weight or bias
            for part, piece in zip("qkv", value.chunk(3)):
                weights[f"{layer}.self_attn.{part}_proj.{kind}"] = piece
        else:
            weights[name] = value
    return weights
