"""`state merge`: files of several devices become one, in any order and as often as one likes."""

import itertools

import numpy as np
import pytest

from firmware_host import Device
from firmware_host.bundle import read_bundle
from firmware_host.cli import main
from firmware_host.state import read_file, snapshot_for


@pytest.fixture
def exported(banked, tmp_path, make):
    """exported(name, taught, seed): the exported state of a device that was taught some images of each name."""

    def exported(name, taught, seed=5, bundle=None):
        with Device.open(bundle or banked, tmp_path / f"{name}.state", runtime="numpy") as device:
            for label, n in taught.items():
                device.learn(*make.images([label], n, seed), epochs=1)
            device.save()
        file = tmp_path / f"{name}.npz"
        file.unlink(missing_ok=True)
        state = ["--state", str(tmp_path / f"{name}.state")]
        assert main(["state", str(bundle or banked), "export", str(file), *state]) == 0
        return file

    return exported


@pytest.fixture
def merge(banked, tmp_path, capsys):
    """merge(files, options): exit code, file, what was said."""
    numbers = itertools.count()

    def merge(*files, options=(), bundle=None):
        output = tmp_path / f"merged{next(numbers)}.npz"
        words = ["state", str(bundle or banked), "merge", *map(str, files), "-o", str(output), "--runtime", "numpy"]
        code = main([*words, *options])
        said = capsys.readouterr()
        return code, output, said.err if code else said.out

    return merge


def known(file, bundle):
    return snapshot_for(read_bundle(bundle), read_file(file))


@pytest.mark.slow
def test_files_in_any_order_and_any_number_of_times_give_the_same_bytes(exported, merge, banked):
    a = exported("a", {"blue": 8, "red": 6})
    b = exported("b", {"blue": 6}, 6)
    c = exported("c", {"white": 9}, 7)
    code, file, said = merge(a, b, c)
    assert code == 0
    assert "29 images that 3 devices were taught, 4 classes" in said
    content = file.read_bytes()
    for files in ((c, b, a), (b, b, a, c, a)):
        assert merge(*files)[1].read_bytes() == content
    part = merge(b, a)[1]
    assert merge(part, c)[1].read_bytes() == content  # a merged state stands for its devices
    assert merge(c, file, part, a)[1].read_bytes() == content
    state = known(file, banked)
    assert state.classes == ("red", "green", "blue", "white")
    assert state.statistics.count.tolist() == [26, 20, 14, 9, 0, 0]
    assert state.steps > 0


