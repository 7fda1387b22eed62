"""A PNG whose metadata are damaged or larger than Pillow takes: its pixels count."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from firmware_host.bundle import DeviceError
from firmware_host.images import load_image
from firmware_host.shared.png import without_metadata

HEADER = 33  # signature and IHDR


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)


def png(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def chunk(name, data, crc=None):
    crc = zlib.crc32(name + data) if crc is None else crc
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


EXTRA = {
    "a wrong checksum of a text": chunk(b"tEXt", b"Comment\0x", crc=1),
    "a text of two megabytes": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(2_000_000))),
    "a colour profile of three megabytes": chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(3_000_000))),
    "a damaged colour profile": chunk(b"iCCP", b"icc\0\0damaged"),
    "a damaged text": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0damaged"),
}


@pytest.mark.parametrize("where", ["before the pixels", "after them"])
@pytest.mark.parametrize("extra", EXTRA.values(), ids=EXTRA)
def test_metadata_do_not_cost_the_image(extra, where, pixels, tmp_path):
    whole = png(pixels)
    at = HEADER if where == "before the pixels" else len(whole) - 12
    (tmp_path / "a.png").write_bytes(whole[:at] + extra + whole[at:])
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", (8, 6)), pixels)


def test_orientation_and_transparency_stay(pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = png(pixels, exif=exif)
    (tmp_path / "a.png").write_bytes(
        turned[:HEADER] + EXTRA["a damaged text"] + EXTRA["a wrong checksum of a text"] + turned[HEADER:]
    )
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", (8, 6)), pixels[::-1, ::-1])
    clear = np.dstack([pixels, np.zeros((8, 6), np.uint8)])
    whole = png(clear)
    (tmp_path / "b.png").write_bytes(whole[:HEADER] + EXTRA["a wrong checksum of a text"] + whole[HEADER:])
    np.testing.assert_array_equal(load_image(tmp_path / "b.png", (8, 6)), np.full((8, 6, 3), 255))


def test_damaged_pixels_are_refused_for_what_is_damaged(pixels, tmp_path):
    whole = bytearray(png(pixels))
    whole[HEADER + 8 : HEADER + 16] = b"\xff" * 8  # the first pixels
    for extra in (b"", EXTRA["a text of two megabytes"]):
        (tmp_path / "a.png").write_bytes(whole[:HEADER] + extra + whole[HEADER:])
        with pytest.raises(DeviceError, match=r"a.png cannot be read \("):  # and no black image
            load_image(tmp_path / "a.png", (8, 6))
    (tmp_path / "b.png").write_bytes(png(pixels)[: HEADER + 40])
    with pytest.raises(DeviceError, match=r"b.png cannot be read \(.*truncated"):
        load_image(tmp_path / "b.png", (8, 6))


def test_what_is_left_of_the_file(pixels):
    info = PngInfo()
    info.add_text("a", "b")
    plain = without_metadata(io.BytesIO(png(pixels, pnginfo=info)))
    assert plain.read() == png(pixels)
    assert plain.seek(-12, io.SEEK_END) == len(png(pixels)) - 12
    assert plain.read(8)[4:] == b"IEND"
    assert without_metadata(io.BytesIO(b"GIF89a")) is None
