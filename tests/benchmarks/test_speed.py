"""`make bench`: its arithmetic, what it leaves out and why, and that one row that fails leaves the others."""

import json
import sys

import pytest

from benchmarks import reference
from benchmarks.common import turns
from benchmarks.speed import command, growth, peers
from benchmarks.speed.bench import SCRIPTS, Area, Bench, MissingError
from benchmarks.speed.rows import Found, Row, record_of, render, single
from keras_cbpnet import cli
from keras_cbpnet.config import HeadConfig

GOOD = Row("good", "one", "this over that", 0.5)
TOLD = Row("told", "one", "a number", None, "seconds")
GONE = Row("gone", "two", "a peer", 1.0)
BROKEN = Row("broken", "three", "a defect", 1.0)


def missing(bench):
    raise MissingError("the peer is not here")


def defect(bench):
    raise ValueError("not\na number")


@pytest.fixture
def few(monkeypatch, tmp_path):
    """A bench of four rows; few(arguments): its result file."""
    measured = []

    def measure(bench):
        measured.append(bench.rounds)
        bench.growth["train, numpy"] = {"classes": {"sizes": [10, 100], "us": [5.0, 40.0], "exponent": 0.9}}
        return {"good": Found(turns.Spread(0.45, 0.4, 0.6)), "told": single(12.0)}

    areas = (Area((GOOD, TOLD), measure), Area((GONE,), missing), Area((BROKEN,), defect))
    monkeypatch.setattr(command, "AREAS", areas)
    monkeypatch.setattr(command, "ROWS", {row.name: row for area in areas for row in area.rows})
    monkeypatch.setattr(command, "NAMES", ("good", "told", "gone", "broken", "one", "two", "three"))
    output = tmp_path / "speed.json"

    def few(*arguments):
        usual = ["--json", str(output), "--work", str(tmp_path / "work"), "--peers", str(tmp_path / "peers")]
        assert cli.run(command.main, [*usual, *arguments]) == 0
        return json.loads(output.read_text()), len(measured)

    return few


def test_a_row_that_fails_leaves_the_others(few, capsys):
    record, _ = few()
    rows = record["rows"]
    assert list(rows) == ["good", "told", "gone", "broken", "whole"]
    assert (rows["good"]["value"], rows["good"]["reached"], rows["told"]["reached"]) == (0.45, True, None)
    assert rows["gone"]["missing"] == "the peer is not here"
    assert rows["broken"]["missing"] == "it failed with ValueError: not a number"
    assert rows["whole"]["reached"] is True
    shown = [line.replace(" ", "") for line in render(record).splitlines()]
    assert "|one:thisoverthat(`good`)|0.45[0.40-0.60]|0.5|reached|" in shown
    assert "|one:anumber(`told`)|12.0s|-||" in shown
    assert "|two:apeer(`gone`)|-|1|notmeasured:thepeerisnothere|" in shown
    assert "|train,numpy|5.0,40;0.90|" in shown
    assert render(record) in capsys.readouterr().out


def test_some_rows_are_measured_again_and_the_others_stay(few, capsys):
    first = few()[0]
    record, measured = few("--only", "gone")
    assert record["command"] == first["command"] != record["rows"]["gone"]["again"]["command"]
    assert "again" not in record["rows"]["good"]
    assert "Measured again: `gone`, commit " in capsys.readouterr().out
    assert measured == 1
    assert list(record["rows"]) == ["good", "told", "gone", "broken", "whole"]
    assert record["rows"]["good"]["value"] == 0.45
    assert record["growth"]["train, numpy"]
    assert few("--only", "one")[1] == 2
    assert record_of(GOOD, single(0.6))["reached"] is False


def test_a_row_that_is_not_known_is_refused(refused):
    assert "no row 'x'; choose of refusal, accuracy, " in refused(command.main, ["--only", "x"])
    assert "--rounds 1: use 2 or more" in refused(command.main, ["--rounds", "1"])


def test_every_target_is_a_row():
    asked = {row.name: row.asked for row in command.ROWS.values()}
    assert (asked["nano_onnx"], asked["deit_onnx"], asked["deit_default"], asked["accuracy"]) == (0.55, 0.45, 0.16, 0.2)
    assert [asked[f"{name}_wall"] for name in ("predict", "evaluate", "learn")] == [0.55] * 3
    assert (asked["predict_onnx"], asked["large"], asked["pixels"]) == (0.66, 0.7, 2)
    assert [asked[name] for name in ("loop", "lesson", "looks", "infer", "state")] == [1.6, 5.0, 0.05, 0.1, 1.1]
    assert asked["step:ai_edge_litert:prototype_100:products"] == 1.0
    assert asked["step:tflite_runtime:mlp_100:eager"] == 1.8
    assert (asked["arena"], asked["refusal"], asked["conversion"]) == (48, 0.3, 0.5)
    assert (asked["prompts_float32"], asked["prompts_bfloat16"], asked["demo"]) == (0.6, 1.0, 60)


