"""Consolidation on the device: new classes by a second block, both compressed into the head's one."""

import json

import numpy as np
import pytest

from firmware_host import Device, DeviceError
from firmware_host.bundle import read_bundle
from firmware_host.cli import main
from firmware_host.state import StateFolder

RATE = 2e-2


@pytest.fixture(params=[False, True], ids=["block", "bank"])
def bundle(make, tmp_path, request):
    return make.write_bundle(tmp_path / "b", block="residual", bank=request.param)


def opened(bundle, **options):
    return Device.open(bundle, runtime="numpy", **options)


def head(device):
    return {name: np.array(value) for name, value in device._working.head.get_state().items()}


def consolidated(device, images=(), labels=(), **changes):
    return device.learn(images, labels, **{"epochs": 10, "learning_rate": RATE, "consolidate": "foster", **changes})


def block_accuracy(device, make, names):
    """Return the accuracy of the block alone, without a bank beside it."""
    images, labels = make.images(names, 5, seed=77)
    found = device._working.head.infer(device._working.dequantize(device.features(images)))[1].argmax(axis=1)
    return np.mean([device.classes[slot] == label for slot, label in zip(found, labels)])


def test_new_classes_are_learned_and_old_ones_stay(make, bundle):
    with opened(bundle) as device:
        consolidated(device, *make.images(["red", "green"], 8))
        assert block_accuracy(device, make, ["red", "green"]) > 0.9
        record = consolidated(device, *make.images(["blue", "white"], 8))
        assert block_accuracy(device, make, ["red", "green", "blue", "white"]) > 0.9
    # 100 rows of each new class, as many drawn of each old one: four batches of 128 rows a pass
    assert (record["images"], record["steps"], record["replaced"]) == (16, 40, 0)
    assert np.isfinite(record["loss"])


def test_classes_taught_before_are_consolidated_from_their_statistics(make, bundle):
    with opened(bundle) as device:
        device.learn(*make.images(["blue", "white"], 8), epochs=1)
        before = device._working.statistics.arrays()
        record = consolidated(device)
        assert block_accuracy(device, make, ["red", "green", "blue", "white"]) > 0.9
        after = device._working.statistics.arrays()
    assert record["images"] == 0
    assert record["steps"] > 0
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_what_it_leaves_is_an_ordinary_state(make, bundle, tmp_path):
    """Saved, opened, exported, imported, learned on from, and taken back."""
    with opened(bundle) as device:
        start = head(device)
        consolidated(device, *make.images(["blue"], 6))
        left = head(device)
        device.save()
        exported = device.knowledge.export()
    assert {name: (value.shape, value.dtype) for name, value in left.items()} == {
        name: (value.shape, value.dtype) for name, value in start.items()
    }
    assert not any(left[name].any() for name in ("m_w1", "v_w3", "step", "utility", "age"))
    with opened(bundle) as device:
        for name, value in head(device).items():
            np.testing.assert_array_equal(value, left[name])
        device.learn(*make.images(["white"], 4), epochs=1)
        assert head(device)["step"] > 0
    with opened(bundle, state=tmp_path / "other") as device:
        device.knowledge.restore(exported)
        for name, value in head(device).items():
            np.testing.assert_array_equal(value, left[name])
        device.undo()
        np.testing.assert_array_equal(head(device)["w3"], start["w3"])


def test_an_interrupt_leaves_the_device_as_it_was(make, bundle):
    def interrupt(what, done, total):
        if (what, done) == ("consolidating", 7):  # in the second phase
            raise KeyboardInterrupt

    with opened(bundle) as device:
        start, random = head(device), device._working.rng.bit_generator.state
        with pytest.raises(KeyboardInterrupt):
            consolidated(device, *make.images(["blue"], 6), progress=interrupt)
        assert device.classes == ("red", "green")
        assert device._working.rng.bit_generator.state == random
        for name, value in head(device).items():
            np.testing.assert_array_equal(value, start[name])
    assert StateFolder(device.state_folder, read_bundle(bundle)).read() is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 1e9}, "consolidation diverged .*: use a lower learning rate than 1000000000.0"),
        ({"consolidate": "fosters"}, "consolidate is 'fosters': use foster"),
        ({"replay": "none"}, "replay is none: .* use that"),
        ({"save_every": 3}, "save-every is 3: .* use 0"),
    ],
)
def test_bad_settings_are_refused_in_one_line_and_change_nothing(make, bundle, changes, said):
    with opened(bundle) as device:
        start = head(device)
        with pytest.raises(DeviceError, match=f"^{said}$"):
            consolidated(device, *make.images(["blue"], 6), **changes)
        assert device.classes == ("red", "green")
        for name, value in head(device).items():
            np.testing.assert_array_equal(value, start[name])


def test_nothing_taught_is_nothing_to_consolidate(bundle):
    with opened(bundle) as device, pytest.raises(DeviceError, match=r"^no class was taught to this device: .*learn$"):
        consolidated(device)


@pytest.mark.parametrize("block", ["prototype", "mlp"])
def test_a_head_that_cannot_hold_it_is_refused(make, tmp_path, block):
    with opened(make.write_bundle(tmp_path / "b", block=block)) as device:
        with pytest.raises(DeviceError, match=f"has block {block}, only a residual one can be consolidated: .*foster$"):
            consolidated(device, *make.images(["blue"], 2))
        assert device.classes == ("red", "green")


def test_a_block_without_weight_is_refused(make, bundle, monkeypatch):
    monkeypatch.setattr("firmware_host.learning.working_state.WorkingState.trains", False)
    with opened(bundle) as device, pytest.raises(DeviceError, match="no weight beside its bank"):
        consolidated(device, *make.images(["blue"], 2))


def test_the_command(make, bundle, tmp_path, capsys):
    data = make.folder_of_images(tmp_path / "data", names=("blue",), each=4)
    learn = ["learn", str(bundle), "--runtime", "numpy", "--consolidate", "foster", "--epochs", "4"]
    assert main([*learn, str(data), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["images"], record["new_classes"]) == (4, ["blue"])
    assert main(learn) == 0
    assert "consolidated the classes that were taught before in " in capsys.readouterr().out
    for wrong, said in (
        ([str(data), "--one-by-one"], "--one-by-one"),
        (["--label", "blue"], "--label blue"),
        (["--replay", "none"], "replay is none"),
    ):
        assert main([*learn, *wrong]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert said in error
