"""Frames of a video or a camera."""

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from helpers.video import Video

from firmware_host.bundle import DeviceError
from firmware_host.images.sources import frames


def test_frames_of_a_video(predict, opencv, tmp_path):
    (tmp_path / "a.avi").write_text("")
    source = f"video:{tmp_path / 'a.avi'}"
    code, records, err = predict("--source", source)
    assert (code, err) == (0, [])
    assert [record["label"] for record in records] == ["red", "red", "green", "green", "red"]  # BGR was turned
    assert [record["image"] for record in records] == [f"{source}#{index}" for index in range(5)]
    code, records, _ = predict("--source", source, "--every", 2, "--frames", 2)
    assert [(record["image"][-1], record["label"]) for record in records] == [("0", "red"), ("2", "green")]
    assert all(video.released for video in Video.opened)


def test_a_damaged_frame_stops_no_other(predict, opencv, monkeypatch, tmp_path):
    (tmp_path / "a.avi").write_text("")
    monkeypatch.setattr(Video, "frames", [Video.frames[0], False, Video.frames[2]])
    code, records, _ = predict("--source", f"video:{tmp_path / 'a.avi'}")
    assert (code, [record.get("label") for record in records]) == (2, ["red", None, "green"])
    assert "a.avi#1 is damaged" in records[1]["error"]


def test_a_camera(predict, opencv):
    assert [frame.name for frame in islice(frames("camera:1"), 2)] == ["camera:1#0", "camera:1#1"]
    assert Video.opened[0].place == 1
    code, records, err = predict("--source", "camera:0")
    assert (code, len(records)) == (2, 5)
    assert err == ["error: camera:0 gave no more after 5 frames: check it"]
    assert predict("--source", "camera:0", "--frames", 5)[0] == 0


def test_bad_sources(predict, opencv, monkeypatch, tmp_path):
    (tmp_path / "a.avi").write_text("")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "closed.avi").write_text("")
    for arguments, message in {
        ("--source", "usb"): "source is 'usb': use picamera[:NUMBER], camera:NUMBER, video:FILE, rtsp://HOST/..., ",
        ("--source", "camera:front"): "source is 'camera:front': use picamera[:NUMBER], camera:NUMBER",
        ("--source", "video:"): "what follows video: is empty: give a path",
        ("--source", "video:none.avi"): "video none.avi does not exist or is not a file: check the path",
        ("--source", "video:closed.avi"): "video closed.avi does not open: give one that OpenCV reads",
        ("--source", "video:a.avi", "--every", 0): "every is 0: use 1 or more",
        ("--source", "video:a.avi", "--frames", 0): "frames is 0: use 1 or more",
        ("--source", "video:a.avi", "--max-memory", 1): "video a.avi (64 x 48 pixels) needs 0 MiB and",
        ("a.png", "--source", "video:a.avi"): "IMAGE a.png and --source video:a.avi are given: use one of them",
        (): "required: IMAGE or --source",
    }.items():
        code, records, err = predict(*arguments)
        assert (code, records, len(err)) == (2, [], 1)
        assert err[0].startswith("error: ")
        assert message in err[0]
    monkeypatch.setattr(Video, "frames", [])
    assert predict("--source", "video:a.avi")[2] == ["error: video:a.avi gave no frame: check it"]


def test_without_opencv_one_line_says_what_to_install(predict, monkeypatch, tmp_path):
    (tmp_path / "a.avi").write_text("")
    monkeypatch.setitem(sys.modules, "cv2", None)
    code, records, [line] = predict("--source", f"video:{tmp_path / 'a.avi'}")
    assert (code, records) == (2, [])
    assert line.startswith("error: a camera or a video needs OpenCV (")
    assert line.endswith('install it with pip install "keras-cbpnet[video]"')


def test_a_real_video(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (extra `video`)")
    path = str(tmp_path / "a.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for bgr in ((30, 30, 220), (30, 220, 30)):
        writer.write(np.full((48, 64, 3), bgr, np.uint8))
    writer.release()
    images = [frame.image for frame in frames(f"video:{path}", max_memory_mb=4000)]
    np.testing.assert_allclose([image.mean(axis=(0, 1)) for image in images], [(220, 30, 30), (30, 220, 30)], atol=3)
    Path(path).write_bytes(Path(path).read_bytes()[:500])
    with pytest.raises(DeviceError, match=r"a.avi (does not open|gave no frame)"):
        list(frames(f"video:{path}"))
