"""A training run: from a recipe and pairs of vectors to a complete Exp-CLIP checkpoint in the run's folder.

DIR/recipe.yaml          what the run was begun with; to resume it, the same is needed
DIR/checkpoint-N/        head, optimizer and state, to resume from
DIR/runs/  DIR/log.csv  DIR/training_curve.png
DIR/config.json ...      the checkpoint, as `expclip convert` makes it; config.json comes last
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import torch
import yaml
from safetensors.torch import load_file
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer_utils import set_seed
from transformers.utils import SAFE_WEIGHTS_NAME

from modeling_expclip.checkpoint.backbones import embedding_dim
from modeling_expclip.checkpoint.card import checkpoint_card
from modeling_expclip.checkpoint.head import with_head
from modeling_expclip.checkpoint.save import save_checkpoint
from modeling_expclip.system.files import write_csv, write_text, written_to
from modeling_expclip.system.lock import only_run

from ..data.faces import FINDS_FACES, face_columns, image_bytes, load_faces, readable_face
from ..embeddings.pairs import load_pairs
from ..evaluation.zero_shot import load_zero_shot
from ..models.clip import FrozenClip
from ..models.sources import origin_of
from ..recipe import Recipe, TrainingRecipe, renamed
from ..support.plots import training_curve
from ..support.processes import local_device, rank, world_size
from ..teachers.registry import load_teacher
from .loss import AlignmentModel
from .trainer import ExpCLIPTrainer, as_it_is

_RECIPE = "recipe.yaml"


def train_from_cache(
    recipe: Recipe, cache: Path, output: Path, evaluate: Mapping[str, str], classes: Sequence[str]
) -> None:
    """Trains from an embedding cache. ``evaluate`` maps names to labelled faces to score along the way.

    Continues a run that was stopped; does nothing for one that is finished. Raises ValueError when
    the run in ``output`` was begun with another recipe or data, or the cache does not hold what the
    recipe asks for; OSError where ``output`` cannot be written to, or another run writes there.
    """
    with only_run(output, rank()):
        pairs = load_pairs(cache, recipe.clip, recipe.teacher)
        here = origin_of(recipe.clip.model, recipe.clip.revision)
        if here != pairs.origin["clip"]:
            raise ValueError(
                f"{cache} was made with {recipe.clip.model} at {pairs.origin['clip']}, what is here now is {here}; a head fits only the "
                "CLIP it was trained on: embed again, or pin clip.revision"
            )
        mean = mean_of(teacher for _, teacher in pairs.blocks()) if recipe.training.center_teacher else None
        train(recipe, pairs, pairs.widths[1], mean, pairs.origin, output, evaluate, classes)


def mean_of(blocks: Iterable[torch.Tensor]) -> torch.Tensor:
    """The mean (H,) of all rows of blocks (N, H), summed in float64."""
    total, rows = 0.0, 0
    for block in blocks:
        total += block.sum(0, dtype=torch.float64)
        rows += len(block)
    return (total / rows).float()


def train_from_images(
    recipe: Recipe, sources: Sequence[str], output: Path, evaluate: Mapping[str, str], classes: Sequence[str]
) -> None:
    """The paper's way, for checking: CLIP and teacher see every face again in every epoch. Same
    losses, same head, far slower."""
    if recipe.training.center_teacher:
        raise ValueError(
            "training.center_teacher needs the mean over all faces; train from an embedding cache, or override it with false"
        )
    with only_run(output, rank()):
        pairs = ImageDataset(recipe, sources)
        width = pairs.__getitems__([0])["teacher"].shape[1]
        train(recipe, pairs, width, None, {"data": pairs.fingerprint()}, output, evaluate, classes)


class ImageDataset(Dataset):
    """Faces of which every fetched batch is embedded anew. Only for teachers that look at images."""

    def __init__(self, recipe: Recipe, sources: Sequence[str]) -> None:
        if recipe.teacher.input_column != "image" or len(recipe.teacher.instructions) > 1:
            raise ValueError("training from images needs a teacher that looks at images, and one instruction")
        if recipe.faces.crop in FINDS_FACES:
            raise ValueError(
                f"faces.crop: {recipe.faces.crop} needs an embedding cache, which lists images without a face: expclip embed"
            )
        self.recipe = recipe
        self.faces = load_faces(sources, columns=face_columns(recipe.faces), frames=recipe.faces.frames)
        self.clip = FrozenClip(recipe.clip)
        self.teacher = load_teacher(recipe.teacher, local_device())

    def __len__(self) -> int:
        return len(self.faces)

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        images = [readable_face(record, self.recipe.faces) for record in self.faces.select(rows)]
        return {"image": self.clip(images), "teacher": self.teacher(images, self.recipe.teacher.instructions[0])}

    def fingerprint(self) -> str:
        """Identifies the faces by their content: their paths are the user's own, and recipe.yaml is
        published."""
        digest = hashlib.sha256()
        for record in self.faces:
            try:
                content = image_bytes(record)
            except (OSError, ValueError) as error:
                raise OSError(f"the face {record['id']} cannot be read: {error}") from error
            digest.update(f"{record['id']}\0{record.get('box')}\0{len(content)}\0".encode() + content)
        return f"sha256 {digest.hexdigest()}"


def train(
    recipe: Recipe,
    pairs: Dataset,
    alignment_dim: int,
    teacher_mean: torch.Tensor | None,
    origin: dict[str, str],
    output: Path,
    evaluate: Mapping[str, str],
    classes: Sequence[str],
) -> None:
    """Trains on a data set that returns batches of ``image`` (B, D) and ``teacher`` (B,
    alignment_dim); ``origin`` identifies it."""
    begun = {"recipe": dataclasses.asdict(recipe), "origin": origin}
    begun |= {"evaluate": sorted(evaluate), "classes": list(classes) if evaluate else []}
    _check_run(output, begun)
    if (output / "config.json").exists():
        print(f"{output} is finished; choose another --output-dir to train again")
        return
    clip = FrozenClip(dataclasses.replace(recipe.clip, dtype="float32"))  # its weights go into the checkpoint
    settings = recipe.training
    set_seed(settings.seed)
    weight = initial_head(settings.head_init, alignment_dim, embedding_dim(clip.model))
    scale = clip.model.logit_scale.exp().item() if settings.logit_scale is None else settings.logit_scale
    model = AlignmentModel(weight, scale, teacher_mean, settings.wise_ft_alpha)
    sets = {name: load_zero_shot(source, clip, classes, recipe.faces) for name, source in evaluate.items()}
    arguments = training_arguments(settings, len(pairs), output, bool(sets))
    if rank() == 0:
        _begin(output, begun)
    newest = newest_checkpoint(output, arguments)
    arguments.eval_on_start = bool(sets) and newest is None
    trainer = ExpCLIPTrainer(
        model=model,
        args=arguments,
        train_dataset=pairs,
        eval_dataset=sets or None,
        data_collator=as_it_is,
        optimizers=(optimizer_of(model, settings), None),
        callbacks=[LogLastStep(), Curves(output / "runs")],
    )
    with written_to(output):
        steps = _run(trainer, model, newest, settings.evaluate_steps if sets else None)
        if trainer.is_world_process_zero():
            write_logs(trainer.state.log_history, output)
            write_checkpoint(clip, model, recipe, len(pairs), steps, output)
            print(f"wrote and verified {output}")


def _run(trainer: ExpCLIPTrainer, model: AlignmentModel, newest: Path | None, evaluate_steps: int | None) -> int:
    """Trains from the ``newest`` checkpoint, or the start, to the end; returns the number of steps."""
    state = TrainerState.load_from_json(str(newest / "trainer_state.json")) if newest else None
    if state is not None and state.global_step >= state.max_steps:
        # Killed after its last step. The Trainer would take one more.
        model.load_state_dict(load_file(newest / SAFE_WEIGHTS_NAME))
        trainer.state = state
    else:
        trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    if evaluate_steps and trainer.state.global_step % evaluate_steps:
        trainer.evaluate()
    return trainer.state.global_step


class Curves(TensorBoardCallback):
    """TensorBoard's logs in ``folder``: without one, a run that is only evaluated any more would
    write to ./runs of whoever calls."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.logging_dir = str(folder)


