"""Adapters that give zero-shot models one interface.

In: a folder, a Hub id or a short name, with ``KIND:`` in front where its config does not say how it
is scored. Out: a `ZeroShotModel`: faces become features once; features and prompts become logits.
So the runner is the same for all models.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from PIL import Image
from transformers import (
    AutoModelForZeroShotImageClassification,
    AutoTokenizer,
    Blip2ForImageTextRetrieval,
    CLIPModel,
    FlavaModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    XCLIPModel,
)
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # 5.6's shorter name wants torchvision

from modeling_expclip.checkpoint.backbones import WITH_HEAD
from modeling_expclip.checkpoint.load import load_weights, model_type_of
from modeling_expclip.processing_expclip import to_rgb
from modeling_expclip.prompts import build_prompts

from ..models.loading import DTYPES, not_loaded
from ..models.sources import origin_of, source_of
from ..support.processes import local_device
from .farl import load_farl

CLIP_TOKENIZER = "openai/clip-vit-base-patch16"
_BATCH = 32  # images, clips or prompts a forward pass


class ZeroShotModel(Protocol):
    """What the benchmark asks of a model. Features are float32 on the CPU and not normalised;
    ``...`` is the model's own affair."""

    def image_features(self, images: list[Image.Image]) -> torch.Tensor:
        """B images of any mode and size -> (B, ...)."""

    def video_features(self, clips: list[list[Image.Image]]) -> torch.Tensor:
        """B clips, each a list of frames in order -> (B, ...)."""

    def logits(self, features: torch.Tensor, labels: Sequence[str], prompts: str) -> torch.Tensor:
        """Features (B, ...) and a prompt set's name -> (B, labels), averaged over the prompts of
        each label."""


