"""The table of cameras: a new kind is a row of it; what they share; the screen."""

import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import ImageGrab

from firmware_host.bundle import DeviceError
from firmware_host.cli import build_parser
from firmware_host.images import sources
from firmware_host.images.cameras import KINDS, DamagedError, forms
from firmware_host.images.cameras.kind import Kind
from firmware_host.images.region import Region
from firmware_host.images.sources import frames, has_end

FRAME = np.zeros((4, 8, 3), np.uint8)
FRAME[:, 4:] = (220, 30, 30)


def damaged():
    raise DamagedError("so it is")


@pytest.fixture
def dummy(monkeypatch):
    """dummy(takes, ends): a kind of camera with these frames; returns the list of those that were closed."""

    def dummy(takes, ends=False):
        closed = []

        def opened(source, max_memory_mb):
            try:
                yield from takes
            finally:
                closed.append(source)

        monkeypatch.setitem(KINDS, "dummy", Kind("dummy:WORD", "of a test", "dummy:[a-z]+", opened, ends))
        return closed

    return dummy


def test_a_row_is_all_that_a_new_kind_needs(dummy, predict, capfd):
    closed = dummy([lambda: FRAME] * 3, ends=True)
    code, records, err = predict("--source", "dummy:one")
    assert (code, [record["image"] for record in records], err) == (0, [f"dummy:one#{n}" for n in range(3)], [])
    assert closed == ["dummy:one"]
    assert forms().endswith("or dummy:WORD")
    assert predict("--source", "dummy:1")[2][0].endswith("screen or dummy:WORD")
    for command in ("predict", "learn", "serve"):
        with pytest.raises(SystemExit):
            build_parser("cbpnet").parse_args([command, "--help"])
        assert "dummy:WORD (of a test)" in " ".join(capfd.readouterr().out.split())


def test_a_frame_that_is_not_taken_is_not_decoded(dummy):
    decoded = []
    dummy([lambda n=n: decoded.append(n) or FRAME for n in range(7)], ends=True)
    assert [each.name for each in frames("dummy:a", every=3)] == ["dummy:a#0", "dummy:a#3", "dummy:a#6"]
    assert decoded == [0, 3, 6]


class Clock:
    """Time that passes when somebody sleeps, and a little with every frame."""

    def __init__(self):
        self.now, self.slept = 100.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def test_no_more_frames_a_second_than_wanted(dummy, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(sources, "time", clock)

    def thirty_a_second():
        for _ in range(30):
            yield lambda: FRAME
            clock.now += 1 / 30

    dummy(thirty_a_second())
    given = frames("dummy:a", per_second=10.0)
    names = [int(each.name.partition("#")[2]) for each in islice(given, 10)]
    with pytest.raises(DeviceError, match="no more after 30 frames"):
        next(given)
    assert names == list(range(0, 30, 3))  # the newest, not one after the other
    assert clock.slept == []
    dummy([lambda: FRAME] * 4, ends=True)
    assert len(list(frames("dummy:a", per_second=10.0))) == 4  # a video is played more slowly
    assert clock.slept == pytest.approx([0.1] * 3)


def test_a_camera_is_closed_when_nobody_looks_any_more(dummy):
    closed = dummy([lambda: FRAME] * 9)
    given = frames("dummy:a")
    next(given)
    assert closed == []
    del given
    assert closed == ["dummy:a"]


def test_damaged_frames(dummy):
    dummy([damaged, lambda: FRAME, *[damaged] * 49, lambda: FRAME, *[damaged] * 60])
    given = frames("dummy:a")
    found = [isinstance(each.image, DeviceError) for each in islice(given, 102)]
    assert found.count(False) == 2
    with pytest.raises(DeviceError, match="dummy:a gave 50 damaged frames in a row: check it"):
        next(given)
    dummy([damaged] * 60, ends=True)
    assert len(list(frames("dummy:a"))) == 60  # of a file, all that is good counts


def test_part_of_the_picture(dummy, predict):
    dummy([lambda: FRAME], ends=True)
    [found] = frames("dummy:a", region=Region.of("0.5,0.25,0.5,0.5"))
    assert np.array_equal(found.image, FRAME[1:3, 4:])
    code, [record], _ = predict("--source", "dummy:a", "--region", "0.5,0,0.5,1")
    assert (code, record["label"]) == (0, "red")


@pytest.mark.parametrize(
    ("text", "rows", "columns"), [("0,0,1,1", 4, 8), ("0.99,0.99,0.01,0.01", 1, 1), ("0.7,0,0.3,0.1", 1, 2)]
)
def test_a_region_has_a_pixel_at_least(text, rows, columns):
    assert Region.of(text).cut(FRAME).shape == (rows, columns, 3)


@pytest.mark.parametrize(
    "text", ["0,0,1.1,1", "0.5,0,0.6,1", "1,0,0.1,1", "0,0,0,1", "0,0,nan,1", "0,-0.1,1,1", "10,10,100,100"]
)
def test_a_region_outside_is_one_line(dummy, predict, text):
    dummy([lambda: FRAME], ends=True)
    code, _, [line] = predict("--source", "dummy:a", "--region", text)
    assert code == 2
    assert f"region {text} is not inside the picture: use shares of it with x + w and y + h at most 1" in line


def test_a_region_that_is_none(predict):
    for text in ("1,2,3", "a,b,c,d", ""):
        assert (
            f"region is {text!r}: use x,y,w,h, four shares" in predict("--source", "camera:0", "--region", text)[2][0]
        )
    for option in (["--region", "0,0,1,1"], ["--agree", "2"], ["--motion"]):
        assert predict("a.png", *option)[2][0].endswith("of --source: give both"), option


def test_which_come_to_an_end():
    assert {name for name, kind in KINDS.items() if kind.ends} == {"video"}
    assert has_end("video:a.avi")
    with pytest.raises(DeviceError, match="source is 'rtsp:a': use"):
        has_end("rtsp:a")


def test_the_screen(monkeypatch):
    from PIL import Image

    monkeypatch.setattr(ImageGrab, "grab", lambda: Image.new("RGBA", (20, 10), (220, 30, 30, 255)))
    given = frames("screen")
    for _ in range(2):
        assert np.array_equal(next(given).image, np.full((10, 20, 3), (220, 30, 30), np.uint8))
    with pytest.raises(DeviceError, match=r"screen \(20 x 10 pixels\) needs 0 MiB"):
        frames("screen", max_memory_mb=1.0)

    def refuse():
        raise OSError("X connection failed:\nerror 5")

    monkeypatch.setattr(ImageGrab, "grab", refuse)
    with pytest.raises(DeviceError, match=r"screen cannot be read \(X connection failed: error 5\): start it where"):
        frames("screen")


def test_no_kind_is_imported_before_it_is_used():
    code = (
        "import sys; import firmware_host.cli\nprint({'cv2', 'PIL', 'picamera2', 'urllib.request'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
