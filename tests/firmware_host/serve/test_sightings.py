"""Groups of unknown images are saved by the service itself: at its end, and before that where one is worth a name."""

import pytest

from firmware_host import Device
from firmware_host.learning import sightings
from firmware_host.serve.service import Service
from firmware_host.shared.bank.unknowns import OFFERED


@pytest.fixture
def bundle(knowing_bundle):
    return knowing_bundle


@pytest.fixture
def service(bundle):
    device = Device.open(bundle, runtime="numpy")
    device.camera.follows = False
    return Service(device)


def saved_groups(bundle):
    with Device.open(bundle, runtime="numpy") as device:
        return device.knowledge.groups()


def test_a_restart_goes_on_counting(make, bundle, service):
    known, *images = [*make.images(["red"], 1)[0], *make.images(["white"], 5, seed=3)[0]]
    for image in images:
        service.predict(image, "client")
    assert service.counts["saves"] == 0
    service.close()
    assert saved_groups(bundle) == [{"group": 1, "images": 5, "offered": False}]
    another = Service(Device.open(bundle, runtime="numpy"))
    another.predict(known, "client")
    another.close()
    assert another.counts["saves"] == 0


def test_what_is_worth_a_name_is_saved_at_once_unless_it_was_just_now(make, bundle, service, monkeypatch):
    service._sightings._last -= sightings.SOON_S
    for image in make.images(["white"], OFFERED + 1, seed=3)[0]:
        service.predict(image, "client")
    assert (service.counts["saves"], service.revision) == (1, 0)
    assert saved_groups(bundle) == [{"group": 1, "images": OFFERED, "offered": True}]
    service.close()
    assert saved_groups(bundle) == [{"group": 1, "images": OFFERED + 1, "offered": True}]


def test_a_full_disk_does_not_end_predictions(make, bundle, service, monkeypatch):
    monkeypatch.setattr(sightings, "LATER_S", 0.0)
    monkeypatch.setattr("firmware_host.state.folder.write_atomically", full)
    for image in make.images(["white"], 2, seed=3)[0]:
        assert service.predict(image, "client")["group"] == 1
    assert service.unsaved
    service.close()
    assert saved_groups(bundle) == []


def full(*_):
    raise OSError(28, "No space left on device")
