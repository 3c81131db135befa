import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling_expclip import FacialExpressionPipeline
from modeling_expclip.checkpoint.load import load_checkpoint
from modeling_expclip.pipeline_expclip import _words
from modeling_expclip.prompts import LABEL_SETS
from tests.conftest import STOCK, picture


@pytest.fixture(scope="module")
def recognise(checkpoint) -> FacialExpressionPipeline:
    model, processor = load_checkpoint(checkpoint)
    return FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )


INSTALLED = """
import sys
{first}
from transformers import pipeline

folder, image = sys.argv[1:]
trusted = {"trust_remote_code": True}
for options in ({}, trusted):
    found = pipeline("facial-expression-recognition", model=folder, **options)
    parts = (found, found.model, found.model.config)
    assert [type(part).__module__.partition(".")[0] for part in parts] == ["modeling_expclip"] * 3, parts
    assert len(found(image)) == 7
assert type(pipeline(model=folder, **trusted)) is type(found)
assert "transformers_modules" not in sys.modules, "the checkpoint's own code was run too"
"""


@pytest.mark.parametrize(
    "first",
    [
        "import modeling_expclip",
        "import modeling_expclip.pipeline_expclip",
        "import transformers.pipelines, modeling_expclip",
    ],
)
def test_by_task_name_without_trust_where_the_library_is_installed(checkpoint, tmp_path, first):
    """Nothing but the import before it, and nothing of the checkpoint's code."""
    picture().save(tmp_path / "face.png")
    run = subprocess.run(
        [sys.executable, "-c", INSTALLED.replace("{first}", first), checkpoint, tmp_path / "face.png"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]


def test_found_by_the_folder_alone(checkpoint):
    found = pipeline(model=str(checkpoint), trust_remote_code=True)
    assert type(found).__name__ == "FacialExpressionPipeline" and found.task == "facial-expression-recognition"
    by_name = pipeline("facial-expression-recognition", model=str(checkpoint), trust_remote_code=True)
    assert by_name(picture()) == found(picture())


def test_default_answers(recognise):
    answer = recognise(picture())
    assert {entry["label"] for entry in answer} == set(LABEL_SETS["rafdb"])
    scores = [entry["score"] for entry in answer]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1)
    assert recognise(picture(), label_set="rafdb", prompts="ensemble10") == answer


def test_stock_pipeline_agrees_on_one_template(recognise, checkpoint):
    stock = pipeline("zero-shot-image-classification", model=str(checkpoint), trust_remote_code=True)
    assert type(stock).__name__ == "ZeroShotImageClassificationPipeline"
    labels = ["anger", "smiling"]
    expected = stock(picture(), candidate_labels=labels, hypothesis_template="an expression of {}.")
    found = recognise(picture(), candidate_labels=labels, prompts="expression")
    assert [entry["label"] for entry in found] == [entry["label"] for entry in expected]
    assert [entry["score"] for entry in found] == pytest.approx([entry["score"] for entry in expected], abs=STOCK)


def test_batches_paths_and_generators_agree(recognise, tmp_path):
    images = [picture(seed, size=(30 + seed, 40)) for seed in range(5)]
    paths = []
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    one_by_one = [recognise(image) for image in images]
    for found in (recognise(images, batch_size=2), recognise(paths), list(recognise(image for image in images))):
        for answer, expected in zip(found, one_by_one, strict=True):
            assert [entry["label"] for entry in answer] == [entry["label"] for entry in expected]
            assert [e["score"] for e in answer] == pytest.approx([e["score"] for e in expected], abs=1e-5)


