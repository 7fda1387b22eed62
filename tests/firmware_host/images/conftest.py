"""The commands on sources of images, with a standard input and an OpenCV of the test."""

import io
import json
import sys
import types

import numpy as np
import pytest
from helpers.video import Video

from firmware_host.cli import main


@pytest.fixture
def predict(bundle, capfd):
    """Run predict in this process: exit code, records, lines on stderr."""

    def predict(*arguments, json_lines=True):
        options = ["--runtime", "numpy", *(["--json"] if json_lines else [])]
        code = main(["predict", str(bundle), *map(str, arguments), *options])
        out, err = capfd.readouterr()
        return code, [json.loads(line) if json_lines else line for line in out.splitlines()], err.splitlines()

    return predict


@pytest.fixture
def standard_input(monkeypatch):
    def replace(content: bytes):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    return replace


@pytest.fixture
def opencv(monkeypatch):
    """A stand-in for OpenCV; the real one is asked in test_a_real_video."""
    cv2 = types.SimpleNamespace(VideoCapture=Video, CAP_PROP_FRAME_WIDTH=3, CAP_PROP_FRAME_HEIGHT=4)
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    monkeypatch.setattr(Video, "opened", [])
    red, green = (np.full((48, 64, 3), bgr, np.uint8) for bgr in ((30, 30, 220), (30, 220, 30)))
    monkeypatch.setattr(Video, "frames", [red, red, green, green, red])
    return cv2


@pytest.fixture
def learn(bundle, capfd):
    def learn(*arguments):
        code = main(["learn", str(bundle), *map(str, arguments), "--runtime", "numpy", "--json"])
        out, err = capfd.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err.splitlines()

    return learn
