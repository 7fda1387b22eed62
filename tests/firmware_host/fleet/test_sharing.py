"""Real devices in a group: what they learn, take over, save, and take back."""

import numpy as np
import pytest

from firmware_host import Device
from firmware_host.bundle import DeviceError


def exchanged(*sharings, more=()):
    """Let each take over what the others tell; return what they told."""
    for sharing in sharings:
        told = sharing.take(sharing.peers.deltas).own
        for other in sharings:
            if told is not None and other is not sharing:
                other.peers.put(told)
    return [sharing.take(sharing.peers.deltas).own for sharing in sharings]


def bank(device):
    return device._working.mixture.arrays()


def count(device):
    return {name: int(device._working.statistics.count[slot]) for slot, name in enumerate(device.classes)}


def test_devices_know_what_one_that_saw_everything_knows(device, make):
    one, other = device("one", {"blue": 8, "red": 6}), device("other", {"white": 7, "blue": 6}, seed=6)
    one.save(), other.save()
    all_ = device("all", {"blue": 8, "red": 6})
    for label, n in (("white", 7), ("blue", 6)):
        all_.learn(*make.images([label], n, 6), epochs=1)
    sharings = [each.knowledge.sharing() for each in (one, other)]
    exchanged(*sharings)
    assert count(one) == count(other) == count(all_) == {"red": 26, "green": 20, "blue": 14, "white": 7}
    for name, value in all_._working.statistics.arrays().items():
        for each in (one, other):
            np.testing.assert_allclose(each._working.statistics.arrays()[name], value, rtol=1e-9, atol=1e-9)
    for name in ("count", "mean", "scatter", "total", "factor", "binding"):
        np.testing.assert_array_equal(bank(one)[name], bank(other)[name])
    for name, value in one._working.head.get_state().items():  # trained by replay, from the bundle's
        np.testing.assert_array_equal(value, other._working.head.get_state()[name])
    images, labels = make.images(["red", "green", "blue", "white"], 15, 77)
    assert one.evaluate(images, labels)["accuracy"] >= all_.evaluate(images, labels)["accuracy"] - 0.02
    assert one._working.head.get_state()["class_mask"].tolist() == [1, 1, 1, 1, 0, 0]


def test_what_was_taken_over_is_saved_and_lessons_go_on(device, make):
    one, other = device("one", {"blue": 8}), device("other", {"white": 7})
    exchanged(one.knowledge.sharing(), other.knowledge.sharing())
    known = one._working.statistics.arrays()
    one.close()
    again = device("one")
    for name, value in known.items():
        np.testing.assert_array_equal(again._working.statistics.arrays()[name], value)
    sharing = again.knowledge.sharing()
    assert sharing.peers.deltas.keys() == {other.knowledge.sharing().device}
    taken = sharing.take(sharing.peers.deltas)
    assert taken.text is None  # it knows all of it
    assert taken.own.version == 1
    assert not sharing.changed
    again.teach(make.images(["blue"], 1, 9)[0][0], "blue")
    assert sharing.changed
    later = sharing.take(sharing.peers.deltas)
    assert later.own.version == 2
    assert later.own.classes["blue"].images == 9
    assert count(again)["blue"] == 9


def test_nothing_is_told_that_was_not_saved(device, make, monkeypatch):
    one = device("one", {"blue": 8})
    sharing = one.knowledge.sharing()

    def full(*_):
        raise DeviceError("no space")

    monkeypatch.setattr(one._folder, "write", full)
    before = one._working.statistics.arrays()
    with pytest.raises(DeviceError, match="no space"):
        sharing.take({})
    for name, value in before.items():
        np.testing.assert_array_equal(one._working.statistics.arrays()[name], value)
    monkeypatch.undo()
    assert sharing.take({}).own.version == 1


