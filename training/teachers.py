"""Teachers: what an LLM encoder makes of a face, as one vector (H,) for the head to agree with.

In: a list of faces (or captions, or vectors made elsewhere) and an instruction. Out: (B, H) float32 on the CPU.
Which teacher, and how its hidden states become one vector, is the recipe's ``teacher:`` section, a `TeacherRecipe`.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForTextEncoding,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
    BlipImageProcessorPil,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from modeling_expclip.checkpoint.convert import paper_image_processor
from modeling_expclip.checkpoint.folder import load_weights
from training.extras import not_loaded
from training.mini import describer
from training.processes import world_size
from training.recipe import TeacherRecipe
from training.sources import MINILM, origin_of, source_of
from training.t5_encoders import Blip2Encoder, InstructBlipEncoder, needed_files

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_teacher(spec: TeacherRecipe, device: torch.device | None = None) -> Teacher:
    """Loads the teacher onto ``device`` (default: CPU), or where its ``device_map`` says.

    Raises ValueError for what ``check`` refuses, a model of the wrong type, or weights that are missing or do not fit; OSError
    where there are no weights; ImportError without an optional package.
    """
    check(spec)
    return TEACHERS[spec.kind](spec, device or torch.device("cpu"))


def teacher_origin(spec: TeacherRecipe) -> str:
    """Identifies the weights behind a teacher's vectors. Raises OSError where there are none."""
    return TEACHERS[spec.kind].origin(spec)


def check(spec: TeacherRecipe) -> None:
    """Raises ValueError for a kind that does not exist, a model that is missing, or an option the kind does not read."""
    if spec.kind not in TEACHERS:
        raise ValueError(f"unknown kind {spec.kind!r} of a teacher; choose one of {', '.join(TEACHERS)}")
    reads = TEACHERS[spec.kind].reads
    for field in fields(spec)[1:]:
        value = getattr(spec, field.name)
        if value != field.default and field.name not in reads:
            readers = ", ".join(kind for kind, other in TEACHERS.items() if field.name in other.reads)
            raise ValueError(
                f"teacher kind {spec.kind!r} does not read {field.name} (got {value!r}): "
                f"leave it out, or choose one of the kinds that do: {readers}"
            )
    if "model" in reads and not spec.model:
        raise ValueError(f"teacher kind {spec.kind!r} needs a model: a folder or a Hub id such as 'owner/name'")


class Teacher:
    """Called with B items of its ``column`` and one instruction, gives (B, H) float32 on the CPU."""

    reads: frozenset[str] = frozenset()  # the fields of a TeacherRecipe that mean something to this kind

    def __init__(self, spec: TeacherRecipe, device: torch.device) -> None:
        self.spec = spec
        self.column = spec.input_column

    @classmethod
    def origin(cls, spec: TeacherRecipe) -> str:
        return origin_of(spec.model, spec.revision)

    def embed(self, items: list, instruction: str) -> torch.Tensor:
        """The vectors (B, H), in whatever dtype and place they were computed."""
        raise NotImplementedError

    def __call__(self, items: list, instruction: str) -> torch.Tensor:
        """Raises ValueError, naming the items by their place in the list, where a vector is not finite."""
        with torch.inference_mode():
            vectors = self.embed(items, instruction).float().cpu()
        broken = [index for index, fine in enumerate(vectors.isfinite().all(1).tolist()) if not fine]
        if broken:
            raise ValueError(
                f"teacher {self.spec.model or self.spec.kind!r} gave values that are not finite for items {broken} of "
                f"{len(items)} of column {self.column!r}: leave them out, or use another dtype if this was float16"
            )
        return vectors.clone()  # outside inference mode, so that a loss may use it


OF_A_MODEL = frozenset({"model", "revision", "instruction", "dtype", "device_map", "quantization"})


