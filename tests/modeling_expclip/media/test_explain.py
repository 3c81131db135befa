"""Maps of what in a face speaks for a label: what they are, what they depend on, and what they leave as it was."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from modeling_expclip import (
    MINI,
    ExpMetaCLIP2Model,
    ExpSigLIPModel,
    FaceAnalyzer,
    FaceDetector,
    FacialExpressionPipeline,
    convert,
    load_checkpoint,
    merge,
)
from modeling_expclip.media.explain import STEPS, directions, draw_heat, explain, face_maps, relevance
from modeling_expclip.media.faces import Face, crop_face, crop_place
from modeling_expclip.media.label_sets import ACTION_UNITS, Words
from tests.backbones import write_metaclip2, write_siglip2
from tests.conftest import picture, write_head

FACES = Path(__file__).parents[3] / "space" / "examples"
LABELS = ("happiness", "anger", "surprise")


def face(name: str = "happiness") -> Image.Image:
    return Image.open(FACES / f"average-{name}.png").convert("RGB")


def loaded(source, **options) -> FacialExpressionPipeline:
    return FaceAnalyzer(str(source), faces=False, backend="torch", **options).pipeline


@pytest.fixture(scope="module")
def mini() -> FacialExpressionPipeline:
    return loaded(MINI)


@pytest.fixture(scope="module")
def recognise(checkpoint) -> FacialExpressionPipeline:
    return loaded(checkpoint)


def check(heat: np.ndarray, size: tuple[int, int]) -> None:
    assert heat.dtype == np.float32 and heat.shape == size[::-1]
    assert np.isfinite(heat).all() and heat.min() >= 0 and 0.5 < heat.max() <= 1


@pytest.mark.parametrize("size", [(48, 48), (31, 97), (200, 64)])
def test_a_map_has_the_size_of_the_image(mini, recognise, size):
    check(mini.explain(face().resize(size), "happiness"), size)
    check(recognise.explain(picture().resize(size), "bored", ["furious"]), size)


def test_a_face_without_anything_in_it_speaks_for_nothing(mini):
    assert not mini.explain(Image.new("RGB", (7, 5), "grey"), "happiness").any()
    assert mini.explain(face().resize((1, 1)), "happiness").shape == (1, 1)


def test_it_is_of_the_upright_image(mini, tmp_path):
    turned = face().rotate(90, expand=True).crop((0, 0, 192, 96))
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    turned.save(tmp_path / "turned.png", exif=exif)
    assert mini.explain(tmp_path / "turned.png", "happiness").shape == (192, 96)


def test_each_label_has_its_own_map_and_the_mouth_speaks_for_a_smile(mini):
    smiling = mini.explain(face(), "happiness", LABELS)
    angry = mini.explain(face("anger"), "anger", LABELS)
    assert np.abs(smiling - mini.explain(face(), "anger", LABELS)).max() > 0.3
    lower = [heat[heat.shape[0] // 2 :].sum() / heat.sum() for heat in (smiling, angry)]
    assert lower[0] > 0.55 and lower[0] > lower[1]


def test_what_a_label_is_compared_with(mini):
    """The others in the call; without any, the references; with a contrast, its negative side."""
    against = {
        name: explain(mini, face(), "happiness", others, **options)
        for name, others, options in (
            ("nothing", None, {}),
            ("itself", ["happiness"], {}),
            ("references", ["anger"], {"multi_label": True}),
            ("anger", ["anger"], {}),
            ("anger and itself", ["anger", "happiness"], {}),
            ("sadness", ["sadness"], {}),
            ("its opposite", None, {"contrasts": {"happiness": ("a smiling face", "a serious face")}}),
        )
    }
    assert np.array_equal(against["nothing"], against["itself"])
    np.testing.assert_allclose(against["nothing"], against["references"], atol=1e-5)
    np.testing.assert_allclose(against["anger"], against["anger and itself"], atol=1e-5)
    others = [against[name] for name in ("nothing", "anger", "sadness", "its opposite")]
    for number, heat in enumerate(others):
        assert all(np.abs(heat - other).max() > 0.02 for other in others[:number])


def test_directions_are_differences_of_cosines(mini):
    prototypes = mini.class_prototypes(LABELS)
    expected = prototypes[1] - (prototypes[0] + prototypes[2]) / 2
    assert torch.allclose(directions(mini, Words(LABELS))[1], expected, atol=1e-6)
    unit = dict([next(iter(ACTION_UNITS.items()))])
    both = mini.class_prototypes([text for pair in unit.values() for text in pair], ["{}"])
    found = directions(mini, Words.choose(contrasts=unit))
    assert torch.allclose(found[0], both[0] - both[1], atol=1e-6)


def score(pipeline, pixels: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        embeds = pipeline.model.get_image_features(pixel_values=pixels).pooler_output
    return torch.nn.functional.normalize(embeds, dim=-1) @ direction


def pixels_of(pipeline, image: Image.Image) -> torch.Tensor:
    return pipeline.image_processor(images=image, return_tensors="pt")["pixel_values"]


def test_patches_add_up_to_the_score_and_where_they_lie_is_what_counts(mini):
    """Taking away the best third costs more than taking away the worst."""
    wanted = directions(mini, Words(LABELS))
    for number, name in enumerate(LABELS):
        pixels = pixels_of(mini, face(name))
        patches = relevance(mini.model, pixels, wanted)[number]  # (rows, columns)
        blank = pixels.mean((2, 3), keepdim=True).expand_as(pixels)
        whole, nothing = (score(mini, part, wanted[number]) for part in (pixels, blank))
        assert patches.sum().item() == pytest.approx((whole - nothing).item(), abs=0.35)
        order, left = patches.flatten().argsort(), []
        for gone in (order[-12:], order[:12]):
            mask = torch.ones(patches.numel())
            mask[gone] = 0
            mask = mask.view(1, 1, *patches.shape)
            mask = torch.nn.functional.interpolate(mask, pixels.shape[2:], mode="nearest")
            left.append(score(mini, blank + mask * (pixels - blank), wanted[number]).item())
        assert left[0] < left[1] - 0.1


def test_labels_of_one_call_do_not_mix(mini):
    pixels, wanted = pixels_of(mini, face()), directions(mini, Words(LABELS))
    together = relevance(mini.model, pixels, wanted)
    alone = torch.cat([relevance(mini.model, pixels, one[None]) for one in wanted])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-4)


def test_the_head_is_part_of_it(recognise):
    before = recognise.explain(picture(), "bored", ["furious"])
    weight = recognise.model.projection_head.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[: len(weight) // 2] = 0
    try:
        assert np.abs(before - recognise.explain(picture(), "bored", ["furious"])).max() > 0.05
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert np.array_equal(before, recognise.explain(picture(), "bored", ["furious"]))


def test_under_thirty_passes_and_nothing_is_changed(mini):
    passes, model = [], mini.model
    hook = model.vision_model.register_forward_hook(lambda _, __, output: passes.append(len(output.pooler_output)))
    before = {name: (value.clone(), value.requires_grad) for name, value in model.named_parameters()}
    mini.class_prototypes(LABELS)
    try:
        with torch.inference_mode():  # also where no gradients are kept
            list(face_maps(mini, face(), None, directions(mini, Words(LABELS))))
    finally:
        hook.remove()
    assert sum(passes) == STEPS < 30
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name][0]) and value.requires_grad == before[name][1] and value.grad is None
    assert torch.is_grad_enabled() and not model.training


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_any_attention_and_precision(mini, attention, dtype):
    model, processor = load_checkpoint(MINI, dtype)
    model.set_attn_implementation(attention)
    other = FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    heat, expected = (each.explain(face(), "happiness", LABELS) for each in (other, mini))
    check(heat, face().size)
    assert np.abs(heat - expected).mean() < (1e-4 if dtype == torch.float32 else 0.05)


def test_a_merged_checkpoint_gives_the_same_maps(mini, tmp_path):
    merge(MINI, tmp_path / "merged")
    found, expected = (each.explain(face(), "happiness", LABELS) for each in (loaded(tmp_path / "merged"), mini))
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(
    "write, width, kind", [(write_metaclip2, 16, ExpMetaCLIP2Model), (write_siglip2, 24, ExpSigLIPModel)]
)
def test_other_backbones(tmp_path, write, width, kind):
    convert(write(tmp_path / "plain"), write_head(tmp_path / "head.pth", projection_dim=width), tmp_path / "expclip")
    other = loaded(tmp_path / "expclip")
    assert type(other.model) is kind
    check(other.explain(picture(), "bored", ["bored", "furious"]), picture().size)
    one, another = relevance(other.model, pixels_of(other, picture()), directions(other, Words(("bored", "furious"))))
    assert one.abs().max() > 1e-4
    torch.testing.assert_close(one, -another)  # what speaks for one of two labels speaks against the other


def test_a_checkpoint_with_its_own_code_explains_where_the_package_is(mini, monkeypatch):
    # As where a pipeline loads it, the configuration first: older transformers copy only what a file itself imports.
    for name in ("configuration_expclip.ExpCLIPConfig", "processing_expclip.ExpCLIPProcessor"):
        get_class_from_dynamic_module(name, MINI)
    remote_class = get_class_from_dynamic_module("pipeline_expclip.FacialExpressionPipeline", MINI)
    assert remote_class is not FacialExpressionPipeline
    remote = remote_class(model=mini.model, tokenizer=mini.tokenizer, image_processor=mini.image_processor)
    found, expected = (each.explain(face(), "happiness", candidate_labels=LABELS) for each in (remote, mini))
    assert np.array_equal(found, expected)
    monkeypatch.setitem(sys.modules, "modeling_expclip.media.explain", None)
    with pytest.raises(ImportError, match="pip install expclip"):
        remote.explain(face(), "happiness")


@pytest.mark.parametrize(
    "arguments, options, wrong",
    [
        (("happiness", "anger"), {}, "must be a list"),
        (("",), {}, "non-empty"),
        ((["happiness"],), {}, "label must be a non-empty string"),
        (("happiness",), {"prompts": "none"}, "unknown prompt set"),
        (("happiness",), {"contrasts": {"anger": ("a", "b")}}, "not among the labels"),
    ],
)
def test_wrong_calls(mini, arguments, options, wrong):
    with pytest.raises(ValueError, match=wrong):
        mini.explain(face(), *arguments, **options)
    with pytest.raises(OSError, match="no_such_file"):
        mini.explain("no_such_file.png", "happiness")


def test_a_damaged_model_is_said(recognise):
    weight = recognise.model.vision_model.post_layernorm.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0] = float("nan")
    try:
        with pytest.raises(ValueError, match="no finite gradients"):
            recognise.explain(picture(), "bored")
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_what_the_preprocessing_cuts_off_is_not_seen(recognise):
    """CLIP's usual preprocessing shows the model the middle of an image that is not square."""
    cut = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True}
    cutting = CLIPImageProcessorPil.from_dict({**recognise.image_processor.to_dict(), **cut})
    other = FacialExpressionPipeline(model=recognise.model, tokenizer=recognise.tokenizer, image_processor=cutting)
    middle = face().resize((64, 64))
    wide = Image.new("RGB", (128, 64), middle.getpixel((0, 0)))
    wide.paste(middle, (32, 0))
    heat = other.explain(wide, "bored", ["furious"])
    assert not heat[:, :32].any() and not heat[:, 96:].any()
    assert np.abs(heat[:, 32:96] - recognise.explain(middle, "bored", ["furious"])).mean() < 0.02


