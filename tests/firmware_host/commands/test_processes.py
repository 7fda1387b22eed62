"""The command line in a process of its own: its streams, its help, and what it imports."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

from firmware_host.device import DEFAULT_EPOCHS


def run(*arguments, check=True):
    command = [sys.executable, "-m", "firmware_host", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_a_process_of_its_own(make, bundle, tmp_path):
    data = make.folder_of_images(tmp_path / "data", names=("blue",), each=2)
    done = run("learn", bundle, data, "--runtime", "numpy", "--json")
    assert json.loads(done.stdout)["images"] == 2
    assert done.stderr.splitlines() == [
        "reading 2/2",
        f"training {DEFAULT_EPOCHS}/{DEFAULT_EPOCHS}",
    ]
    done = run("predict", bundle, tmp_path / "none.png", "--runtime", "numpy", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: image {tmp_path / 'none.png'} does not exist: check the path\n"
    done = run("predict", bundle, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_help_shows_defaults():
    text = " ".join(run("learn", "--help").stdout.split())
    for default in ("(default: statistics)", f"(default: {DEFAULT_EPOCHS})", "(default: auto)", "(default: 1)"):
        assert default in text
    assert "(default: None)" not in text


def test_importing_needs_neither_interpreter_nor_pillow_and_is_quick():
    code = (
        "import sys; import numpy; before = len(sys.modules); import firmware_host.cli; "
        "print(len(sys.modules) - before); "
        "print([m for m in ('tensorflow', 'keras', 'PIL', 'tflite_runtime', 'ai_edge_litert') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    count, modules = done.stdout.splitlines()
    assert modules == "[]"
    assert int(count) < 200  # a third of a second at most on a slow PC, and the same everywhere


def test_tflite_runtime_gives_the_same_features(bundle):
    if importlib.util.find_spec("tflite_runtime") is None:
        pytest.skip("tflite_runtime is not installed")
    code = (
        "import sys, numpy as np; from firmware_host.bundle import read_bundle; "
        "from firmware_host.engines.find import find_runtime, open_backbone; "
        "bundle = read_bundle(sys.argv[1]); backbone = open_backbone(bundle, find_runtime('tflite_runtime')); "
        "golden = bundle.arrays('golden.npz'); features = golden['feature.tflite_runtime']; "
        "assert all(np.array_equal(backbone(i).raw[0], f) for i, f in zip(golden['image'], features))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(bundle)], check=True, env=environment, timeout=120)