class Faces(Dataset):
    """Torch's: not iterable, and some have no end."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index % len(self.images)]


def test_whatever_holds_several_images(recognise):
    datasets = pytest.importorskip("datasets")
    images = [picture(seed) for seed in range(3)]
    data = datasets.Dataset.from_dict({"photo": images}, features=datasets.Features(photo=datasets.Image()))
    rows = data.rename_column("photo", "image")
    undecoded = rows.cast_column("image", datasets.Image(decode=False))
    expected = [recognise(image) for image in images]

    def same(one, other):
        """Up to rounding, which differs between batches."""
        assert [entry["label"] for entry in one] == [entry["label"] for entry in other]
        assert [entry["score"] for entry in one] == pytest.approx([entry["score"] for entry in other], abs=1e-5)

    for several in (
        images, tuple(images), Faces(images), data["photo"], KeyDataset(data, "photo"), (image for image in images),
        map(Image.Image.copy, images), rows, undecoded, [np.asarray(image) for image in images], list(rows),
    ):  # fmt: skip
        answers = recognise(several)
        assert isinstance(answers, list) == isinstance(several, (list, tuple))
        answers = list(answers)
        assert len(answers) == len(expected)
        for answer, wanted in zip(answers, expected):
            same(answer, wanted)
    same(recognise(rows[0]), expected[0])
    same(recognise(np.asarray(images[0])), expected[0])
    with pytest.raises(ValueError, match="a row with a column 'image', got one with photo"):
        recognise({"photo": {"path": None}})
    for array in (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((8, 8, 3)), np.zeros((3, 8, 8), np.uint8)):
        with pytest.raises(ValueError, match=r"\(height, width, 3\) and type uint8, got \("):
            recognise(array)


def test_one_template_as_the_stock_pipelines_name_it(recognise):
    found = recognise(picture(), candidate_labels=["a", "b"], hypothesis_template="see {}")
    assert found == recognise(picture(), candidate_labels=["a", "b"], prompts=["see {}"])


def test_the_best_of_all_labels(recognise):
    everything = recognise(picture())
    assert recognise(picture(), top_k=2) == everything[:2] and recognise(picture(), top_k=99) == everything
    assert [len(answer) for answer in recognise([picture(1), picture(2)], top_k=1)] == [1, 1]


def test_default_batches(recognise, monkeypatch):
    """Small ones are slow where others keep a core busy; but whoever follows a camera wants its answers one by one."""
    sizes = []
    encode = recognise.model.get_image_features

    def counted(pixel_values):
        sizes.append(len(pixel_values))
        return encode(pixel_values=pixel_values)

    monkeypatch.setattr(recognise.model, "get_image_features", counted)
    images = [picture(seed) for seed in range(70)]

    def batches(*arguments, **options):
        sizes.clear()
        answers = recognise(*arguments, **options)
        assert list(answers)
        return list(sizes)

    assert batches(images) == batches(tuple(images)) == batches(Faces(images)) == [64, 6]
    assert batches(images, batch_size=None) == [64, 6] and batches(images[:4], batch_size=3) == [3, 1]
    assert batches(image for image in images[:3]) == [1, 1, 1] and batches(images[0]) == [1]
    monkeypatch.setattr(recognise, "_batch_size", 2)
    assert batches(images[:4]) == [2, 2]


def test_prompts_are_encoded_once(recognise, monkeypatch):
    calls = []
    encode = type(recognise.model).get_text_features

    def counted(self, *args, **kwargs):
        calls.append(1)
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(type(recognise.model), "get_text_features", counted)
    for _ in range(3):
        recognise([picture(1), picture(2)], candidate_labels=["never", "seen", "before"])
    assert len(calls) == 1
    recognise(picture(1), candidate_labels=["seen", "never", "before"])
    assert len(calls) == 2, "other labels, or another order, are other prototypes"


def test_prototypes_are_means_of_normalised_prompts(recognise):
    prototypes = recognise.class_prototypes(["anger", "a very long label " * 30], ["{}", "so {}"])
    assert prototypes.shape == (2, 48)
    single = [recognise.class_prototypes(["anger"], [template]) for template in ("{}", "so {}")]
    assert [one.norm().item() for one in single] == pytest.approx([1, 1], abs=1e-6)
    torch.testing.assert_close(prototypes[:1], (single[0] + single[1]) / 2)
    assert prototypes[0].norm() < 1


def test_own_templates(recognise):
    one = recognise(picture(), candidate_labels=["a", "b"], prompts=["see {}", "look: {}"])
    other = recognise(picture(), candidate_labels=["a", "b"], prompts=["look: {}", "see {}"])
    assert [e["score"] for e in one] == pytest.approx([e["score"] for e in other], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidate_labels": []}, "no labels"),
        ({"candidate_labels": "anger"}, "must be a list"),
        ({"candidate_labels": ["a", "a"]}, "more than once"),
        ({"label_set": "imagenet"}, "unknown label set 'imagenet'"),
        ({"label_set": "rafdb", "candidate_labels": ["a"]}, "pass one of them"),
        ({"prompts": "none"}, "unknown prompt set"),
        ({"prompts": "photo", "hypothesis_template": "{}"}, "not both"),
        ({"hypothesis_template": "no slot"}, "has no place for the label"),
        ({"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
    ],
)
def test_wrong_calls(recognise, options, message):
    with pytest.raises(ValueError, match=message):
        recognise(picture(), **options)


@pytest.mark.parametrize("name", ["faces", "fps", "backend"])
def test_what_moved_is_said(recognise, name):
    with pytest.raises(TypeError, match=f"unknown arguments {name}; .*FaceAnalyzer"):
        recognise(picture(), **{name: True})


def replace(model):
    model.projection_head.weight = torch.nn.Parameter(-model.projection_head.weight.detach().flip(0).roll(1, 1))


def assign_data(model):
    model.projection_head.weight.data = model.projection_head.weight.detach().roll(1, 1)


@torch.no_grad()
def in_place(model):
    model.projection_head.weight.normal_(generator=torch.Generator().manual_seed(0))


def behind_autograd(model):
    model.text_model.embeddings.token_embedding.weight.data.mul_(-3)


def one_row_behind_autograd(model):
    """As textual inversion initialises a new word."""
    rows = model.text_model.embeddings.token_embedding.weight.data
    rows[513] = rows[0]


def swap_behind_autograd(model):
    weight = model.projection_head.weight.data
    weight[:, [0, 1]] = weight[:, [1, 0]]


def load(model):
    model.load_state_dict({name: value * 0.5 + 0.01 for name, value in model.state_dict().items()})


def half(model):
    model.half()


def low_rank(model):
    """What LoRA does: another module in the place of a linear one."""

    class Adapted(torch.nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.down, self.up = base, torch.nn.Linear(32, 2), torch.nn.Linear(2, 24)

        def forward(self, x):
            return self.base(x) + 5 * self.up(self.down(x))

    torch.manual_seed(0)
    model.text_projection = Adapted(model.text_projection)


def other_activation(model):
    for layer in model.text_model.encoder.layers:
        layer.mlp.activation_fn = torch.nn.Tanh()


CHANGES = [
    replace, assign_data, in_place, behind_autograd, one_row_behind_autograd, swap_behind_autograd, load, half, low_rank, other_activation,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("inference", [False, True])
def test_changed_weights_are_answered_as_by_a_fresh_pipeline(checkpoint, change, inference):
    """A model made under inference_mode has no version counters at all."""
    with torch.inference_mode(inference):
        model, processor = load_checkpoint(checkpoint)
        if inference:
            model.projection_head.weight = torch.nn.Parameter(model.projection_head.weight.clone())
            model.text_model.embeddings.token_embedding.weight.data = (
                model.text_model.embeddings.token_embedding.weight.clone()
            )
        parts = {"tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
        used = FacialExpressionPipeline(model=model, **parts)
        before = used.class_prototypes(["anger", "fear"])
        change(model)
        fresh = FacialExpressionPipeline(model=model, **parts)
        assert used(picture()) == fresh(picture())
        after = used.class_prototypes(["anger", "fear"])
        assert torch.equal(after, fresh.class_prototypes(["anger", "fear"])) and not torch.equal(before, after)


def test_changes_of_the_image_tower_keep_the_prototypes(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    used = FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    before = used.class_prototypes(["anger"])
    model.visual_projection.weight.data.mul_(2)
    model.vision_model.embeddings.patch_embedding.weight.data.mul_(2)
    assert used.class_prototypes(["anger"]) is before


def test_weights_that_cannot_be_read_keep_no_prototypes(checkpoint):
    """Such as those that accelerate has offloaded: they are on no device between two calls."""
    model, processor = load_checkpoint(checkpoint)
    used = FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    model.register_parameter("elsewhere", torch.nn.Parameter(torch.empty(3, device="meta")))
    before = used.class_prototypes(["anger"])
    again = used.class_prototypes(["anger"])
    assert again is not before and torch.equal(again, before)


def test_checksums_see_swaps_wherever_they_are():
    """Also of words that stand below each other in the checksum's rows of 1021, and changes that cancel each other there."""
    words = torch.randint(-(2**62), 2**62, (4 * 1021,), generator=torch.Generator().manual_seed(0))
    found = {_words(words)}
    for first, second in ((0, 1), (5, 5 + 1021), (7, 7 + 3 * 1021)):
        swapped = words.clone()
        swapped[[first, second]] = words[[second, first]]
        found.add(_words(swapped))
    cancelled = words.clone()
    cancelled[3] += 1
    cancelled[3 + 1021] -= 1
    assert len(found | {_words(cancelled)}) == 5


