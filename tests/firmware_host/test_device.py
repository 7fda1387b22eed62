"""Device: predict, learn, evaluate and save, with a real backbone and the head in NumPy."""

import itertools

import numpy as np
import pytest

from firmware_host import Device, DeviceError
from firmware_host.bundle import BLOCKS, BundleError, read_bundle, write_manifest


@pytest.fixture
def open_device(bundle):
    return lambda **options: Device.open(bundle, runtime="numpy", **options)


def states_equal(first, second):
    a, b = first._working.snapshot(), second._working.snapshot()
    arrays = [*((a.head[name], b.head[name]) for name in a.head)]
    arrays += list(zip(a.statistics.arrays().values(), b.statistics.arrays().values()))
    same = all(np.array_equal(x, y) for x, y in arrays)
    return same and a.classes == b.classes and a.generator == b.generator


def test_predict(make, open_device, tmp_path):
    device = open_device()
    root = make.folder_of_images(tmp_path / "data", each=1)
    prediction = device.predict(root / "red" / "0.png")
    assert prediction.label == "red"
    assert 0.5 < prediction.probability <= 1
    assert 0 < prediction.latency_ms < 1000
    images, _ = make.images(["green"], 1)
    assert device.predict(images[0]).label == "green"
    assert device.predict(np.kron(images[0], np.ones((3, 3, 1), np.uint8))).label == "green"


@pytest.mark.parametrize("replay", ["statistics", "none"])
def test_a_new_class_is_learned_and_survives(make, open_device, replay):
    device = open_device()
    images, labels = make.images(["blue"], 6)
    calls = []
    result = device.learn(images, labels, replay=replay, epochs=3, progress=lambda *call: calls.append(call))
    per_epoch = {"statistics": 3, "none": 2}[replay]  # of a batch of 4, half or all are real
    loss = result.pop("loss")
    assert result == {"steps": 3 * per_epoch, "images": 6, "replaced": 0, "rolled_back": 0}
    assert 0 <= loss < 1
    assert calls[5] == ("reading", 6, 6)
    assert calls[-1] == ("training", 3 * per_epoch, 3 * per_epoch)
    assert device.classes == ("red", "green", "blue")
    assert [path.name for path in device.state_folder.iterdir()] == ["lock"]
    assert device.save() == device.state_folder / "state.a.npz"
    again = open_device()
    assert states_equal(device, again)
    test = make.images(["red", "green", "blue"], 5, seed=9)
    assert again.evaluate(*test) == {
        "accuracy": 1.0,
        "images": 15,
        "per_class": {"red": 1.0, "green": 1.0, "blue": 1.0},
    }
    np.testing.assert_array_equal(again._working.snapshot().head["class_count"], [20, 20, 6, 0])
    np.testing.assert_array_equal(again._working.snapshot().head["class_mask"], [1, 1, 1, 0])


def test_every_real_image_is_observed_once(make, open_device):
    device = open_device()
    images, labels = make.images(["red", "blue"], 5)
    device.learn(images, labels, epochs=4)
    state = device._working.snapshot()
    np.testing.assert_array_equal(state.head["class_count"], [25, 20, 5, 0])
    np.testing.assert_array_equal(state.statistics.count, [25, 20, 5, 0])
    np.testing.assert_allclose(state.head["class_mean"], state.statistics.mean, atol=1e-6)


def test_the_bundle_and_other_folders_stay_as_they_are(make, open_device, bundle, tmp_path):
    before = make.tree(bundle)
    device = open_device(state=tmp_path / "elsewhere")
    device.learn(*make.images(["blue"], 4))
    device.save()
    assert make.tree(bundle) == before
    assert (tmp_path / "elsewhere" / "state.a.npz").is_file()
    assert not (tmp_path / "tiny.state").exists()


def test_a_resumed_device_continues_as_one_that_never_stopped(make, open_device, tmp_path):
    through, stopped = open_device(), open_device(state=tmp_path / "s")
    first, second = make.images(["blue"], 5), make.images(["white", "red"], 4, seed=6)
    for device in (through, stopped):
        device.learn(*first)
    stopped.save()
    resumed = open_device(state=tmp_path / "s")
    assert resumed.learn(*second) == through.learn(*second)
    assert states_equal(resumed, through)


def test_a_seed_decides_the_random_numbers(make, open_device):
    def learned(seed):
        device = open_device(seed=seed)
        device.learn(*make.images(["blue"], 5))
        return device

    assert states_equal(learned(1), learned(1))
    assert states_equal(learned(None), learned(0))
    assert not states_equal(learned(1), learned(2))
    with pytest.raises(DeviceError, match="seed is -1: use 0 or more"):
        open_device(seed=-1)