def test_the_map_of_a_face_lies_where_the_face_is(mini):
    photo = Image.new("RGB", (400, 300), (90, 120, 150))
    photo.paste(face().resize((96, 96)), (250, 60))
    found = Face((250, 60, 346, 156), 1.0, ())
    wanted = directions(mini, Words(LABELS))
    for heat, label in zip(face_maps(mini, photo, found, wanted), LABELS):
        check(heat, photo.size)
        np.testing.assert_allclose(
            heat[60:156, 250:346], mini.explain(face().resize((96, 96)), label, LABELS), atol=0.02
        )
        heat[60:156, 250:346] = 0
        assert not heat.any()


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_places_in_a_photo_and_in_a_crop_are_the_same(align, margin):
    found = Face((100, 60, 180, 150), 1.0, ((115.0, 80.0), (160.0, 110.0)))
    for x, y in ((120, 90), (150, 120), (140, 105)):
        photo = np.zeros((260, 300, 3), np.uint8)
        photo[y - 1 : y + 2, x - 1 : x + 2] = 255
        crop = np.asarray(crop_face(Image.fromarray(photo), found, margin, align)).astype(float)[..., 0]
        rows, columns = np.indices(crop.shape) + 0.5
        seen = np.array([(columns * crop).sum(), (rows * crop).sum()]) / crop.sum()
        assert seen == pytest.approx((crop_place(found, margin, align) @ (x + 0.5, y + 0.5, 1))[:2], abs=1)