def test_no_images(recognise):
    assert recognise([]) == recognise(()) == []


def test_a_string_is_not_a_list_of_labels(recognise):
    with pytest.raises(ValueError, match="must be a list"):
        recognise.class_prototypes("anger")


def test_cache_does_not_grow_for_ever(recognise):
    for i in range(70):
        recognise.class_prototypes([f"label {i}"], "class_name")
    assert len(recognise._prototypes) <= 64


def test_long_labels(recognise, checkpoint):
    labels = ["very " * 100, "short"]
    assert len(recognise(picture(), candidate_labels=labels)) == 2
    stock = pipeline("zero-shot-image-classification", model=str(checkpoint), trust_remote_code=True)
    found = stock(picture(), candidate_labels=labels, hypothesis_template="{}")
    expected = recognise(picture(), candidate_labels=labels, prompts=["{}"])
    assert [e["score"] for e in found] == pytest.approx([e["score"] for e in expected], abs=STOCK)


def test_by_task_name_with_a_loaded_model(recognise):
    parts = {"tokenizer": recognise.tokenizer, "image_processor": recognise.image_processor}
    named = pipeline("facial-expression-recognition", model=recognise.model, **parts)
    assert type(named) is FacialExpressionPipeline


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(recognise, checkpoint, dtype):
    half = pipeline(model=str(checkpoint), trust_remote_code=True, dtype=dtype)
    expected = {e["label"]: e["score"] for e in recognise(picture())}
    assert {e["label"]: e["score"] for e in half(picture())} == pytest.approx(expected, abs=0.03)


def test_plain_clip_works_too(clip_folder):
    model, processor = load_checkpoint(clip_folder)
    plain = FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    assert len(plain(picture(), label_set="mafw")) == 11