@pytest.mark.parametrize("moment", [0, 3, 9])
def test_an_interrupted_learn_leaves_the_device_as_it_was(make, open_device, moment):
    device, untouched = open_device(), open_device()
    calls = []

    def interrupt(*call):
        calls.append(call)
        if len(calls) > moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        device.learn(*make.images(["blue"], 6), progress=interrupt)
    assert states_equal(device, untouched)


def test_a_diverging_learn_leaves_the_device_as_it_was(make, tmp_path):
    bundle = make.write_bundle(tmp_path / "b", block="mlp")
    device, untouched = (Device.open(bundle, runtime="numpy") for _ in range(2))
    with pytest.raises(DeviceError, match=r"diverged at step \d+ .*: use a lower learning rate than 1e\+30"):
        device.learn(*make.images(["blue"], 6), learning_rate=1e30)
    assert states_equal(device, untouched)


def test_bad_images_and_labels_leave_the_device_as_it_was(make, open_device, tmp_path):
    device, untouched = open_device(), open_device()
    images, labels = make.images(["blue"], 2)
    (tmp_path / "no.png").write_text("no image")
    for bad, message in [
        (([*images, tmp_path / "no.png"], [*labels, "blue"]), "no.png is not an image"),
        ((images, labels[:1]), "2 images and 1 labels: give one label per image"),
        (([], []), "no images"),
        ((images, ["a", "b\nc"]), "must be one line of text"),
        ((images, ["a", ""]), "must be one line of text"),
        ((images, ["blue", "Red"]), "class names 'red' and 'Red' can hardly be told apart"),
        ((images, ["a", "gr\udcfcn"]), "must be one line of text: UTF-8"),
    ]:
        with pytest.raises(DeviceError, match=message):
            device.learn(*bad)
    for options, message in [
        ({"replay": "all"}, "replay is 'all': use one of statistics, none, buffer:N"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": 0.0}, "learning rate is 0.0: use a number above 0"),
        ({"learning_rate": -1.0}, "learning rate is -1.0"),
        ({"learning_rate": float("nan")}, "learning rate is nan"),
    ]:
        with pytest.raises(DeviceError, match=message):
            device.learn(images, labels, **options)
    assert states_equal(device, untouched)


def test_a_class_has_one_name_whichever_system_wrote_it(make, open_device, tmp_path):
    nfc, nfd = "caf\u00e9", "cafe\u0301"
    device = open_device()
    images, _ = make.images(["blue"], 4)
    device.learn(images[:2], [nfd, nfc], epochs=1)
    device.teach(images[2], nfd)
    assert device.classes == ("red", "green", nfc)
    assert device.evaluate(images, [nfd, nfc, nfd, nfc])["images"] == 4
    with pytest.raises(DeviceError, match="is known already"):
        device.add_class(nfd)
    device.forget_class(nfd)
    assert device.classes == ("red", "green")


def test_names_from_before_there_was_a_rule_are_read_in_their_form(open_device):
    device = open_device()
    device._working.classes = ("red", "green", "cafe\u0301")
    device.save()
    device.close()
    assert open_device().classes == ("red", "green", "caf\u00e9")


def test_more_classes_than_slots(make, open_device):
    device, untouched = open_device(), open_device()
    images, _ = make.images(["blue"], 3)
    with pytest.raises(
        DeviceError,
        match=r"3 new classes \(a, b, c\) for 2 spare of 4 slots: convert the run again with --slots 5 or more",
    ):
        device.learn(images, ["a", "b", "c"])
    assert states_equal(device, untouched)
    assert [device.add_class("a"), device.add_class("b")] == [2, 3]
    with pytest.raises(DeviceError, match=r"1 new class \(c\) for 0 spare of 4 slots"):
        device.add_class("c")
    with pytest.raises(DeviceError, match="'red' is known already"):
        device.add_class("red")


def test_an_added_class_waits_for_its_first_image(make, open_device):
    device = open_device()
    device.add_class("white")
    images, labels = make.images(["red", "green"], 5)
    assert device.evaluate(images, labels)["accuracy"] == 1
    device.save()
    again = open_device()
    assert again.classes == ("red", "green", "white")
    again.learn(*make.images(["blue", "white"], 4))
    assert again.classes == ("red", "green", "white", "blue")
    assert again.evaluate(*make.images(["white", "blue"], 3, seed=8))["accuracy"] == 1


def test_a_class_is_not_renamed_to_one_that_is_known(make, open_device):
    device = open_device()
    device.add_class("blue")
    for old, new in itertools.permutations(("red", "green", "blue"), 2):
        with pytest.raises(DeviceError, match=f"class '{new}' is known already: choose another name"):
            device.rename_class(old, new)
    device.rename_class("green", "lime")
    assert device.classes == ("red", "lime", "blue")


def test_evaluate_refuses_names_it_does_not_know(make, open_device):
    images, _ = make.images(["red"], 3)
    with pytest.raises(
        DeviceError, match="unknown label 'pink', 'teal': the device knows red, green; teach it with learn"
    ):
        open_device().evaluate(images, ["red", "teal", "pink"])


def test_evaluate_counts_images_not_classes(make, open_device):
    images, labels = make.images(["red", "green"], 3)
    labels[0] = "green"
    result = open_device().evaluate(images[:4], labels[:4])  # three red, one of them called green, and one green
    assert result == {"accuracy": 0.75, "images": 4, "per_class": {"red": 1.0, "green": 0.5}}


def test_without_statistics_replay_starts_from_the_heads_means_and_no_scatter(make, bundle):
    device = Device.open(make.foreign(bundle), runtime="numpy")
    start = device._working.snapshot()
    np.testing.assert_array_equal(start.statistics.mean, start.head["class_mean"])
    np.testing.assert_array_equal(start.statistics.count, [20, 20, 0, 0])
    np.testing.assert_array_equal(start.statistics.scatter, np.zeros((6, 6)))
    device.learn(*make.images(["blue"], 5))
    assert np.trace(device._working.snapshot().statistics.scatter) > 0
    assert device.evaluate(*make.images(["red", "green", "blue"], 4, seed=8))["accuracy"] == 1


@pytest.mark.parametrize("arrays", [{}, {"scatter": np.zeros((5, 5))}])
def test_statistics_of_another_shape_are_refused_with_the_remedy(bundle, arrays):
    manifest = read_bundle(bundle).manifest
    np.savez(bundle / "statistics.npz", **arrays)
    write_manifest(bundle, manifest)
    with pytest.raises(BundleError, match=r"statistics.npz has no scatter of shape \[6, 6\]: convert the run again"):
        Device.open(bundle, runtime="numpy")


def test_a_bundle_without_classes_can_be_taught(make, tmp_path):
    device = Device.open(make.write_bundle(tmp_path / "blank", known=()), runtime="numpy")
    images, labels = make.images(["red", "blue"], 4)
    with pytest.raises(DeviceError, match="knows no class yet: teach it some with learn"):
        device.predict(images[0])
    device.learn(images, labels)
    assert device.evaluate(images, labels)["accuracy"] == 1


@pytest.mark.parametrize("block", ["mlp", "residual"])
def test_the_other_blocks_learn_too(make, tmp_path, block):
    device = Device.open(make.write_bundle(tmp_path / "b", block=block, known=(), learning_rate=0.02), runtime="numpy")
    images, labels = make.images(["red", "green", "blue"], 8)
    device.learn(images, labels, epochs=10)
    assert device.evaluate(*make.images(["red", "green", "blue"], 4, seed=8))["accuracy"] == 1


@pytest.mark.parametrize("block", BLOCKS)
def test_a_head_without_adam_forgets_a_class(make, tmp_path, block):
    device = Device.open(make.write_bundle(tmp_path / "b", block=block, optimizer="sgd"), runtime="numpy")
    (image,), _ = make.images(["green"], 1)
    device.forget_class("red")
    assert device.classes == ("green",)
    assert device.predict(image).label == "green"


def test_predict_many_is_predict_for_each_and_probabilities_are_of_every_class(make, open_device, tmp_path):
    device = open_device()
    images, _ = make.images(["green", "red", "blue"], 2)
    device.add_class("blue")
    found = device.predict_many(iter(images))
    assert [each[:2] for each in found] == [device.predict(image)[:2] for image in images]
    assert [each.label for each in found[:4]] == ["green"] * 2 + ["red"] * 2
    for each in found:
        assert list(each.probabilities) == ["red", "green", "blue"]
        assert sum(each.probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert each.probability == each.probabilities[each.label] == max(each.probabilities.values())
        assert each.probabilities["blue"] == 0.0
    assert device.predict_many(np.stack(images))[3][:2] == found[3][:2]
    assert device.predict_many([]) == []
    with pytest.raises(DeviceError, match=r"nothing\.png"):
        device.predict_many([images[0], tmp_path / "nothing.png"])
