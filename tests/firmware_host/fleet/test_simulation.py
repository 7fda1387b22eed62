"""Devices simulated in one process: they learn of each other, bytes grow with them, bad input is one line."""

import json

import numpy as np
import pytest

from keras_cbpnet import cli
from keras_cbpnet.__main__ import main
from keras_cbpnet.errors import UserError
from keras_cbpnet.fleet.inputs import Settings, read_features
from keras_cbpnet.fleet.simulation import simulated

NAMES = ("red", "green", "blue", "white")


@pytest.fixture(scope="module")
def bundle(make, tmp_path_factory):
    return make.write_bundle(tmp_path_factory.mktemp("simulation") / "banked", bank=True, slots=6)


@pytest.fixture(scope="module")
def data(make, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "colours.npz"
    arrays = {"class_names": np.array(NAMES)}
    for part, each, seed in (("train", 30, 1), ("test", 6, 2)):
        images, labels = make.images(NAMES, each, seed)
        arrays |= {f"x_{part}": np.stack(images), f"y_{part}": np.array([NAMES.index(label) for label in labels])}
    np.savez(path, **arrays)
    return f"npz:{path}"


def read(bundle, data, folder, most=1000):
    return read_features(bundle, data, "numpy", folder, most, 0, lambda line: None)


def records(bundle, features, folder, devices, **changes):
    settings = Settings(devices, 2, 10, 1, 2, runtime="numpy")._replace(**changes)
    return list(simulated(bundle, features, settings, folder, lambda line: None))


def test_the_backbone_sees_what_is_taught_and_tested_once(bundle, data, tmp_path):
    features = read(bundle, data, tmp_path)
    assert set(features.taught) == {"blue", "white"}  # the bundle knows the others
    assert features.train.shape == (60, 6)
    assert len(features.test) == len(features.labels) == 24
    assert read(bundle, data, tmp_path, 10).test.shape == (10, 6)


@pytest.mark.slow
def test_devices_know_in_the_end_what_none_was_taught_alone(bundle, data, tmp_path):
    features = read(bundle, data, tmp_path)
    found = records(bundle, features, tmp_path / "one", 12)
    assert [one["round"] for one in found] == [1, 2]
    assert found[0]["accuracy"] > 0.9 > 0.8 > found[0]["alone"]  # each is taught one of two new classes
    assert [one["classes"] for one in found] == [4, 4]
    assert [one["images"] for one in found] == [120, 240]
    assert all(one["refused"] == 0 for one in found)
    again = records(bundle, features, tmp_path / "again", 12)
    for one, other in zip(found, again):
        assert {**one, "server_s": 0, "device_s": 0, "round_s": 0} == {
            **other,
            "server_s": 0,
            "device_s": 0,
            "round_s": 0,
        }


@pytest.mark.slow
def test_bytes_grow_as_the_devices(bundle, data, tmp_path):
    features = read(bundle, data, tmp_path)
    few, many = (records(bundle, features, tmp_path / str(n), n, whole=1)[0] for n in (10, 80))
    assert many["bytes_up"] / few["bytes_up"] == pytest.approx(8, rel=0.05)
    assert many["bytes_down"] / few["bytes_down"] == pytest.approx(8, rel=0.15)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"devices": 0}, "--devices is 0: use 1 or more"),
        ({"rounds": 0}, "--rounds is 0: use 1 or more"),
        ({"images": 1, "classes": 2}, "--images is 1: use one for each of the 2 classes or more"),
    ],
)
def test_a_number_out_of_range_is_one_line(changes, line):
    with pytest.raises(UserError, match=line):
        Settings(5)._replace(**changes).check()


def test_the_command_prints_a_line_a_round(bundle, data, capsys):
    words = ["fleet", "simulate", str(bundle), "--data", data, "--devices", "5", "--rounds", "2", "--runtime", "numpy"]
    assert cli.run(main, words) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert "5 devices shared" in printed.err


def test_bad_input_of_the_command_is_one_line(bundle, data, tmp_path, capsys):
    for words, line in (
        (["simulate", str(tmp_path / "none"), "--data", data], "none"),
        (["simulate", str(bundle), "--data", "npz:none.npz"], "none.npz"),
        (["simulate", str(bundle), "--data", data, "--devices", "0"], "--devices is 0: use 1 or more"),
        (["app", str(tmp_path), str(bundle)], "is there already: give a new folder"),
    ):
        (tmp_path / "full").mkdir(exist_ok=True)
        assert cli.run(main, ["fleet", *words]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert line in printed.err
        assert printed.err.count("\n") == 1
