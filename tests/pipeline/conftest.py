"""The whole road on real digits, walked once and shared by every test here, whichever process they run in."""

import contextlib
import fcntl
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers.paths import ROOT

NAMES = ("zero", "one", "two", "four", "six", "seven")  # names that are no slot numbers
DIGITS = (0, 1, 2, 4, 6, 7)
EACH_TRAIN = 24
# Three tasks of two classes, the last left to the device; units young enough to be reborn within a few steps.
TRAIN = (
    "--tasks 3 --device-tasks 1 --epochs 2 --seed 1 --batch 16 --replay statistics "
    "--prompts --maturity-threshold 5 --replacement-rate 0.002"
).split()


class Road(NamedTuple):
    """Where things lie.

    npz: the six classes; known: names the host learns, in slot order; new: names left to the device;
    images: train/ and test/ folders of PNG files, train with the new classes only; device_npz: the same as one file;
    run: the finished run; killed: the same run folder as it was after the first task; printed: what training printed.
    """

    npz: Path
    images: Path
    device_npz: Path
    run: Path
    killed: Path
    printed: Path

    @property
    def arguments(self):
        """Of the training, without --output."""
        return ["--dataset", f"npz:{self.npz}", *TRAIN]

    @property
    def metrics(self):
        return json.loads((self.run / "metrics.json").read_text())

    @property
    def known(self):
        return tuple(self.metrics["classes"])

    @property
    def new(self):
        return tuple(name for name in NAMES if name not in self.known)


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once(name, make): the folder `name`, filled by make(folder) in the first process that asks for it."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "pipeline"
    root.mkdir(exist_ok=True)

    def once(name, make):
        done, folder = root / f"{name}.done", root / name
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def road(once):
    """A training by its command line, with what a kill after the first task would have left behind."""

    def make(folder):
        write_digits(folder)
        here = Road(*(folder / name for name in ("six.npz", "images", "device.npz", "run", "killed", "printed.json")))
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
            patch.setattr("keras_cbpnet.cli.progress_lines", copying(here.run, here.killed))
            from keras_cbpnet.train import main

            assert main([*here.arguments, "--output", str(here.run), "--json"]) == 0
        here.printed.write_text(printed.getvalue())
        write_new_classes(here)

    folder = once("training", make)
    return Road(*(folder / name for name in ("six.npz", "images", "device.npz", "run", "killed", "printed.json")))


def copying(run, killed):
    """`cli.progress_lines` that copies the run folder once the first task is done."""

    @contextlib.contextmanager
    def progress_lines(total):
        def show(line):
            if line.startswith("task 1/2:"):
                shutil.copytree(run, killed)

        yield show

    return progress_lines


def write_digits(folder):
    """six.npz: every sixth training image of six classes, and all their test images."""
    from keras_cbpnet.data import load_dataset

    data = load_dataset("digits", 32)
    arrays = {"class_names": np.array(NAMES)}
    for part, x, y in (("train", data.x_train, data.y_train), ("test", data.x_test, data.y_test)):
        rows = [np.flatnonzero(y == digit) for digit in DIGITS]
        if part == "train":
            rows = [found[::6][:EACH_TRAIN] for found in rows]
        arrays[f"x_{part}"] = x[np.concatenate(rows)]
        arrays[f"y_{part}"] = np.repeat(np.arange(len(DIGITS)), [len(found) for found in rows])
    np.savez(folder / "six.npz", **arrays)


def write_new_classes(road):
    """What the device is taught: images/ and device.npz."""
    from PIL import Image

    with np.load(road.npz) as file:
        arrays = dict(file)
    new = np.isin(arrays["y_train"], [NAMES.index(name) for name in road.new])
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][new], arrays["y_train"][new]
    np.savez(road.device_npz, **arrays)
    for part in ("train", "test"):
        for index, (image, label) in enumerate(zip(arrays[f"x_{part}"], arrays[f"y_{part}"])):
            path = road.images / part / NAMES[label] / f"{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


@pytest.fixture(scope="session")
def convert():
    """The module tflite/convert.py; its folder is no package."""
    before = sys.path[:]
    spec = importlib.util.spec_from_file_location("convert_script", ROOT / "tflite" / "convert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before  # the script puts the root of the project there
    return module


@pytest.fixture(scope="session")
def bundles(once, road, convert):
    """bundles(recipe): the bundle, converted when it is first asked for."""

    def bundle(recipe):
        def make(folder):
            arguments = ["--output", str(folder / "bundle"), "--recipe", recipe]
            with contextlib.redirect_stdout(io.StringIO()):
                assert convert.main([str(road.run), *arguments]) == 0

        return once(recipe, make) / "bundle"

    return bundle


@pytest.fixture(
    params=["auto", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mixed", "hybrid", "float32"))]
)
def bundle(request, bundles):
    return bundles(request.param)


@pytest.fixture
def recipe(bundle):
    """Of backbone.tflite."""
    return json.loads((bundle / "manifest.json").read_text())["recipe"]


@pytest.fixture(scope="session")
def shipped(bundles):
    """A bundle as it is made when no recipe is named."""
    return bundles("auto")


@pytest.fixture(scope="session")
def int8(bundles):
    return bundles("int8")


@pytest.fixture(scope="session")
def device():
    """device(arguments...): run `python -m firmware_host` in a process of its own; its result, stdout as records."""

    def device(*arguments, check=True, without=()):
        # `without`: modules that this process shall not find.
        code = (
            f"import sys; sys.modules.update(dict.fromkeys({tuple(without)!r})); "
            "from firmware_host.cli import main; sys.exit(main())"
        )
        start = ["-c", code] if without else ["-m", "firmware_host"]
        done = subprocess.run(
            [sys.executable, *start, *map(str, arguments), "--json"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return device


def snapshot(*roots):
    """Every folder, and every file with its checksum, below `roots`."""
    paths = [path for root in roots for path in [root, *sorted(root.rglob("*"))]]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "-" for path in paths}


@pytest.fixture(scope="session")
def tree():
    """tree(folder...): what must not change."""
    return snapshot
