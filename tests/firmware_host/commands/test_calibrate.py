"""`calibrate`: another camera is adjusted to, undone by --reset, advised by `learn`; what tells nothing is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from firmware_host import Device
from firmware_host.bundle import DeviceError
from firmware_host.cli import main
from firmware_host.learning import calibration, far_lesson, following
from firmware_host.learning.camera_state import ASSUMED, MOVED

OLD = ("red", "green")


@pytest.fixture(params=[False, True], ids=["block", "bank"])
def bundle(request, make, tmp_path):
    return make.write_bundle(tmp_path / "tiny", bank=request.param)


@pytest.fixture
def device(bundle):
    with Device.open(bundle, runtime="numpy") as device:
        yield device


@pytest.fixture
def call(capfd):
    """Run a command in this process: exit code, stdout, stderr."""

    def call(*arguments):
        code = main([*map(str, arguments), "--runtime", "numpy"])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def photos(make, tmp_path):
    """A folder of eight images through the camera of each class that the bundle came with."""
    return make.folder_of_images(tmp_path / "photos", OLD, 8, tinted=True)


def features(device, images):
    return device._working.dequantize(np.concatenate([device._backbone(image).raw for image in images]))


def probabilities(device, images):
    return np.array([device.predict(image).probability for image in images])


def test_features_of_the_camera_come_to_lie_on_those_of_the_host(make, device):
    host, labels = make.images(OLD, 10, seed=8)
    there = features(device, host)
    apart = np.abs(features(device, make.tinted(host)) - there).mean()
    record = device.camera.calibrate(*make.through_camera(OLD, 8))
    assert record == {"images": 16, "classes": 2, "left_out": 0, "offset": record["offset"], "found": True}
    assert record["offset"] > 1
    assert np.abs(features(device, make.tinted(host)) - there).mean() < 0.3 * apart
    assert device.evaluate(make.tinted(host), labels)["accuracy"] == 1.0


def test_the_offset_is_saved_and_undone_to_the_bit(make, device, bundle):
    (red, green), _ = make.images(OLD, 1, seed=9)
    images = [np.rint(share * red + (1 - share) * green).astype(np.uint8) for share in np.linspace(0.4, 0.6, 9)]
    before = probabilities(device, images)
    device.camera.calibrate(*make.through_camera(OLD, 3))
    after = probabilities(device, images)
    assert not np.array_equal(before, after)
    device.save()
    with Device.open(bundle, runtime="numpy") as again:
        np.testing.assert_array_equal(again.camera.offset, device.camera.offset)
        np.testing.assert_array_equal(probabilities(again, images), after)
    device.camera.reset()
    np.testing.assert_array_equal(probabilities(device, images), before)
    assert device._working.camera.novelty.tolist() == [[0, 0], [1, 1]]


def test_classes_taught_before_move_along_and_back(make, device):
    device.learn(*make.through_camera(["blue"], 5), epochs=1)
    start = device._working.snapshot()
    device.learn(*make.through_camera(["red"], 10), epochs=1)  # a third of its images are this camera's now
    mixed = device._working.snapshot()
    device.camera.calibrate(*make.through_camera(OLD, 3))
    moved = device._working.snapshot()
    offset = device.camera.offset
    share = np.array([10 / 30, 0, 1, 0])
    for found, before in (
        (moved.statistics.mean, mixed.statistics.mean),
        (moved.head["class_mean"], mixed.head["class_mean"]),
    ):
        np.testing.assert_allclose(found, before - share[:, None] * offset, atol=1e-5)
    if moved.bank is not None:
        places = moved.bank["binding"][:3] - 1
        np.testing.assert_allclose(
            moved.bank["mean"][places], mixed.bank["mean"][places] - share[:3, None] * offset / 0.3, atol=1e-4
        )
    blue, labels = make.through_camera(["blue"], 4, seed=9)
    assert device.evaluate(blue, labels)["accuracy"] == 1.0
    device.camera.reset()
    np.testing.assert_allclose(device._working.snapshot().statistics.mean, mixed.statistics.mean, atol=1e-6)
    assert start.camera["images"].tolist() == [0, 0, 5, 0]


def test_a_class_that_is_forgotten_takes_its_count_along(make, device):
    device.learn(*make.through_camera(["blue", "white"], 3), epochs=1)
    device.forget_class("blue")
    assert device._working.camera.images.tolist() == [0, 0, 3, 0]


def test_a_state_of_before_knows_which_classes_are_this_cameras(make, device):
    device.learn(*make.through_camera(["red", "blue"], 4), epochs=1)
    device._working.restore(replace(device._working.snapshot(), camera=None))
    assert device._working.camera.images.tolist() == [0, 0, 4, 0]
    assert not device.camera.offset.any()


def test_lessons_say_that_the_camera_differs_until_it_is_calibrated(make, device):
    lesson = make.through_camera(OLD, 8)
    start = device._working.snapshot()
    device.learn(*make.images(OLD, 8), epochs=1)
    assert device.camera.said is None
    device._working.restore(start)
    device.learn(*lesson, epochs=1)
    assert device.camera.said == MOVED
    device._working.restore(start)
    device.camera.calibrate(*make.through_camera(OLD, 8, seed=9))
    device.learn(*make.through_camera(OLD, 8, seed=10), epochs=1)
    assert device.camera.said is None


def test_the_command_calibrates_and_resets(call, make, bundle, photos, tmp_path):
    code, out, _ = call("calibrate", bundle, photos)
    assert code == 0
    assert out.count("\n") == 1
    assert out.startswith("offset of this camera from 16 images of 2 classes: ")
    assert "of the spread within a class; saved in " in out
    with Device.open(bundle, runtime="numpy") as device:
        offset = device.camera.offset
        assert offset.any()
    make.folder_of_images(photos, ["white"], 3, tinted=True)
    code, out, _ = call("calibrate", bundle, photos, "--json")
    record = json.loads(out)
    assert (code, record["images"], record["classes"], record["left_out"]) == (0, 16, 2, 3)
    files = sorted(photos.glob("red/*.png")) + sorted(photos.glob("green/*.png"))
    code, out, _ = call("calibrate", bundle, *files, "--json")
    assert (code, json.loads(out)["classes"]) == (0, None)
    with Device.open(bundle, runtime="numpy") as device:
        np.testing.assert_allclose(device.camera.offset, offset, atol=1e-6)
    code, out, _ = call("calibrate", bundle, "--reset")
    assert (code, out.split(";")[0]) == (0, "no offset is in use from now on")
    with Device.open(bundle, runtime="numpy") as device:
        assert not device.camera.offset.any()


def test_learn_gives_one_line_of_advice(call, make, bundle, photos):
    code, out, _ = call("learn", bundle, photos, "--epochs", 1)
    assert code == 0
    [line] = [line for line in out.splitlines() if "camera" in line]
    assert "images of known classes look other than the host's" in line
    assert line.endswith(f"python -m firmware_host calibrate {bundle} IMAGES")
    call("state", bundle, "reset")
    call("calibrate", bundle, photos)
    code, out, _ = call("learn", bundle, photos, "--epochs", 1, "--json")
    assert json.loads(out)["camera"] is None


def test_learn_says_that_it_took_new_classes_for_a_camera(call, make, tmp_path, monkeypatch):
    """The other colours upside down; this backbone has no images that lie further off than its classes do."""
    monkeypatch.setattr(calibration, "FAR", 0.3)
    monkeypatch.setattr(far_lesson, "away", lambda *means: 4.0)
    bundle, root = make.write_bundle(tmp_path / "banked", bank=True), tmp_path / "new"
    for index, (image, label) in enumerate(zip(*make.images(("blue", "white"), 6))):
        (root / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - image).save(root / label / f"{index}.png")
    code, out, _ = call("learn", bundle, root, "--epochs", 1, "--json")
    assert (code, json.loads(out)["camera"]) == (0, ASSUMED)
    assert call("state", bundle, "undo")[0] == 0
    code, out, _ = call("learn", bundle, root, "--epochs", 1)
    [line] = [line for line in out.splitlines() if "camera" in line]
    assert "the new classes lie far from all known ones: taken for this camera's doing, as far as they stay" in line
    assert line.endswith(f"python -m firmware_host calibrate {bundle} IMAGES")
    with Device.open(bundle, runtime="numpy") as device:
        assert device.camera.offset.any()
        device.camera.reset()
        assert not device.camera.offset.any()


@pytest.mark.parametrize(
    ("names", "each", "message"),
    [
        (
            ["blue"],
            3,
            "none of the images is of a class that came with the bundle, they are of blue: give images of red",
        ),
        (["red"], 1, "one image cannot tell a camera from a class: give two or more"),
    ],
)
def test_images_that_tell_nothing_change_nothing(call, make, bundle, names, each, message, tmp_path):
    root = make.folder_of_images(tmp_path / "some", names, each, tinted=True)
    before = make.tree(tmp_path)
    code, out, err = call("calibrate", bundle, root)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {message}")
    assert make.tree(tmp_path) == before


def test_images_that_are_all_alike_change_nothing(call, make, bundle, tmp_path):
    folder = tmp_path / "alike"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(folder / f"{index}.png")
    before = make.tree(tmp_path)
    code, _, err = call("calibrate", bundle, folder)
    assert code == 2
    assert err.splitlines()[-1] == "error: all images are alike: give different ones"
    assert make.tree(tmp_path) == before


@pytest.mark.parametrize(("arguments", "message"), [([], "no images: give some"), (["x.png", "--reset"], "use one of")])
def test_images_or_reset(call, bundle, arguments, message):
    code, _, err = call("calibrate", bundle, *arguments)
    assert code == 2
    assert message in err


def test_classes_taught_on_the_device_do_not_say_where_the_hosts_camera_was(make, device):
    device.learn(*make.through_camera(["blue"], 5), epochs=1)
    with pytest.raises(DeviceError, match="they are of blue: give images of red, green"):
        device.camera.calibrate(*make.through_camera(["blue"], 5))
    assert not device.camera.offset.any()


@pytest.fixture
def two_are_enough(monkeypatch):
    """The bundle knows two classes."""
    monkeypatch.setattr(following, "CLASSES", 2)


@pytest.mark.usefixtures("two_are_enough")
def test_predictions_alone_find_the_offset_and_evaluation_changes_nothing(make, device, caplog):
    images, labels = make.through_camera(OLD, 40)
    device.evaluate(images, labels)
    assert not device.camera.offset.any()
    device.predict_many(images[::2] + images[1::2])
    by_predictions = device.camera.offset
    assert any("camera that differs" in record.message for record in caplog.records)
    device.camera.calibrate(images, labels)
    true = device.camera.offset
    assert np.linalg.norm(by_predictions - true) < 0.5 * np.linalg.norm(true)


@pytest.mark.usefixtures("two_are_enough")
def test_the_same_camera_or_one_not_to_be_followed_leaves_the_device_alone(make, device):
    device.predict_many(make.images(OLD, 40)[0])
    assert not device.camera.offset.any()
    device.camera.follows = False
    device.predict_many(make.through_camera(OLD, 40)[0])
    assert not device.camera.offset.any()


@pytest.mark.usefixtures("two_are_enough")
def test_predict_warns_of_another_camera_and_keeps_nothing(make, bundle, call, tmp_path):
    photos = [
        str(path)
        for path in sorted(
            make.folder_of_images(tmp_path / "many", OLD, 40, tinted=True).rglob("*.png"), key=lambda p: p.name
        )
    ]
    code, _, stderr = call("predict", bundle, *photos)
    assert (code, "warning: these images come from a camera" in stderr) == (0, True)
    assert call("predict", bundle, *photos, "--no-follow-camera")[2] == ""
    with Device.open(bundle, runtime="numpy") as device:
        assert not device.camera.offset.any()


def test_the_same_camera_leaves_nothing_open_in_the_host_classes(make, device):
    device.camera.calibrate(*make.images(OLD, 5, seed=7))
    assert device._working.camera.apart == 0.0
