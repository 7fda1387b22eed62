"""Schedules: where they begin and end, and that nothing but the step decides."""

import numpy as np
import pytest

from keras_cbpnet.errors import UserError
from keras_cbpnet.sparsity.schedule import SCHEDULES, find_schedule

STEPS, EVERY, KEEP = 900, 30, 0.1


def course(name):
    at = find_schedule(name, KEEP, EVERY)
    return [at(step, STEPS) for step in range(STEPS)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_ends_at_its_density(name):
    moments = course(name)
    assert moments == course(name)
    ends = [moment.density for moment in moments if moment.changes][-1:] or [moments[-1].density]
    assert ends[0] == pytest.approx(KEEP, rel=0.3 if name == "iee" else 1e-9)
    assert all(0 < moment.density <= 1 and 0 <= moment.swaps < 1 for moment in moments)
    assert not moments[0].changes


def test_pruning_falls_by_a_cubic():
    found = [moment.density for moment in course("gmp")]
    assert found[0] == 1
    assert found[338] == pytest.approx(KEEP + 0.9 * (1 - 338 / 675) ** 3)
    assert np.all(np.diff(found) <= 0)
    assert found[675] == pytest.approx(KEEP)


def test_swaps_fall_by_a_cosine_to_nothing():
    moments = course("rigl")
    swaps = [moment.swaps for moment in moments if moment.changes]
    assert swaps[0] == pytest.approx(0.25 * (1 + np.cos(np.pi * 30 / 675)))
    assert swaps == sorted(swaps, reverse=True)
    assert not any(moment.changes for moment in moments[675:])


def test_afterwards_is_at_the_last_step():
    moments = course("afterwards")
    assert all(moment.density == 1 and not moment.changes for moment in moments[:-1])
    assert moments[-1].density == KEEP
    assert moments[-1].changes


def test_two_waves_and_then_swaps():
    moments = course("east")
    found = np.array([moment.density for moment in moments])
    assert found[90] == found[270] == pytest.approx(3 * KEEP)
    assert found[0] == found[180] == pytest.approx(KEEP)
    assert np.all(found[360:] == KEEP)
    assert moments[360].changes


def test_members_and_others_take_turns():
    moments = course("iee")
    assert [moments[step].trains for step in (0, 30, 60, 90)] == ["members", "members", "others", "members"]
    assert [step for step in range(95) if moments[step].changes] == [30, 90]
    assert moments[30].density == pytest.approx(KEEP * 0.7)
    assert moments[90].density == KEEP
    assert moments[90].grows == "magnitude"
    assert moments[840].density == moments[841].density > moments[30].density  # fewer are dropped late


@pytest.mark.parametrize(
    ("name", "density", "every", "message"),
    [
        ("slow", 0.1, 30, "unknown schedule 'slow'; choose one of oneshot, afterwards, gmp"),
        ("gmp", 0.0, 30, "density is 0"),
        ("gmp", 0.1, 0, "cannot change every 0 steps"),
    ],
)
def test_bad_input_is_one_line(name, density, every, message):
    with pytest.raises(UserError, match=message):
        find_schedule(name, density, every)
