"""Channel state that nobody measured, in the formats of recordings: .npz and .dat of the Linux 802.11n CSI Tool."""

import numpy as np

ACTIVITIES, SETTINGS = ("sit", "walk", "wave", "fall"), ("hall", "kitchen")


def recording(activity, setting, repetition, packets=60):
    """Complex int8 parts, [T, 3, 30, 2]: an activity is the pace and place of a wave, a setting what lies below it."""
    rng, room = np.random.default_rng([activity, setting, repetition]), np.random.default_rng([7, setting])
    time, subcarrier = np.linspace(0, 1, packets)[:, None, None], np.arange(30)
    pace, place = 1 + activity, 6 * activity + 4
    wave = (1 + np.sin(2 * np.pi * (pace * time + rng.uniform(0, 0.1)))) * np.exp(-(((subcarrier - place) / 6) ** 2))
    level = room.uniform(40, 60, (1, 3, 30)) + 30 * wave + rng.normal(0, 2, (packets, 3, 30))
    phase = room.uniform(0, 2 * np.pi, (1, 3, 30))
    return np.rint(np.stack([level * np.cos(phase), level * np.sin(phase)], axis=-1)).astype(int)


def amplitude(parts):
    return np.rint(np.hypot(parts[..., 0], parts[..., 1])).astype(np.uint8)


def log(parts, order=(0, 1, 2), streams=1, antennas=3):
    """The bytes of a log whose card lists the antennas in this order; further streams hold other values."""
    packets = []
    for number, packet in enumerate(parts):
        values = np.empty((30, antennas, streams, 2), int)  # a subcarrier's: 3 bits of nothing, then int8, no gaps
        values[:] = (5, -7)
        values[:, :, 0] = packet[list(order[:antennas])].transpose(1, 0, 2)
        bits = np.unpackbits((values & 0xFF).astype(np.uint8).reshape(30, -1), axis=1, bitorder="little")
        matrix = np.packbits(np.pad(bits, ((0, 0), (3, 0))), bitorder="little").tobytes()
        chosen = sum(antenna << 2 * place for place, antenna in enumerate(order))
        header = number.to_bytes(4, "little") + bytes([0, 0, 0, 0, antennas, streams, 40, 38, 41, 129, 30, chosen])
        body = b"\xbb" + header + len(matrix).to_bytes(2, "little") + b"\x01\x01" + matrix
        packets.append(len(body).to_bytes(2, "big") + body)
    return b"".join(packets)


def write_npz(file, repetitions=5, activities=ACTIVITIES, settings=SETTINGS, **changes):
    rows = [(a, s, r) for s in range(len(settings)) for a in range(len(activities)) for r in range(1, repetitions + 1)]
    found = [amplitude(recording(ACTIVITIES.index(activities[a]), s, r)).reshape(-1, 90) for a, s, r in rows]
    length = np.array([len(each) for each in found])
    activity, domain, repetition = np.array(rows).T
    arrays = {
        "csi": np.concatenate(found), "start": np.cumsum(length) - length, "length": length, "activity": activity,
        "domain": domain, "repetition": repetition, "activity_names": np.array(activities),
        "domain_names": np.array(settings),
    }  # fmt: skip
    np.savez(file, **{name: value for name, value in {**arrays, **changes}.items() if value is not None})
    return file


def write_folders(root, repetitions=5, activities=ACTIVITIES, settings=SETTINGS):
    """SETTING/ACTIVITY/N.dat, or ACTIVITY/N.dat where there is one setting."""
    for s, setting in enumerate(settings):
        for activity in activities:
            folder = root / setting / activity if len(settings) > 1 else root / activity
            folder.mkdir(parents=True)
            for r in range(1, repetitions + 1):
                (folder / f"{r}.dat").write_bytes(log(recording(ACTIVITIES.index(activity), s, r)))
    return root
