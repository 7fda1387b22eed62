"""A trained bundle as one classifier: it says what the device says, of 200 images, under each interpreter."""

import contextlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import Image

from firmware_host.shared.runtimes import RUNTIMES, installed_interpreters
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
with Device.open(bundle, state, runtime=name, recipe="int8") as device:
    said = [device.predict(image) for image in images]
    scores = np.concatenate([run(image=image[None])["scores"] for image in images])
    np.savez(output, scores=scores, classes=device.classes, label=[each.label for each in said],
             probability=[each.probability for each in said])
"""

# The steps of other programs, as their sources have them: Frigate 0.17's custom_classification.py, with its
# load_labels(indexed=False); Teachable Machine's Python sketch, with the scores that pycoral makes of an output.
FRIGATE = """
import importlib, json, os, sys
import numpy as np
module, folder, images = sys.argv[1:]
path = os.path.join(folder, "model.tflite")
interpreter = importlib.import_module(module).Interpreter(model_path=path, num_threads=2)
interpreter.allocate_tensors()
inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
with open(os.path.join(folder, "labelmap.txt"), encoding="utf-8") as file:
    labels = {index: line.strip() for index, line in enumerate(file.readlines())}
found = []
for frame in np.load(images):
    interpreter.set_tensor(inputs[0]["index"], np.expand_dims(frame, axis=0))
    interpreter.invoke()
    res = interpreter.get_tensor(outputs[0]["index"])[0]
    probs = res / res.sum(axis=0)
    found.append([labels[int(np.argmax(probs))], float(round(probs[int(np.argmax(probs))], 2))])
print(json.dumps(found))
"""
TEACHABLE = """
import importlib, json, os, re, sys
import numpy as np
module, folder, images = sys.argv[1:]
interpreter = importlib.import_module(module).Interpreter(os.path.join(folder, "model.tflite"))
interpreter.allocate_tensors()
inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
with open(os.path.join(folder, "labels.txt"), encoding="utf-8") as file:
    lines = (re.match(r"\\s*(\\d+)(.+)", line).groups() for line in file.readlines())
    labels = {int(number): text.strip() for number, text in lines}
found = []
for frame in np.load(images):
    interpreter.tensor(inputs["index"])()[0][:, :] = frame
    interpreter.invoke()
    scores = interpreter.tensor(outputs["index"])().flatten()
    if np.issubdtype(outputs["dtype"], np.integer):
        scale, zero_point = outputs["quantization"]
        scores = scale * (scores.astype(np.int64) - zero_point)
    found.append([labels[int(np.argmax(scores))], float(scores.max())])
print(json.dumps(found))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def learned(shipped, road, device, tmp_path_factory):
    """A state folder after learning the new classes."""
    folder = tmp_path_factory.mktemp("frozen")
    device("learn", shipped, f"npz:{road.device_npz}", "--state", folder / "state", "--seed", 1, "--epochs", 2)
    return folder / "state"


@pytest.fixture(scope="module")
def frozen(shipped, learned):
    """frozen(scores, size): a folder with the classifier of images size x size; 0: as the backbone's."""
    made = {}

    def freeze(scores, size=0):
        if (scores, size) not in made:
            made[scores, size] = learned.with_name(f"{scores}{size}")
            options = ["--state", str(learned), "--scores", scores, "--input-size", str(size)]
            with contextlib.redirect_stdout(io.StringIO()):
                assert main([str(shipped), str(made[scores, size]), *options]) == 0
        return made[scores, size]

    return freeze


@pytest.mark.parametrize("scores", ["uint8", "float32"])
@pytest.mark.parametrize("runtime", installed_interpreters())
def test_a_classifier_says_what_the_device_says(runtime, scores, shipped, learned, frozen, road, tmp_path):
    with np.load(road.npz) as file:
        images = np.concatenate([file["x_test"], file["x_train"]])[:200]
    np.save(tmp_path / "images.npy", images)
    files = [shipped, learned, frozen(scores) / "model.tflite", tmp_path / "images.npy", tmp_path / "said.npz"]
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


@pytest.mark.parametrize("scores", ["uint8", "float32"])
@pytest.mark.parametrize("runtime", installed_interpreters())
@pytest.mark.parametrize("program", [FRIGATE, TEACHABLE], ids=["frigate", "teachable_machine"])
def test_in_the_folder_of_another_program(program, runtime, scores, frozen, road, tmp_path):
    with np.load(road.npz) as file:
        images, labels = file["x_test"][::8], file["y_test"][::8]
        names = [str(name) for name in file["class_names"]]
    large = [np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR)) for image in images]
    np.save(tmp_path / "images.npy", np.stack(large))
    done = subprocess.run(
        [sys.executable, "-c", program, RUNTIMES[runtime].module, frozen(scores, 224), tmp_path / "images.npy"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    right = np.mean([name == names[label] for (name, _), label in zip(found, labels)])
    assert right >= 0.85, right  # of digits from the interpreter alone
    assert all(0 < score <= 1.001 for _, score in found)
