"""benchmarks.moved_camera: what a device is shown, how accuracy is parted, what is said; nothing is trained here."""

import argparse
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import moved_camera
from benchmarks.common.cameras import CAMERAS, HOST
from benchmarks.common.stages import Stages
from keras_cbpnet.data import Dataset, resize_images
from keras_cbpnet.errors import UserError


@pytest.fixture
def data():
    """Three classes, five training and four test images of each."""
    rng = np.random.default_rng(0)
    y_train, y_test = np.repeat(np.arange(3), 5), np.repeat(np.arange(3), 4)
    x_train, x_test = (rng.integers(0, 256, (len(y), 8, 8, 3), dtype=np.uint8) for y in (y_train, y_test))
    return Dataset(x_train, y_train, x_test, y_test, ("cup", "jug", "pan"))


def test_lessons_are_of_new_classes_and_all_is_tested(data):
    seen = moved_camera.images_of(data, CAMERAS[HOST], (16, 16), ["jug"], seed=0)
    assert seen.old == ("jug",)
    assert seen.lessons[1] == ["cup"] * 5 + ["pan"] * 5
    assert seen.test[1] == [name for name in data.class_names for _ in range(4)]
    np.testing.assert_array_equal(seen.lessons[0][5], resize_images(data.x_train[10:11], 16)[0])
    np.testing.assert_array_equal(seen.test[0], resize_images(data.x_test, 16))


def test_images_for_calibration_are_of_old_classes_and_seen_by_no_one(data):
    seen = moved_camera.images_of(data, CAMERAS[HOST], (8, 8), ["jug", "pan"], 0, ["0", "1", "2", "2u"])
    assert [seen.some[name][1] for name in ("0", "1")] == [[], ["jug", "pan"]]
    assert seen.some["2"][1] == seen.some["2u"][1] == ["jug", "jug", "pan", "pan"]
    assert seen.some["2"][0][2] is seen.some["1"][0][1]
    old = data.x_test[4:].reshape(8, -1).tolist()
    some = [image.ravel().tolist() for image in seen.some["2"][0]]
    assert all(image in old for image in some)
    assert len(seen.test[0]) == 8
    assert not any(image.ravel().tolist() in some for image in seen.test[0])
    with pytest.raises(UserError, match="takes 4 test images of each old class, one of which has 4; take fewer"):
        moved_camera.images_of(data, CAMERAS[HOST], (8, 8), ["jug", "pan"], 0, ["4p"])


def test_noise_of_lessons_is_not_that_of_tests(data):
    same = Dataset(data.x_train, data.y_train, data.x_train, data.y_train, data.class_names)
    seen = moved_camera.images_of(same, CAMERAS["noisy"], (16, 16), ["pan"], seed=0)
    assert seen.lessons[1] == seen.test[1][:10]
    assert not any(np.array_equal(lesson, test) for lesson, test in zip(seen.lessons[0], seen.test[0][:10]))


def test_accuracy_is_parted_by_images():
    labels = ["cup"] * 3 + ["jug"] + ["pan"] * 2
    found = moved_camera.parted({"cup": 1 / 3, "jug": 1.0, "pan": 0.5}, labels, ["cup", "jug"])
    assert found == {"old": pytest.approx(0.5), "new": pytest.approx(0.5)}


def test_images_called_unknown_are_counted():
    class Told:
        def evaluate(self, images, labels, seen):
            for image, label in zip(images, labels):
                seen(image, label, SimpleNamespace(known=image > 1))
            return {"accuracy": 0.5}

    assert moved_camera.evaluated(Told(), [0, 1, 2, 3, 4], ["cup"] * 5) == ({"accuracy": 0.5}, pytest.approx(0.4))


def test_the_share_called_unknown_has_columns_where_it_was_measured():
    told = [
        {**each, "cameras": {"dim": {"5": {**each["cameras"]["dim"]["5"], "rejected": 0.05}}}} for each in records()
    ]
    about = {"data": "digits", "preset": "vit_nano_32", "per_class": None, "seeds": [10, 11], "one_by_one": True}
    shown = moved_camera.render({**about, "held_out": [], **moved_camera.summary(told)})
    assert "called unknown after" in shown
    assert "called unknown before" not in shown
    assert "5.0 ± 0.0 |" in shown


def records():
    numbers = [
        {"old_before": 0.9, "old": 0.2, "new": 1.0, "all": 0.6},
        {"old_before": 0.7, "old": 0.4, "new": 0.8, "all": 0.6},
    ]
    return [
        {"seed": seed, "old": ["a", "b"], "new": ["c"], "cameras": {"dim": {"5": one}, "vignette": {"5": one}}}
        for seed, one in zip((10, 11), numbers)
    ]


def test_the_table_shows_means_over_seeds_and_what_was_held_out():
    about = {"data": "digits", "preset": "vit_nano_32", "per_class": None, "seeds": [10, 11], "one_by_one": False}
    record = {**about, "held_out": ["vignette"], **moved_camera.summary(records())}
    assert record["mean"]["dim"]["5"] == pytest.approx({"old_before": 0.8, "old": 0.3, "new": 0.9, "all": 0.6})
    shown = moved_camera.render(record)
    assert "2 old classes, 1 new ones taught at once" in shown
    (dim,) = [line for line in shown.splitlines() if line.startswith("| dim ")]
    assert [cell.strip() for cell in dim.split("|")[2:7]] == [
        "5",
        "80.0 ± 14.1",
        "30.0 ± 14.1",
        "90.0 ± 14.1",
        "60.0 ± 0.0",
    ]
    assert "| vignette (held out) |" in shown
    alone = {**record, "seeds": [10], **moved_camera.summary(records()[:1])}
    assert "20.0 |" in moved_camera.render(alone)


def test_a_finished_bundle_is_used_again_but_not_under_other_options(tmp_path):
    args = argparse.Namespace(work=tmp_path, tasks=5, device_tasks=2, preset="vit_nano_32", weights=None, train=[])
    commands = []

    def run(name, *arguments):
        commands.append(name)
        made = tmp_path / "seed-3" / ("bundle" if name == "convert" else "run")
        made.mkdir()
        (made / ("manifest.json" if name == "convert" else "metrics.json")).touch()

    stages = SimpleNamespace(run=run, announce=Stages(3).announce)
    bundle = moved_camera.make_bundle(3, "digits", args, stages)
    assert bundle == (tmp_path / "seed-3" / "bundle").resolve()
    assert moved_camera.make_bundle(3, "digits", args, stages) == bundle
    assert commands == ["train", "convert"]
    args.train = ["--whiten"]
    with pytest.raises(UserError, match=r"was trained with other options .*; choose another --work"):
        moved_camera.make_bundle(3, "digits", args, stages)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cameras", "dim,polaroid"], "no camera 'polaroid'"),
        (["--seeds", "1,1"], "'1,1' is not a list of different numbers"),
        (["--tasks", "2", "--device-tasks", "2"], "--device-tasks is 2"),
        (["--device-tasks", "0"], "--device-tasks is 0"),
        (["--calibrate", "1,u"], "'1,u' is not a list of numbers of images"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, refused):
    assert message in refused(moved_camera.main, ["--work", str(tmp_path), *arguments])
