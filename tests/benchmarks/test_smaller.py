"""The benchmark of smaller backbones: which runs it asks for, and what its table says."""

import json

import pytest

from benchmarks import smaller
from keras_cbpnet import cli


@pytest.fixture
def asked(monkeypatch):
    """Configurations of runs that were measured, instead of trainings; fewer blocks are better here."""
    calls = []

    def measure(config, seeds, folder, jobs):
        calls.append((config.depth, config.weights, config.method))
        return {"average_accuracy": [0.6], "mean": 0.6 + 0.01 * (config.depth == 3), "std": None}

    def costs(settings):
        share = 0.7 if settings.get("depth") == 3 else 1
        return {"parameters": int(1000 * share), "multiply_adds": 10**6, "bytes": int(2000 * share)}, b""

    monkeypatch.setattr(smaller.runs, "measure", measure)
    monkeypatch.setattr(smaller, "costs", costs)
    monkeypatch.setattr(smaller, "times", lambda files, size: {name: {"r": 2.0} for name in files})
    return calls


def test_forms_are_compared_with_the_first(asked, tmp_path, capsys):
    output = tmp_path / "out.json"
    words = ["--data", "digits", "--forms", "5,3", "--methods", "ncm,mixture", "--time", "--json", str(output)]
    assert cli.run(smaller.main, words) == 0
    assert asked == [(5, "", "ncm"), (5, "", "cbpnet"), (3, "", "ncm"), (3, "", "cbpnet")]
    record = json.loads(output.read_text())
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in smaller.render(record).splitlines()]
    assert lines[-1] == ["3 blocks", "700 (70%)", "1.0 (100%)", "1,400 (70%)", "2.00 (100%)", *2 * ["61.0 (+1.0)"]]
    assert "3 blocks" in capsys.readouterr().out


def test_a_form_that_is_neither_number_nor_file_is_one_line(asked, capsys):
    assert cli.run(smaller.main, ["--data", "digits", "--forms", "5,none.npz"]) == cli.BAD_INPUT
    assert "--forms: 'none.npz' is neither a number of blocks nor a weights file" in capsys.readouterr().err
    assert asked == []
