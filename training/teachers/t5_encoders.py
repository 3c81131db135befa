"""BLIP-2 and InstructBLIP up to T5's encoder: faces and token ids in, the encoder's last hidden state out.

T5's decoder, over half of the parameters, is neither built, nor read from the checkpoint, nor
downloaded where it has files to itself.
"""

from __future__ import annotations

import copy
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn
from transformers import (
    Blip2PreTrainedModel,
    Blip2QFormerModel,
    Blip2VisionModel,
    InstructBlipPreTrainedModel,
    InstructBlipQFormerModel,
    InstructBlipVisionModel,
    PreTrainedConfig,
    PreTrainedModel,
    T5EncoderModel,
)
from transformers.utils.hub import cached_file, cached_files, extract_commit_hash

from modeling_expclip.system.files import read_json

_INDEX = "model.safetensors.index.json"


class _T5EncoderOnly:
    """BLIP-2 and InstructBLIP up to T5's encoder, with the names their checkpoints use; T5's
    decoder is never built."""

    _keys_to_ignore_on_load_unexpected: ClassVar = [r"^language_model\.(decoder|lm_head)\."]
    # As LAVIS, whose teacher the paper asks, in bfloat16 too: transformers itself keeps Q-Former
    # and queries, and in float16 only.
    _keep_in_fp32_modules_strict: ClassVar = ["query_tokens", "qformer", "language_projection"]
    _keep_in_fp32_modules: ClassVar = _keep_in_fp32_modules_strict  # this is the list that quantisation leaves alone
    vision_class: type[PreTrainedModel]
    qformer_class: type[PreTrainedModel]

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        width = config.qformer_config.hidden_size
        self.vision_model = self.vision_class(config.vision_config)
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, width))
        self.qformer = self.qformer_class(config.qformer_config)
        self.language_projection = nn.Linear(width, config.text_config.hidden_size)
        self.language_model = T5EncoderModel(copy.deepcopy(config.text_config))  # T5EncoderModel changes its config
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, qformer_input_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Pixels (B, 3, side, side) and T5's ids (B, n) -> its encoder's last hidden state (B,
        queries + n, H)."""
        image = self.vision_model(pixel_values).last_hidden_state  # (B, patches + 1, V)
        queries = self.query_tokens.expand(len(image), -1, -1)  # (B, queries, Q)
        question = {} if qformer_input_ids is None else {"input_ids": qformer_input_ids}
        answer = self.qformer(query_embeds=queries, encoder_hidden_states=image.to(queries.dtype), **question)
        answer = answer.last_hidden_state[:, : queries.shape[1]]  # (B, queries, Q): without the question's own tokens
        words = self.language_model.get_input_embeddings()(input_ids)  # (B, n, H)
        image_tokens = self.language_projection(answer).to(words)  # (B, queries, H)
        return self.language_model(inputs_embeds=torch.cat([image_tokens, words], 1)).last_hidden_state


class Blip2Encoder(_T5EncoderOnly, Blip2PreTrainedModel):
    vision_class = Blip2VisionModel
    qformer_class = Blip2QFormerModel


class InstructBlipEncoder(_T5EncoderOnly, InstructBlipPreTrainedModel):
    vision_class = InstructBlipVisionModel
    qformer_class = InstructBlipQFormerModel


@contextmanager
def needed_files(model_class: type[PreTrainedModel], source: str, revision: str | None) -> Iterator[str]:
    """A folder with config and those files of a Hub id's weights of which ``model_class`` reads
    something: of BLIP-2 with Flan-T5-XXL half. ``source`` itself where that is a folder, or its
    weights are one file."""
    quietly = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    index = None if Path(source).is_dir() else cached_file(source, _INDEX, revision=revision, **quietly)
    if index is None:
        yield source
        return
    weights = read_json(Path(index), "remove it from the Hub's cache, and it is fetched again")
    unread = re.compile("|".join(model_class._keys_to_ignore_on_load_unexpected))
    weights["weight_map"] = {name: file for name, file in weights["weight_map"].items() if not unread.search(name)}
    wanted = ["config.json", *sorted(set(weights["weight_map"].values()))]
    # The index's own commit, so that a push in between mixes no weights.
    found = cached_files(source, wanted, revision=extract_commit_hash(index, None))
    with tempfile.TemporaryDirectory(prefix=source.replace("/", "--") + "-") as folder:  # errors name it
        for name, file in zip(wanted, found):
            (Path(folder) / name).symlink_to(file)
        (Path(folder) / _INDEX).write_text(json.dumps(weights))
        yield folder