class LogLastStep(TrainerCallback):
    """The last step is logged too, whether or not ``log_steps`` falls on it."""

    def on_step_end(self, args, state, control, **kwargs):
        control.should_log = control.should_log or state.global_step >= state.max_steps
        return control


def initial_head(head_init: str, alignment_dim: int, projection_dim: int) -> torch.Tensor:
    """W (alignment_dim, projection_dim) to start from: ``random`` as the paper's, or ``clip``,
    whose columns are orthonormal, so that all cosines are CLIP's own."""
    if head_init == "random":
        return (torch.rand(alignment_dim, projection_dim) * 2 - 1) * projection_dim**-0.5
    if alignment_dim < projection_dim:
        raise ValueError(
            f"training.head_init: clip needs teacher vectors at least as wide as CLIP's ({projection_dim}), got {alignment_dim}"
        )
    return torch.linalg.qr(torch.randn(alignment_dim, projection_dim)).Q.contiguous()


def optimizer_of(model: AlignmentModel, settings: TrainingRecipe) -> torch.optim.Optimizer:
    """One of the two optimizers recipes can name."""
    common = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=settings.momentum, **common)
    return torch.optim.AdamW(model.parameters(), **common)


def training_arguments(settings: TrainingRecipe, faces: int, output: Path, evaluate: bool) -> TrainingArguments:
    """The Trainer's arguments. A batch larger than the data shrinks to it, so that no data is too
    little to train on."""
    world = world_size()
    batch = min(settings.batch_size, faces)
    if batch < settings.batch_size:
        print(
            f"{faces} faces are fewer than a batch of {settings.batch_size}; training in batches of {batch // world * world}"
        )
    elif batch % world:
        raise ValueError(f"training.batch_size {batch} cannot be shared out evenly to {world} processes")
    if batch // world * world < 2:
        raise ValueError(f"{faces} faces are too few for {world} processes; training compares faces with each other")
    steps = settings.max_steps or -1
    if settings.max_steps and settings.epochs:
        steps = min(settings.max_steps, settings.epochs * (faces // (batch // world * world)))
    arguments = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=batch // world,
        num_train_epochs=settings.epochs or 1,
        max_steps=steps,
        lr_scheduler_type=settings.lr_scheduler_type,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        max_grad_norm=0,  # the paper does not clip
        seed=settings.seed,
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        logging_steps=settings.log_steps,
        logging_nan_inf_filter=False,
        save_steps=settings.save_steps,
        save_total_limit=2,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=settings.evaluate_steps,
        report_to=[],  # but ``Curves``
        use_cpu=not torch.accelerator.is_available(),  # without it the Trainer does not see torchrun's processes on a CPU
        ddp_find_unused_parameters=False,
    )
    if arguments.n_gpu > 1:  # asking sets the devices up, after which the number stays as it is set here
        print(
            f"training on 1 of {arguments.n_gpu} devices, {arguments.n_gpu - 1} idle; "
            f"`torchrun --nproc_per_node {arguments.n_gpu} -m {__package__.partition('.')[0]}.train ...` trains on all of them"
        )
        # As the Trainer itself sets it where it must not multiply the batch and split it over
        # nn.DataParallel's copies: each would compare its faces with its own only, in fewer steps,
        # and fewer faces than that batch would make none.
        arguments._n_gpu = 1
    taken = arguments.train_batch_size * arguments.world_size
    if faces < taken:
        raise ValueError(
            f"{faces} faces in batches of {taken} on {arguments.world_size} process{'es' * (arguments.world_size > 1)} are 0 steps; "
            "give more faces, a smaller training.batch_size, or fewer processes"
        )
    return arguments


def newest_checkpoint(output: Path, arguments: TrainingArguments) -> Path | None:
    """The newest checkpoint that was saved to its end, or None.

    ``trainer_state.json`` is written last; a run killed while saving leaves a folder without it, or
    with part of it. Such folders are removed, so that nothing takes them for whole.
    """
    newest = None
    with arguments.main_process_first(desc="removing checkpoints that were not saved to their end"):
        numbered = [path for path in output.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
        for folder in sorted(numbered, key=lambda path: int(path.name.removeprefix("checkpoint-"))):
            try:
                json.loads((folder / "trainer_state.json").read_text())
                newest = folder
            except (FileNotFoundError, ValueError):
                shutil.rmtree(folder, ignore_errors=True)
    return newest


def write_logs(history: list[dict[str, Any]], output: Path) -> None:
    """``log.csv``, one row a step that was logged or evaluated, and the curve."""
    steps: dict[int, dict[str, Any]] = {}
    for entry in history:
        if "train_runtime" not in entry:
            steps.setdefault(entry["step"], {}).update(entry)
    columns = [
        "step",
        *sorted({name for row in steps.values() for name in row} - {"step"}),
    ]  # a resumed run's are sorted
    write_csv(output / "log.csv", steps.values(), columns)
    training_curve(list(steps.values()), output / "training_curve.png")


def write_checkpoint(
    clip: FrozenClip, model: AlignmentModel, recipe: Recipe, faces: int, steps: int, output: Path
) -> None:
    """The complete checkpoint, verified in a folder of its own and then moved into ``output``."""
    teacher = recipe.teacher
    instruction = f', instruction: "{teacher.instruction}"' if teacher.instruction else ""
    card = checkpoint_card(
        f"Exp-CLIP on {Path(recipe.clip.model).name}",
        f"The backbone `{Path(recipe.clip.model).name}`, frozen, with a projection head trained on {faces} faces without labels for {steps} steps. "
        f"Teacher: {teacher.kind}{f' `{teacher.model}`' if teacher.model else ''}{instruction}. `recipe.yaml` has every setting.",
        base_model=None if Path(recipe.clip.model).is_dir() or "/" not in recipe.clip.model else recipe.clip.model,
    )
    final = output / "final"
    save_checkpoint(with_head(clip.model, model.head()), clip.processor, final, card)
    for file in sorted(final.iterdir(), key=lambda path: path.name == "config.json"):
        os.replace(file, output / file.name)
    final.rmdir()


def _check_run(output: Path, begun: dict[str, Any]) -> None:
    """Raises ValueError where a run with other settings has left something, FileExistsError where
    something else has."""
    known = output / _RECIPE
    if known.exists():
        started = (output / "config.json").exists() or any(output.glob("checkpoint-*"))
        if started and (found := _begun(known)) != begun:
            raise ValueError(
                f"{output} was begun with other settings or data ({_different(found, begun)}); choose another --output-dir"
            )
    elif output.exists() and any(path.name[0] != "." for path in output.iterdir()):
        raise FileExistsError(f"{output} is not empty and has no {_RECIPE}; choose another --output-dir")


def _begun(known: Path) -> Any:
    try:
        begun = yaml.safe_load(known.read_text(encoding="utf-8"))
        training = begun["recipe"]["training"]  # which version 0.1 may have written
        for old, (new, value) in renamed(training).items():
            del training[old]
            training[new] = value
        for section in dataclasses.fields(Recipe):  # what is younger than the run was at its default
            for field in dataclasses.fields(get_type_hints(Recipe)[section.name]):
                if field.default is not dataclasses.MISSING:
                    begun["recipe"][section.name].setdefault(field.name, field.default)
        return begun
    except (yaml.YAMLError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{known} is damaged ({' '.join(str(error).split())}); choose another --output-dir") from error


def _begin(output: Path, begun: dict[str, Any]) -> None:
    """Records what a run is begun with, once all of it is known to be possible, and removes what a
    killed one left half-written."""
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / _RECIPE, yaml.safe_dump(begun, sort_keys=False, allow_unicode=True))
    for left in (output / "final", *output.glob(".final.*")):
        shutil.rmtree(left, ignore_errors=True)


def _different(found: Any, wanted: Any, place: str = "") -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        parts = [
            _different(found.get(key), wanted.get(key), f"{place}.{key}".lstrip(".")) for key in {**found, **wanted}
        ]
        return "; ".join(filter(None, parts))
    return "" if found == wanted else f"{place} {found!r}, now {wanted!r}"
