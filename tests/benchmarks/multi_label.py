"""``python -m tests.benchmarks.multi_label --ferplus FILE [--london FILE]``: what a label should be scored against when it is scored by itself.

Faces with votes come in (FER+), and the scores of each scheme on the same embeddings; tables leave: how the scores rank faces against
the shares of votes (Spearman's rho), average precision for what at least half of the taggers said, both with 95 % intervals by bootstrap over
faces, and what words score that nobody means of a face. Then what our label sets can be checked on: valence and arousal on votes, action
units on smiling and neutral faces of the same people (London Set).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from modeling_expclip import MINI, FaceAnalyzer
from modeling_expclip.media.label_sets import ACTION_UNITS, VALENCE_AROUSAL
from modeling_expclip.prompts import REFERENCES
from training.evaluation.auc import auc, auc_interval
from training.evaluation.bootstrap import middle

from .results import record

RESAMPLES = 300
# A word for each of the first seven categories that the label sets of the paper do not hold.
UNSEEN = ("joyful", "sorrowful", "expressionless", "furious", "astonished", "revolted", "scared")
NONSENSE = ("tractor", "purple", "tuesday", "concrete", "algebra", "banana", "grammar", "blorf")
NEGATIVE = ("sadness", "anger", "disgust", "fear", "contempt")
AROUSED = ("surprise", "fear", "anger")
SHIPPED = "eight, but those near"
_NOT_A_FACE = 9  # a column of the votes


def embed(analyzer: FaceAnalyzer, images: list[dict]) -> tuple[torch.Tensor, list[int]]:
    """The largest face of each image, (N, D), and the images' numbers."""
    found = analyzer.embed(enumerate(image["bytes"] for image in images))
    faces = [(number, each.embeds[0]) for number, each in found if each.embeds is not None]
    return torch.stack([face for _, face in faces]), [number for number, _ in faces]


def schemes(pipeline) -> dict[str, Callable[[tuple[str, ...]], tuple]]:
    """By name, a function from labels to what `probabilities` compares faces with."""
    eight = pipeline.class_prototypes(REFERENCES)
    plain = pipeline.class_prototypes(["a photo of a face"], ["{}"])

    def against(references: torch.Tensor) -> Callable[[tuple[str, ...]], tuple]:
        def all_of(labels: tuple[str, ...]) -> tuple:
            mask = torch.ones(len(labels), len(references), dtype=torch.bool)
            return torch.cat([pipeline.class_prototypes(labels), references]), mask

        return all_of

    def and_plain(labels: tuple[str, ...]) -> tuple:
        prototypes, mask = pipeline.comparison(labels, multi_label=True)
        return torch.cat([prototypes, plain]), torch.nn.functional.pad(mask, (0, 1), value=True)

    def opposite(labels: tuple[str, ...]) -> tuple:
        contrasts = {label: (f"a face that is {label}", f"a face that is not {label}") for label in labels}
        return pipeline.comparison(labels, contrasts=contrasts)

    return {
        "softmax over the labels": lambda labels: (pipeline.class_prototypes(labels), None),
        "“not” the label": opposite,
        "neutral": against(eight[REFERENCES.index("neutral")][None]),
        "a plain face": against(plain),
        "eight": against(eight),
        SHIPPED: lambda labels: pipeline.comparison(labels, multi_label=True),
        "eight, but those near, and a plain face": and_plain,
    }


