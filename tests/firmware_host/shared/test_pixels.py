"""Host and device see the same pixels of a file, whatever its mode."""

import os

import numpy as np
import pytest
from PIL import Image

from firmware_host.bundle import DeviceError
from firmware_host.images import load_image
from keras_cbpnet.data.preprocessing import read_image
from keras_cbpnet.errors import UserError


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "I;16", "CMYK", "JPEG"])
def test_the_same_pixels(mode, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 4), np.uint8).repeat(50, axis=0).repeat(50, axis=1)
    image = Image.fromarray(pixels)
    path = tmp_path / ("a.jpg" if mode == "JPEG" else "a.tif" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode == "JPEG":
        image = image.convert("RGB")
    else:
        image = image.convert("RGB").convert(mode) if mode in ("P", "CMYK") else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    host = read_image(path, (24, 16))
    assert host.std() > 5
    np.testing.assert_array_equal(host, load_image(path, (24, 16), max_memory_mb=4000))


@pytest.mark.parametrize("kind", ["text", "cut", "folder", "pipe", "missing", "32 bits", "of another format", "large"])
def test_what_the_device_refuses_is_not_trained_on(kind, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    if kind == "text":
        path.write_text("not an image")
    elif kind == "cut":
        Image.effect_noise((64, 64), 50).save(path)
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "32 bits":
        Image.new("F", (8, 8)).save(path, format="TIFF")
    elif kind == "of another format":
        Image.new("RGB", (32, 32)).save(path, format="ICO")
    elif kind == "large":
        Image.new("L", (8, 8)).save(path)
        monkeypatch.setattr("firmware_host.shared.image_files.LARGEST", 1 << 20)
    with pytest.raises(DeviceError) as refusal:
        load_image(path, (4, 4))
    with pytest.raises(UserError) as error:
        read_image(path, 4)
    assert str(error.value) == str(refusal.value)
