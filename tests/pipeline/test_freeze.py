"""A trained bundle as one classifier: it says what the device says, of 200 images, under each interpreter."""

import contextlib
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

from firmware_host.shared.runtimes import installed_interpreters
from keras_cbpnet.freeze import main

# Device and classifier in a process without TensorFlow.
JUDGE = """
import importlib, sys
import numpy as np
from firmware_host import Device
from firmware_host.shared.runtimes import RUNTIMES
name, bundle, state, model, images, output = sys.argv[1:]
run = importlib.import_module(RUNTIMES[name].module).Interpreter(model_path=model).get_signature_runner()
images = np.load(images)
with Device.open(bundle, state, runtime=name) as device:
    said = [device.predict(image) for image in images]
    scores = np.concatenate([run(image=image[None])["scores"] for image in images])
    np.savez(output, scores=scores, classes=device.classes, label=[each.label for each in said],
             probability=[each.probability for each in said])
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def learned(int8, road, device, tmp_path_factory):
    """A state folder after learning the new classes."""
    folder = tmp_path_factory.mktemp("frozen")
    device("learn", int8, f"npz:{road.device_npz}", "--state", folder / "state", "--seed", 1, "--epochs", 2)
    return folder / "state"


@pytest.fixture(scope="module")
def frozen(int8, learned):
    """frozen(scores): a folder with the classifier."""
    made = {}

    def freeze(scores):
        if scores not in made:
            made[scores] = learned.with_name(scores)
            with contextlib.redirect_stdout(io.StringIO()):
                assert main([str(int8), str(made[scores]), "--state", str(learned), "--scores", scores]) == 0
        return made[scores]

    return freeze


@pytest.mark.parametrize("scores", ["uint8", "float32"])
@pytest.mark.parametrize("runtime", installed_interpreters())
def test_a_classifier_says_what_the_device_says(runtime, scores, int8, learned, frozen, road, tmp_path):
    with np.load(road.npz) as file:
        images = np.concatenate([file["x_test"], file["x_train"]])[:200]
    np.save(tmp_path / "images.npy", images)
    files = [int8, learned, frozen(scores) / "model.tflite", tmp_path / "images.npy", tmp_path / "said.npz"]
    done = subprocess.run(
        [sys.executable, "-c", JUDGE, runtime, *map(str, files)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "said.npz") as file:
        found, classes, label, probability = (file[name] for name in ("scores", "classes", "label", "probability"))
    assert len(found) == 200
    assert (frozen(scores) / "labelmap.txt").read_text().splitlines() == list(classes)
    assert [classes[best] for best in found.argmax(axis=1)] == list(label)
    assert len(set(label)) == len(classes)
    largest = found.max(axis=1)
    if scores == "uint8":
        assert np.abs(largest - np.clip(np.round(256 * probability), 0, 255)).max() <= 1
    else:
        np.testing.assert_allclose(largest, probability, atol=1e-4)


def test_a_run_is_converted_first(int8, road, frozen, tmp_path):
    with contextlib.redirect_stdout(io.StringIO()):
        assert main([str(road.run), str(tmp_path / "of_run")]) == 0
        assert main([str(int8), str(tmp_path / "of_bundle")]) == 0
    files = [(tmp_path / folder / "model.tflite").read_bytes() for folder in ("of_run", "of_bundle")]
    assert files[0] == files[1]