def test_a_drawing_is_grey_but_where_something_speaks_for_the_label():
    photo, heat = face("anger").resize((40, 30)), np.zeros((30, 40), np.float32)
    heat[10:20, 5:15], heat[10:20, 25:35] = 1, 0.4
    drawn = np.asarray(draw_heat(photo, heat)).astype(int)
    grey = np.asarray(photo.convert("L")).astype(int)
    assert np.array_equal(drawn[heat == 0], np.stack([grey[heat == 0]] * 3, -1))
    spread = drawn.max(-1) - drawn.min(-1)
    assert spread[heat == 1].min() > 60 and spread[heat > 0].min() > 20
    assert drawn[heat == 1].mean() > drawn[(heat > 0) & (heat < 1)].mean()


def test_a_smile_is_seen_in_the_lower_half_of_real_faces(mini, shared):
    """Of the same people, smiling and neutral: more of the map lies there where they smile."""
    pytest.importorskip("cv2")
    detector = FaceDetector(shared / "models" / "face_detection_yunet_2023mar.onnx")
    table = pq.read_table(shared / "data" / "london" / "test.parquet", columns=["image", "label", "person"])
    rows = [row for row in table.to_pylist() if row["person"] in table["person"].unique()[:20].to_pylist()]
    lower: dict[int, list[float]] = {}
    for row in rows:
        photo = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        heat = mini.explain(crop_face(photo, detector(photo)[0]), "smiling", ["smiling", "neutral"])
        lower.setdefault(row["label"], []).append(heat[len(heat) // 2 :].sum() / heat.sum())
    assert len(lower) == 2 and min(map(len, lower.values())) >= 15
    neutral, smiling = np.mean(lower[2]), np.mean(lower[0])
    assert smiling > neutral + 0.03 and smiling > 0.5


def test_a_model_that_was_loaded_in_inference_mode():
    with torch.inference_mode():
        pipeline = FaceAnalyzer(MINI, faces=False, backend="torch").pipeline
    with pytest.raises(ValueError, match="load it outside"):
        pipeline.explain(picture(), "happiness", ["sadness"])
