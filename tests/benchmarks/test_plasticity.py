"""The plasticity benchmark on a tiny feature file."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.paths import ROOT

from keras_cbpnet import cli


@pytest.fixture(scope="module")
def feature_file(tmp_path_factory):
    """Twelve classes in 6 dimensions, 50 training and 10 test images a class, not standardised."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 3, (12, 6))
    parts = {}
    for part, count in (("train", 50), ("test", 10)):
        label = np.repeat(np.arange(12), count)
        parts[f"x_{part}"] = (5 + 2 * (centres[label] + rng.normal(0, 1, (len(label), 6)))).astype(np.float32)
        parts[f"y_{part}"] = label + 100
    path = tmp_path_factory.mktemp("features") / "features.npz"
    np.savez(path, **parts)
    return path


def test_stream_draws_each_task_on_its_own(feature_file):
    from benchmarks.plasticity.stream import Stream, load_features

    features = load_features(feature_file)
    assert np.abs(features.x_train.mean(axis=0)).max() < 1e-5
    np.testing.assert_allclose(features.x_train.std(axis=0), 1, rtol=1e-4)
    stream = Stream(features, 5)
    t, again = stream.task(3), Stream(features, 5).task(3)
    assert all(np.array_equal(a, b) for a, b in zip(t, again))
    assert not np.array_equal(t.rows, stream.task(4).rows)
    assert t.rows.shape == t.label.shape == (160, 16)
    for epoch in range(5):
        rows, label = (part[32 * epoch : 32 * epoch + 32].ravel() for part in (t.rows, t.label))
        assert np.bincount(label[label >= 0]).tolist() == [50] * 10
        assert len(set(rows[label >= 0].tolist())) == 500
        assert np.flatnonzero(label < 0).tolist() == list(range(500, 512))
    pairs = set(zip(features.y_train[t.rows[t.label >= 0]].tolist(), t.label[t.label >= 0].tolist()))
    assert len(pairs) == 10  # one label a class
    assert set(zip(features.y_test[t.test_rows].tolist(), t.test_label.tolist())) == pairs
    assert len(t.test_rows) == 100


@pytest.fixture(scope="module")
def measured(feature_file, tmp_path_factory):
    """Two tasks of every rule; the result file and its path."""
    from benchmarks.plasticity import command, rules

    path = tmp_path_factory.mktemp("out") / "result.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "TUNED", {name: {**v, "units": 8} for name, v in rules.TUNED.items()})
        patch.setitem(rules.TUNED, "linear", {})
        arguments = ["--features", str(feature_file), "--tasks", "2", "--seeds", "0,1", "--json", str(path)]
        assert command.main(arguments) == 0
    return json.loads(path.read_text()), path


@pytest.mark.slow
def test_benchmark_writes_what_it_promises(measured):
    from benchmarks.plasticity.rules import NAMES

    record, path = measured
    assert {"command", "commit", "versions", "tasks", "seeds", "rules"} <= set(record)
    assert (record["tasks"], record["seeds"]) == (2, [0, 1])
    assert list(record["rules"]) == list(NAMES)
    for name, found in record["rules"].items():
        assert len(found["last_100"]) == 2
        assert len(found["curve"]) == 2
        assert np.mean(found["curve"]) == pytest.approx(np.mean(found["last_100"]))
        assert 0.5 < found["mean"] <= 1, name
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


@pytest.mark.slow
def test_benchmark_goes_on_where_it_was_killed(feature_file, tmp_path, monkeypatch, capsys):
    from benchmarks.plasticity import command
    from benchmarks.plasticity.engines import KerasEngine

    begun = []

    def run(self, features, stream, tasks):
        begun.append(stream.seed)
        yield from [0.25 * (stream.seed + 1)] * tasks
        if len(begun) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(KerasEngine, "run", run)
    out = tmp_path / "out.json"
    arguments = ["--features", str(feature_file), "--tasks", "3", "--seeds", "0,1,2", "--rules", "cbp"]
    assert cli.run(command.main, [*arguments, "--json", str(out)]) == 130
    assert not out.exists()
    with (tmp_path / "out.json.part.jsonl").open("a") as file:
        file.write('{"key": "half a li')
    assert cli.run(command.main, [*arguments, "--json", str(out)]) == 0
    assert begun == [0, 1, 1, 2]
    assert json.loads(out.read_text())["rules"]["cbp"]["last_100"] == [0.25, 0.5, 0.75]
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]
    assert "cbp" in capsys.readouterr().out


