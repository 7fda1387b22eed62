"""Images that are large or want to be: decoded within the limit on memory, or refused before they are decoded.

Each runs in a process of its own, which reports the largest resident size that the system saw (not getrusage, which on
Linux starts at the size of the process that started this one).
"""

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import Image

from firmware_host.bundle import DeviceError
from firmware_host.process_memory import check_fits, peak_memory_mb, resident_memory_mb

SIDE = 1500

LOAD = """
import json, sys
from PIL import Image
Image.init()
from firmware_host.images import load_image
from firmware_host.shared import image_files as images
from firmware_host.bundle import DeviceError
from firmware_host.process_memory import MIB, peak_memory_mb, resident_memory_mb
need, check = [], images.check_fits
def spy(what, size, limit):
    need.append(size / MIB)
    check(what, size, limit)
images.check_fits = spy
before = resident_memory_mb()
try:
    load_image(sys.argv[1], (8, 8), float(sys.argv[2]))
    error = None
except DeviceError as refusal:
    error = str(refusal)
peak = peak_memory_mb()
print(json.dumps({"need": need, "taken": peak - before, "before": before, "peak": peak, "error": error}))
"""

PREDICT = """
import sys
from firmware_host.cli import main
from firmware_host.process_memory import peak_memory_mb
code = main(["predict", *sys.argv[1:], "--runtime", "numpy", "--json"])
print(code, peak_memory_mb())
"""


@pytest.fixture(autouse=True)
def small_process():
    """Here the size of the process counts: nothing is put in its place."""


