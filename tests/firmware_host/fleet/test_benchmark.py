"""benchmarks.fleet: what devices are taught, and what is said; the bundle is a tiny one."""

from types import SimpleNamespace

import numpy as np

from benchmarks import fleet
from keras_cbpnet.data import Dataset


def test_parts_are_disjoint_and_whole():
    labels = np.repeat([3, 5, 7, 9, 11], 8)
    rows = np.arange(40)[labels > 3]
    for split in fleet.SPLITS:
        parts = fleet.parted(rows, labels, 3, split, 0)
        assert len(parts) == 3
        assert sorted(np.concatenate(parts).tolist()) == rows.tolist()
    owners = [set(labels[part]) for part in fleet.parted(rows, labels, 3, "classes", 0)]
    assert sum(map(len, owners)) == 4


def test_devices_share_and_the_table_says_what_came_of_it(make, tmp_path):
    bundle = make.write_bundle(tmp_path / "banked", bank=True, slots=6)
    names = ("red", "green", "blue", "white")
    train, test = make.images(names, 16, 1), make.images(names, 6, 2)
    y = [np.array([names.index(label) for label in labels]) for _, labels in (train, test)]
    data = Dataset(np.stack(train[0]), y[0], np.stack(test[0]), y[1], names)
    args = SimpleNamespace(
        runtime="numpy", devices=2, split="images", cameras=["host"], calibrate=2, min_images=5, noise=0.0
    )
    found = fleet.shared(bundle, tmp_path, data, 0, args)
    assert (found["old"], found["new"], found["images"]) == (2, 2, 32)
    assert found["accuracy"]["merged"] > 0.9
    assert found["accuracy"]["one"] > 0.9
    record = {
        "data": "colours", "preset": "tiny", "per_class": None, "seeds": [0], "devices": 2, "split": "images",
        "cameras": ["host"], "calibrate": 2, "noise": 0.0, **fleet.summary([{"seed": 0, **found}]),
    }  # fmt: skip
    cells = [cell.strip() for cell in fleet.render(record).splitlines()[-1].split("|")]
    assert cells[1:6] == ["2", "images", "host", "2", "0"]