def test_every_rule_draws_settings_that_it_takes():
    from benchmarks.plasticity.rules import NAMES, RANGES, TUNED, configurations, setting

    assert set(RANGES) == set(TUNED) == set(NAMES)
    for name in NAMES:
        tried = configurations(name, 20)
        assert tried[:5] == configurations(name, 5)
        assert len({json.dumps(setting(name, **values).to_dict()) for values in tried}) == 20
    for values in configurations("cbp", 20):
        assert 0.5 <= values["replacement_rate"] * values["units"] <= 1
        assert 0.05 <= setting("cbp", **values).fresh_scale <= 0.5


def test_tuning_tries_as_many_settings_of_every_rule_and_sorts_them(feature_file, tmp_path, monkeypatch, capsys):
    from benchmarks.plasticity import command
    from benchmarks.plasticity.engines import KerasEngine
    from benchmarks.plasticity.rules import configurations

    def run(self, features, stream, tasks):
        yield from [self.setting.config.learning_rate * 10] * tasks

    monkeypatch.setattr(KerasEngine, "run", run)
    out = tmp_path / "tuning.json"
    arguments = ["--features", str(feature_file), "--tasks", "2", "--tune", "--trials", "3", "--json", str(out)]
    assert command.main([*arguments, "--rules", "linear,l2"]) == 0
    record = json.loads(out.read_text())
    assert record["seeds"] == [100, 101]
    for name in ("linear", "l2"):
        expected = sorted(configurations(name, 3), key=lambda values: -values["learning_rate"])
        assert [row["settings"] for row in record["rules"][name]] == expected
    assert "linear" in capsys.readouterr().out


@pytest.mark.slow
def test_fresh_scale_changes_what_a_reset_unit_begins_with(feature_file):
    from benchmarks.plasticity.engines import KerasEngine
    from benchmarks.plasticity.rules import setting
    from benchmarks.plasticity.stream import Stream, load_features

    features = load_features(feature_file)
    curves = []
    for scale in (1.0, 0.1):
        kind = setting("cbp", units=8, maturity_threshold=20, replacement_rate=0.1, fresh_scale=scale)
        curves.append(list(KerasEngine(kind, 6).run(features, Stream(features, 0), 2)))
    assert curves[0] != curves[1]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("cbp", {"replacement_rate": 0.05, "fresh_scale": 0.5}, marks=pytest.mark.slow),
        pytest.param("cbp_surprise", {"calming": 20}, marks=pytest.mark.slow),
    ],
)
def test_tflite_engine_gives_the_same_curve(feature_file, name, changes):
    pytest.importorskip("tflite_runtime")
    from benchmarks.plasticity.engines import KerasEngine, run_tflite
    from benchmarks.plasticity.rules import setting
    from benchmarks.plasticity.stream import Stream, load_features

    features = load_features(feature_file)
    kind = setting(name, units=8, maturity_threshold=20, **changes)
    curves = [
        list(KerasEngine(kind, 6).run(features, Stream(features, 0), 3)),
        list(run_tflite(kind, feature_file, Stream(features, 0), 3)),
    ]
    np.testing.assert_allclose(*curves, atol=0.011)  # one of 100 test images


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["surprise", "engine"])
def test_tflite_engine_is_the_device_package(feature_file, tmp_path, monkeypatch, changed):
    pytest.importorskip("ai_edge_litert")
    from benchmarks.plasticity import device, engines
    from benchmarks.plasticity.rules import setting
    from benchmarks.plasticity.stream import Stream, load_features
    from firmware_host.engines.interpreter import InterpreterHead
    from firmware_host.learning import surprise

    kind = setting("cbp_surprise", units=8, maturity_threshold=20, calming=20)
    engines.write_head(kind, Stream(load_features(feature_file), 0), tmp_path)

    def curve():
        return list(device.learn("ai_edge_litert", str(tmp_path), str(feature_file), 0, 3))

    before, train, rates = curve(), InterpreterHead.train, []
    assert before == curve()
    if changed == "surprise":
        monkeypatch.setattr(
            surprise, "math", SimpleNamespace(log=lambda value: 0.0)
        )  # the loss above which the head is surprised
    else:
        monkeypatch.setattr(
            InterpreterHead, "train", lambda *given: rates.append(given[4]) or train(*given[:4], 0.0, given[5])
        )
    assert curve() != before
    if rates:
        assert len(rates) == 3 * 160
        assert rates[20] == kind.config.learning_rate / 2  # the rule of the manifest, not of this test, slows it down


