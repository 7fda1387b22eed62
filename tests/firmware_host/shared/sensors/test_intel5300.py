"""Logs of an Intel 5300: what is read of them, and what is refused."""

import numpy as np
import pytest
from helpers import csi

from firmware_host.bundle import DeviceError
from firmware_host.shared.sensors.intel5300 import amplitude_of_log

PARTS = csi.recording(1, 0, 1, packets=9)
LOG = csi.log(PARTS)
PACKET = len(LOG) // 9


def refused(content):
    with pytest.raises(DeviceError) as error:
        amplitude_of_log("a.dat", content)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_amplitudes_are_those_that_were_logged():
    found = amplitude_of_log("a.dat", LOG)
    assert (found.dtype, found.shape) == (np.uint8, (9, 3, 30))
    np.testing.assert_array_equal(found, csi.amplitude(PARTS))
    assert found.std() > 5


def test_every_int8_is_read_as_itself():
    parts = np.zeros((9, 3, 30, 2), int)
    parts[..., 0] = np.resize(np.arange(-128, 128), (9, 3, 30))
    np.testing.assert_array_equal(amplitude_of_log("a.dat", csi.log(parts)), np.abs(parts[..., 0]))


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0)])
def test_antennas_have_their_own_order_however_the_card_lists_them(order):
    np.testing.assert_array_equal(amplitude_of_log("a.dat", csi.log(PARTS, order)), csi.amplitude(PARTS))


def test_an_order_that_the_card_does_not_tell_is_left_as_it_is():
    header = 3 + 15  # of the first packet: the byte that names the antennas
    content = bytearray(csi.log(PARTS, (1, 2, 0)))
    content[header] = 0
    np.testing.assert_array_equal(amplitude_of_log("a.dat", bytes(content))[0], csi.amplitude(PARTS)[0][[1, 2, 0]])


def test_of_several_streams_the_first_counts_and_other_records_are_passed_over():
    content = csi.log(PARTS[:4]) + b"\x00\x05\xc1abcd" + csi.log(PARTS[4:], streams=2)
    np.testing.assert_array_equal(amplitude_of_log("a.dat", content), csi.amplitude(PARTS))


@pytest.mark.parametrize("lost", [1, 2, PACKET - 1, PACKET // 2, 2 * PACKET + 7])
def test_a_log_that_is_cut_off_is_refused(lost):
    assert "a.dat is cut off at byte" in refused(LOG[:-lost])


@pytest.mark.parametrize(
    "content", [b"", b"type,role,mac\nCSI_DATA,AP,3C:71", b"\x89PNG\r\n\x1a\n" + bytes(300), bytes(500), b"\xff" * 500]
)
def test_files_of_other_hardware_are_refused(content):
    said = refused(content)
    assert "Intel 5300" in said or "0 packets" in said


def test_a_log_that_contradicts_itself_is_refused():
    content = bytearray(LOG)
    content[2 * PACKET + 3 + 9] = 3  # streams of the third packet
    assert "is damaged" in refused(bytes(content))
    assert "has packets of 2 antennas, 3 are needed" in refused(csi.log(PARTS, antennas=2))
    assert "has 7 packets, at least 8 are needed" in refused(csi.log(PARTS[:7]))