def load_zero_shot_model(
    model: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: torch.device | None = None,
    tokenizer: str = CLIP_TOKENIZER,
) -> ZeroShotModel:
    """Loads any model the benchmark can compare.

    Args:
        model: a folder, a Hub id, or ``expclip-mini``. Its config decides how it is scored, unless
            one of these stands in front: ``clip-of:ID`` an Exp-CLIP's towers and preprocessing
            without its head; ``blip2-itc:ID`` and ``blip2-itm:ID`` BLIP-2's image-text contrastive
            and matching scores; ``farl:PATH.pth`` FaRL's released file.
        revision: of the Hub id.
        dtype: float32, bfloat16 or float16, what the networks compute in; cosines are always float32.
        device: default: this process's accelerator, or the CPU.
        tokenizer: folder or Hub id of CLIP's tokenizer, for ``farl:``, whose file has none.

    Raises ValueError for a model that is not supported, has no image processor or tokenizer, or
    whose weights are missing or do not fit; OSError where there is no such model; ImportError where
    its tokenizer needs a package that is missing.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; choose one of {', '.join(DTYPES)}")
    device = device or local_device()
    prefix, source = _split(model)
    if prefix == "farl":
        if revision is not None:
            raise ValueError(f"{model} is a file and has no revision (got {revision!r}); leave it out")
        clip, images = load_farl(source)
        return DualEncoder(clip.to(device, DTYPES[dtype]), images, _load_tokenizer(source_of(tokenizer), None, clip))
    model_type = model_type_of(source, revision)
    kind = KINDS.get(model_type if prefix == "clip-of" and model_type in WITH_HEAD else prefix or model_type)
    if kind is None or kind.model_type != model_type:
        raise ValueError(_unsupported(model, prefix, model_type))
    # FLAVA's and CLIPSeg's checkpoints hold more than the two towers; of ours nothing may be left over.
    leftover = model_type not in WITH_HEAD and not issubclass(kind.model_class, CLIPModel)
    loaded = load_weights(kind.model_class, source, DTYPES[dtype], revision, leftover=leftover).to(device)
    if prefix == "clip-of":
        loaded.projection_head = torch.nn.Identity()
    return kind.adapter(loaded, _load_image_processor(source, revision), _load_tokenizer(source, revision, loaded))


class _Adapter:
    """Batches of images or clips through `embed`, prompts through `encode`, both through `compare`:
    that is all kinds differ in."""

    def __init__(self, model: PreTrainedModel, image_processor: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self._encoded = functools.cache(self.encode)  # the same few prompts for all features

    def embed(self, images: list) -> torch.Tensor:
        """At most _BATCH images -> (B, ...), in whatever dtype and place they were computed."""
        raise NotImplementedError

    def encode(self, prompts: tuple[str, ...]) -> Any:
        """Prompts -> what `compare` wants of them."""
        raise NotImplementedError

    def compare(self, features: torch.Tensor, text: Any) -> torch.Tensor:
        """Features (B, ...) and the encoded prompts -> (B, prompts)."""
        raise NotImplementedError

    def image_features(self, images: list[Image.Image]) -> torch.Tensor:
        return _in_batches(lambda batch: self.embed([to_rgb(image) for image in batch]), images)

    def video_features(self, clips: list[list[Image.Image]]) -> torch.Tensor:
        frames = self.image_features([frame for clip in _check(clips) for frame in clip])  # (all frames, ...)
        return torch.stack([clip.mean(0) for clip in frames.split([len(clip) for clip in clips])])

    @torch.no_grad()
    def logits(self, features: torch.Tensor, labels: Sequence[str], prompts: str) -> torch.Tensor:
        groups = build_prompts(labels, prompts)
        text = self._encoded(tuple(prompt for group in groups for prompt in group))
        return self.compare(features, text).float().cpu().unflatten(1, (len(groups), -1)).mean(2)  # (B, labels)

    def pixels(self, images: list[Image.Image]) -> dict[str, torch.Tensor]:
        """RGB images as this model wants them; SigLIP 2 wants more than ``pixel_values``."""
        return self.image_processor(images=images, return_tensors="pt").to(self.model.device, self.model.dtype)

    def tokens(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """``input_ids`` (prompts, L) and what else the tokenizer gives."""
        # SigLIP reads its last token and has seen texts of one length only.
        padding = "max_length" if self.model.config.model_type in ("siglip", "siglip2") else True
        tokens = self.tokenizer(list(prompts), padding=padding, truncation=True, return_tensors="pt")
        return tokens.to(self.model.device)

    def text_features(self, prompts: Sequence[str]) -> torch.Tensor:
        return _in_batches(lambda batch: _pooled(self.model.get_text_features(**self.tokens(batch))), prompts)


class DualEncoder(_Adapter):
    """Two towers and a cosine: Exp-CLIP, CLIP (MetaCLIP and FaRL too), SigLIP, ALIGN, AltCLIP,
    FLAVA ... Features (B, D)."""

    def embed(self, images: list[Image.Image]) -> torch.Tensor:
        return _pooled(self.model.get_image_features(**self.pixels(images)))  # (B, D)

    def encode(self, prompts: tuple[str, ...]) -> torch.Tensor:
        return F.normalize(self.text_features(prompts), dim=-1)  # (prompts, D)

    def compare(self, features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        scale, bias = _scale_and_bias(self.model)
        return scale * F.normalize(features, dim=-1) @ text.T + bias


class Blip2Contrastive(_Adapter):
    """BLIP-2's Q-Former as two towers: a prompt's cosine with the query token nearest to it.
    Features (B, queries, D)."""

    def embed(self, images: list[Image.Image]) -> torch.Tensor:
        model = self.model
        vision = model.vision_model(**self.pixels(images)).last_hidden_state  # (B, patches + 1, V)
        queries = model.query_tokens.expand(len(images), -1, -1)
        hidden = model.qformer(query_embeds=queries, encoder_hidden_states=vision).last_hidden_state
        return model.vision_projection(hidden.to(model.vision_projection.weight.dtype))

    def encode(self, prompts: tuple[str, ...]) -> torch.Tensor:
        def text(batch: Sequence[str]) -> torch.Tensor:
            model, tokens = self.model, self.tokens(batch)
            words = model.embeddings(input_ids=tokens["input_ids"])
            # query_length 0 sends every token through the Q-Former's text half
            output = model.qformer(query_embeds=words, query_length=0, attention_mask=tokens["attention_mask"])
            return model.text_projection(output.last_hidden_state[:, 0].to(model.text_projection.weight.dtype))

        return F.normalize(_in_batches(text, prompts), dim=-1)  # (prompts, D)

    def compare(self, features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        # transformers keeps no temperature for it, so these logits are plain cosines
        return (F.normalize(features, dim=-1) @ text.T).amax(1)  # over the queries


class Blip2Matching(_Adapter):
    """BLIP-2's image-text matching, a pass of the Q-Former for every pair: the log-odds of "match".
    Features (B, patches + 1, V)."""

    def embed(self, images: list[Image.Image]) -> torch.Tensor:
        return self.model.vision_model(**self.pixels(images)).last_hidden_state

    def encode(self, prompts: tuple[str, ...]) -> list[torch.Tensor]:
        return [self.tokens([prompt])["input_ids"] for prompt in prompts]  # each (1, L), without padding

    def compare(self, features: torch.Tensor, text: list[torch.Tensor]) -> torch.Tensor:
        return _in_batches(lambda vision: torch.stack([self._match(vision, ids) for ids in text], 1), features)

    def _match(self, vision: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Features (B, patches + 1, V) and one prompt's ids (1, L) -> (B,)."""
        model, size = self.model, (len(vision), -1)
        queries = model.query_tokens.expand(*size, -1)
        hidden = model.qformer(
            query_embeds=model.embeddings(input_ids=ids.expand(size), query_embeds=queries),
            query_length=queries.shape[1],
            encoder_hidden_states=vision.to(model.device),
        ).last_hidden_state[:, : queries.shape[1]]  # (B, queries, H)
        unlike, match = model.itm_head(hidden.to(model.itm_head.weight.dtype)).float().mean(1).unbind(-1)
        return match - unlike


