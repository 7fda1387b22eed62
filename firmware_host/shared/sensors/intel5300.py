"""Logs of the Linux 802.11n CSI Tool (Halperin et al., CCR 2011), which reads an Intel 5300: its bfee records.

A log is a row of records: a big-endian uint16 with the bytes that follow, a byte that says of which kind it is, and
the rest. A record of kind 0xBB is one packet: a header of 20 bytes, then for each subcarrier 3 bits that say nothing
and, for each pair of antennas, real and imaginary part as int8, packed without gaps.

Dimensions: T packets, A antennas (of the receiver), S = 30 groups of subcarriers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from firmware_host.shared.errors import DeviceError

__all__ = ["ANTENNAS", "SUBCARRIERS", "amplitude_of_log"]

Array = np.ndarray[Any, Any]
BFEE = 0xBB
KINDS = (BFEE, 0xC1)  # and received packets, which a log may hold too
HEADER = 20  # bytes
ANTENNAS, SUBCARRIERS = 3, 30
LEAST = 8  # packets of a recording
OTHER = "give a .dat file of the Linux 802.11n CSI Tool (Intel 5300)"


def amplitude_of_log(name: str, content: bytes) -> Array:
    """Return the amplitudes of the first transmitted stream, uint8 [T, 3, 30], antennas in their own order.

    Args:
        name: of the log, for messages.
        content: its bytes.

    Raises:
        DeviceError: it is of other hardware, cut off, damaged, or has too few packets or antennas.
    """
    packets = _packets(name, content)
    if len(packets) < LEAST:
        raise DeviceError(f"recording {name} has {len(packets)} packets, at least {LEAST} are needed: record longer")
    header = np.stack([np.frombuffer(packet, np.uint8, HEADER) for packet in packets])  # (T, 20)
    receive, transmit = header[:, 8].astype(np.int64), header[:, 9].astype(np.int64)
    said = header[:, 16].astype(np.int64) + 256 * header[:, 17]
    if np.any(said != _matrix_bytes(receive * transmit)) or any(map(_is_short, packets, said)):
        raise DeviceError(f"recording {name} is damaged (a packet of another size than its header says): record again")
    if np.any(receive != ANTENNAS):
        raise DeviceError(
            f"recording {name} has packets of {int(receive.min())} antennas, {ANTENNAS} are needed: enable all three"
        )
    found = np.empty((len(packets), ANTENNAS, SUBCARRIERS), np.uint8)
    for streams in np.unique(transmit):
        rows = np.flatnonzero(transmit == streams)
        size = int(_matrix_bytes(ANTENNAS * streams))
        payload = np.stack([np.frombuffer(packets[row], np.uint8, size, HEADER) for row in rows])
        found[rows] = _amplitudes(payload, int(streams))
    return _in_own_order(found, header[:, 15])


def _packets(name: str, content: bytes) -> list[bytes]:
    """Return what follows the kind of each bfee record."""
    found, place = [], 0
    while place < len(content):
        size = int.from_bytes(content[place : place + 2], "big")
        kind = content[place + 2] if place + 2 < len(content) else None
        end = place + 2 + size
        if place == 0 and (size < 2 or kind not in KINDS or (kind == BFEE and size < 1 + HEADER)):
            raise DeviceError(f"recording {name} is not of an Intel 5300: {OTHER}")
        if size == 0 or end > len(content):
            raise DeviceError(f"recording {name} is cut off at byte {len(content)} of {end}: copy it again")
        if kind == BFEE:
            if size < 1 + HEADER:
                raise DeviceError(f"recording {name} is damaged (a packet of {size} bytes): record again")
            found.append(content[place + 3 : end])
        place = end
    return found


def _matrix_bytes(pairs: Any) -> Any:
    """Return the bytes that the values of so many pairs of antennas take."""
    return (SUBCARRIERS * (pairs * 16 + 3) + 7) // 8


def _is_short(packet: bytes, size: int) -> bool:
    return len(packet) - HEADER < size


def _amplitudes(payload: Array, streams: int) -> Array:
    """Return the rounded amplitudes of the first of the streams, uint8 [T, 3, 30], of payloads [T, bytes]."""
    subcarrier, antenna = np.arange(SUBCARRIERS), np.arange(ANTENNAS)[:, None]
    pairs = ANTENNAS * streams
    bit = 3 * (subcarrier + 1) + 16 * (pairs * subcarrier + antenna * streams)  # (3, 30), of the real part
    padded = np.pad(payload, ((0, 0), (0, 1))).astype(np.uint16)
    real, imaginary = (_signed(padded, bit + more) for more in (0, 8))
    amplitude: Array = np.rint(np.hypot(real, imaginary)).astype(np.uint8)
    return amplitude


def _signed(payload: Array, bit: Array) -> Array:
    """Return the int8 at these bits, as float64."""
    byte, shift = bit // 8, (bit % 8).astype(np.uint16)
    eight = (payload[:, byte] >> shift | payload[:, byte + 1] << (8 - shift)) & 0xFF
    return np.asarray(eight.astype(np.uint8).view(np.int8), np.float64)


def _in_own_order(amplitude: Array, selection: Array) -> Array:
    """Undo that the card lists antennas by strength; where it does not say in which order, they stay as they are."""
    order = np.stack([selection >> shift & 3 for shift in (0, 2, 4)], axis=1).astype(np.int64)  # (T, 3)
    told = np.all(np.sort(order, axis=1) == np.arange(ANTENNAS), axis=1)
    order[~told] = np.arange(ANTENNAS)
    own = np.empty_like(amplitude)
    np.put_along_axis(own, order[:, :, None], amplitude, axis=1)
    return own
