"""Bytes an hour, on boards whose time of day jumps."""

import pytest

from firmware_host.state.running import Running, boot, running_seconds

HOUR = 3600.0


def test_the_first_hour_is_a_whole_one():
    running = Running().plus(100, 5.0, "boot").plus(100, 65.0, "boot")
    assert running.per_hour(70.0, "boot") == 200
    assert running.per_hour(5.0 + 10 * HOUR, "boot") == 20


def test_the_time_that_the_system_was_off_is_not_counted():
    running = Running().plus(100, 50.0, "first").plus(100, 50.0 + 2 * HOUR, "first")
    running = running.plus(200, HOUR, "second")  # an hour after the second start
    assert running.seconds == 3 * HOUR
    assert running.per_hour(2 * HOUR, "second") == 100
    assert running.per_hour(2 * HOUR, "third") == 400 / 5


def test_a_clock_that_runs_backwards_takes_nothing_away():
    running = Running().plus(100, 50.0, "boot").plus(100, 10.0, "boot")
    assert (running.bytes, running.seconds) == (200, 0.0)


def test_this_system_has_a_start_and_a_clock():
    assert boot() == boot() != ""
    assert running_seconds() <= running_seconds()


def test_the_time_of_day_is_not_asked(make, bundle, tmp_path, monkeypatch):
    from firmware_host import Device

    day = [100.0]
    monkeypatch.setattr("time.time", lambda: day[0])
    size = 0
    for now in (100.0, 1.79e9, 50.0):
        day[0] = now
        with Device.open(bundle, runtime="numpy") as device:
            device.learn(*make.images(["red"], 2), epochs=1)
            size += device.save().stat().st_size
            assert device.written["bytes_written_per_hour"] == pytest.approx(size)
