"""Embedding many pictures: order, batches, errors and the very pixels of the processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from modeling_expclip import MINI, ExpCLIPProcessor
from modeling_expclip.checkpoint.folder import load_checkpoint
from modeling_expclip.media.detectors import Face
from modeling_expclip.media.stream import embed_stream, scale_pixels
from modeling_expclip.pipeline_expclip import FacialExpressionPipeline
from tests.conftest import picture


@pytest.fixture(scope="module")
def pipe(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    return FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )


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


def test_bytes_go_to_the_models_device(pipe, monkeypatch):
    """A quarter of the way's load; scaled on the CPU first they would be floats."""
    import modeling_expclip.media.stream as stream

    received = []

    def scaled(pixels, image_processor):
        received.append((pixels.device.type, pixels.dtype))
        return scale_pixels(pixels, image_processor)

    def tower(values):
        assert values.dtype == torch.float32 and values.device.type == "meta"
        return torch.zeros(len(values), 4)

    monkeypatch.setattr(stream, "scale_pixels", scaled)
    list(embed_stream([(0, picture())], pipe.image_processor, tower, device="meta"))  # a device that every machine has
    assert received == [("meta", torch.uint8)]
    monkeypatch.setattr(pipe, "device", torch.device("meta"))
    monkeypatch.setattr(pipe, "tower", tower)
    list(pipe.embed([(0, picture())]))
    assert received[1:] == [("meta", torch.uint8)], "the pipeline names its own"
    monkeypatch.setattr(pipe, "backend", "onnx")
    monkeypatch.setattr(pipe, "tower", lambda values: torch.zeros(len(values), 4))
    list(pipe.embed([(0, picture())]))
    assert received[2:] == [("cpu", torch.uint8)], "other runtimes read the CPU's memory"


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_order_and_values_do_not_depend_on_batches(pipe, batch_size, workers):
    photos = [picture(i, (30 + 10 * (i % 4), 40)) for i in range(25)]  # 0 to 3 faces each
    found = list(pipe.embed(enumerate(photos), Grid(), batch_size=batch_size, workers=workers))
    assert [key for key, _ in found] == list(range(25))
    for key, answer in found:
        assert len(answer.faces) == key % 4
        if key % 4 == 0:
            assert answer.embeds is None
            continue
        crops = [photos[key].crop(face.box) for face in answer.faces]
        pixels = pipe.image_processor(crops, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(answer.embeds, pipe.tower(pixels), rtol=0, atol=1e-5)


def test_batches_are_full_across_pictures(pipe):
    sizes = []

    def tower(pixels):
        sizes.append(len(pixels))
        return torch.zeros(len(pixels), 4)

    list(embed_stream(((i, picture(i)) for i in range(40)), pipe.image_processor, tower, batch_size=16))
    assert sizes == [16, 16, 8]
    sizes.clear()
    list(embed_stream(((i, picture(i, (50, 40))) for i in range(8)), pipe.image_processor, tower, Grid(), batch_size=4))
    assert sizes == [4, 4, 4, 4]


def test_a_broken_picture_costs_only_itself(pipe, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    items = [picture(0), tmp_path / "broken.png", tmp_path / "missing.png", picture(1)]
    answers = [answer for _, answer in pipe.embed(enumerate(items))]
    assert [type(answer.error).__name__ for answer in answers] == [
        "NoneType", "UnidentifiedImageError", "FileNotFoundError", "NoneType",
    ]  # fmt: skip
    assert answers[3].embeds.shape == (1, 48)


def test_a_strip_is_not_blown_up(pipe):
    """CLIP's own preprocessing would make 4,480,000 x 224 pixels of it."""
    strip = Image.new("RGB", (20_000, 1))
    items = [(0, picture(0)), (1, strip), (2, picture(2))]
    answers = [answer for _, answer in embed_stream(items, CLIPImageProcessorPil(), lambda pixels: pixels[:, 0, 0, :4])]
    assert "20000 x 1 is too long for its width" in str(answers[1].error)
    assert [answer.embeds is None for answer in answers] == [False, True, False]


def test_an_error_of_the_source_comes_after_what_it_gave(pipe):
    def source():
        yield from enumerate(picture(i) for i in range(5))
        raise ValueError("cut off")

    seen = []
    with pytest.raises(ValueError, match="cut off"):
        for key, _ in pipe.embed(source()):
            seen.append(key)
    assert seen == [0, 1, 2, 3, 4]


def test_few_pictures_wait_in_memory(pipe):
    drawn = []

    def source():
        for i in range(500):
            drawn.append(i)
            yield i, picture(i)

    stream = pipe.embed(source(), batch_size=4)
    for _ in range(10):
        next(stream)
    assert len(drawn) < 40
    stream.close()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"workers": 0}])
def test_wrong_sizes(pipe, options):
    with pytest.raises(ValueError, match="at least 1"):
        list(pipe.embed([], **options))
