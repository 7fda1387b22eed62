"""What a device was taught, kept apart: rows of few images, the camera, names, noise, versions."""

import numpy as np
import pytest

from firmware_host.bundle import DeviceError
from firmware_host.fleet.own import APART, Own

from .conftest import BACKBONE, SCALE, D, Seen, features


def scatter(*groups):
    return sum((rows - rows.mean(axis=0)).T @ (rows - rows.mean(axis=0)) for rows in groups)


@pytest.mark.parametrize("pieces", [1, 3, 40])
def test_sums_are_those_of_all_images(pieces):
    rows, few = features("fork", 40), features("plate", 6)
    device = Seen("one")
    for one in np.array_split(rows, pieces):
        device.learn("fork", one)
    for row in few:
        device.learn("plate", row[None])
    delta = device.tell(1)
    np.testing.assert_allclose(delta.scatter, scatter(rows, few), rtol=1e-10, atol=1e-10)
    assert delta.degrees == 44
    np.testing.assert_allclose(delta.classes["fork"].mean, rows.mean(axis=0), rtol=1e-12)
    assert delta.classes["plate"].images == 6


def test_a_class_of_few_images_shows_nowhere():
    rows, few = features("fork", 40), features("plate", 4)
    device = Seen("one").learn("fork", rows).learn("plate", few)
    delta = device.tell(5)
    assert sorted(delta.classes) == ["fork"]
    np.testing.assert_allclose(delta.scatter, scatter(rows), rtol=1e-10, atol=1e-10)
    assert b"plate" not in delta.to_bytes()
    assert Seen("alone").learn("plate", few).tell(5) is None
    device.learn("plate", features("plate", 1, 9))
    later = device.tell(5)
    assert later.version == delta.version + 1
    assert sorted(later.classes) == ["fork", "plate"]


def test_a_camera_that_moves_shifts_means_and_no_scatter():
    rows, shift = features("fork", 40), np.arange(D) / 10
    moved = Seen("one").learn("fork", rows)
    moved.own.move(shift)
    wanted = Seen("one").learn("fork", rows - shift).tell()
    np.testing.assert_allclose(moved.tell().classes["fork"].mean, wanted.classes["fork"].mean, rtol=1e-12)
    np.testing.assert_allclose(moved.tell().scatter, wanted.scatter, rtol=1e-12)


def test_arrays_and_back():
    device = Seen("one").learn("fork", features("fork", 40)).learn("plate", features("plate", 6))
    device.own.forget("spoon")
    device.own.peers["0" * 12] = b"bytes"
    told = device.tell()
    again = Own.from_arrays(device.own.arrays())
    assert again.tell("one", BACKBONE, 1).to_bytes() == told.to_bytes()
    assert again.peers == {"0" * 12: b"bytes"}
    assert again.lives == {"spoon": 1}


def test_a_version_never_falls():
    device = Seen("one").learn("fork", features("fork", 6))
    before = device.own.arrays()
    assert device.tell().version == 1
    device.learn("fork", features("fork", 6, 2))
    assert device.tell().version == 2
    device.own = Own.from_arrays(before, since=device.own)  # the lesson is taken back
    back = device.tell()
    assert back.version == 3
    assert back.classes["fork"].images == 6


def test_a_renamed_class_is_a_forgotten_and_a_new_one():
    device = Seen("one").learn("fork", features("fork", 6))
    device.own.rename("fork", "trident", 26.0, np.ones(D))
    delta = device.tell()
    assert delta.forgotten == {"fork": 1}
    assert sorted(delta.classes) == ["trident"]
    assert delta.classes["trident"].images == 26


def test_a_class_that_nobody_else_knows_of_is_forgotten_in_silence():
    device = Seen("one").learn("fork", features("fork", 6)).learn("secret", features("secret", 3))
    told = device.tell(5)
    device.own.rename("secret", "other", 3.0, np.ones(D), alone=True)
    assert device.own.parts["other"].count == 3
    device.own.forget("other", alone=True)
    assert device.tell(5).to_bytes() == told.to_bytes()
    device.own.forget("fork", alone=True)  # the others were told of it
    assert device.tell(5).forgotten == {"fork": 1}


def test_noise_is_of_the_size_asked_for_and_the_same_for_a_version():
    device = Seen("one")
    names = [f"class {i}" for i in range(400)]
    for name in names:
        device.learn(name, features(name, 10))
    exact, noisy = device.own.delta("one", BACKBONE), device.tell(5, 2.0)
    off = np.array([(noisy.classes[n].mean - exact.classes[n].mean) * 10 / SCALE for n in names])
    assert abs(off.std() - 2.0) < 0.1
    assert abs(off.mean()) < 0.2
    assert np.linalg.eigvalsh(noisy.scatter)[0] > -1e-9
    assert all(len(share.rows) == 0 for share in noisy.classes.values())
    assert device.tell(5, 2.0).to_bytes() == noisy.to_bytes()
    other = device.learn("class 0", features("class 0", 1, 3)).tell(5, 2.0)
    assert other.version == noisy.version + 1
    assert not np.array_equal(other.classes["class 1"].mean, noisy.classes["class 1"].mean)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((0, 0.0), "min-images is 0: use 1 to"),
        ((APART + 1, 0.0), "min-images"),
        ((5, -1.0), "noise is -1"),
        ((5, float("nan")), "noise is nan"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(DeviceError, match=said):
        Seen("one").learn("fork", features("fork", 6)).tell(*options)
