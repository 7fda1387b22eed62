"""A run at another depth: what is learned again, what is refused, the report's table."""

import dataclasses
import json
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from helpers import tiny_stream

import keras_cbpnet
from keras_cbpnet import cli, presets
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.depths import depth_lines
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.weights import save_weights
from keras_cbpnet.training import depths
from keras_cbpnet.training.trainer import train

pytestmark = pytest.mark.filterwarnings("ignore:Even though the")  # tf.data is never eager


@pytest.fixture
def asked(monkeypatch):
    """Configurations that were trained, instead of trainings."""
    calls = []
    monkeypatch.setattr("keras_cbpnet.training.trainer.train", lambda config, folder, progress: calls.append(config))
    return calls


def test_a_run_of_its_own_depth_is_taken_as_it_is(stream, asked, tmp_path):
    config = stream.config()
    for depth in (0, 5):
        with depths.at_depth(tmp_path, config, depth, print) as found:
            assert found == (tmp_path, config)
    shallow = dataclasses.replace(config, depth=3)
    for depth in (0, 3):
        with depths.at_depth(tmp_path, shallow, depth, print) as found:
            assert found == (tmp_path, shallow)
    assert asked == []


def test_another_depth_is_trained_with_the_same_settings(stream, asked, tmp_path):
    config, lines = stream.config(), []
    with depths.at_depth(tmp_path / "run", config, 3, lines.append) as (folder, found):
        assert folder.name == "run"
    assert not folder.exists()
    assert asked == [found] == [dataclasses.replace(config, depth=3, whiten="task")]
    assert lines == [
        "learning with 3 of 5 encoder blocks; no whitening transform is stored for --depth 3: the first task's images "
        "make one"
    ]
    with depths.at_depth(tmp_path, dataclasses.replace(config, depth=3), 5, lines.append) as (_, found):
        assert found == config  # all blocks: as if no depth had been named


@pytest.mark.parametrize("settings", [{"prompts": True}, {"method": "dualprompt"}, {"method": "l2p"}])
def test_prompts_of_another_depth_are_refused(stream, asked, tmp_path, settings):
    with (
        pytest.raises(UserError, match=r"prompts of .*run were trained with 5 blocks .*; train with --depth 3"),
        depths.at_depth(tmp_path / "run", stream.config(**settings), 3, print),
    ):
        pass
    assert asked == []
    assert list(depths.sources_at_depths(tmp_path, stream.config(**settings), 0, print)) == []


def test_a_depth_above_the_backbones_is_one_line(stream, tmp_path, capsys):
    arguments = [*stream.arguments(depth=6), "--output", str(tmp_path / "run")]
    assert cli.run(keras_cbpnet.train.main, arguments) == cli.BAD_INPUT
    assert capsys.readouterr().err.startswith("error: --depth must be from 1 to 5, the blocks of ")
    assert not (tmp_path / "run").exists()


def test_the_table_names_the_smallest_depth_that_loses_little():
    rows = [
        {"depth": d, "bytes": 100 * d, "multiply_adds": 10**6 * d, "accuracy": a, "milliseconds": {"r": 1.0 * d}}
        for d, a in ((2, 0.5), (3, 0.61), (4, 0.6))
    ]
    lines = list(depth_lines({"rows": rows, "smallest": 3}))
    assert lines[2] == "  3: accuracy 0.610, 0 KiB (75%), 3.0 M multiply-adds (75%), r 3.00 ms"
    assert lines[-1].endswith("--depth 3")
    assert list(depth_lines({})) == []


@pytest.mark.parametrize(
    ("early", "target", "settings", "message"),
    [
        ((3,), "micro", {}, "--depth 5,3 is for Linux devices; TFLM runs one graph: convert with --depth 3"),
        ((5,), "linux", {}, "--depth 5,5: the first number must be the largest"),
        ((3, 6), "linux", {}, "--depth 5,3,6: the first number must be the largest"),
        ((0,), "linux", {}, "--depth 5,0: the first number must be the largest"),
        ((3,), "linux", {"prompts": True}, "--depth 5,3: this run trained prompts, which fit one number of blocks"),
    ],
)
def test_several_depths_that_one_bundle_cannot_have_are_one_line(stream, early, target, settings, message):
    with pytest.raises(UserError, match=message):
        depths.check_early(stream.config(**settings), 0, early, target)
    depths.check_early(stream.config(), 0, (3, 2), "linux")
    depths.check_early(stream.config(prompts=True), 0, (), "micro")


