"""`keras-cbpnet freeze`: a folder that other programs load, equal to the device, and what is refused."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from helpers.paths import ROOT, TESTS

from firmware_host.shared.runtimes import installed_interpreters
from keras_cbpnet import cli
from keras_cbpnet.freeze import main

pytestmark = pytest.mark.slow  # each builds or trains networks

# Dimensions: N images, C classes known.
GOLDEN = TESTS / "firmware_host/golden"
BANKED, STATE = GOLDEN / "banked/bundle_1", GOLDEN / "banked/state_2.npz"
COLOURS = ("red", "green", "blue", "white")  # what that state knows
HAS_TFLM = importlib.util.find_spec("tflite_micro") is not None

# Device and classifier in one process without TensorFlow, both under the same runtime.
JUDGE = """
import importlib, sys
import numpy as np
from firmware_host import Device
from firmware_host.commands.state import COMMANDS
from firmware_host.cli import main
from firmware_host.engines.find import find_runtime, open_backbone
from firmware_host.shared.runtimes import RUNTIMES
name, bundle, state, folder, model, images, output = sys.argv[1:]
assert main(["state", bundle, "import", state, "--state", folder, "--json"]) == 0
if name == "tflm":
    from tflite_micro.python.tflite_micro import runtime
    interpreter = runtime.Interpreter.from_bytes(open(model, "rb").read(), arena_size=1 << 20)
    def classify(image):
        interpreter.set_input(image[None], 0)
        interpreter.invoke()
        return np.array(interpreter.get_output(0))[0]
else:
    interpreter = importlib.import_module(RUNTIMES[name].module).Interpreter(model_path=model)
    interpreter.allocate_tensors()
    def classify(image):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
with Device.open(bundle, folder, runtime="numpy") as device:
    device._backbone = open_backbone(device.bundle, find_runtime(name), 1)
    images = np.load(images)
    said = [device.predict(image) for image in images]
    np.savez(output, scores=np.stack([classify(image) for image in images]), label=[each.label for each in said],
             probability=[each.probability for each in said])
"""


def freeze(*arguments):
    return cli.run(main, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """The classifier of a device's state, uint8 scores."""
    folder = tmp_path_factory.mktemp("frozen") / "colours"
    assert freeze(BANKED, folder, "--state", STATE) == 0
    return folder


def test_a_folder_has_the_files_that_other_programs_look_for(frozen):
    assert sorted(path.name for path in frozen.iterdir()) == ["labelmap.txt", "labels.txt", "model.tflite"]
    assert (frozen / "labelmap.txt").read_text().splitlines() == list(COLOURS)
    assert (frozen / "labels.txt").read_text().splitlines() == [f"{i} {name}" for i, name in enumerate(COLOURS)]
    with zipfile.ZipFile(frozen / "model.tflite") as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(COLOURS)
        about = json.loads(archive.read("metadata.json"))
    assert about["names"] == {str(i): name for i, name in enumerate(COLOURS)}
    assert (about["imgsz"], about["scores"], about["recipe"]) == ([8, 8], "uint8", "int8")


