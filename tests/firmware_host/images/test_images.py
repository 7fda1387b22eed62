"""Images and DATA: what is taken, and the one line for what is not."""

import os

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from firmware_host.bundle import DeviceError
from firmware_host.images import load_image
from firmware_host.shared import image_files

SIZE = (8, 6)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def test_an_image_of_the_right_size_keeps_its_pixels(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", SIZE), pixels)
    np.testing.assert_array_equal(load_image(str(tmp_path / "a.png"), SIZE), pixels)
    np.testing.assert_array_equal(load_image(pixels, SIZE), pixels)


def test_another_size_is_resized_bicubically(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = np.array(Image.fromarray(pixels).resize((5, 4), Image.Resampling.BICUBIC))
    assert expected.shape == (4, 5, 3)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", (4, 5)), expected)
    np.testing.assert_array_equal(load_image(pixels, (4, 5)), expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_other_modes_become_rgb(mode, tmp_path):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", SIZE[::-1], (255, 255, 255)).convert(mode).save(path)
    np.testing.assert_array_equal(load_image(path, SIZE), np.full((*SIZE, 3), 255, np.uint8))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.gif", "la.png", "p.png", "rgb.png"])
def test_transparent_parts_come_out_white(name, tmp_path):
    """Left half: opaque, dark; right half: transparent, with another colour beneath."""
    pixels = np.full((8, 8, 4), (40, 40, 40, 255), np.uint8)
    pixels[:, 4:] = (80, 80, 80, 0)
    image = Image.fromarray(pixels)
    options = {"lossless": True, "exact": True} if name == "a.webp" else {}
    if name == "la.png":
        image = image.convert("LA")
    elif name == "p.png":
        image, options = image.convert("RGB").quantize(2), {}
        options["transparency"] = image.getpixel((7, 0))
    elif name == "rgb.png":
        image, options = image.convert("RGB"), {"transparency": (80, 80, 80)}
    image.save(tmp_path / name, **options)
    result = load_image(tmp_path / name, (8, 8))
    np.testing.assert_array_equal(result[:, :4], np.full((8, 4, 3), 40))
    np.testing.assert_array_equal(result[:, 4:], np.full((8, 4, 3), 255))
    assert load_image(tmp_path / name, (4, 4))[:, -1].min() > 245  # nothing of the colour beneath
    np.testing.assert_array_equal(load_image(tmp_path / name, (8, 8), max_memory_mb=4000), result)


def test_half_transparent(tmp_path):
    Image.new("RGBA", (8, 6), (255, 0, 0, 51)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", SIZE), np.full((*SIZE, 3), (255, 204, 204)))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm"])
def test_16_bits_lose_the_lower_8(name, tmp_path):
    values = np.linspace(0, 65535, 48).astype(np.uint16).reshape(SIZE)
    if name == "a.ppm":
        (tmp_path / name).write_bytes(b"P5 6 8 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(tmp_path / name)
    result = load_image(tmp_path / name, SIZE)
    np.testing.assert_array_equal(result, np.repeat((values >> 8)[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_are_refused(mode, tmp_path):
    Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(DeviceError, match=r"a.tif has 32 bits a pixel and no known range: save it with 8 or 16 bits"):
        load_image(tmp_path / "a.tif", SIZE)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_of_an_animation_the_first_frame(name, tmp_path):
    first, second = Image.new("RGB", SIZE[::-1], (220, 30, 30)), Image.new("RGB", SIZE[::-1], (30, 30, 220))
    options = {"lossless": True} if name == "a.webp" else {}
    first.save(tmp_path / name, save_all=True, append_images=[second], **options)
    with Image.open(tmp_path / name) as file:
        assert file.n_frames == 2
    np.testing.assert_array_equal(load_image(tmp_path / name, SIZE), np.full((*SIZE, 3), (220, 30, 30)))


UPRIGHT = {  # by the definition of EXIF: Pillow's own exif_transpose turns a TIFF twice before 10.1
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_exif_orientation_is_applied(orientation, name, tmp_path):
    corners = np.zeros((40, 30, 3), np.uint8)
    corners[:20, :15], corners[20:, :15], corners[:20, 15:] = (240, 0, 0), (0, 240, 0), (0, 0, 240)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(corners).save(tmp_path / name, exif=exif)
    Image.fromarray(corners).save(tmp_path / f"plain-{name}")
    with Image.open(tmp_path / f"plain-{name}") as file:
        stored = np.array(file)
    upright = Image.fromarray(np.ascontiguousarray(UPRIGHT[orientation](stored)))
    expected = upright.resize((6, 8), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(load_image(tmp_path / name, SIZE).astype(int), np.array(expected), rtol=0, atol=1)


@pytest.mark.parametrize("full", [(1600, 1200), (1601, 1207), (639, 427)])
@pytest.mark.parametrize("turned", [1, 6])
def test_a_jpeg_decoded_small_looks_the_same(full, turned, tmp_path):
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turned
    Image.fromarray(small).resize(full, Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=95, exif=exif)
    with Image.open(tmp_path / "a.jpg") as file:
        expected = np.array(file.convert("RGB").resize((32, 24), Image.Resampling.BICUBIC)).astype(int)
    loaded = load_image(tmp_path / "a.jpg", (24, 32) if turned == 1 else (32, 24))
    assert np.abs((loaded if turned == 1 else np.rot90(loaded)) - expected).max() <= 2


@pytest.mark.parametrize("side", [32, 64, 96])
def test_a_photo_decoded_small_looks_the_same(side):
    """At 1/4, 1/2 and 1/2 of 640 x 427 pixels; the rows that are left are not a whole number."""
    for path in load_sample_images().filenames:
        with Image.open(path) as file:
            assert file.size == (640, 427)
            expected = np.array(file.resize((side, side), Image.Resampling.BICUBIC)).astype(int)
        difference = np.abs(load_image(path, (side, side)) - expected)
        assert 0 < difference.mean() < 0.6
        assert (difference <= 2).mean() > 0.97


def test_damaged_metadata_does_not_cost_the_image(pixels, tmp_path, capfd, recwarn):
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xffdamaged", quality=100)
    assert load_image(tmp_path / "a.jpg", SIZE).shape == (*SIZE, 3)
    assert (capfd.readouterr().err, len(recwarn)) == ("", 0)


def test_what_is_no_image_gets_one_line(pixels, tmp_path, capfd):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("icon.ico", "page.eps"):
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    for name in ("cut.png", "cut.gif", "cut.tif", "cut.webp"):
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
        noise.save(tmp_path / name, **({"compression": "tiff_lzw"} if name == "cut.tif" else {}))
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1500])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.tile(pixels, (40, 40, 1))).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    for name, message in {
        "text.png": "is not an image: give a file that Pillow reads",
        "empty.png": "is not an image",
        "cut.jpg": "cannot be read .*truncated.*: replace or remove it",
        "none.png": "does not exist: check the path",
        "folder": "is not an image but a folder: give a file",
        "pipe": "is not an image but a device, pipe or socket",
        "icon.ico": "is not an image: give a file that Pillow reads",
        "page.eps": "is not an image: give a file that Pillow reads",
        "cut.png": "cannot be read",
        "cut.gif": "cannot be read",
        "cut.tif": "is not an image",  # its directory was at the end
        "cut.webp": "cannot be read",
        "nul\0.png": "cannot be read .*null",
        "x" * 300: "cannot be read .File name too long.: replace or remove it",
        "whole.jpg/x.png": "does not exist: check the path",
    }.items():
        for limit in (None, 4000):
            with pytest.raises(DeviceError, match=message) as error:
                load_image(tmp_path / name, SIZE, limit)
            assert "\n" not in str(error.value)
            assert name in str(error.value)
    assert capfd.readouterr().err == ""


def test_memory_is_the_limit_and_not_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for side in (12, 40):  # Pillow would warn of one and refuse the other
        Image.new("RGB", (side, side)).save(tmp_path / "large.png")
        assert load_image(tmp_path / "large.png", SIZE).shape == (*SIZE, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(image_files, "LARGEST", 1 << 20)
    with pytest.raises(DeviceError, match=r"large.png \(PNG, 40 x 40 pixels, mode RGB\) needs 8 MiB, more than 1"):
        load_image(tmp_path / "large.png", SIZE)


def test_a_tiff_is_turned_once(tmp_path, monkeypatch):
    """Below Pillow 10.1 its metadata still name the orientation after `load` has turned it."""
    corners = np.zeros((40, 30, 3), np.uint8)
    corners[:20, :15] = 240
    Image.fromarray(corners).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})

    def getexif(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        return exif

    monkeypatch.setattr(Image.Image, "getexif", getexif)
    pixels = load_image(tmp_path / "a.tif", (4, 3))
    assert pixels[0, 0].min() > 200
    assert pixels[3, 2].max() < 30


def test_metadata_that_pillow_cannot_read_do_not_cost_the_image(pixels, tmp_path, monkeypatch):
    """Pillow 11.2 raises this for XMP that is not UTF-8; what the EXIF says of the orientation counts all the same."""
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)

    def getexif(self):
        raise UnicodeDecodeError("utf-8", b"caf\xe9", 3, 4, "invalid continuation byte")

    monkeypatch.setattr(Image.Image, "getexif", getexif)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", SIZE), pixels[::-1, ::-1])


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_arrays_of_another_kind_are_refused(array):
    with pytest.raises(DeviceError, match=r"give uint8 RGB \[height, width, 3\] or a path"):
        load_image(array, SIZE)