class Ranking:
    """Scores (N,) and shares of votes (N,), compared on any resample; ``times`` (N,) is how often each face counts."""

    def __init__(self, scores: np.ndarray, shares: np.ndarray) -> None:
        self.said = shares >= 0.5
        self._places = [np.unique(values, return_inverse=True)[1] for values in (scores, shares)]

    def spearman(self, times: np.ndarray) -> float:
        """The correlation of ranks, ties in the middle of theirs; nan where one side does not vary."""
        ranks = []
        for places in self._places:
            counts = np.bincount(places, times)
            ranks.append((np.cumsum(counts) - counts / 2)[places])
        (x, y), total = (rank - np.average(rank, weights=times) for rank in ranks), times
        spread = np.sqrt((total * x * x).sum() * (total * y * y).sum())
        return float((total * x * y).sum() / spread) if spread else float("nan")

    def average_precision(self, times: np.ndarray) -> float:
        """The mean, over what at least half said, of the precision above each; those with the same score count together."""
        right, all_of = (np.bincount(self._places[0], times * of)[::-1] for of in (self.said, np.ones(len(times))))
        hits = np.cumsum(right)
        seen = np.cumsum(all_of)
        precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
        return float((right * precision).sum() / hits[-1]) if hits[-1] else float("nan")


def measured(rankings: list[Ranking], draws: list[np.ndarray], measure: str) -> tuple[float, float, float]:
    """A measure's mean over rankings (nan where all are) and its 95 % interval, the faces of all drawn together."""
    values = [np.mean([getattr(ranking, measure)(times) for ranking in rankings]) for times in draws]
    return float(values[0]), *(middle(np.array(values[1:])) if np.isfinite(values[0]) else (np.nan, np.nan))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.multi_label", description=__doc__)
    parser.add_argument("--model", default=MINI)
    parser.add_argument("--ferplus", type=Path, required=True, help="Parquet file with image and votes")
    parser.add_argument("--london", type=Path, help="Parquet file of photos, with image and label")
    parser.add_argument("--detector", default="auto", help="what finds the faces of --london")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    analyzer = FaceAnalyzer(arguments.model, faces=False, batch_size=64, workers=1)
    pipeline = analyzer.pipeline
    table = pq.read_table(arguments.ferplus, columns=["image", "votes"])
    votes = np.array(table["votes"].to_pylist())
    faces, _ = embed(analyzer, table["image"].to_pylist())
    kept = votes[:, _NOT_A_FACE] * 2 < votes.sum(1)
    faces, votes = faces[torch.from_numpy(kept)], votes[kept]
    shares = votes[:, : len(REFERENCES)] / votes.sum(1, keepdims=True)  # (N, 8)
    generator, count = np.random.default_rng(0), len(faces)
    drawn = (np.bincount(generator.integers(count, size=count), minlength=count) for _ in range(RESAMPLES))
    draws = [np.ones(count), *map(np.asarray, drawn)]
    rows = _schemes(pipeline, faces, shares, draws)
    rows += _axes(pipeline, faces, shares, draws)
    if arguments.london is not None:
        rows += _smiles(arguments, pipeline)
    subject = "expclip-mini" if arguments.model == MINI else Path(arguments.model).name
    record("multi_label", [(f"{subject}: {name}", value, unit, "", RESAMPLES) for name, value, unit in rows])


