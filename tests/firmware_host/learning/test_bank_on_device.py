"""A device whose bundle has a bank: it learns, keeps, forgets and grows as one."""

import json

import numpy as np
import pytest

from firmware_host import Device, DeviceError
from firmware_host.bundle import BundleError, read_bundle, write_manifest
from firmware_host.cli import main


@pytest.fixture
def bundle(make, tmp_path):
    return make.write_bundle(tmp_path / "b", bank=True)


def bank_of(device):
    return device._working.mixture.bank


def test_new_classes_are_learned_and_the_known_ones_stay(make, bundle):
    images, labels = make.images(["blue", "white"], 8)
    with Device.open(bundle, runtime="numpy") as device:
        device.learn(images, labels, epochs=1)
        test = make.images(["red", "green", "blue", "white"], 5, seed=9)
        assert device.evaluate(*test)["accuracy"] == 1.0
        assert bank_of(device).labels.tolist() == [0, 1, 2, 3]


def test_one_image_is_enough_to_be_predicted(make, bundle):
    (image,), _ = make.images(["blue"], 1)
    with Device.open(bundle, runtime="numpy") as device:
        device.teach(image, "blue")
        assert device.predict(image).label == "blue"


def test_what_was_saved_predicts_the_same_bit_by_bit(make, bundle):
    images, labels = make.images(["blue", "red"], 9)
    probe = make.images(["red", "green", "blue", "white"], 3, seed=7)[0]
    with Device.open(bundle, runtime="numpy") as device:
        for image, label in zip(images, labels):
            device.teach(image, label)
        device.save()
        before = [device.predict(image)[:2] for image in probe]
    with Device.open(bundle, runtime="numpy") as device:
        assert [device.predict(image)[:2] for image in probe] == before


def test_an_image_of_no_known_class_is_said_to_be_unknown(make, bundle, tmp_path, capfd):
    images, labels = make.images(["red", "green"], 40)
    with Device.open(bundle, runtime="numpy") as device:
        for image, label in zip(images, labels):
            device.teach(image, label)
        device.save()
        known = [device.predict(image).known for image in make.images(["red", "green"], 40, seed=8)[0]]
        assert np.mean(known) >= 0.8
        stranger = device.predict(make.images(["white"], 1)[0][0])
        assert not stranger.known
        assert stranger.novelty > 0.99
    folder = make.folder_of_images(tmp_path / "white", names=("white",), each=1)
    [path] = folder.rglob("*.png")
    assert main(["predict", str(bundle), str(path), "--runtime", "numpy"]) == 0
    assert f": unknown (nearest: {stranger.label}) (" in capfd.readouterr().out
    assert main(["predict", str(bundle), str(path), "--runtime", "numpy", "--unknown-rate", "0"]) == 0
    assert ": unknown" not in capfd.readouterr().out
    assert main(["predict", str(bundle), str(path), "--unknown-rate", "5"]) == 2
    assert "argument --unknown-rate: it is 5: use a number from 0 to 1" in capfd.readouterr().err


@pytest.mark.parametrize(("surprise", "slots"), [(None, 2), ({"calming": 0.0, "calm": 1000.0}, 3)])
def test_a_name_keeps_its_old_images_unless_labels_may_change(make, tmp_path, surprise, slots):
    """What looked green is called red from now on: a second look of red, or what red means by now."""
    bundle = make.write_bundle(tmp_path / "b", bank=True, **({} if surprise is None else {"surprise": surprise}))
    with Device.open(bundle, runtime="numpy") as device:
        for image, name in zip(*make.images(["red", "green"], 80, seed=6)):
            device.teach(image, name)
        for image in make.images(["green"], 80, seed=9)[0]:
            device.teach(image, "red")
        sums, binding = device._working.mixture.bank.sums, device._working.mixture.bank.binding
        kept = sums.count[binding[0] - 1]
        assert np.count_nonzero(sums.count) == slots
    assert (kept > 150) == (surprise is None)


def test_a_failed_lesson_leaves_the_bank_as_it_was(make, bundle):
    images, labels = make.images(["blue"], 3)
    with Device.open(bundle, runtime="numpy") as device:
        before = device._working.mixture.arrays()
        with pytest.raises(DeviceError, match="learning diverged"):
            device.learn(images, labels, learning_rate=1e30)
        np.testing.assert_equal(device._working.mixture.arrays(), before)