def test_ratios_are_taken_turn_by_turn():
    found = turns.ratio([1.0, 2.0, 4.0], [2.0, 2.0, 2.0])
    assert found == (1.0, 0.5, 2.0)


def test_curves_have_the_exponent_of_their_two_largest_sizes():
    assert growth.exponent((10, 100, 1000), (50.0, 10.0, 100.0)) == pytest.approx(1.0)
    places = {}
    for axis, (_, sizes) in growth.AXES.items():
        for size in sizes:
            places[axis, size] = len(places)
    columns = [size**power for (_, size) in places for power in (1.0, 2.0, 0.5)]  # train, infer, get_state
    found = growth.curves(places, [columns, columns])
    for axis in growth.AXES:
        assert found["train"][axis]["exponent"] == pytest.approx(1.0)
    assert found["infer"]["features"]["exponent"] == pytest.approx(2.0)
    assert found["get_state"]["units"]["spread"] == pytest.approx((0.5, 0.5, 0.5))
    assert found["train"]["classes"]["us"] == [10, 100, 1000]
    assert "rows" not in found["infer"]


def test_heads_that_several_curves_go_through_are_written_once(monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(growth, "write_head", lambda config, d, folder: written.append((config, d, folder.name)))
    places = growth.write_cases(tmp_path)
    assert len({name for *_, name in written}) == len(written) == 10
    assert (HeadConfig(slots=100), 192) in [(config, d) for config, d, _ in written]
    assert places["classes", 100] == places["features", 192] == places["units", 64] == places["rows", 16]
    assert sorted(set(places.values())) == list(range(10))


def test_a_package_that_cannot_be_had_leaves_the_others(monkeypatch, tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(
        f'#!/bin/sh\nif [ "$1" = -m ]; then echo "no such version" >&2; exit 1; fi\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(peers, "PACKAGES", {"json": "json", "nowhere": "nowhere==1"})
    lines = []
    assert peers.prepare(tmp_path, lines.append) == python
    assert lines == [
        "peers: installing nowhere==1",
        "peers: nowhere==1 cannot be installed (no such version); its rows are left out",
    ]
    bench = Bench(tmp_path, tmp_path, None, None, 2, lines.append)
    assert bench.peer("json") == str(python)
    with pytest.raises(MissingError, match="nowhere could not be installed beside the project"):
        bench.peer("json", "nowhere")


def test_a_child_that_fails_is_a_reason(tmp_path):
    bench = Bench(tmp_path, tmp_path, None, None, 2, print)
    with pytest.raises(MissingError, match="failed: ZeroDivisionError"):
        bench.run("-c", "1 / 0")
    with pytest.raises(MissingError, match="took longer than 1 s"):
        bench.run("-c", "import time; time.sleep(9)", limit=1)


def test_workers_take_turns(tmp_path):
    (tmp_path / "worker.py").write_text(
        f"import sys\nsys.path.insert(0, {str(SCRIPTS)!r})\nfrom answer import answer\n"
        "answer(lambda: sum(range(int(sys.argv[1]))))\n"
    )
    bench = Bench(tmp_path, tmp_path, None, None, 3, print)
    commands = {
        name: (sys.executable, tmp_path / "worker.py", size) for name, size in (("few", "9"), ("many", "99999"))
    }
    found = bench.compare(commands, {"few": 50, "many": 5})
    assert found["few", "many"].value < 0.5 < 2 < found["many", "few"].value


def test_a_reference_is_a_measurement_with_its_origin(monkeypatch, tmp_path, capsys, refused):
    measured = {"predict_ms": 1.5, "machine": {"board": "Pi"}}

    def run(command, **_):
        assert command[1:4] == ["-m", "firmware_host", "bench"]
        return type("Done", (), {"returncode": 0, "stdout": json.dumps(measured)})

    monkeypatch.setattr(reference.subprocess, "run", run)
    monkeypatch.setattr(reference.results, "commit", lambda folder: "0123")
    assert cli.run(reference.main, ["bundle", "--name", "pi5", "--folder", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "pi5.json").read_text())
    assert (record["predict_ms"], record["machine"], record["commit"]) == (1.5, {"board": "Pi"}, "0123")
    assert record["command"].startswith("python -m benchmarks.reference bundle --name pi5")
    assert "use small letters" in refused(reference.main, ["bundle", "--name", "Pi 5"])