class XClip(_Adapter):
    """X-CLIP: clips of its own number of frames, and prompts that look at the clip. Features (B, 1
    + patches, D): first the clip's embedding, then what prompts look at. An image is a clip in
    which nothing moves."""

    def image_features(self, images: list[Image.Image]) -> torch.Tensor:
        return self.video_features([[image] for image in images])

    def video_features(self, clips: list[list[Image.Image]]) -> torch.Tensor:
        return _in_batches(self.embed, _check(clips))

    def embed(self, clips: list[list[Image.Image]]) -> torch.Tensor:
        model, count = self.model, self.model.config.vision_config.num_frames
        # the middles of as many equal segments; a clip that is too short shows frames more than once
        chosen = [clip[int((i + 0.5) * len(clip) / count)] for clip in clips for i in range(count)]
        pixels = self.pixels([to_rgb(frame) for frame in chosen])["pixel_values"]
        # VideoMAE's processor, which those on the Hub have, takes all for one clip and adds a dimension
        pixels = pixels.reshape(len(clips), count, *pixels.shape[-3:])
        output = model.get_video_features(pixels)
        patches = model.prompts_visual_layernorm(output.last_hidden_state[:, 1:]) @ model.prompts_visual_projection
        patches = patches.unflatten(0, (len(clips), count)).mean(1)  # (B, patches, D)
        return torch.cat([output.pooler_output.unsqueeze(1), patches], 1)

    def encode(self, prompts: tuple[str, ...]) -> torch.Tensor:
        return self.text_features(prompts)  # (prompts, D)

    def compare(self, features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        model = self.model

        def scores(clips: torch.Tensor) -> torch.Tensor:
            clips = clips.to(model.device, model.dtype)
            own = text.to(clips).expand(len(clips), -1, -1)  # (B, prompts, D)
            own = own + model.prompts_generator(own, clips[:, 1:])
            return F.cosine_similarity(own.float(), clips[:, :1].float(), dim=-1)  # (B, prompts)

        return _scale_and_bias(model)[0] * _in_batches(scores, features)


class Kind(NamedTuple):
    """How a type of model is loaded and scored."""

    model_type: str
    model_class: type
    adapter: Callable[..., ZeroShotModel]


_AUTO_TYPES = ("siglip", "siglip2", "align", "altclip", "chinese_clip", "metaclip_2", "clipseg", "blip")
KINDS = {
    **{name: Kind(name, model_class, DualEncoder) for name, model_class in WITH_HEAD.items()},
    "clip": Kind("clip", CLIPModel, DualEncoder),
    **{name: Kind(name, AutoModelForZeroShotImageClassification, DualEncoder) for name in _AUTO_TYPES},
    "flava": Kind("flava", FlavaModel, DualEncoder),
    "xclip": Kind("xclip", XCLIPModel, XClip),
    "clip-of": Kind("expclip", WITH_HEAD["expclip"], DualEncoder),
    "blip2-itc": Kind("blip-2", Blip2ForImageTextRetrieval, Blip2Contrastive),
    "blip2-itm": Kind("blip-2", Blip2ForImageTextRetrieval, Blip2Matching),
}
PREFIXES = ("clip-of", "blip2-itc", "blip2-itm", "farl")


def _split(model: str) -> tuple[str | None, str]:
    """``KIND:ID`` -> the kind and where the weights are."""
    prefix, colon, rest = model.partition(":")
    if not colon or Path(model).exists():
        return None, source_of(model)
    if prefix not in PREFIXES:
        raise ValueError(f"unknown kind {prefix!r} in {model!r}; choose one of {', '.join(f'{p}:' for p in PREFIXES)}")
    return prefix, source_of(rest)


def weights_of(model: str) -> str:
    """Identifies the weights of a model that ``load_zero_shot_model`` loads, as ``origin_of`` does,
    or by a file's sha256. Raises OSError where there is no such model."""
    _, source = _split(model)
    if not Path(source).is_file():
        return origin_of(source)
    digest = hashlib.sha256()
    with open(source, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return f"sha256 {digest.hexdigest()}"


def _unsupported(model: str, prefix: str | None, model_type: str | None) -> str:
    holds = f"{model} holds a model of type {model_type!r}"
    if prefix:
        return f"{holds}; {prefix}: expects one of type {KINDS[prefix].model_type!r}"
    choices = [f"{name}:{model}" for name in PREFIXES if name in KINDS and KINDS[name].model_type == model_type]
    if choices:
        return f"{holds}, which can be scored in more than one way; choose {' or '.join(choices)}"
    types = ", ".join(name for name in KINDS if name not in PREFIXES)
    return (
        f"{holds}, which is not supported; expected one of {types}, or {', '.join(f'{p}:' for p in PREFIXES)} in front"
    )


def _load_image_processor(source: str, revision: str | None) -> Any:
    try:
        processor = AutoImageProcessor.from_pretrained(
            source, revision=revision, backend="pil", trust_remote_code=False
        )
    except Exception as error:  # a missing file makes transformers raise half a dozen kinds
        raise not_loaded(source, "image processor", error) from error
    if not type(processor).__name__.endswith("Pil"):  # transformers falls back to torchvision, whose pixels differ
        raise ValueError(f"{source} has a {type(processor).__name__}, of which there is no version for PIL")
    return processor


def _load_tokenizer(source: str, revision: str | None, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    """The tokenizer, which cuts texts where the model's positions end."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as error:
        raise not_loaded(source, "tokenizer", error) from error
    # Where files are missing transformers makes up a tokenizer without a vocabulary instead of an error.
    read = tokenizer.decode(tokenizer("face", add_special_tokens=False).input_ids)
    if read.replace(" ", "").lower() != "face":
        raise ValueError(f"{source} has a tokenizer that reads 'face' as {read!r}: is its tokenizer.json missing?")
    config = model.config
    text = config.qformer_config if config.model_type == "blip-2" else config.text_config
    # RoBERTa's positions, in AltCLIP, begin after the one of the padding token
    positions = text.max_position_embeddings - (text.pad_token_id + 1 if config.model_type == "altclip" else 0)
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    if config.model_type == "blip":
        tokenizer.model_input_names = ["input_ids", "attention_mask"]  # it has no types of tokens, though BERT's words
    return tokenizer


def _check(clips: list[list[Image.Image]]) -> list[list[Image.Image]]:
    empty = [index for index, clip in enumerate(clips) if not len(clip)]
    if empty:
        raise ValueError(f"clips {empty} of {len(clips)} have no frames; leave them out")
    return clips


@torch.no_grad()
def _in_batches(function: Callable[[Any], torch.Tensor], items: Sequence) -> torch.Tensor:
    """B items -> the results (B, ...) of a function of a few of them, float32 on the CPU."""
    if not len(items):
        raise ValueError("no images, clips or prompts given; pass at least one")
    return torch.cat([function(items[i : i + _BATCH]).float().cpu() for i in range(0, len(items), _BATCH)])


def _pooled(output: Any) -> torch.Tensor:
    """The embeddings (B, D). FLAVA projects all its tokens; its contrastive loss takes the first."""
    embeds = output.pooler_output
    return embeds[:, 0] if embeds.ndim == 3 else embeds


def _scale_and_bias(model: PreTrainedModel) -> tuple[float, float]:
    """What this model makes of a cosine before its softmax or sigmoid."""
    if model.config.model_type == "align":
        return 1 / model.temperature.item(), 0.0
    bias = model.logit_bias.item() if hasattr(model, "logit_bias") else 0.0  # SigLIP's
    return model.logit_scale.float().exp().item(), bias
