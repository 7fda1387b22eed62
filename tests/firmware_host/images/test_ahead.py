"""Files read ahead by threads: in order, no further than allowed, with the errors and the memory of one thread."""

import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from functools import partial

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import Image

from firmware_host import Device, DeviceError
from firmware_host.cli import main
from firmware_host.images import ahead, load_image
from firmware_host.images.ahead import default_jobs, read_ahead
from firmware_host.process_memory import MIB, side_by_side
from firmware_host.shared import image_files

SIZE = (8, 6)
PATIENCE = 60  # seconds that a test waits for what comes at once


@pytest.fixture
def files(tmp_path):
    """Ten images, the fourth of them damaged, the sixth missing."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(10)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40 + 8 * len(path.name), 30, 3), np.uint8)).save(path)
    paths[3].write_bytes(paths[3].read_bytes()[:-200])
    paths[5].unlink()
    return paths


def outcome(take):
    try:
        return take()
    except DeviceError as error:
        return str(error)


@pytest.mark.parametrize("jobs", [1, 2, 4, 20])
def test_the_order_and_the_errors_are_those_of_one_thread(files, jobs):
    array = np.random.default_rng(1).integers(0, 256, (9, 9, 3), np.uint8)
    given = [*enumerate(files), (10, array), (11, DeviceError("folder x holds no image")), (12, files[0])]
    images = [image for _, image in given if not isinstance(image, DeviceError)]
    expected = [outcome(partial(load_image, image, SIZE, 4000)) for image in images]
    expected.insert(11, "folder x holds no image")
    found = [(known_by, outcome(take)) for known_by, take in read_ahead(iter(given), SIZE, 4000, jobs)]
    assert [known_by for known_by, _ in found] == list(range(13))
    for (_, one), other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert "does not exist" in expected[5]
    assert "cannot be read" in expected[3]


@pytest.mark.parametrize("jobs", [2, 3])
def test_as_many_at_once_as_there_are_jobs(files, monkeypatch, jobs):
    together = threading.Barrier(jobs, timeout=PATIENCE)
    monkeypatch.setattr(ahead, "load_image", lambda *_: together.wait())
    takes = [take for _, take in read_ahead(enumerate([files[0]] * 2 * jobs), SIZE, None, jobs)]
    assert sorted(take() for take in takes) == sorted(2 * [*range(jobs)])


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_no_further_ahead_than_allowed(files, monkeypatch, jobs):
    begun = []
    monkeypatch.setattr(ahead, "load_image", lambda image, *_: begun.append(image))
    asked = []
    images = (asked.append(image) or (image, image) for image in map(str, range(20)))
    for taken, (_, take) in enumerate(read_ahead(images, SIZE, None, jobs)):
        expected = taken + 1 if jobs == 1 else min(taken + jobs + 2, 20)
        assert len(asked) == expected
        assert len(begun) <= expected
        take()
    assert sorted(begun) == sorted(asked)


def test_neither_arrays_nor_one_job_need_a_thread(files, monkeypatch):
    threads = set()
    monkeypatch.setattr(ahead, "load_image", lambda *_: threads.add(threading.current_thread()))
    for images, jobs in (([np.zeros((4, 4, 3), np.uint8)] * 9, 4), ([files[0]] * 9, 1)):
        for _, take in read_ahead(enumerate(images), SIZE, None, jobs):
            take()
        assert threads == {threading.main_thread()}
    for _, take in read_ahead(enumerate([files[0]] * 9), SIZE, None, 2):
        take()
    assert threads > {threading.main_thread()}


def test_the_threads_end_with_the_images(files):
    before = set(threading.enumerate())
    for early in (False, True):
        reading = read_ahead(enumerate([files[0]] * 50), SIZE, None, 3)
        for _, take in reading:
            take()
            begun = set(threading.enumerate()) - before
            if early:
                break
        reading.close()
        assert len(begun) == 3
        for thread in begun:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_warnings_are_ignored_in_every_thread_and_not_for_good(files, monkeypatch):
    both = threading.Barrier(2, timeout=PATIENCE)

    def read(*_):
        both.wait()  # one enters last, one leaves last
        warnings.warn("of damaged metadata", stacklevel=1)
        raise ValueError("damaged")

    monkeypatch.setattr(image_files, "_read", read)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        for _, take in read_ahead(enumerate([files[0]] * 40), SIZE, None, 2):
            assert "cannot be read (damaged)" in outcome(take)
        assert warnings.filters == before
        warnings.warn("seen", stacklevel=1)
    assert [str(each.message) for each in seen] == ["seen"]


def test_what_does_not_fit_side_by_side_waits():
    inside, told = threading.Event(), threading.Event()

    def second():
        with side_by_side(60 * MIB, lambda: 100.0):
            inside.set()
        told.set()

    with side_by_side(60 * MIB, lambda: 100.0):
        with side_by_side(40 * MIB, lambda: 100.0):  # fits beside it
            pass
        thread = threading.Thread(target=second, daemon=True)
        thread.start()
        assert not inside.wait(0.2)
    assert inside.wait(PATIENCE)
    assert told.wait(PATIENCE)
    with side_by_side(600 * MIB, lambda: 100.0):  # alone, it is for the check to refuse
        pass


CHILD = """
import sys
from firmware_host.cli import main
from firmware_host.process_memory import peak_memory_mb
code = main(["predict", *sys.argv[1:], "--runtime", "numpy", "--json"])
print(code, peak_memory_mb())
"""


@pytest.mark.slow
def test_the_limit_on_memory_holds_for_all_threads(bundle, tmp_path):
    """Each of the images takes 72 MiB, all of the threads' together would take 288."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(12):
        Image.new("RGB", (4000, 4000), (220, 30, 30)).save(folder / f"{index:02}.png", compress_level=1)
    command = [sys.executable, "-c", CHILD, str(bundle), str(folder), "--max-memory", "192", "--jobs", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    *lines, last = done.stdout.splitlines()
    code, peak = last.split()
    assert (code, done.stderr) == ("0", "")
    assert [json.loads(line)["label"] for line in lines] == ["red"] * 12
    assert float(peak) < 192


def test_an_interrupt_waits_for_no_thread(bundle, tmp_path, make):
    root = make.folder_of_images(tmp_path / "data", each=4)
    code = (
        "import os, signal, sys, time; from firmware_host.cli import main; from firmware_host.images import ahead\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background\n"
        "def load(*_):\n    os.write(1, b'begun\\n'); time.sleep(10_000)\n"
        "ahead.load_image = load\n"
        "sys.exit(main(['predict', *sys.argv[1:], '--runtime', 'numpy', '--jobs', '2']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(bundle), str(root)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "error: interrupted, nothing was saved\n")


def test_the_commands_say_and_learn_the_same_with_any_number_of_jobs(bundle, make, tmp_path, capfd):
    root = make.folder_of_images(tmp_path / "data", names=("red", "green", "blue"), each=5)
    said = {}
    for jobs in (1, 3):
        options = ["--runtime", "numpy", "--json", "--seed", "3", "--jobs", str(jobs)]
        options += ["--state", str(tmp_path / f"state-{jobs}")]
        for command in ("learn", "evaluate", "predict"):
            assert main([command, str(bundle), str(root), *options]) == 0
        lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        changing = ("latency_ms", "state", "peak_memory_mb", "bytes_written_per_hour")
        said[jobs] = [{name: value for name, value in line.items() if name not in changing} for line in lines]
    assert len(said[1]) == 2 + 15
    assert said[1] == said[3]


def test_a_device_reads_ahead_by_default(bundle, files, monkeypatch):
    device = Device.open(bundle, runtime="numpy")
    assert device.jobs == default_jobs() == min(len(os.sched_getaffinity(0)), 4)
    threads = set()
    real = ahead.load_image
    monkeypatch.setattr(ahead, "load_image", lambda *given: threads.add(threading.current_thread()) or real(*given))
    device.jobs = 2
    good = [file for index, file in enumerate(files) if index not in (3, 5)]
    alone = [device.look(file).probabilities for file in good]  # these are not read by `ahead`
    for many in (device.predict_many, device.look_many):
        assert [one.probabilities for one in many(good)] == alone
    with pytest.raises(DeviceError, match="does not exist"):
        device.predict_many([*good, files[5], files[3]])
    assert threads
    assert threading.main_thread() not in threads


def test_jobs_are_at_least_one(bundle, files, capfd):
    assert main(["predict", str(bundle), str(files[0]), "--runtime", "numpy", "--jobs", "0"]) == 2
    assert capfd.readouterr().err == "error: jobs is 0: use 1 or more\n"
