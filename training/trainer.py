"""Training the head: pairs of frozen vectors come in, the symmetric contrastive loss moves W, its weights leave.

Source: the Exp-CLIP paper (WACV 2025), whose loss is CLIP's, between the head's output for a face and what the LLM encoder
made of the same face. Everything but W is frozen, so the module trained here holds W alone.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer
from transformers.utils import SAFE_WEIGHTS_NAME

from modeling_expclip.system.files import written_to
from training.cache import Pairs
from training.zero_shot import ZeroShot


class PairDataset(Dataset):
    """Pairs in memory, fetched a batch at a time."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        chosen = torch.tensor(rows)
        return {"image": self.pairs.image[chosen], "teacher": self.pairs.teacher[chosen]}  # (B, D), (B, H)


def as_it_is(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The data sets here return whole batches; there is nothing to collate."""
    return batch


class Gather(torch.autograd.Function):
    """The rows of all processes, (B, H) -> (processes * B, H); each process gets back the gradient of its own from all of them."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # autograd may still need its own
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


class AlignmentModel(nn.Module):
    """W (alignment_dim, projection_dim) and the loss it learns from.

    Args:
        weight: W to start from.
        logit_scale: the loss's inverse temperature, CLIP's exp(logit_scale); not trained.
        centre: (alignment_dim,), subtracted from every teacher vector.
        keep: share of ``weight`` in the final head.
    """

    def __init__(
        self, weight: torch.Tensor, logit_scale: float, centre: torch.Tensor | None = None, keep: float = 0.0
    ) -> None:
        super().__init__()
        self.projection_head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        with torch.no_grad():
            self.projection_head.weight.copy_(weight)
        self.logit_scale = logit_scale
        self.register_buffer("centre", torch.zeros(len(weight)) if centre is None else centre, persistent=False)
        self.register_buffer("start", weight, persistent=False)
        self.keep = keep

    def head(self) -> torch.Tensor:
        """The head as it would be shipped, (alignment_dim, projection_dim)."""
        return torch.lerp(self.projection_head.weight.detach(), self.start, self.keep).cpu()

    def forward(self, image: torch.Tensor, teacher: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            image: (B, projection_dim), CLIP's image features of this process's faces.
            teacher: (B, alignment_dim), the teacher's vectors of the same faces.

        Returns:
            ``loss`` over the faces of all processes (its mean over processes is the loss of one process with all of them),
            and the share of faces whose own vector is the nearest, ``image_to_teacher`` and ``teacher_to_image``.
        """
        image = F.normalize(self.projection_head(image), dim=-1)  # (B, H)
        teacher = F.normalize(teacher - self.centre, dim=-1)  # (B, H)
        images, teachers, first = image, teacher, 0
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            # Every face of every process is a candidate, and gradients flow back to the process it came from.
            images, teachers = Gather.apply(image), Gather.apply(teacher)  # (processes * B, H)
            first = dist.get_rank() * len(image)
        own = torch.arange(first, first + len(image), device=image.device)
        to_teacher = self.logit_scale * image @ teachers.T  # (B, processes * B)
        to_image = self.logit_scale * teacher @ images.T
        return {
            "loss": (F.cross_entropy(to_teacher, own) + F.cross_entropy(to_image, own)) / 2,
            "image_to_teacher": (to_teacher.argmax(1) == own).float().mean().detach(),
            "teacher_to_image": (to_image.argmax(1) == own).float().mean().detach(),
        }


class ExpCLIPTrainer(Trainer):
    """The Hugging Face Trainer with the alignment loss, in-batch retrieval accuracy in its logs, and zero-shot evaluation.

    ``eval_dataset`` maps names to ``ZeroShot`` sets. Checkpoints hold W, the optimizer and the state; no pickle of the arguments.
    """

    def __init__(self, *args: Any, eval_dataset: Mapping[str, ZeroShot] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, eval_dataset=eval_dataset, **kwargs)
        self.model_accepts_loss_kwargs = False  # or the Trainer would scale the loss itself
        self._retrieval: dict[str, list[torch.Tensor]] = {"image_to_teacher": [], "teacher_to_image": []}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        for name, values in self._retrieval.items():
            values.append(outputs[name])
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise ValueError(
                    f"the loss is {logs['loss']} at step {self.state.global_step}; lower training.learning_rate"
                )
            for name, values in self._retrieval.items():
                logs[name] = self.accelerator.reduce(torch.stack(values).mean(), "mean").item()
                values.clear()
        super().log(logs, start_time)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Zero-shot WAR and UAR of the head as it is, in percent, for each evaluation set and prompt set, and their mean."""
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