def _schemes(pipeline, faces: torch.Tensor, shares: np.ndarray, draws: list[np.ndarray]) -> list[tuple]:
    print(f"\n{len(faces)} faces; a label against:\n")
    print(
        "| scored against | rho | average precision | rho, unseen words | nonsense: mean score | nonsense above 0.5, % |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    rows, by_label = [], {}
    for name, scheme in schemes(pipeline).items():
        known, unseen, nonsense = (
            pipeline.probabilities(faces, *scheme(labels)).numpy() for labels in (REFERENCES, UNSEEN, NONSENSE)
        )
        assert known.min() >= 0 and known.max() <= 1
        rankings = by_label[name] = [Ranking(known[:, i], shares[:, i]) for i in range(len(REFERENCES))]
        others = [Ranking(unseen[:, i], shares[:, i]) for i in range(len(UNSEEN))]
        if name == "neutral":  # against itself it says nothing
            rankings, others = ([*each[:2], *each[3:]] for each in (rankings, others))
        rho, precision = (measured(rankings, draws, measure) for measure in ("spearman", "average_precision"))
        of_unseen, mean = measured(others, draws, "spearman"), float(nonsense.mean())
        said = ("-", "-") if name.startswith("softmax") else (f"{mean:.3f}", f"{100 * (nonsense > 0.5).mean():.1f}")
        print(
            f"| {name} | {_with_ends(rho)} | {_with_ends(precision)} | {_with_ends(of_unseen)} | {said[0]} | {said[1]} |"
        )
        rows += [(f"{name}: rho", rho[0], "rho"), (f"{name}: average precision", precision[0], "share")]
        rows += [] if name.startswith("softmax") else [(f"{name}: nonsense", mean, "mean score")]
    print(
        f"\n| label | faces of which half said so | rho | average precision | score of these, of the others ({SHIPPED}) |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    scores = pipeline.probabilities(faces, *pipeline.comparison(REFERENCES, multi_label=True)).numpy()
    for i, (label, ranking) in enumerate(zip(REFERENCES, by_label[SHIPPED])):
        rho, precision = (_with_ends(measured([ranking], draws, name)) for name in ("spearman", "average_precision"))
        means = f"{scores[ranking.said, i].mean():.2f}, {scores[~ranking.said, i].mean():.2f}"
        print(f"| {label} | {ranking.said.sum()} | {rho} | {precision} | {means} |")
    return rows


def _axes(pipeline, faces: torch.Tensor, shares: np.ndarray, draws: list[np.ndarray]) -> list[tuple]:
    def voted(names: tuple[str, ...]) -> np.ndarray:
        return shares[:, [REFERENCES.index(name) for name in names]].sum(1)

    axes = (
        2 * pipeline.probabilities(faces, *pipeline.comparison(tuple(VALENCE_AROUSAL), contrasts=VALENCE_AROUSAL)) - 1
    )
    wanted = (voted(("happiness",)) - voted(NEGATIVE), voted(AROUSED))
    print("\n| axis | against votes for | rho |\n| --- | --- | ---: |")
    rows = []
    for i, (name, votes) in enumerate(zip(("happiness minus negative", " or ".join(AROUSED)), wanted)):
        rho, axis = measured([Ranking(axes[:, i].numpy(), votes)], draws, "spearman"), tuple(VALENCE_AROUSAL)[i]
        print(f"| {axis} | {name} | {_with_ends(rho)} |")
        rows.append((f"{axis}: rho", rho[0], "rho"))
    return rows


def _smiles(arguments: argparse.Namespace, pipeline) -> list[tuple]:
    table = pq.read_table(arguments.london, columns=["image", "label"])
    analyzer = FaceAnalyzer(pipeline, detector=arguments.detector, batch_size=64, workers=1)
    faces, numbers = embed(analyzer, table["image"].to_pylist())
    smiling = np.array(table["label"].to_pylist())[numbers] == REFERENCES.index("happiness")
    labels = tuple(ACTION_UNITS)
    scores = pipeline.probabilities(faces, *pipeline.comparison(labels, contrasts=ACTION_UNITS)).numpy()
    print(f"\n{smiling.sum()} smiling and {(~smiling).sum()} neutral faces\n")
    print("| action unit | smiling above neutral (AUC) | mean score, smiling | neutral |\n| --- | ---: | ---: | ---: |")
    rows = []
    for i, label in enumerate(labels):
        area, own = auc(scores[:, i], smiling), scores[:, i]
        ends = (area, *auc_interval(own, smiling, resamples=RESAMPLES))
        print(f"| {label} | {_with_ends(ends)} | {own[smiling].mean():.2f} | {own[~smiling].mean():.2f} |")
        if label.split()[0] in ("AU12", "AU25"):
            rows.append((f"{label}: smiling above neutral", area, "AUC"))
    return rows


def _with_ends(found: tuple[float, float, float]) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*found) if np.isfinite(found[0]) else "-"


if __name__ == "__main__":
    main()
