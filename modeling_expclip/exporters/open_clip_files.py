"""A CLIP as the two files that open_clip reads: `open_clip_config.json` and `open_clip_model.safetensors`.

In: a `CLIPModel` of transformers and its processor. Out: the same weights under open_clip's names, and its way to say the sizes and the
preprocessing. Names and shapes are those of open_clip 3.3 (`model.py`, `transformer.py`, `transform.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPProcessor

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_ACTIVATIONS = {"gelu": False, "quick_gelu": True}  # whether open_clip calls it quick_gelu
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # by Pillow's numbers
_EPS = 1e-5  # of open_clip's layer norms


def write_open_clip(model: CLIPModel, processor: CLIPProcessor, folder: Path, name: str) -> None:
    """Writes both files to `folder`.

    Args:
        model: a plain CLIP.
        processor: its processor.
        folder: checkpoint folder.
        name: repository from which `hf-hub:` is to load the tokenizer; `local-dir:` takes the folder's own.

    Raises:
        ValueError: open_clip has no word for an activation, a layer norm or a step of the preprocessing.
        OSError: a file cannot be written.
    """
    config = open_clip_config(model, processor, name)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(_weights(model), folder / WEIGHTS)


def open_clip_config(model: CLIPModel, processor: CLIPProcessor, name: str) -> dict[str, Any]:
    """What `open_clip_config.json` holds. Arguments and errors as of `write_open_clip`."""
    text, vision = model.config.text_config, model.config.vision_config
    for tower in (text, vision):
        if tower.hidden_act not in _ACTIVATIONS or tower.hidden_act != text.hidden_act:
            raise ValueError(f"open_clip has one activation of {', '.join(_ACTIVATIONS)}, not {tower.hidden_act!r}")
        if tower.layer_norm_eps != _EPS:
            raise ValueError(f"open_clip's layer norms have an epsilon of {_EPS}, not {tower.layer_norm_eps}")
    text_cfg = {
        "context_length": text.max_position_embeddings,
        "vocab_size": text.vocab_size,
        "hf_tokenizer_name": name,
        "width": text.hidden_size,
        "heads": text.num_attention_heads,
        "layers": text.num_hidden_layers,
        "mlp_ratio": text.intermediate_size / text.hidden_size,
    }
    if text.eos_token_id not in (
        2,
        text.vocab_size - 1,
    ):  # else the end is the highest token, which open_clip looks for
        text_cfg |= {"pool_type": "eos", "eos_id": text.eos_token_id}
    vision_cfg = {
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "width": vision.hidden_size,
        "head_width": vision.hidden_size // vision.num_attention_heads,
        "layers": vision.num_hidden_layers,
        "mlp_ratio": vision.intermediate_size / vision.hidden_size,
    }
    return {
        "model_cfg": {
            "embed_dim": model.config.projection_dim,
            "quick_gelu": _ACTIVATIONS[text.hidden_act],
            "vision_cfg": vision_cfg,
            "text_cfg": text_cfg,
        },
        "preprocess_cfg": _preprocessing(processor.image_processor, vision.image_size),
    }


def _preprocessing(image_processor: Any, side: int) -> dict[str, Any]:
    size, resample = dict(image_processor.size), int(image_processor.resample)
    modes = {(("height", side), ("width", side)): "squash", (("shortest_edge", side),): "shortest"}
    mode = modes.get(tuple(sorted(item for item in size.items() if item[1] is not None)))
    cropped = dict(image_processor.crop_size or {}) == {"height": side, "width": side}
    if (
        mode is None
        or resample not in _INTERPOLATIONS
        or not (image_processor.do_resize and image_processor.do_rescale)
        or abs(image_processor.rescale_factor - 1 / 255) > 1e-9
        or (mode == "shortest" and not (image_processor.do_center_crop and cropped))
    ):
        raise ValueError(
            f"open_clip cannot preprocess as this checkpoint does (size {size}, resample {resample}); it squashes to {side} x {side}, or "
            "resizes the shorter edge and crops the centre, bilinear or bicubic, and scales by 1/255"
        )
    normalized = image_processor.do_normalize
    return {
        "size": side,
        "mode": "RGB",
        "mean": list(image_processor.image_mean) if normalized else [0.0] * 3,
        "std": list(image_processor.image_std) if normalized else [1.0] * 3,
        "interpolation": _INTERPOLATIONS[resample],
        "resize_mode": mode,
    }


def _weights(model: CLIPModel) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    text, vision = "text_model.", "vision_model."
    weights = {
        "logit_scale": state["logit_scale"],
        "token_embedding.weight": state[f"{text}embeddings.token_embedding.weight"],
        "positional_embedding": state[f"{text}embeddings.position_embedding.weight"],
        "text_projection": state["text_projection.weight"].T,
        "visual.class_embedding": state[f"{vision}embeddings.class_embedding"],
        "visual.conv1.weight": state[f"{vision}embeddings.patch_embedding.weight"],
        "visual.positional_embedding": state[f"{vision}embeddings.position_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T,
    }
    for kind in ("weight", "bias"):
        weights[f"ln_final.{kind}"] = state[f"{text}final_layer_norm.{kind}"]
        weights[f"visual.ln_pre.{kind}"] = state[f"{vision}pre_layrnorm.{kind}"]
        weights[f"visual.ln_post.{kind}"] = state[f"{vision}post_layernorm.{kind}"]
        for tower, place, config in (
            (text, "", model.config.text_config),
            (vision, "visual.", model.config.vision_config),
        ):
            for number in range(config.num_hidden_layers):
                layer, block = f"{tower}encoder.layers.{number}.", f"{place}transformer.resblocks.{number}."
                joined = torch.cat([state[f"{layer}self_attn.{part}_proj.{kind}"] for part in "qkv"])
                weights[f"{block}attn.in_proj_{kind}"] = joined
                for theirs, ours in (
                    ("attn.out_proj", "self_attn.out_proj"),
                    ("ln_1", "layer_norm1"),
                    ("ln_2", "layer_norm2"),
                    ("mlp.c_fc", "mlp.fc1"),
                    ("mlp.c_proj", "mlp.fc2"),
                ):
                    weights[f"{block}{theirs}.{kind}"] = state[f"{layer}{ours}.{kind}"]
    return {name: weight.contiguous() for name, weight in weights.items()}
