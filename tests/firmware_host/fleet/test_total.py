"""A server's sum: without a device's own part it is what merging all others' deltas comes to."""

from dataclasses import replace

import numpy as np
import pytest

from firmware_host.fleet.check import Expected, checked
from firmware_host.fleet.merge import merged
from firmware_host.fleet.total import Total, others_of
from firmware_host.shared.bank.sums import Sums

from .conftest import BACKBONE, MEAN, SCALE, C, D, Seen, features

EXPECTED = Expected(BACKBONE, MEAN, SCALE)


def assert_same_statistics(found, expected):
    assert found.classes == expected.classes
    for name, value in expected.statistics.arrays().items():
        np.testing.assert_allclose(found.statistics.arrays()[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


def test_the_sum_of_the_others_and_ones_own_is_what_all_deltas_come_to(base, eight):
    deltas, _ = eight
    total = Total(deltas, EXPECTED)
    assert total.devices == 8
    every = merged(base, deltas, C)
    for own in deltas:
        others = checked(total.without(own.device), EXPECTED, 8)
        assert others.device == others_of(own.device)
        found = merged(base, [own, others], C)
        assert_same_statistics(found, every)
        for name in ("count", "mean", "scatter", "total", "binding"):
            np.testing.assert_allclose(found.bank[name], every.bank[name], rtol=1e-5, atol=1e-4, err_msg=name)


def test_the_directions_are_near_those_of_all_deltas(base, eight):
    deltas, _ = eight
    every = Sums(merged(base, deltas, C).bank)
    found = Sums(merged(base, [deltas[0], Total(deltas, EXPECTED).without(deltas[0].device)], C).bank)
    for slot in range(5):
        one, other = (each.leading(slot).astype(np.float64) for each in (every, found))
        assert np.square(other).sum() == pytest.approx(np.square(one).sum(), rel=0.25)
        spaces = [np.linalg.qr(rows.T)[0] for rows in (one, other)]
        assert np.linalg.svd(spaces[0].T @ spaces[1])[1][0] > 0.95  # cosine


def test_a_stranger_is_told_everything_and_a_single_device_nothing(base, eight):
    deltas, _ = eight
    total = Total(deltas, EXPECTED)
    assert_same_statistics(merged(base, [total.without("0" * 12)], C), merged(base, deltas, C))
    nothing = checked(Total(deltas[:1], EXPECTED).without(deltas[0].device), EXPECTED)
    assert (dict(nothing.classes), nothing.degrees, float(np.abs(nothing.scatter).max())) == ({}, 0.0, 0.0)
    assert Total([], EXPECTED).without("0" * 12).images == 0


def test_the_same_deltas_in_any_order_give_the_same_bytes(eight):
    deltas, _ = eight
    one = Total(deltas, EXPECTED).without(deltas[2].device).to_bytes()
    assert Total([*deltas[::-1], deltas[3]], EXPECTED).without(deltas[2].device).to_bytes() == one


def test_a_class_that_is_told_by_one_device_alone_is_not_told_back_to_it(eight):
    deltas, _ = eight
    total = Total(deltas, EXPECTED)
    assert "glass" not in total.without(deltas[3].device).classes
    assert total.without(deltas[0].device).classes["glass"].images == 96


def test_what_was_forgotten_stays_so(base, eight):
    deltas, _ = eight
    one = Seen("another").learn("fork", features("fork", 20, 5))
    one.own.forget("plate")
    every = [*deltas, one.tell()]
    total = Total(every, EXPECTED)
    assert "plate" not in total.without(deltas[0].device).classes
    assert total.without(deltas[0].device).forgotten == {"plate": 1}
    assert total.without(every[-1].device).forgotten == {}
    for own in (deltas[0], every[-1]):
        found = merged(base, [own, total.without(own.device)], C)
        assert "plate" not in found.classes
        assert_same_statistics(found, merged(base, every, C))


def test_many_devices_may_have_more_images_than_one(eight):
    delta = eight[0][0]
    name, share = next(iter(delta.classes.items()))
    many = replace(delta, classes={**delta.classes, name: share._replace(images=3e6, rows=share.rows[:0])})
    assert checked(many, EXPECTED, 3) is many
    with pytest.raises(Exception, match="3e\\+06 images: 1 to 2e\\+06"):
        checked(many, EXPECTED, 2)


def test_noisy_and_rowless_deltas_add_up(base):
    seen = [Seen(f"noisy {n}").learn("mug", features("mug", 30, n)).tell(noise=0.5) for n in range(3)]
    others = checked(Total(seen, EXPECTED).without(seen[0].device), EXPECTED, 2)
    assert others.noise == 0.5
    assert others.classes["mug"].rows.shape[1] == D
    assert_same_statistics(merged(base, [seen[0], others], C), merged(base, seen, C))