def test_it_equals_one_device_that_saw_everything(exported, merge, banked, make, tmp_path):
    parts = [({"blue": 6, "red": 5}, 1), ({"white": 7}, 2), ({"blue": 9}, 3), ({"green": 5, "white": 6}, 4)]
    file = merge(*(exported(f"d{i}", taught, seed) for i, (taught, seed) in enumerate(parts)))[1]
    with Device.open(banked, tmp_path / "all.state", runtime="numpy") as device:
        for taught, seed in parts:
            for label, n in taught.items():
                device.learn(*make.images([label], n, seed), epochs=1)
        state, order = known(file, banked), [device.classes.index(name) for name in known(file, banked).classes]
        statistics = device._working.statistics
        np.testing.assert_allclose(state.statistics.mean[:4], statistics.mean[order], rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(state.statistics.count[:4], statistics.count[order])
        np.testing.assert_allclose(state.statistics.scatter, statistics.scatter, rtol=1e-9, atol=1e-9)
    images, labels = make.images(["red", "green", "blue", "white"], 10, 99)
    assert main(["state", str(banked), "import", str(file), "--state", str(tmp_path / "new.state")]) == 0
    with Device.open(banked, tmp_path / "new.state", runtime="numpy") as device:
        assert device.evaluate(images, labels)["accuracy"] > 0.95


def test_a_newer_file_of_a_device_takes_the_place_of_an_older_one(exported, merge, banked):
    old = exported("a", {"blue": 6})
    content = old.read_bytes()
    new = exported("a", {"blue": 5}, 8)
    old = old.with_name("old.npz")
    old.write_bytes(content)
    for files in ((old, new), (new, old)):
        assert known(merge(*files)[1], banked).statistics.count[2] == 11


def test_a_forgotten_class_stays_forgotten(exported, merge, banked, tmp_path):
    a, b = exported("a", {"blue": 6, "red": 5}), exported("b", {"red": 6}, 6)
    assert (
        main(["state", str(banked), "forget", "red", "--state", str(tmp_path / "b.state"), "--runtime", "numpy"]) == 0
    )
    b = exported("b", {})
    file = merge(a, b)[1]
    assert known(file, banked).classes == ("green", "blue")


def test_classes_of_few_images_are_left_out_and_named(exported, merge, banked):
    a, b = exported("a", {"blue": 4}), exported("b", {"white": 6})
    code, file, said = merge(a, b)
    assert code == 0
    assert f"{a}: fewer than 5 images of blue, left out" in said
    assert known(file, banked).classes == ("red", "green", "white")
    assert known(merge(a, b, options=("--min-images", "1"))[1], banked).classes == ("red", "green", "blue", "white")


def test_noise_moves_means_and_twice_gives_the_same_bytes(exported, merge, banked):
    a, b = exported("a", {"blue": 8}), exported("b", {"white": 6})
    exact, noisy = merge(a, b)[1], merge(a, b, options=("--noise", "0.5"))[1]
    assert not np.allclose(known(exact, banked).statistics.mean, known(noisy, banked).statistics.mean)
    assert merge(b, a, options=("--noise", "0.5"))[1].read_bytes() == noisy.read_bytes()


def test_two_devices_with_one_number(exported, merge, banked, make, tmp_path):
    import shutil

    a = exported("a", {"blue": 6})
    shutil.copytree(tmp_path / "a.state", tmp_path / "copy.state")
    a, copy = exported("a", {"blue": 5}, 8), exported("copy", {"white": 5}, 9)
    before = make.tree(tmp_path)
    code, file, said = merge(a, copy)
    assert code == 2
    assert said.count("\n") == 1
    assert "both are version 2 of device" in said
    assert not file.exists()
    assert make.tree(tmp_path) == before


def test_a_device_whose_sensor_was_moved_is_refused_and_its_state_can_be_imported(exported, merge, banked, tmp_path):
    a, b = exported("a", {"blue": 6}), exported("b", {"white": 6})
    state = ["--state", str(tmp_path / "b.state")]
    assert main(["state", str(banked), "moved", *state, "--runtime", "numpy"]) == 0
    b = exported("b", {"red": 6})
    code, file, said = merge(a, b)
    assert code == 2
    assert f"state file {b}: the sensor of this device was moved" in said
    assert not file.exists()
    words = ["fleet", str(banked), "--broker", "127.0.0.1:1", "--group", "g", "--key", str(tmp_path / "key")]
    assert main([*words, "--new-key"]) == 0
    assert main([*words, *state, "--runtime", "numpy"]) == 2
    assert main(["state", str(banked), "import", str(b), "--state", str(tmp_path / "new.state")]) == 0
    with Device.open(banked, tmp_path / "new.state", runtime="numpy") as device:
        assert device.learned["red"] == (0, 6)


def test_bad_files_are_refused_with_one_line(exported, merge, banked, make, tmp_path):
    a, b = exported("a", {"blue": 6}), exported("b", {"white": 6})
    cut = tmp_path / "cut.npz"
    cut.write_bytes(a.read_bytes()[:-100])
    other = make.write_bundle(tmp_path / "wide", bank=True, slots=6, units=7, known=("red", "green", "white"))
    foreign = exported("foreign", {"blue": 6}, bundle=other)
    future = tmp_path / "future.npz"
    future.write_bytes(a.read_bytes())
    import re

    content = future.read_bytes()
    newer = re.sub(rb"\ncbpnet state schema 000002", b"\ncbpnet state schema 000009", content)
    import hashlib

    body = newer[:-65]
    future.write_bytes(body + hashlib.sha256(body).hexdigest().encode() + b"\n")
    for files, words in (
        ((a, cut), "is damaged"),
        ((a, tmp_path / "none.npz"), "does not exist"),
        ((a, foreign), "was learned with another head"),
        ((a, future), "has schema version 9"),
        ((a,), "write `state BUNDLE merge FILE FILE ...`"),
    ):
        before = make.tree(tmp_path)
        code, file, said = merge(*files)
        assert code == 2
        assert words in said
        assert said.count("\n") == 1
        assert not file.exists()
        assert make.tree(tmp_path) == before
    assert merge(a, b)[0] == 0


def test_the_output_is_never_overwritten_and_belongs_to_merge(exported, banked, capsys, tmp_path):
    a, b = exported("a", {"blue": 6}), exported("b", {"white": 6})
    words = ["state", str(banked), "merge", str(a), str(b), "--runtime", "numpy"]
    assert main([*words, "-o", str(a)]) == 2
    assert "exists: give another file" in capsys.readouterr().err
    assert main(words) == 2
    assert "--output FILE is for state merge" in capsys.readouterr().err
    assert main(["state", str(banked), "show", "-o", str(tmp_path / "x.npz")]) == 2
    assert "--output FILE is for state merge" in capsys.readouterr().err
