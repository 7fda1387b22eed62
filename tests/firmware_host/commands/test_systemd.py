"""The systemd unit that learns: its commands, run and confined as systemd would, in a folder of their own."""

import os
import shlex
import subprocess
import sys

import pytest
from helpers.confined import lacking, prefix, settings
from helpers.paths import ROOT

from firmware_host import Device


@pytest.fixture
def start(bundle, tmp_path):
    """Start the service in tmp_path; False where its condition does not hold."""
    file = ROOT / "firmware_host" / "systemd" / "cbpnet-learn.service"
    unit, confined = settings(file), [] if lacking() else prefix(file)
    bundle.rename(tmp_path / "bundle")

    def start(stop_before=None):
        for name in ("ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost"):
            if name == stop_before:
                return None
            [line] = unit[name]
            line = line.replace("%%", "%").replace("$$", "$")  # as systemd reads them
            if name == "ExecStart":
                line = line.replace("/opt/cbpnet/bin/python", shlex.quote(sys.executable)) + " --runtime numpy"
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                [*confined, "sh", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            if name == "ExecCondition" and done.returncode:
                return False
            assert done.returncode == 0, done.stderr
        return True

    return start


def seen(tmp_path):
    return Device.open(tmp_path / "bundle", tmp_path / "state", runtime="numpy")._working.statistics.count.tolist()


@pytest.mark.slow
def test_the_service_learns_the_inbox_once(start, make, tmp_path):
    (tmp_path / "inbox").mkdir()
    assert start() is False
    make.folder_of_images(tmp_path / "inbox", names=("blue",), each=3)
    assert start() is True
    assert seen(tmp_path) == [20, 20, 3, 0]
    assert not list((tmp_path / "inbox").iterdir())
    assert len(list((tmp_path / "learned").rglob("*.png"))) == 3
    assert start() is False


@pytest.mark.slow
def test_what_a_power_cut_left_is_learned_at_the_next_start(start, make, tmp_path):
    make.folder_of_images(tmp_path / "inbox", names=("blue",), each=3)
    assert start(stop_before="ExecStart") is None
    make.folder_of_images(tmp_path / "inbox", names=("white",), each=2)
    assert start() is True
    assert seen(tmp_path) == [20, 20, 3, 0]
    assert start() is True
    assert seen(tmp_path) == [20, 20, 3, 2]


@pytest.mark.slow
def test_a_bad_image_does_not_stop_the_service(start, make, tmp_path):
    make.folder_of_images(tmp_path / "inbox", names=("blue", "red"), each=3)
    (tmp_path / "inbox" / "blue" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    assert start(stop_before="ExecStartPost") is None  # power is cut after all was learned
    assert seen(tmp_path) == [23, 20, 3, 0]
    make.folder_of_images(tmp_path / "inbox", names=("white",), each=2)
    assert start() is True
    assert seen(tmp_path) == [23, 20, 3, 0]
    assert [path.name for path in (tmp_path / "refused" / "blue").iterdir()] == ["cut.jpg"]
    assert start() is True
    assert seen(tmp_path) == [23, 20, 3, 2]
    assert len(list((tmp_path / "learned").rglob("*.png"))) == 8


@pytest.mark.slow
def test_a_power_cut_before_the_new_inbox_is_made(start, make, tmp_path):
    make.folder_of_images(tmp_path / "learning", names=("blue",), each=3)
    assert start() is True
    assert seen(tmp_path) == [20, 20, 3, 0]
    assert not list((tmp_path / "inbox").iterdir())
