"""From recordings to pictures."""

import numpy as np
import pytest
from helpers import csi

from firmware_host.shared.sensors.pictures import csi_picture, resampled, series_picture

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [1, 5, 30, 32, 64, 33])
def test_bins_hold_the_means_of_what_lies_in_them(count):
    values = RNG.normal(size=(30, 2))
    found = resampled(values, count, axis=0)
    fine = np.repeat(values, count, axis=0).reshape(count, 30, 2).mean(axis=1)  # the same by brute force
    np.testing.assert_allclose(found, fine, atol=1e-12)


def test_other_axes_stay_what_they_are():
    values = RNG.normal(size=(4, 6, 3))
    np.testing.assert_allclose(resampled(values, 2, axis=1)[:, 0], values[:, :3].mean(axis=1))


def test_a_picture_of_channel_state_is_time_by_subcarrier_by_antenna():
    amplitude = np.full((64, 3, 30), 10.0)
    amplitude[:32, 1, :15] = 20.0  # first half of the time, second antenna, lower subcarriers
    picture = csi_picture(amplitude)
    assert (picture.dtype, picture.shape) == (np.uint8, (32, 32, 3))
    bright = picture > picture.min()
    assert bright[:16, :16, 1].all()
    assert bright.sum() == 16 * 16


def test_gain_and_level_of_a_whole_recording_do_not_count():
    amplitude = csi.amplitude(csi.recording(2, 0, 1)).astype(float)
    np.testing.assert_allclose(csi_picture(3.0 * amplitude + 40.0), csi_picture(amplitude), atol=1)


def test_a_recording_that_never_changes_is_grey():
    assert np.unique(csi_picture(np.full((8, 3, 30), 7))).tolist() == [128]


def test_units_of_a_window_do_not_count_in_its_course_and_shift_its_level():
    window = RNG.normal(size=(100, 6)) + np.arange(6)
    small, large = series_picture(window), series_picture(1000.0 * window)
    np.testing.assert_allclose(small[..., 0], large[..., 0], atol=1)
    assert np.mean(large[..., 1].astype(int)[:, -5:] - small[..., 1][:, -5:]) == pytest.approx(127.5 * 3 / 8, abs=3)
    assert np.mean(large[..., 2].astype(int) - small[..., 2]) == pytest.approx(127.5 * 3 / 4, abs=3)


def test_each_channel_has_its_columns_and_its_sign():
    window = np.stack([np.linspace(-1, 1, 50), np.full(50, -9.8), np.full(50, 9.8), np.zeros(50)], axis=1)
    picture = series_picture(window)
    assert np.all(np.diff(picture[:, :8, 0].astype(int), axis=0) >= 0)
    assert np.ptp(picture[:, 0, 0]) > 100
    assert np.all(picture[:, 8:16, 1] < 127)
    assert np.all(picture[:, 16:24, 1] > 128)
    assert np.all(np.abs(picture[:, 24:, 1].astype(int) - 128) <= 0)


@pytest.mark.parametrize("channels", [1, 3, 32, 90])
def test_any_number_of_channels_fits(channels):
    assert series_picture(RNG.normal(size=(9, channels))).shape == (32, 32, 3)