def test_a_forgotten_class_leaves_the_bank(make, bundle):
    images, labels = make.images(["blue", "white"], 6)
    with Device.open(bundle, runtime="numpy") as device:
        device.learn(images, labels, epochs=1)
        device.forget_class("red")
        assert device.classes == ("green", "blue", "white")
        assert device.evaluate(*make.images(["green", "blue", "white"], 5, seed=9))["accuracy"] == 1.0
        assert device._working.mixture.arrays()["binding"][3] == 0


def test_a_state_without_a_bank_gets_one_with_its_classes(make, tmp_path, bundle):
    """As a device that learned before its bundle had a bank."""
    images, labels = make.images(["blue"], 6)
    with Device.open(bundle, tmp_path / "s", runtime="numpy") as device:
        device.learn(images, labels, epochs=1)
        device._working.mixture = None
        device.save()
    with Device.open(bundle, tmp_path / "s", runtime="numpy") as device:
        assert bank_of(device).labels.tolist() == [0, 1, 2]
        assert device.evaluate(*make.images(["red", "green", "blue"], 5, seed=9))["accuracy"] == 1.0


def test_the_bank_grows_with_the_slots(make, tmp_path, bundle):
    images, labels = make.images(["blue", "white"], 6)
    with Device.open(bundle, tmp_path / "s", runtime="numpy") as device:
        device.learn(images, labels, epochs=1)
        device.save()
    assert main(["state", str(bundle), "export", str(tmp_path / "f.npz"), "--state", str(tmp_path / "s")]) == 0
    wider = make.write_bundle(tmp_path / "wider", slots=7, bank=True)
    (wider / "head.tflite").write_text("another head")
    write_manifest(wider, read_manifest(wider))
    assert main(["state", str(wider), "import", str(tmp_path / "f.npz"), "--state", str(tmp_path / "t")]) == 0
    with Device.open(wider, tmp_path / "t", runtime="numpy") as device:
        assert device.evaluate(*make.images(["red", "green", "blue", "white"], 5, seed=9))["accuracy"] == 1.0


def test_a_bank_alone_learns_without_training_steps(make, tmp_path):
    bundle = make.write_bundle(tmp_path / "b", bank=True)
    manifest = read_bundle(bundle).manifest
    manifest["head"]["bank"]["block_weight"] = 0
    write_manifest(bundle, manifest)
    images, labels = make.images(["blue", "white"], 6)
    with Device.open(bundle, runtime="numpy") as device:
        result = device.learn(images, labels)
        assert (result["steps"], result["loss"], result["images"]) == (0, None, 12)
        assert device.teach(images[0], "blue")["steps"] == 0
        assert device.evaluate(*make.images(["red", "green", "blue", "white"], 5, seed=9))["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"slots": 3}, "head.bank.slots is 3: it must be at least head.slots, 4"),
        ({"directions": -1}, "head.bank.directions is -1"),
        ({"block_weight": 1.0}, "head.bank.block_weight is 1.0"),
        ({"slots": "7"}, "head.bank.slots is str, not int"),
    ],
)
def test_a_manifest_with_an_impossible_bank_is_refused(bundle, change, line):
    manifest = read_bundle(bundle).manifest
    manifest["head"]["bank"].update(change)
    with pytest.raises(BundleError, match=line):
        write_manifest(bundle, manifest)


def test_a_bank_of_another_width_is_refused_in_one_line(bundle):
    arrays = dict(np.load(bundle / "statistics.npz"))
    arrays["bank.mean"] = arrays["bank.mean"][:, :-1]
    np.savez(bundle / "statistics.npz", **arrays)
    write_manifest(bundle, read_manifest(bundle))
    with pytest.raises(BundleError, match=r"has no bank.mean, float32 of shape \[6, 6\]: convert the run again"):
        Device.open(bundle, runtime="numpy")


def test_tensors_younger_than_bundle_and_state_are_zero(make, bundle, tmp_path):
    arrays = dict(np.load(bundle / "statistics.npz"))
    del arrays["bank.usual"], arrays["bank.novelties"], arrays["bank.sure"]
    np.savez(bundle / "statistics.npz", **arrays)
    write_manifest(bundle, read_manifest(bundle))
    with Device.open(bundle, runtime="numpy") as device:
        assert not device._working.mixture.arrays()["usual"].any()
        assert device.evaluate(*make.images(["red", "green"], 3))["accuracy"] == 1.0


def read_manifest(bundle):
    return json.loads((bundle / "manifest.json").read_text())
