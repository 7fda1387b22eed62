"""The benchmark of the head's step: engines take the same steps, and what was not reached is said."""

import json
import sys

import pytest

from benchmarks import step
from keras_cbpnet import cli
from keras_cbpnet.config import HeadConfig

CASES = {"small": HeadConfig(units=8, slots=6, batch=4), "mlp": HeadConfig(block="mlp", units=8, slots=6, batch=4)}
USUAL = ["--rounds", "2", "--steps", "3"]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(step, "CASES", CASES)
    monkeypatch.setattr(step, "TARGETS", {"ai_edge_litert": {"small": 1e-6, "mlp": 1e6}})


@pytest.mark.slow
def test_engines_take_the_same_steps(small, tmp_path, capsys):
    pytest.importorskip("ai_edge_litert")
    assert cli.run(step.main, ["--write", str(tmp_path / "before")]) == 0
    output = tmp_path / "out.json"
    assert cli.run(step.main, [*USUAL, "--against", str(tmp_path / "before"), "--json", str(output)]) == 0
    record = json.loads(output.read_text())
    for found in record["cases"].values():  # their losses were equal, or this were an error
        assert {"numpy", "ai_edge_litert", "ai_edge_litert before"} <= set(found)
        assert found["numpy"]["ratio"] == 1.0
        assert all(each["us"] > 0 for each in found.values())
    assert step.render(record).strip() in capsys.readouterr().out


def test_what_was_not_reached_is_said(small):
    found = {"us": 10.0, "ratio": 0.5, "low": 0.4, "high": 0.6}
    cases = {case: {"torch": found, "ai_edge_litert": found} for case in CASES}
    reached = step.reached(cases)
    assert list(reached.values()) == [False, True]
    shown = step.render({"cases": cases, "reached": reached})
    assert "0.50 [0.40-0.60], 10 µs" in shown
    assert shown.endswith("Not reached: ai_edge_litert, small: at most 1e-06 of PyTorch")


def test_an_engine_that_does_not_start_is_one_line(tmp_path, capsys):
    def answer(python):
        return cli.run(lambda _: step.Worker("numpy", step.WORKER, [tmp_path, "numpy"], python).ask(1)[0], [])

    assert answer(str(tmp_path / "python")) == 2
    assert "does not start (No such file or directory); give the Python of an environment" in capsys.readouterr().err
    assert answer(sys.executable) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: numpy does not answer (FileNotFoundError")
    assert said.count("\n") == 1
