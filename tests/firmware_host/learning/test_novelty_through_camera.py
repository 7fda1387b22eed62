"""How novel images of known classes are through another camera: measured, kept with it, and forgotten with it."""

import numpy as np
import pytest

from firmware_host import Device
from firmware_host.learning import following
from firmware_host.state.snapshot import from_arrays, to_arrays

OLD = ("red", "green")
SAME = [[0, 0], [1, 1]]


@pytest.fixture
def bundle(make, tmp_path):
    return make.write_bundle(tmp_path / "tiny", bank=True)


@pytest.fixture
def device(bundle):
    """A device whose bank has judged thirty labelled images."""
    with Device.open(bundle, runtime="numpy") as device:
        device._working.mixture.bank.novelty.take(np.random.default_rng(0).normal(size=(30, 2)), 40.0)
        yield device


def novelty(device):
    """What the device keeps of its camera, which is what its bank judges by."""
    kept = device._working.camera.novelty.tolist()
    assert device._working.mixture.bank.novelty.camera.tolist() == kept
    return kept


def test_a_calibration_measures_it_and_it_is_saved(make, device, bundle):
    device.camera.calibrate(*make.through_camera(OLD, 5))
    found = novelty(device)
    assert found != SAME
    device.save()
    with Device.open(bundle, runtime="numpy") as again:
        assert novelty(again) == found
        again.undo()
        assert novelty(again) == SAME


@pytest.mark.parametrize("forget", [lambda device: device.camera.reset(), lambda device: device.forget_looks()])
def test_it_is_forgotten_with_the_camera(make, device, forget):
    device.camera.calibrate(*make.through_camera(OLD, 5))
    assert novelty(device) != SAME
    forget(device)
    assert novelty(device) == SAME


def test_predictions_that_find_the_offset_measure_it_too(make, device, monkeypatch):
    monkeypatch.setattr(following, "CLASSES", 2)  # which the bundle knows
    device.predict_many(make.images(OLD, 40)[0])
    assert novelty(device) == SAME
    device.predict_many(make.through_camera(OLD, 40)[0])
    assert novelty(device) != SAME


@pytest.mark.parametrize("wrong", [np.ones(3), [[0.0, np.nan], [1.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]]])
def test_a_state_with_another_is_refused(device, wrong):
    snapshot = device._working.snapshot()
    arrays = {**to_arrays(snapshot), "camera.novelty": np.asarray(wrong)}
    with pytest.raises(ValueError, match="is not two changes of a mean"):
        from_arrays(arrays, {"classes": list(snapshot.classes), "generator": snapshot.generator}, device.bundle)