class BlipTeacher(Teacher):
    """BLIP-2 or InstructBLIP with a T5: the mean of T5's encoder's last hidden state. The paper's teacher is BLIP-2."""

    reads = OF_A_MODEL | {"pooling", "preprocessing"}

    def __init__(self, spec: TeacherRecipe, device: torch.device) -> None:
        super().__init__(spec, device)
        encoder_class = {"blip2": Blip2Encoder, "instructblip": InstructBlipEncoder}[spec.kind]
        model_type = encoder_class.config_class.model_type
        config = _load_part(AutoConfig, spec, "config")
        if config.model_type != model_type:
            raise ValueError(
                f"{spec.model} holds a model of type {config.model_type!r}; kind {spec.kind!r} expects {model_type!r}"
            )
        if config.text_config.model_type != "t5":
            raise ValueError(
                f"{spec.model} has a language model of type {config.text_config.model_type!r} and kind {spec.kind!r} "
                "needs T5's encoder: choose a checkpoint with Flan-T5, or kind 'image-text' for this one"
            )
        if spec.preprocessing == "paper":
            self.image_processor = paper_image_processor(config.vision_config.image_size)
        else:  # not the Auto class's choice: torchvision resizes differently, and vectors must not depend on it
            self.image_processor = _load_part(BlipImageProcessorPil, spec, "image processor")
        tokenizer = _load_tokenizer(spec)
        if tokenizer("").input_ids != [tokenizer.eos_token_id]:
            raise ValueError(f"the tokenizer in {spec.model} does not end a text as T5's does; save T5's own there")
        self.tokenizers = {"input_ids": tokenizer}
        if spec.kind == "instructblip":
            self.tokenizers["qformer_input_ids"] = _load_tokenizer(spec, subfolder="qformer_tokenizer")
        with needed_files(encoder_class, spec.model, spec.revision) as folder:
            self.model = _load_model(encoder_class, spec, device, source=folder)

    def embed(self, items: list[Image.Image], instruction: str) -> torch.Tensor:
        pixels = self.image_processor(items, return_tensors="pt")["pixel_values"]  # (B, 3, side, side)
        inputs = {"pixel_values": pixels.to(self.model.device, DTYPES[self.spec.dtype])}
        for name, tokenizer in self.tokenizers.items():
            ids = tokenizer(instruction, return_tensors="pt").input_ids  # (1, n): the same for all, so no padding
            inputs[name] = ids.to(self.model.device).expand(len(items), -1)  # (B, n)
        hidden = self.model(**inputs)  # (B, queries + n, H)
        if self.spec.pooling == "image":
            hidden = hidden[:, : self.model.config.num_query_tokens]  # (B, queries, H)
        return hidden.float().mean(1)  # (B, H)


