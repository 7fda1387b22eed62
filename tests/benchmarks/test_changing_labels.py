"""Streams whose labels change their meaning, on Gaussian classes that are far apart."""

import json

import numpy as np
import pytest

from benchmarks import changing_labels
from firmware_host.shared.bank import Bank, empty_bank

D, CLASSES = 12, 14


@pytest.fixture
def features(tmp_path):
    rng = np.random.default_rng(0)
    centres, arrays = rng.normal(size=(CLASSES, D)) * 4.0, {}
    for part, each in (("train", 120), ("test", 10)):
        label = np.repeat(np.arange(CLASSES), each)
        arrays[f"x_{part}"] = (centres[label] + rng.normal(size=(len(label), D))).astype(np.float32)
        arrays[f"y_{part}"] = label
    np.savez(tmp_path / "features.npz", **arrays)
    return tmp_path / "features.npz"


@pytest.mark.slow
def test_bank_and_mixture_follow_labels_that_change(features, tmp_path, capsys):
    out = tmp_path / "out.json"
    command = ["--features", str(features), "--tasks", "6", "--last", "3", "--seeds", "1", "--json", str(out)]
    assert changing_labels.main(command) == 0
    record = json.loads(out.read_text())
    for name in changing_labels.STREAMS:
        found = record["streams"][name]
        assert found["bank"]["mean"] > 0.9, name
        assert found["mixture"]["mean"] > 0.9, name
        assert found["wrong_bindings"]["mean"] <= 0.2, name
    assert "labels bound to another class" in capsys.readouterr().out


def test_wrong_bindings_are_counted():
    bank, owners = Bank(empty_bank(changing_labels.WAYS, 16, D, 2), np.zeros(D), np.ones(D)), {}
    bank.binding[:] = np.arange(changing_labels.WAYS) + 1
    bank.sums.count[:] = changing_labels.SHOTS
    meant = np.arange(changing_labels.WAYS) + 50
    assert changing_labels.wrong_bindings(bank, meant, owners) == 0.0  # all are fresh
    bank.sums.count[:] = 2 * changing_labels.SHOTS
    assert changing_labels.wrong_bindings(bank, meant, owners) == 0.0
    meant[3], bank.binding[5] = 99, 8  # one means something else by now, one is bound to the slot of another
    assert changing_labels.wrong_bindings(bank, meant, owners) == pytest.approx(2 / changing_labels.WAYS)