def child(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    return done


def load(path, limit=4000):
    return json.loads(child(LOAD, path, limit).stdout)


def png_header(width, height, colour=2, depth=8):
    """A PNG that says it is this large and ends before the first pixel."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


def baseline_in_three_scans(grey_jpeg):
    """A colour JPEG without `progressive` that libjpeg must hold whole: the scan of a grey one, three times."""
    frame, scan, end = grey_jpeg.index(b"\xff\xc0"), grey_jpeg.index(b"\xff\xda"), grey_jpeg.rindex(b"\xff\xd9")
    size = grey_jpeg[frame + 5 : frame + 9]
    colour = b"\xff\xc0" + struct.pack(">HB", 17, 8) + size + b"\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00"
    entropy = grey_jpeg[scan + 10 : end]
    scans = [b"\xff\xda\x00\x08\x01" + bytes([one]) + b"\x00\x00\x3f\x00" + entropy for one in (1, 2, 3)]
    return grey_jpeg[:frame] + colour + grey_jpeg[frame + 13 : scan] + b"".join(scans) + b"\xff\xd9"


@pytest.fixture(scope="module")
def picture():
    small = np.random.default_rng(0).integers(0, 256, (SIDE // 10, SIDE // 10, 3), np.uint8)
    return Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.NEAREST)


KINDS = {
    "L.png": ("L", {}),
    "RGB.png": ("RGB", {}),
    "RGBA.png": ("RGBA", {}),
    "LA.png": ("LA", {}),
    "1.png": ("1", {}),
    "P.png": ("P", {"transparency": 3}),
    "16.png": ("I;16", {}),
    "P.gif": ("P", {"transparency": 3}),
    "RGB.tif": ("RGB", {"compression": "tiff_lzw", "tiffinfo": {278: SIDE}}),  # one strip of all rows
    "CMYK.tif": ("CMYK", {}),
    "RGB.bmp": ("RGB", {}),
    "RGB.ppm": ("RGB", {}),
    "RGB.webp": ("RGB", {"method": 0, "quality": 30}),
    "RGBA.webp": ("RGBA", {"method": 0, "quality": 30}),
    "RGB.jp2": ("RGB", {}),
    "RGB.jpg": ("RGB", {}),
    "progressive.jpg": ("RGB", {"progressive": True, "subsampling": 0}),
    "scans.jpg": ("L", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_no_more_is_taken_than_was_computed(picture, tmp_path, name):
    mode, options = KINDS[name]
    image = picture
    if mode == "I;16":
        image = Image.fromarray(np.array(picture.convert("L")).astype(np.uint16) * 257)
    elif mode != "RGB":
        image = picture.convert(mode) if mode != "RGBA" else picture.copy()
        if "A" in mode:
            image.putalpha(picture.convert("L"))
    path = tmp_path / name
    image.save(path, **({"compress_level": 1} if name.endswith("png") else {}), **options)
    if name == "scans.jpg":
        path.write_bytes(baseline_in_three_scans(path.read_bytes()))
        assert Image.open(path).mode == "RGB"
    result = load(path)
    assert result["error"] is None
    need = result["need"][-1]
    if name == "RGB.jpg":
        assert need < 10  # decoded small
    assert result["taken"] <= need
    assert result["taken"] >= 0.2 * (need - 8) - 8  # an upper bound, not a fantasy


@pytest.mark.parametrize("name", ["RGB.png", "RGB.webp", "progressive.jpg"])
def test_what_does_not_fit_is_refused_before_it_is_decoded(picture, tmp_path, name):
    path = tmp_path / name
    picture.save(path, **KINDS[name][1])
    fits = load(path)
    limit = fits["before"] + 0.9 * fits["need"][-1]
    refused = load(path, limit)
    assert f"image {path} (" in refused["error"]
    assert "make it smaller or use --max-memory" in refused["error"]
    assert refused["peak"] < limit


def test_the_limit_that_the_message_names_is_enough(picture, tmp_path):
    picture.save(tmp_path / "a.png")
    refused = load(tmp_path / "a.png", 50)["error"]
    assert load(tmp_path / "a.png", int(refused.split()[-1]))["error"] is None


@pytest.mark.parametrize(
    ("width", "height"),
    [(20_000, 20_000), (1, 100_000_000), (100_000_000, 1), (2**31 - 1, 2**31 - 1)],
)
def test_a_header_that_lies_is_refused_before_anything_is_decoded(tmp_path, width, height):
    (tmp_path / "a.png").write_bytes(png_header(width, height))
    result = load(tmp_path / "a.png", 256)
    assert f"(PNG, {width} x {height} pixels, mode RGB) needs" in result["error"]
    assert result["taken"] < 10


def grey_photo(side):
    """A colour JPEG of one grey of any size, a multiple of 32, without ever holding its pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (128, 128, 128)).save(buffer, "JPEG", subsampling=0)
    small = buffer.getvalue()
    frame, scan = small.index(b"\xff\xc0"), small.index(b"\xff\xda")
    header = small[: frame + 5] + struct.pack(">HH", side, side) + small[frame + 9 : scan + 14]
    blocks = "001010" + "0000" + "0000"  # no change to the block before, end of block: luma, then chroma twice
    four = int(blocks * 4, 2).to_bytes(7, "big")
    return header + four * ((side // 8) ** 2 // 4) + b"\xff\xd9"


def test_a_photo_too_large_to_hold_is_decoded_small(tmp_path):
    """20,000 x 20,000 pixels in colour take 1.5 GiB; at an eighth they fit."""
    (tmp_path / "one.jpg").write_bytes(grey_photo(20_000))
    result = load(tmp_path / "one.jpg", 192)
    assert result["error"] is None
    assert result["peak"] < 192
    assert 20 < result["taken"] < result["need"][-1] < 50


@pytest.mark.slow
def test_predict_stays_under_the_limit(make, bundle, tmp_path):
    """Hostile files among good ones: the good are predicted, the bad have a line each, memory stays where it must."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(300):
        Image.fromarray(make.colour_image("red", rng)).save(folder / f"{index:03}.png")
    (folder / "050.png").write_bytes(png_header(20_000, 20_000))
    (folder / "051.png").write_bytes(b"")
    (folder / "052.png").write_text("no image")
    (folder / "053.png").write_bytes((folder / "000.png").read_bytes()[:-40])
    Image.new("L", (13_000, 13_000)).save(folder / "054.png")  # 20 KB, 161 MiB and more decoded
    Image.new("RGB", (9_000, 9_000), (220, 30, 30)).save(folder / "055.jpg", quality=50)
    done = child(PREDICT, bundle, folder, "--max-memory", 192)
    *lines, last = done.stdout.splitlines()
    code, peak = last.split()
    records = [json.loads(line) for line in lines]
    bad = [Path(record["image"]).name for record in records if "error" in record]
    assert (code, done.stderr, len(records)) == ("2", "", 301)
    assert bad == ["050.png", "051.png", "052.png", "053.png", "054.png"]
    assert {record["label"] for record in records if "error" not in record} == {"red"}
    assert float(peak) < 192


def test_the_arrays_of_an_npz_are_checked_first(call_load_npz, tmp_path):
    np.savez_compressed(
        tmp_path / "a.npz",
        x_train=np.zeros((30, 1000, 1000, 3), np.uint8),
        y_train=np.zeros(30, int),
        class_names=np.array(["red"]),
    )
    error, taken = call_load_npz(tmp_path / "a.npz", 100)
    assert "a.npz needs 86 MiB" in error
    assert taken < 20


@pytest.fixture
def call_load_npz():
    code = (
        "import sys; from firmware_host.bundle import DeviceError\n"
        "from firmware_host.images.labelled import read_data\n"
        "from firmware_host.process_memory import peak_memory_mb, resident_memory_mb\n"
        "before = resident_memory_mb()\n"
        "try: read_data('npz:' + sys.argv[1], 'train', float(sys.argv[2]))\n"
        "except DeviceError as error: print(error)\n"
        "print(peak_memory_mb() - before)"
    )

    def call(path, limit):
        error, taken = child(code, path, limit).stdout.splitlines()
        return error, float(taken)

    return call


def test_the_size_of_a_process():
    assert 10 < resident_memory_mb() <= peak_memory_mb()
    check_fits("nothing", 0, resident_memory_mb() + 100)
    with pytest.raises(DeviceError, match=r"something needs 0 MiB and .* of 5 MiB are in use"):
        check_fits("something", 0, 5)