class ImageTextTeacher(Teacher):
    """Any decoder-only vision-language model (Qwen-VL, SmolVLM, LLaVA ...): the mean of one of its hidden states."""

    reads = OF_A_MODEL | {"pooling", "layer"}

    def __init__(self, spec: TeacherRecipe, device: torch.device) -> None:
        super().__init__(spec, device)
        config = _load_part(AutoConfig, spec, "config")
        text_config = config.get_text_config()
        if config.is_encoder_decoder or text_config.is_encoder_decoder:
            raise ValueError(
                f"{spec.model} has an encoder and a decoder (model type {config.model_type!r}) and kind 'image-text' "
                "needs a decoder-only model; for BLIP-2 with T5 choose kind 'blip2' or 'instructblip'"
            )
        layers = text_config.num_hidden_layers
        if not -layers - 1 <= spec.layer <= layers:
            raise ValueError(f"{spec.model} has {layers} layers: expected layer in 0..{layers} or -1, got {spec.layer}")
        self.image_token = getattr(config, "image_token_id", None)
        if spec.pooling == "image" and self.image_token is None:
            raise ValueError(f"{spec.model} does not say which tokens are its image's; use pooling 'all'")
        self.processor = _load_part(AutoProcessor, spec, "processor (image processor and tokenizer)")
        if not (hasattr(self.processor, "tokenizer") and hasattr(self.processor, "image_processor")):
            raise ValueError(f"{spec.model} has a {type(self.processor).__name__} where a whole processor is needed")
        _ready_to_pad(self.processor.tokenizer)
        self.model = _load_model(AutoModelForImageTextToText, spec, device)

    def prompt(self, instruction: str) -> str:
        """One image and the instruction, as this model is used to being asked."""
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}] + [{"type": "text", "text": instruction}] * bool(instruction)
            return self.processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        if hasattr(self.processor, "num_query_tokens"):  # BLIP's processors put the image tokens there themselves
            return instruction
        return str(getattr(self.processor, "image_token", "")) + instruction

    def embed(self, items: list[Image.Image], instruction: str) -> torch.Tensor:
        prompt = self.prompt(instruction)
        options = {"return_tensors": "pt", "padding": True}
        bos = self.processor.tokenizer.bos_token
        if bos and prompt.startswith(bos):  # the chat template wrote it, a second one would be read as text
            options["add_special_tokens"] = False
        inputs = self.processor(images=[[item] for item in items], text=[prompt] * len(items), **options)
        inputs = inputs.to(self.model.device, dtype=DTYPES[self.spec.dtype])
        base = self.model.base_model  # without the language model's head
        # Only models without such a base (BLIP-2 with OPT) must show all their hidden states for the last one.
        every = self.spec.layer != -1 or base is self.model
        outputs = base(**inputs, use_cache=False, output_hidden_states=every)
        outputs = getattr(outputs, "language_model_outputs", outputs)
        hidden = outputs.hidden_states[self.spec.layer] if every else outputs.last_hidden_state  # (B, T, H)
        if self.spec.pooling == "all":
            return _masked_mean(hidden, inputs["attention_mask"])
        return _masked_mean(hidden, inputs["input_ids"] == self.image_token)


class CaptionTeacher(Teacher):
    """A text encoder that reads captions, the instruction in front: the mean of its last hidden state."""

    reads = OF_A_MODEL | {"column"}

    def __init__(self, spec: TeacherRecipe, device: torch.device) -> None:
        super().__init__(spec, device)
        config = _load_part(AutoConfig, spec, "config")
        encoder_class = AutoModelForTextEncoding if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
        if encoder_class is AutoModel and config.is_encoder_decoder:
            raise ValueError(f"{spec.model} (type {config.model_type!r}) has a decoder; choose a text encoder or a T5")
        self.tokenizer = _ready_to_pad(_load_tokenizer(spec))
        self.model = _load_model(encoder_class, spec, device, unused=("pooler.",))

    def embed(self, items: list[str], instruction: str) -> torch.Tensor:
        for index, item in enumerate(items):
            if not isinstance(item, str) or not item.strip():
                raise ValueError(f"column {self.column!r}: expected a caption for item {index}, got {item!r}")
        texts = [f"{instruction} {item}" if instruction else item for item in items]
        inputs = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.model.device)
        return _masked_mean(self.model(**inputs).last_hidden_state, inputs["attention_mask"])


class DescriberTeacher(Teacher):
    """The mini's describer writes sentences about a face, MiniLM reads them: the mean of their vectors. Stands in for an LLM where
    there is no network."""

    reads = frozenset({"instruction"})

    def __init__(self, spec: TeacherRecipe, device: torch.device) -> None:
        super().__init__(spec, device)
        self.describe = describer.Describer()
        encoder = CaptionTeacher(TeacherRecipe("captions", MINILM), device)
        self.vector = functools.cache(lambda sentence: encoder.embed([sentence], "")[0])  # it knows some hundred

    @classmethod
    def origin(cls, spec: TeacherRecipe) -> str:
        return f"{describer.origin()}, {origin_of(MINILM)}"

    def embed(self, items: list[Image.Image], instruction: str) -> torch.Tensor:
        faces = self.describe(items, instruction)
        return torch.stack([torch.stack([self.vector(sentence) for sentence in face]).mean(0) for face in faces])


