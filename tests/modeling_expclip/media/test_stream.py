"""Embedding many pictures: order, batches, errors and the very pixels of the processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from modeling_expclip import MINI, ExpCLIPProcessor, FaceAnalyzer
from modeling_expclip.checkpoint.load import load_checkpoint
from modeling_expclip.media import analyzer as analyzer_module
from modeling_expclip.media.faces import Face
from modeling_expclip.media.stream import scale_pixels
from tests.conftest import picture


@pytest.fixture(scope="module")
def loaded(checkpoint):
    return load_checkpoint(checkpoint)


@pytest.fixture
def analyze(loaded):
    """A new analyzer of crops, or with a stand-in for a detector."""

    def made(detector=None, **options):
        return FaceAnalyzer(*loaded, faces=detector is not None, detector=detector, **options)

    return made


class Grid:
    """Stands in for a detector: as many faces as the picture is tens of pixels wide, less three."""

    def __call__(self, image):
        return [
            Face((10 * i, 0, 10 * i + 10, 10), 0.9, ((0.0, 0.0), (1.0, 0.0)) * 2 + ((0.0, 0.0),))
            for i in range(image.width // 10 - 3)
        ]


@pytest.mark.parametrize("normalised", [False, True])
def test_pixels_are_the_processors(normalised):
    processor = ExpCLIPProcessor.from_pretrained(MINI).image_processor
    processor.do_normalize = normalised
    images = [picture(i, (70, 50)) for i in range(3)]
    raw = processor(images, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
    assert raw.dtype == np.uint8
    expected = processor(images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(scale_pixels(torch.from_numpy(raw), processor), expected, rtol=0, atol=1e-6)


def test_bytes_go_to_the_models_device(analyze, monkeypatch):
    """A quarter of the way's load; scaled on the CPU first they would be floats."""
    received = []

    def scaled(pixels, image_processor):
        received.append((pixels.device.type, pixels.dtype))
        return scale_pixels(pixels, image_processor)

    def tower(values):
        assert values.dtype == torch.float32 and values.device.type == "meta"
        return torch.zeros(len(values), 4)

    monkeypatch.setattr(analyzer_module, "scale_pixels", scaled)
    analyzer = analyze()
    monkeypatch.setattr(analyzer, "_tower", tower)
    monkeypatch.setattr(analyzer, "_tower_device", torch.device("meta"))  # a device that every machine has
    list(analyzer.embed([(0, picture())]))
    assert received == [("meta", torch.uint8)]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_order_and_values_do_not_depend_on_batches(analyze, batch_size, workers):
    analyzer = analyze(Grid(), batch_size=batch_size, workers=workers)
    photos = [picture(i, (30 + 10 * (i % 4), 40)) for i in range(25)]  # 0 to 3 faces each
    found = list(analyzer.embed(enumerate(photos)))
    assert [key for key, _ in found] == list(range(25))
    for key, answer in found:
        assert len(answer.faces) == key % 4
        if key % 4 == 0:
            assert answer.embeds is None
            continue
        crops = [photos[key].crop(face.box) for face in answer.faces]
        pixels = analyzer.pipeline.image_processor(crops, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            expected = analyzer.pipeline.model.get_image_features(pixel_values=pixels).pooler_output
        torch.testing.assert_close(answer.embeds, expected, rtol=0, atol=1e-5)


def test_batches_are_full_across_images(analyze, monkeypatch):
    sizes = []

    def tower(pixels):
        sizes.append(len(pixels))
        return torch.zeros(len(pixels), 4)

    crops, faces = analyze(batch_size=16), analyze(Grid(), batch_size=4)
    monkeypatch.setattr(crops, "_tower", tower)
    monkeypatch.setattr(faces, "_tower", tower)
    list(crops.embed((i, picture(i)) for i in range(40)))
    assert sizes == [16, 16, 8]
    sizes.clear()
    list(faces.embed((i, picture(i, (50, 40))) for i in range(8)))
    assert sizes == [4, 4, 4, 4]


def test_a_broken_image_costs_only_itself(analyze, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    items = [picture(0), tmp_path / "broken.png", tmp_path / "missing.png", picture(1)]
    answers = [answer for _, answer in analyze().embed(enumerate(items))]
    assert [type(answer.error).__name__ for answer in answers] == [
        "NoneType", "UnidentifiedImageError", "FileNotFoundError", "NoneType",
    ]  # fmt: skip
    assert answers[3].embeds.shape == (1, 48)


def test_a_strip_is_not_blown_up(analyze, monkeypatch):
    """CLIP's own preprocessing would make 4,480,000 x 224 pixels of it."""
    strip = Image.new("RGB", (20_000, 1))
    items = [(0, picture(0)), (1, strip), (2, picture(2))]
    analyzer = analyze()
    monkeypatch.setattr(analyzer.pipeline, "image_processor", CLIPImageProcessorPil())
    monkeypatch.setattr(analyzer, "_tower", lambda pixels: pixels[:, 0, 0, :4])
    answers = [answer for _, answer in analyzer.embed(items)]
    assert "20000 x 1 is too long for its width" in str(answers[1].error)
    assert [answer.embeds is None for answer in answers] == [False, True, False]


def test_an_error_of_the_source_comes_after_what_it_gave(analyze):
    def source():
        yield from enumerate(picture(i) for i in range(5))
        raise ValueError("cut off")

    seen = []
    with pytest.raises(ValueError, match="cut off"):
        for key, _ in analyze().embed(source()):
            seen.append(key)
    assert seen == [0, 1, 2, 3, 4]


def test_few_images_wait_in_memory(analyze):
    drawn = []

    def source():
        for i in range(500):
            drawn.append(i)
            yield i, picture(i)

    stream = analyze(batch_size=4).embed(source())
    for _ in range(10):
        next(stream)
    assert len(drawn) < 40
    stream.close()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"workers": 0}])
def test_wrong_sizes(analyze, options):
    with pytest.raises(ValueError, match="at least 1"):
        analyze(**options)
