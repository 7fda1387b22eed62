"""The benchmark of the learning loop: its arithmetic, and that its workers answer."""

import json

import pytest

from benchmarks import loop
from keras_cbpnet import cli
from keras_cbpnet.config import HeadConfig


def answers(scale=1.0):
    """What a worker answers in a round: the loop takes three times the graph, a tenth of it looks."""
    found = {"teach -": [4000.0 * scale]}
    for name in (loop.DEFAULT, *loop.CLASSES.values()):
        found[f"invoke {name}"], found[f"step {name}"] = [100.0], [110.0 * scale]
        found[f"loop {name}"], found[f"infer {name}"] = [300.0 * scale, 30.0 * scale], [20.0 * scale, 400.0]
    for d, name in loop.FEATURES.items():
        found[f"state {name}"] = [0.5 * d**1.5]
    return found


def test_every_row_is_a_ratio_within_one_round():
    found = loop.found([answers(), answers(1.2), answers()])
    assert found[loop.LOOP] == {"median": pytest.approx(3.0), "low": pytest.approx(3.0), "high": pytest.approx(3.6)}
    assert found["step / graph"]["median"] == pytest.approx(1.1)
    assert found[loop.LOOKS.format(1000)]["median"] == pytest.approx(1 / 9)
    assert found[loop.INFER.format(10)]["median"] == pytest.approx(0.05)
    assert found[loop.STATE]["median"] == pytest.approx(1.5)
    assert found[loop.TEACH]["median"] == 4.0


def test_the_exponent_is_that_of_a_power_law():
    assert loop.exponent({64: 10.0, 192: 30.0, 768: 120.0}) == pytest.approx(1.0)
    assert loop.exponent({1: 3.0, 10: 3.0, 100: 3.0}) == pytest.approx(0.0)


def test_what_is_asked_for_is_said_to_be_reached_or_not():
    record = {"found": {"now": loop.found([answers(0.5)] * 3), "before": loop.found([answers()] * 3)}}
    record |= {"reached": loop.reached(record["found"]["now"]), "before": "0123456789", "runtime": "numpy"}
    assert record["reached"] == {
        loop.LOOP: True,
        loop.TEACH: True,
        loop.LOOKS.format(1000): False,
        loop.INFER.format(1000): True,
        loop.STATE: False,
    }
    shown = " ".join(loop.render(record).split())
    assert "| loop / graph | 1.5 [1.5-1.5] | 3 [3-3] | 1.6 (reached) |" in shown
    assert "| state, exponent of d | 1.5 [1.5-1.5] | 1.5 [1.5-1.5] | 1.1 (not reached) |" in shown
    assert "before: commit 0123456." in shown


def test_without_a_bundle_no_lesson_is_asked_for():
    assert not any(line.startswith("teach") for line in loop.asked(lessons=False))
    assert {line.split()[0] for line in loop.asked(lessons=True)} == {
        "invoke",
        "step",
        "loop",
        "infer",
        "state",
        "teach",
    }
    assert all(int(line.split()[2]) >= 2 for line in loop.asked(lessons=True, few=True))


@pytest.mark.slow
def test_workers_answer_for_small_heads(monkeypatch, tmp_path, capsys):
    pytest.importorskip("ai_edge_litert")
    sizes = {name: (HeadConfig(units=8, slots=6, batch=4), 16) for name in loop.HEADS}
    monkeypatch.setattr(loop, "HEADS", sizes)
    monkeypatch.setattr(loop, "IMAGES", 12)
    output = tmp_path / "out.json"
    assert cli.run(loop.main, ["--rounds", "2", "--json", str(output)]) == 0
    record = json.loads(output.read_text())
    assert record["found"]["now"][loop.LOOP]["median"] > 1.0
    assert loop.TEACH not in record["found"]["now"]
    assert set(record["reached"]) == set(loop.ASKED) - {loop.TEACH}
    assert loop.render(record) in capsys.readouterr().out
