"""Branches of the stem: equal time is more epochs of the plain stem, and nothing is trained twice."""

import itertools
import json
import types
from pathlib import Path

import pytest

from benchmarks import reparam
from keras_cbpnet import cli


@pytest.fixture
def trained(monkeypatch):
    """Trainings that are asked for, (seed, epochs, branches); branches take half as long again and gain a point."""
    asked = []

    def run(words, **_):
        values = dict(itertools.pairwise(words))
        asked.append((int(values["--seed"]), int(values["--epochs"]), "--reparam" in words))
        Path(values["--output"]).write_bytes(b"")

    def accuracies(args, weights):
        return {"lda": 0.31 if "orepa" in weights.name else 0.30, "nearest_class_mean": 0.2}

    def times():
        spent = sum(10.0 * epochs * (1.5 if branched else 1.0) for _, epochs, branched in asked)
        return types.SimpleNamespace(children_user=spent, children_system=0.0)

    monkeypatch.setattr(reparam, "subprocess", types.SimpleNamespace(run=run))
    monkeypatch.setattr(reparam, "accuracies", accuracies)
    monkeypatch.setattr(reparam.os, "times", times)
    return asked


def test_equal_time(trained, tmp_path, capsys):
    words = ["--data", "digits", "--seeds", "3", "--epochs", "4", "--work", str(tmp_path / "work")]
    words += ["--json", str(tmp_path / "out.json")]
    assert cli.run(reparam.main, words) == 0
    assert trained == [(3, 4, False), (3, 4, True), (3, 6, False)]
    record = json.loads((tmp_path / "out.json").read_text())
    assert "+1.0 (+1.0)" in reparam.render(record)
    assert cli.run(reparam.main, words) == 0
    assert len(trained) == 3
    assert "plain, equal time" in capsys.readouterr().out