class VectorTeacher(Teacher):
    """Vectors that were computed elsewhere, checked."""

    reads = frozenset({"column"})

    def embed(self, items: list, instruction: str) -> torch.Tensor:
        rows = []
        for index, item in enumerate(items):
            try:
                row = np.asarray(item)
            except ValueError:  # a list of lists of different lengths
                row = np.asarray(None)
            if row.ndim != 1 or row.dtype.kind not in "iuf" or not row.size:
                raise ValueError(
                    f"column {self.column!r}: expected a list of numbers for item {index}, got {item!r:.60}"
                )
            if row.size != (rows or [row])[0].size:
                raise ValueError(
                    f"column {self.column!r}: item {index} has {row.size} numbers and item 0 has {rows[0].size}; "
                    "all vectors must be of one length"
                )
            rows.append(row.astype(np.float64))
        return torch.from_numpy(np.stack(rows))  # (B, H)


TEACHERS = {
    "blip2": BlipTeacher,
    "instructblip": BlipTeacher,
    "image-text": ImageTextTeacher,
    "captions": CaptionTeacher,
    "vectors": VectorTeacher,
    "describer": DescriberTeacher,
}


def _load_part(auto_class: type, spec: TeacherRecipe, what: str, **options: str) -> Any:
    try:
        return auto_class.from_pretrained(
            source_of(spec.model), revision=spec.revision, trust_remote_code=False, **options
        )
    except Exception as error:  # a missing file makes transformers raise half a dozen kinds
        raise not_loaded(spec.model, what, error) from error


def _load_tokenizer(spec: TeacherRecipe, subfolder: str = "") -> PreTrainedTokenizerBase:
    what = subfolder or "tokenizer"
    tokenizer = _load_part(AutoTokenizer, spec, what, subfolder=subfolder)
    # Where files are missing transformers makes up a tokenizer without a vocabulary instead of an error.
    read = tokenizer.decode(tokenizer("face", add_special_tokens=False).input_ids)
    if read.replace(" ", "").lower() != "face":
        raise ValueError(f"{spec.model} has a {what} that reads 'face' as {read!r}: is its tokenizer.json missing?")
    return tokenizer


def _load_model(
    model_class: type,
    spec: TeacherRecipe,
    device: torch.device,
    unused: tuple[str, ...] = (),
    source: str | None = None,
) -> PreTrainedModel:
    """The model, evaluating, of ``source`` (default: what the recipe names). Raises ValueError where weights are missing (but those of
    ``unused``) or of another shape."""
    # Under torchrun every process has a device of its own; "auto" would spread each one's weights over all of them.
    options = {"device_map": spec.device_map} if spec.device_map and world_size() == 1 else {}
    if spec.quantization:
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ImportError(
                f"quantization {spec.quantization!r} needs the package bitsandbytes: pip install bitsandbytes, "
                "or leave quantization out and choose dtype bfloat16"
            )
        settings = BitsAndBytesConfig(
            **{f"load_in_{spec.quantization}": True},
            bnb_4bit_compute_dtype=DTYPES[spec.dtype],
            bnb_4bit_quant_type="nf4",
        )
        options = {"device_map": {"": device}, **options, "quantization_config": settings}
    source, dtype = source or source_of(spec.model), DTYPES[spec.dtype]
    model = load_weights(model_class, source, dtype, spec.revision, leftover=True, unused=unused, **options)
    return model if options else model.to(device)


def _ready_to_pad(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Pads on the right, where no position moves and no causal token sees it; any token will do where there is none."""
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _masked_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, T, H) and (B, T) -> (B, H) float32, the mean over the tokens where the mask is set."""
    mask = mask.to(hidden.device).bool().unsqueeze(-1)  # (B, T, 1)
    return hidden.float().masked_fill(~mask, 0).sum(1) / mask.sum(1)  # (B, H)