def test_classes_of_few_images_stay_known_to_their_device_alone(device):
    one, other = device("one", {"blue": 4, "white": 5}), device("other", {"red": 6})
    told = exchanged(one.knowledge.sharing(), other.knowledge.sharing())
    assert sorted(told[0].classes) == ["white"]
    assert count(one) == {"red": 26, "green": 20, "blue": 4, "white": 5}
    assert count(other) == {"red": 26, "green": 20, "white": 5}


def test_undo_takes_the_last_lesson_back_and_not_what_others_taught(device, make):
    one, other = device("one", {"blue": 8}), device("other", {"white": 7})
    sharings = [one.knowledge.sharing(), other.knowledge.sharing()]
    exchanged(*sharings)
    one.learn(*make.images(["blue"], 5, 9), epochs=1)
    exchanged(*sharings)
    assert count(other)["blue"] == 13
    one.undo()
    told = exchanged(*sharings)
    assert told[0].version == 3
    assert count(one) == count(other) == {"red": 20, "green": 20, "blue": 8, "white": 7}


def test_undo_of_a_lesson_from_before_the_group(device):
    one, other = device("one", {"white": 6, "blue": 8}), device("other", {"red": 6})
    sharings = [one.knowledge.sharing(), other.knowledge.sharing()]
    assert exchanged(*sharings)[0].version == 1
    one.undo()  # the lesson about blue
    assert exchanged(*sharings)[0].version > 1
    assert count(one) == count(other) == {"red": 26, "green": 20, "white": 6}


def test_a_forgotten_class_is_forgotten_everywhere(device, make):
    one, other = device("one", {"blue": 8}), device("other", {"blue": 7})
    sharings = [one.knowledge.sharing(), other.knowledge.sharing()]
    exchanged(*sharings)
    one.forget_class("blue")
    one.forget_class("red")
    exchanged(*sharings)
    assert count(one) == count(other) == {"green": 20}
    other.learn(*make.images(["blue"], 6, 11), epochs=1)
    exchanged(*sharings)
    assert count(one) == count(other) == {"green": 20, "blue": 6}


def test_a_renamed_class_is_renamed_everywhere(device):
    one, other = device("one", {"blue": 8}), device("other", {"blue": 7})
    sharings = [one.knowledge.sharing(), other.knowledge.sharing()]
    exchanged(*sharings)
    one.rename_class("blue", "sky")
    exchanged(*sharings)
    assert count(one) == count(other) == {"red": 20, "green": 20, "sky": 15}


def test_what_belongs_to_slots_follows_its_class(device, make):
    one, other = device("one"), device("other", {"blue": 7})
    for image, label in zip(*make.images(["white"], 6, 3)):
        one.teach(image, label, replay="buffer:8")
    assert one.classes == ("red", "green", "white")
    exchanged(one.knowledge.sharing(), other.knowledge.sharing())
    assert one.classes == ("red", "green", "blue", "white")
    assert set(one._working.buffer.label.tolist()) == {3}
    assert one._working.buffer.seen.tolist() == [0, 0, 0, 6, 0, 0]
    assert set(one._working.pending[1].tolist()) == {3}
    assert one._working.camera.images.tolist() == [0, 0, 0, 6, 0, 0]
    assert one.predict(make.images(["white"], 1, 50)[0][0]).label == "white"
    assert one.predict(make.images(["blue"], 1, 50)[0][0]).label == "blue"


def test_the_offset_of_a_camera_is_taken_out(device, make):
    """One device's camera is dim: after calibration, what it tells is in the terms of the host's camera."""
    images, labels = make.images(["red", "green", "blue"], 12, 3)
    dim = [np.clip(image.astype(int) - 40, 0, 255).astype(np.uint8) for image in images]
    one = device("one")
    one.learn(dim[24:], labels[24:], epochs=1)
    raw = one.knowledge.sharing(1).take({}).own.classes["blue"].mean
    one.camera.calibrate(dim[:24], labels[:24])
    assert np.abs(one.camera.offset).mean() > 0.1
    told = one.knowledge.sharing(1).take({}).own.classes["blue"].mean
    np.testing.assert_allclose(told, raw - one.camera.offset, atol=1e-6)
    host = device("host", {"blue": 40}, 8).knowledge.sharing(1).take({}).own.classes["blue"].mean
    assert np.linalg.norm(told - host) < 0.5 * np.linalg.norm(raw - host)


