"""Deltas are bytes and back, and what is not one is refused with one line."""

import json
from dataclasses import replace

import numpy as np
import pytest

from firmware_host.bundle import DeviceError
from firmware_host.fleet.check import Expected, checked
from firmware_host.fleet.delta import LARGEST, MAGIC, Delta

from .conftest import BACKBONE, MEAN, SCALE, D, Seen, features

EXPECTED = Expected(BACKBONE, MEAN, SCALE)


@pytest.fixture
def delta():
    device = Seen("one")
    device.learn("fork", features("fork", 30)).learn("größer", features("größer", 6))
    device.own.forget("spoon")
    return device.tell(5)


def test_bytes_and_back(delta):
    again = Delta.from_bytes(delta.to_bytes())
    assert again.to_bytes() == delta.to_bytes()
    assert again.digest == delta.digest
    assert (again.device, again.version, again.forgotten) == (delta.device, 1, {"spoon": 1})
    assert sorted(again.classes) == ["fork", "größer"]
    rows = features("fork", 30)
    np.testing.assert_allclose(again.classes["fork"].mean, rows.mean(axis=0), atol=1e-12)
    np.testing.assert_array_equal(again.scatter, again.scatter.T)
    assert again.images == 36
    assert again.degrees == 34
    assert checked(again, EXPECTED) is again


def test_the_content_is_the_same_for_another_version(delta):
    later = replace(delta, version=9)
    assert later.content() == delta.content()
    assert later.digest != delta.digest


def header(content):
    start = len(MAGIC) + 4
    length = int.from_bytes(content[len(MAGIC) : start], "big")
    return json.loads(content[start : start + length]), content[start + length :]


def rewritten(delta, **changes):
    head, body = header(delta.to_bytes())
    head = {**head, **changes}
    text = json.dumps(head).encode()
    return MAGIC + len(text).to_bytes(4, "big") + text + body


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 2}, "schema version 2, this firmware_host reads 1"),
        ({"features": 6}, "not whole"),
        ({"features": -1}, "not whole"),
        ({"features": True}, "not whole"),
        ({"version": 1.5}, "not whole"),
        ({"version": 1 << 60}, "not whole"),
        ({"device": ""}, "not whole"),
        ({"classes": []}, "not whole"),
        ({"classes": [["fork", 0, 1 << 20], ["größer", 0, 6]]}, "not whole"),
        ({"classes": [["a\nb", 0, 16], ["größer", 0, 6]]}, "not whole"),
        ({"classes": 7}, "not whole"),
        ({"unit": "x"}, "not whole"),
        ({"degrees": -1}, "not whole"),
        ({"forgotten": {"spoon": -1}}, "not whole"),
        ({"forgotten": [1]}, "not whole"),
    ],
)
def test_a_header_out_of_form_is_refused(delta, changes, said):
    with pytest.raises(DeviceError, match=said) as refused:
        Delta.from_bytes(rewritten(delta, **changes))
    assert "\n" not in str(refused.value)


def test_every_cut_and_every_changed_byte_of_the_header_is_refused_or_read(delta):
    content = delta.to_bytes()
    for length in range(0, len(content), 37):
        with pytest.raises(DeviceError):
            Delta.from_bytes(content[:length])
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 400):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        try:
            checked(Delta.from_bytes(bytes(changed)), EXPECTED)
        except DeviceError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_too_many_bytes_are_refused():
    with pytest.raises(DeviceError, match=f"{LARGEST} are the most"):
        Delta.from_bytes(bytes(LARGEST + 1))


def test_a_large_delta_is_told_without_rows(delta, monkeypatch):
    monkeypatch.setattr("firmware_host.fleet.delta.LARGEST", len(delta.to_bytes()) - 1)
    less = Delta.from_bytes(delta.to_bytes())
    assert all(len(share.rows) == 0 for share in less.classes.values())
    np.testing.assert_array_equal(less.scatter, delta.scatter)
    monkeypatch.setattr("firmware_host.fleet.delta.LARGEST", 100)
    with pytest.raises(DeviceError, match="of 100 at most"):
        delta.to_bytes()


def poisoned(delta, **changes):
    share = delta.classes["fork"]._replace(**changes)
    return replace(delta, classes={**delta.classes, "fork": share})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: poisoned(d, images=1e9), "'fork' has 1e.09 images: 1 to 1e.06"),
        (lambda d: poisoned(d, images=float("nan")), "'fork' has nan images"),
        (lambda d: poisoned(d, images=-3.0), "'fork' has -3 images"),
        (lambda d: poisoned(d, mean=np.full(D, np.nan)), "'fork' has numbers that are not finite"),
        (lambda d: poisoned(d, rows=np.full((1, D), np.inf)), "'fork' has numbers that are not finite"),
        (lambda d: poisoned(d, mean=np.full(D, 1e6)), "more than 100 deviations"),
        (lambda d: poisoned(d, rows=np.full((4, D), 1e3, np.float32)), "come to more than its scatter"),
        (lambda d: replace(d, scatter=d.scatter * np.nan), "scatter has numbers that are not finite"),
        (lambda d: replace(d, scatter=-d.scatter), "scatter is larger|negative"),
        (lambda d: replace(d, scatter=d.scatter * 1e9), "larger than 34 images can have"),
        (lambda d: replace(d, scatter=d.scatter + 1e3 * (1 - np.eye(D))), "negative in a direction"),
        (lambda d: replace(d, degrees=1e12), "stands for 1e.12 images"),
        (lambda d: replace(d, version=0), "version is below 1"),
        (lambda d: replace(d, backbone="c" * 64), "another backbone .cccccccccccc, this bundle has bbbbbbbbbbbb"),
        (lambda d: replace(d, scatter=np.eye(D + 1)), "its features have 6 values, those of this bundle 5"),
    ],
)
def test_a_poisoned_delta_is_refused(delta, change, said):
    with pytest.raises(DeviceError, match=said) as refused:
        checked(change(delta), EXPECTED)
    assert "\n" not in str(refused.value)
