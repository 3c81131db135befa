"""The Hugging Face Trainer for the head: batches of paired vectors, retrieval accuracy in the logs,
zero-shot evaluation."""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Trainer
from transformers.utils import SAFE_WEIGHTS_NAME

from modeling_expclip.system.files import written_to

from ..embeddings.pairs import Pairs
from ..evaluation.zero_shot import ZeroShot


def as_it_is(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The data sets here return whole batches; there is nothing to collate."""
    return batch


class ExpCLIPTrainer(Trainer):
    """The Hugging Face Trainer with the alignment loss, in-batch retrieval accuracy in its logs,
    and zero-shot evaluation.

    ``eval_dataset`` maps names to ``ZeroShot`` sets. Checkpoints hold W, the optimizer and the
    state; no pickle of the arguments.
    """

    def __init__(self, *args: Any, eval_dataset: Mapping[str, ZeroShot] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, eval_dataset=eval_dataset, **kwargs)
        self.model_accepts_loss_kwargs = False  # or the Trainer would scale the loss itself
        # Sums over the steps since the last log: a list of small tensors would pin the freed memory between them.
        self._retrieval: dict[str, Any] = {"image_to_teacher": 0.0, "teacher_to_image": 0.0}
        self._steps = 0

    def _get_train_sampler(self, train_dataset=None):
        pairs = self.train_dataset if train_dataset is None else train_dataset
        if not isinstance(pairs, Pairs):
            return super()._get_train_sampler(train_dataset)
        batch, world = self.args.train_batch_size, self.args.world_size
        steps = len(pairs) // (batch * world)  # of an epoch
        return pairs.order(
            batch, self.args.process_index, world, self.args.seed, lambda: self.state.global_step // steps
        )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        for name in self._retrieval:
            self._retrieval[name] = self._retrieval[name] + outputs[name]
        self._steps += 1
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise ValueError(
                    f"the loss is {logs['loss']} at step {self.state.global_step}; lower training.learning_rate"
                )
            for name, total in self._retrieval.items():
                logs[name] = self.accelerator.reduce(total / self._steps, "mean").item()
            self._retrieval, self._steps = dict.fromkeys(self._retrieval, 0.0), 0
        super().log(logs, start_time)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Zero-shot WAR and UAR of the head as it is, in percent, for each evaluation set and
        prompt set, and their mean."""
        weight = self.accelerator.unwrap_model(self.model).head()
        metrics = {}
        for name, faces in (eval_dataset or self.eval_dataset).items():
            metrics |= {f"{metric_key_prefix}_{name}_{key}": value for key, value in faces.score(weight).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        with written_to(folder):
            try:
                super()._save_checkpoint(model, trial)
            except RuntimeError as error:  # what torch.save raises where a disk is full
                raise OSError(errno.EIO, (str(error).splitlines() or ["torch.save failed"])[0]) from error

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.cpu().contiguous() for name, value in (state_dict or self.model.state_dict()).items()}
        save_file(weights, folder / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
