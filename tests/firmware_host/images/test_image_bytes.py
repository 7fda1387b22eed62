"""An image that is bytes in memory is read as the file with these bytes is."""

import io

import numpy as np
import pytest
from PIL import Image

from firmware_host import DeviceError
from firmware_host.shared.image_files import read_image_bytes, read_image_file

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)


@pytest.mark.parametrize("how", [{"format": "JPEG"}, {"format": "JPEG", "progressive": True}, {"format": "PNG"}])
def test_bytes_are_read_as_a_file_is(tmp_path, how):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, **how)
    (tmp_path / "image").write_bytes(buffer.getvalue())
    read = read_image_bytes("sent", buffer.getvalue(), (16, 16), 512)
    assert np.array_equal(read, read_image_file(str(tmp_path / "image"), (16, 16), 512))


def test_bytes_that_are_not_an_image_are_one_line():
    with pytest.raises(DeviceError, match=r"^sent is not an image"):
        read_image_bytes("sent", b"hello", (16, 16))
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    with pytest.raises(DeviceError, match=r"^image sent "):
        read_image_bytes("sent", buffer.getvalue()[:-2000], (16, 16))
