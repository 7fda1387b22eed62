"""Features that another device computed."""

import json

import numpy as np
import pytest

from firmware_host import Device
from firmware_host.bundle import DeviceError, read_bundle
from firmware_host.cli import main
from firmware_host.images.features import read_features, write_features


@pytest.fixture
def features(bundle, make, tmp_path):
    """A file of the features of five red and five blue images, and the images."""
    images, labels = make.images(("red", "blue"), 5)
    with Device.open(bundle, runtime="numpy") as device:
        rows = device.features(images)
    write_features(tmp_path / "features.npz", read_bundle(bundle), rows, labels)
    return tmp_path / "features.npz", images, labels


def known(bundle, state):
    with Device.open(bundle, state, runtime="numpy") as device:
        return device._working.snapshot()


def test_learning_from_features_is_learning_from_the_images(bundle, features, tmp_path, capfd):
    file, images, labels = features
    arguments = ["learn", str(bundle), "--features", str(file), "--runtime", "numpy", "--json"]
    assert main([*arguments, "--state", str(tmp_path / "a")]) == 0
    record = json.loads(capfd.readouterr().out)
    assert (record["images"], record["new_classes"]) == (10, ["blue"])
    with Device.open(bundle, tmp_path / "b", runtime="numpy") as device:
        device.learn(images, labels)
        device.save()
    one, other = known(bundle, tmp_path / "a"), known(bundle, tmp_path / "b")
    assert one.classes == other.classes
    for name, value in other.head.items():
        np.testing.assert_array_equal(one.head[name], value)
    assert main([*arguments, "--label", "green", "--state", str(tmp_path / "c")]) == 0
    assert json.loads(capfd.readouterr().out)["new_classes"] == []


def test_all_verbs_take_features(bundle, features):
    file, images, labels = features
    with Device.open(bundle, runtime="numpy") as device:
        data = read_features(file, device.bundle)
        device.teach(data.images[-1], "blue")
        assert device.evaluate(data.images, data.labels) == device.evaluate(images, labels)
        assert device.predict(data.images[0]).label == device.predict(images[0]).label == "red"
        with pytest.raises(DeviceError, match=r"a feature is float32 \[6\], this backbone's are int8 \[6\]"):
            device.predict(data.images[0].astype(np.float32))
        with pytest.raises(DeviceError, match=r"a feature is int8 \[5\]"):
            device.predict(data.images[0][:5])


BAD = {
    "another backbone": ({"backbone": np.array("ab" * 32)}, "are of the backbone 'abababababab', that of"),
    "too few digits": ({"backbone": np.array("")}, "are of the backbone ''"),
    "of floats": ({"feature": np.zeros((10, 6), np.float32)}, "are float32 [10, 6]: write int8 [rows, 6]"),
    "of another size": ({"feature": np.zeros((10, 96), np.int8)}, "are int8 [10, 96]: write int8 [rows, 6]"),
    "none": ({"feature": np.zeros((0, 6), np.int8)}, "are int8 [0, 6]"),
    "a label too few": ({"label": np.array(["red"] * 9)}, "label is <U3 [9] for 10 rows"),
    "without labels": ({"label": None}, "lacks label"),
}


@pytest.mark.parametrize(("changes", "said"), BAD.values(), ids=BAD)
def test_other_files_are_refused_in_a_line_and_nothing_is_learned(bundle, features, changes, said, capfd):
    file = features[0]
    with np.load(file) as found:
        arrays = {**found, **changes}
    np.savez(file, **{name: value for name, value in arrays.items() if value is not None})
    assert main(["learn", str(bundle), "--features", str(file), "--runtime", "numpy"]) == 2
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    assert said in err
    assert not bundle.with_name(bundle.name + ".state").exists()


def test_the_first_digits_of_the_checksum_are_enough(bundle, features):
    file = features[0]
    with np.load(file) as found:
        arrays = dict(found)
    np.savez(file, **{**arrays, "backbone": np.array(str(arrays["backbone"])[:16].upper())})
    assert len(read_features(file, read_bundle(bundle)).images) == 10


def test_features_and_images_together_are_refused(bundle, features, capfd):
    assert main(["learn", str(bundle), "folder", "--features", str(features[0])]) == 2
    assert "are given: use one of them" in capfd.readouterr().err