@pytest.fixture(scope="module")
def white(stream, tiny_backbone, tmp_path_factory):
    """A run of a backbone that whitens, with a transform for three blocks."""
    folder = tmp_path_factory.mktemp("white")
    config = dataclasses.replace(tiny_backbone, whitening=True)
    weights = folder / "white.npz"
    backbone = Backbone(config)
    backbone.build()
    save_weights(backbone, weights, {3: (np.eye(16), np.zeros(16))})
    with mock.patch.dict(presets.PRESETS, white=lambda: presets.Preset("white", config)):
        train(dataclasses.replace(stream.config(), preset="white", weights=str(weights), qat=True), folder / "run")
        yield folder / "run"


@pytest.mark.slow
def test_a_run_is_converted_at_another_depth_and_compared_at_every_one(white, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_cbpnet.export.steps._analysis", lambda *_: {})  # of the quantization: not what is tested
    shallow = keras_cbpnet.convert(white, tmp_path / "shallow", recipe="int8", depth=3, report=True)
    assert shallow.manifest["depth"] == 3
    found = json.loads(shallow.file("report.json").read_text())["depths"]
    three, five = found["rows"]
    assert (three["depth"], five["depth"]) == (3, 5)
    assert three["bytes"] == shallow.file("backbone.tflite").stat().st_size < 0.8 * five["bytes"]
    assert three["multiply_adds"] < five["multiply_adds"]
    best = max(row["accuracy"] for row in found["rows"])
    assert found["smallest"] == next(row["depth"] for row in found["rows"] if row["accuracy"] >= best - 0.005)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_prompts_are_trained_at_a_depth(stream, tmp_path):
    train(stream.config(prompts=True, depth=3), tmp_path / "run")
    model = keras_cbpnet.load_run(tmp_path / "run").model
    assert model.prompts.blocks == (0, 1, 2)
    assert len(model.backbone.blocks) == 3


DEVICE = """
import json, sys
import numpy as np
from firmware_host import Device
found = {}
images = np.load(sys.argv[2])
for depth in (None, 3):
    with Device.open(sys.argv[1], sys.argv[3], depth=depth) as device:
        found[str(depth)] = [one.label for one in device.look_many(images)]
        if depth == 3:
            device.teach(images[0], "new")
            device.save()
with Device.open(sys.argv[1], sys.argv[3]) as device:
    found["classes"] = list(device.classes)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_device_chooses_a_depth_and_one_head_serves_all(white, tmp_path):
    alone = keras_cbpnet.convert(white, tmp_path / "alone")
    both = keras_cbpnet.convert(white, tmp_path / "both", depth=(5, 3))
    assert both.manifest["depths"] == {"3": "depth_3", "5": "serving_default"}
    for name in both.backbones.values():
        assert both.file(name).stat().st_size < 1.8 * alone.file(name).stat().st_size
    report = json.loads(both.file("report.json").read_text())["early"]["3"]
    assert report["multiply_adds"] < json.loads(both.file("report.json").read_text())["multiply_adds"]
    assert set(report["accuracy"]) == {"float32", "backbone.tflite", "backbone_hybrid.tflite"}
    np.save(tmp_path / "images.npy", tiny_stream.images(2, 7)[0])
    paths = [str(tmp_path / name) for name in ("both", "images.npy", "state")]
    done = subprocess.run([sys.executable, "-c", DEVICE, *paths], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert len(found["3"]) == len(found["None"]) == 8
    assert "new" in found["classes"]
    for depth in ("3", "5"):
        command = [sys.executable, "-m", "firmware_host", "selftest", paths[0], "--depth", depth, "--json"]
        assert json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["ok"]
