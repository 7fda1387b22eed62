"""Host and device see the same pixels of a file, whatever its mode."""

import numpy as np
import pytest
from PIL import Image

from firmware_host.images import load_image
from keras_cbpnet.data.preprocessing import read_image


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
