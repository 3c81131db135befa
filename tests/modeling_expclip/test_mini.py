"""The embedded default, as a newcomer meets it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from modeling_expclip import LABEL_SETS, MINI, PROMPT_SETS, FacialExpressionPipeline
from modeling_expclip.checkpoint.load import load_checkpoint
from modeling_expclip.cli.main import main
from tests.sync import leftovers, originals

EXAMPLES = Path(__file__).parents[2] / "space" / "examples"


@pytest.fixture(scope="module")
def recognise() -> FacialExpressionPipeline:
    model, processor = load_checkpoint(MINI)
    return FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )


def test_is_small_whole_and_itself():
    assert Path(MINI, "model.safetensors").stat().st_size <= 16_000_000
    assert main(["verify"]) == 0
    config = json.loads((Path(MINI) / "config.json").read_text())
    assert config["model_type"] == "expclip" and config["dtype"] == "float32"


def test_its_code_and_card_are_the_librarys():
    different = [name for name, file in originals().items() if Path(MINI, name).read_bytes() != file.read_bytes()]
    assert not different and not leftovers(), "run `make sync`"


def test_demo_labels_the_examples(tmp_path):
    assert main(["classify", str(EXAMPLES), "--output", str(tmp_path / "out.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").open(newline="")))
    right = [Path(row["path"]).stem.removeprefix("average-") == row["label"] for row in rows]
    assert len(rows) == 7 and all(right)


@pytest.mark.parametrize("prompts", PROMPT_SETS)
def test_clear_expressions_under_every_prompt_set(recognise, prompts):
    answers = recognise(
        [str(EXAMPLES / f"average-{name}.png") for name in ("happiness", "surprise")],
        candidate_labels=["happiness", "surprise", "anger"],
        prompts=prompts,
    )
    assert [answer[0]["label"] for answer in answers] == ["happiness", "surprise"]


def test_words_no_caption_had(recognise):
    labels = ["joyful", "furious", "astonished"]
    for name, word in zip(("happiness", "anger", "surprise"), labels):
        answer = recognise(str(EXAMPLES / f"average-{name}.png"), candidate_labels=labels, prompts=["a {} person"])
        assert answer[0]["label"] == word


def test_colour_is_seen_as_grey(recognise):
    from PIL import Image

    image = Image.open(EXAMPLES / "average-fear.png").convert("RGB")
    red, green, blue = image.split()
    tinted = Image.merge("RGB", (red.point(lambda v: v * 0.9), green, blue))
    grey = tinted.convert("L")
    scores = [{e["label"]: e["score"] for e in recognise(picture)} for picture in (tinted, grey)]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)


@pytest.mark.parametrize(("data", "floors"), [("fer2013", (54, 47)), ("facial_expressions", (78, 58))])
def test_accuracy_on_held_out_faces(recognise, shared, data, floors):
    from training.mini.images import load_labels, pictures
    from training.mini.score import CLASSES, embed, war_uar

    path = shared / "data" / data / "validation.parquet"
    embeds, truth = embed(recognise, pictures(path), data), load_labels(path)
    guess = (embeds @ recognise.class_prototypes(CLASSES, "ensemble10").T).argmax(1)
    war, uar = war_uar(guess, truth)
    assert war >= floors[0] and uar >= floors[1], (war, uar)
    assert set(CLASSES) == set(LABEL_SETS["rafdb"])
