"""Real streams, made by ffmpeg: MJPEG by HTTP, a file, RTSP."""

import socket
from itertools import islice

import numpy as np
import pytest
from helpers.ffmpeg import FFMPEG, ffmpeg, mpjpeg, rtsp_server
from helpers.web_camera import web_camera

from firmware_host.bundle import DeviceError
from firmware_host.images.cameras import opencv
from firmware_host.images.sources import frames

pytestmark = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")
OPENCV = "OpenCV is not installed (extra `video`)"


def colours(images):
    """The colours, each once, in the order in which they come."""
    found = [np.argmax(each.image.mean(axis=(0, 1))) for each in images]
    return ["rgb"[each] for each, last in zip(found, [None, *found]) if each != last]


def test_mjpeg():
    with web_camera() as camera:
        camera.routes["/live"] = mpjpeg
        given = frames(camera.address("/live"))
        found = list(islice(given, 30))
        assert {each.image.shape for each in found} == {(240, 320, 3)}
        assert colours(found) == ["r", "g", "b"]
        with pytest.raises(DeviceError, match="the stream has ended"):
            next(given)


def test_mjpeg_on_the_command_line(predict):
    with web_camera() as camera:
        camera.routes["/live"] = mpjpeg
        code, records, err = predict("--source", camera.address("/live"), "--agree", 5, "--motion", "--frames", 20)
        assert (code, err) == (0, [])
        assert [record["label"] for record in records] == ["red", "green"]


def test_a_file(tmp_path):
    pytest.importorskip("cv2", reason=OPENCV)
    path = tmp_path / "a.mp4"
    with ffmpeg("-c:v", "libx264", path) as process:
        assert process.wait() == 0
    found = list(frames(f"video:{path}", every=2, max_memory_mb=4000.0))
    assert [each.image.shape for each in found] == [(240, 320, 3)] * 15
    assert colours(found) == ["r", "g", "b"]


@pytest.mark.slow
def test_rtsp_of_a_camera_with_a_password_that_goes_away_and_comes_back():
    pytest.importorskip("cv2", reason=OPENCV)
    with rtsp_server("anna", "s3cr@t") as camera:
        source = f"rtsp://anna:s3cr%40t@127.0.0.1:{camera.server_address[1]}/live"
        given = frames(source)
        found = list(islice(given, 12))
        assert {each.image.shape for each in found} == {(240, 320, 3)}
        assert colours(found) == ["r", "g"]
        assert found[0].name == f"rtsp://***@127.0.0.1:{camera.server_address[1]}/live#0"
        camera.hangs_up.set()
        with pytest.raises(
            DeviceError, match=r"^rtsp://\*\*\*@127.0.0.1:\d+/live gave no more after \d+ frames: check it"
        ):
            list(given)
        camera.hangs_up.clear()
        assert len(list(islice(frames(source), 3))) == 3
        with pytest.raises(DeviceError, match=r"live does not open: .* its address, user and password") as error:
            frames(source.replace("s3cr", "wr0ng"))
        assert "wr0ng" not in str(error.value)


@pytest.mark.slow
def test_rtsp_of_a_camera_that_falls_silent(monkeypatch):
    pytest.importorskip("cv2", reason=OPENCV)
    monkeypatch.setattr(opencv, "SILENT_S", 4.0)
    with rtsp_server("anna", "1") as camera:
        given = frames(f"rtsp://anna:1@127.0.0.1:{camera.server_address[1]}/live")
        next(given)
        camera.is_silent.set()
        with pytest.raises(DeviceError, match="gave no more after"):
            list(given)


def test_rtsp_of_a_server_that_hangs(monkeypatch):
    pytest.importorskip("cv2", reason=OPENCV)
    monkeypatch.setattr(opencv, "SILENT_S", 0.3)
    words = "live does not open: check that it is switched on"
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(DeviceError, match=words):
        frames(f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/live")