def test_draws_of_a_rule_do_not_depend_on_the_others(monkeypatch):
    from benchmarks.plasticity import rules

    pinned = {"units": 128, "learning_rate": 0.00231, "block_rate": 0.312, "decay": 1.28}
    assert rules.configurations("l2", 1) == [pinned]
    drawn = {name: rules.configurations(name, 3) for name in rules.NAMES}
    assert len({json.dumps(values) for values in drawn.values()}) == len(drawn)
    monkeypatch.setattr(rules, "NAMES", ("new", *reversed(rules.NAMES)))
    assert {name: rules.configurations(name, 3) for name in drawn} == drawn


def bad_file(tmp_path, **changes):
    label = np.repeat(np.arange(10), 50)
    arrays = {"x_train": np.zeros((500, 3), np.float32), "y_train": label}
    arrays.update({"x_test": np.zeros((500, 3), np.float32), "y_test": label, **changes})
    np.savez(tmp_path / "bad.npz", **{name: value for name, value in arrays.items() if value is not None})
    return str(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_test": None}, "holds no y_test"),
        ({"x_train": np.zeros((3, 2, 2))}, "do not fit"),
        ({"y_train": np.zeros(500)}, "needs integers"),
        ({"x_test": np.full((500, 3), np.nan)}, "not finite"),
        ({"y_train": np.repeat(np.arange(5), 100)}, "5 classes"),
        ({"y_train": np.arange(500) % 20}, "at least 25 training images"),
        ({"y_test": np.zeros(500, int)}, "no test image of class 1"),
    ],
)
def test_bad_features_are_one_line(tmp_path, capsys, changes, words):
    from benchmarks.plasticity import command

    assert cli.run(command.main, ["--features", bad_file(tmp_path, **changes)]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--features", "nowhere.npz"], "no such file"),
        (["--features", __file__], "not a readable .npz file"),
        (["--rules", "cbp,magic"], "no rule 'magic'"),
        (["--rules", "cbp,cbp"], "a rule twice"),
        (["--rules", "l2", "--engine", "tflite"], "runs the rules cbp, cbp_surprise, none, not l2"),
        (["--tasks", "0"], "from 1 on"),
        (["--trials", "0"], "from 1 on"),
        (["--seeds", "x"], "is not a list of different numbers"),
        (["--json", "."], "is a folder"),
    ],
)
def test_bad_arguments_are_one_line(feature_file, capsys, arguments, words):
    from benchmarks.plasticity import command

    known = [] if "--features" in arguments else ["--features", str(feature_file)]
    try:
        code = cli.run(command.main, [*known, *arguments])
    except SystemExit as stop:
        code = stop.code
    err = capsys.readouterr().err
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_the_device_process_imports_no_tensorflow():
    code = "import sys, benchmarks.plasticity.device; print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