RUNTIMES = [*installed_interpreters(), *(["tflm"] if HAS_TFLM else [])]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_classifier_says_what_the_device_says(runtime, frozen, tmp_path):
    rng = np.random.default_rng(1)
    plain = rng.integers(0, 256, (200, 1, 1, 3)) + rng.integers(-40, 41, (200, 8, 8, 3))
    np.save(tmp_path / "images.npy", np.clip(plain, 0, 255).astype(np.uint8))
    files = [BANKED, STATE, tmp_path / "state", frozen / "model.tflite", tmp_path / "images.npy", tmp_path / "said.npz"]
    done = subprocess.run(
        [sys.executable, "-c", JUDGE, runtime, *map(str, files)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "said.npz") as file:
        scores, label, probability = file["scores"], file["label"], file["probability"]
    assert (scores.dtype, scores.shape) == (np.uint8, (200, len(COLOURS)))
    assert set(label) == set(COLOURS)
    assert [COLOURS[best] for best in scores.argmax(axis=1)] == list(label)
    steps = np.clip(np.round(256 * probability), 0, 255)
    assert np.abs(scores.max(axis=1) - steps).max() <= 1


def test_one_class_of_an_odd_name_at_another_size_in_float32(tmp_path, capsys, odd_bundle):
    folder = tmp_path / "odd"
    code = freeze(odd_bundle, folder, "--input-size", 20, "--scores", "float32", "--json")
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (report["classes"], report["input"]) == ([ODD], [1, 20, 20, 3])
    assert report["bytes"] == (folder / "model.tflite").stat().st_size
    assert (folder / "labelmap.txt").read_text(encoding="utf-8") == f"{ODD}\n"
    assert (folder / "labels.txt").read_text(encoding="utf-8") == f"0 {ODD}\n"


ODD = '3 naïve "cats", 猫 & <b>'


@pytest.fixture
def odd_bundle(tmp_path):
    spec = importlib.util.spec_from_file_location("factory", GOLDEN.parent / "conftest.py")
    factory = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(factory)
    factory.COLOURS[ODD] = (90, 30, 60)
    return factory.write_bundle(tmp_path / "bundle", "mlp", known=(ODD,))


def content_of(folder):
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def prepared(case, tmp_path):
    """Return the arguments of a bad call and what its one line must say."""
    out, other = tmp_path / "out", GOLDEN / "plain/bundle_1"
    if case == "output exists":
        out.mkdir()
        return [BANKED, out], f"{out} exists"
    if case == "not a folder of this command":
        out.mkdir()
        (out / "model.tflite").touch()
        (out / "thesis.txt").touch()
        return [BANKED, out, "--overwrite"], "is not a folder that freeze wrote"
    if case == "neither bundle nor run":
        (tmp_path / "photos").mkdir()
        return [tmp_path / "photos", out], "neither a bundle (it has no manifest.json) nor a run"
    if case == "no source":
        return [tmp_path / "nowhere", out], "nowhere"
    if case == "damaged bundle":
        shutil.copytree(BANKED, tmp_path / "damaged")
        (tmp_path / "damaged/head.tflite").write_bytes(b"0")
        return [tmp_path / "damaged", out], "was changed"
    if case == "no state":
        return [BANKED, out, "--state", tmp_path / "none.npz"], "does not exist"
    if case == "damaged state":
        (tmp_path / "cut.npz").write_bytes(STATE.read_bytes()[:-9])
        return [BANKED, out, "--state", tmp_path / "cut.npz"], "damaged"
    if case == "state of another bundle":
        return [GOLDEN / "surprised/bundle_1", out, "--state", GOLDEN / "plain/state_2.npz"], "another"
    if case == "empty state folder":
        (tmp_path / "state").mkdir()
        return [other, out, "--state", tmp_path / "state"], "nothing learned yet"
    return [BANKED, out, "--input-size", "-3" if case == "size below 0" else "99999"], "--input-size"


CASES = (
    "output exists",
    "not a folder of this command",
    "neither bundle nor run",
    "no source",
    "damaged bundle",
    "no state",
    "damaged state",
    "state of another bundle",
    "empty state folder",
    "size below 0",
    "size too large",
)


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_nothing_is_written(case, tmp_path, capfd):
    arguments, said = prepared(case, tmp_path)
    before = content_of(tmp_path)
    assert freeze(*arguments) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert said in lines[0]
    assert content_of(tmp_path) == before


def test_only_a_folder_of_this_command_is_replaced_when_asked(tmp_path, frozen):
    folder = tmp_path / "colours"
    shutil.copytree(frozen, folder)
    (folder / "model.tflite").write_bytes(b"older")
    assert freeze(BANKED, folder, "--state", STATE, "--overwrite") == 0
    assert content_of(folder).keys() == {str(folder / path.name) for path in frozen.iterdir()}
    assert (folder / "model.tflite").read_bytes() == (frozen / "model.tflite").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["colours"]
