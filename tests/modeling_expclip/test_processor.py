import io

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_expclip import ExpCLIPProcessor, processing_expclip
from modeling_expclip.media.images import open_image
from modeling_expclip.processing_expclip import to_rgb
from tests.conftest import picture


def test_paper_preprocessing(checkpoint):
    """RGB, bilinear squash without cropping, divided by 255, not normalised."""
    processor = ExpCLIPProcessor.from_pretrained(checkpoint)
    image = picture(size=(61, 33))
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)).astype(np.float32).transpose(2, 0, 1) / 255
    pixels = processor(images=image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixels[0], torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_text_is_padded_and_cut(checkpoint):
    processor = ExpCLIPProcessor.from_pretrained(checkpoint)
    ids = processor(text=["anger", "fear " * 100], return_tensors="pt")["input_ids"]
    assert ids.shape == (2, 77)
    assert ids[1, -1] == processor.tokenizer.eos_token_id
    assert processor.tokenizer.model_max_length == 77


GREY = np.linspace(0, 255, 12 * 16).reshape(12, 16).astype(np.uint8)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "1", "YCbCr", "HSV", "I"])
def test_every_mode_becomes_rgb(mode):
    grey = Image.fromarray(GREY)
    if mode == "I":
        image = Image.fromarray(GREY.astype(np.int32))
    else:
        image = grey.convert("P") if mode == "P" else grey.convert("RGB").convert(mode)
    result = to_rgb(image)
    assert result.mode == "RGB" and result.size == (16, 12)
    if mode != "1":
        assert np.abs(np.asarray(result)[..., 0].astype(int) - GREY).max() <= 4


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(GREY.astype(np.uint16) * 257).save(path)
    for read in (open_image, processing_expclip.open_image):
        assert np.array_equal(np.asarray(read(path))[..., 1], GREY)


def test_twelve_bits_in_sixteen():
    values = np.array([[0, 16, 4095]], dtype=np.uint16)
    assert list(np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0]) == [0, 1, 255]


def test_a_path_and_its_picture_give_the_same_pixels(checkpoint, tmp_path):
    processor = ExpCLIPProcessor.from_pretrained(checkpoint)
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    paths = [tmp_path / "deep.png", str(tmp_path / "clear.png")]
    by_path = processor(images=paths, return_tensors="pt")["pixel_values"]
    by_picture = processor(images=[Image.open(path) for path in paths], return_tensors="pt")["pixel_values"]
    assert torch.equal(by_path, by_picture) and (by_path[1] == 1).all()


def test_transparency_becomes_white():
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    assert [to_rgb(image).getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (10, 20, 30)]
    palette = Image.new("P", (1, 1))
    palette.info["transparency"] = 0
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)


def test_exif_orientation_is_applied(tmp_path):
    image, path = picture(size=(20, 10)), tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif, quality=95)
    assert open_image(path).size == processing_expclip.open_image(path).size == (10, 20)


def test_bombs_and_broken_files_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    picture(size=(50, 40)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1999)
    with (
        pytest.raises(ValueError, match="50 x 40 is more than 1999 pixels"),
        pytest.warns(Image.DecompressionBombWarning),
    ):
        open_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(ValueError, match="refused"):
        open_image(path)
    monkeypatch.undo()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    for read in (open_image, processing_expclip.open_image):
        with pytest.raises(OSError, match="broken|cut off.*truncated"):
            read(path)
    path.write_bytes(b"no image")
    with pytest.raises(OSError, match="cannot identify"):
        open_image(path)


def test_float_pictures_are_refused():
    buffer = io.BytesIO()
    Image.fromarray(GREY.astype(np.float32)).save(buffer, "TIFF")
    with Image.open(buffer) as image, pytest.raises(ValueError, match="floating-point"):
        to_rgb(image)