def test_a_copy_gets_a_number_of_its_own_and_nothing_counts_twice(device, tmp_path):
    import shutil

    one = device("one", {"blue": 8})
    one.save()
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    copy = device("copy")
    sharings = [one.knowledge.sharing(), copy.knowledge.sharing(new_id=True)]
    assert sharings[0].device != sharings[1].device
    exchanged(*sharings)
    assert count(one) == count(copy) == {"red": 20, "green": 20, "blue": 8}


def test_a_state_that_was_imported_is_of_a_device_of_its_own(device, make, banked, tmp_path):
    from firmware_host.cli import main

    one = device("one", {"blue": 8, "white": 3})
    one.save()
    assert main(["state", str(banked), "export", str(tmp_path / "desk.npz"), "--state", str(tmp_path / "one")]) == 0
    assert main(["state", str(banked), "import", str(tmp_path / "desk.npz"), "--state", str(tmp_path / "field")]) == 0
    field = device("field")
    assert count(field) == count(one)
    field.learn(*make.images(["blue"], 5, 20), epochs=1)
    one.learn(*make.images(["blue"], 6, 21), epochs=1)
    sharings = [one.knowledge.sharing(), field.knowledge.sharing()]
    told = exchanged(*sharings)
    assert [delta.classes["blue"].images for delta in told] == [14, 5]
    assert count(one)["blue"] == count(field)["blue"] == 19
    assert count(field)["white"] == 3


def test_a_device_alone_keeps_the_head_that_it_trained(device):
    one = device("one", {"blue": 8})
    head = one._working.head.get_state()
    sharing = one.knowledge.sharing()
    assert sharing.take({}).text is None
    for name, value in head.items():
        np.testing.assert_array_equal(one._working.head.get_state()[name], value)


def test_a_bundle_whose_labels_may_change_their_meaning_cannot_share(make, tmp_path):
    bundle = make.write_bundle(tmp_path / "surprised", surprise={"calming": 0.99, "calm": 0.5})
    with Device.open(bundle, tmp_path / "state", runtime="numpy") as one, pytest.raises(DeviceError, match="drift"):
        one.knowledge.sharing()


@pytest.mark.parametrize("options", [{"min_images": 0}, {"min_images": 17}, {"noise": -1.0}])
def test_bad_options_are_refused_and_nothing_is_changed(device, make, tmp_path, options):
    one = device("one", {"blue": 8})
    one.save()
    before = make.tree(tmp_path / "one")
    with pytest.raises(DeviceError, match=next(iter(options)).replace("_", "-")):
        one.knowledge.sharing(**options)
    assert make.tree(tmp_path / "one") == before


def test_more_classes_than_slots_leaves_the_devices_own(make, tmp_path):
    bundle = make.write_bundle(tmp_path / "small", slots=3)
    one, other = (Device.open(bundle, tmp_path / name, runtime="numpy") for name in ("one", "other"))
    one.learn(*make.images(["blue"], 6), epochs=1)
    other.learn(*make.images(["white"], 9), epochs=1)
    sharings = [one.knowledge.sharing(), other.knowledge.sharing()]
    for sharing in sharings:
        sharing.take({})
    sharings[0].peers.put(sharings[1].take({}).own)
    taken = sharings[0].take(sharings[0].peers.deltas)
    assert "no slot is left for white: convert the run again with more --slots" in taken.text
    assert one.classes == ("red", "green", "blue")
    one.close(), other.close()
