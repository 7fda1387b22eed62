"""`bench --compare FILE`: every number as a ratio to an earlier measurement, a line each."""

import json

import pytest

from firmware_host.cli import main
from firmware_host.comparison import compare, comparison_lines

NOW = {
    "predict_ms": 3.0,
    "train_ms": 1.0,
    "open_ms": 20.0,
    "peak_memory_mb": None,
    "runtime": "numpy",
    "bundle": "tiny 0123",
    "machine": {"board": "Pi 5", "governor": "performance"},
    "backbones": [{"recipe": "int8", "backbone_ms": 2.0}, {"recipe": "hybrid", "backbone_ms": 1.0}],
}


def test_ratios_are_now_over_then_and_what_differs_is_named():
    then = {
        **NOW,
        "predict_ms": 4.0,
        "peak_memory_mb": 60.0,
        "train_ms": 0.0,
        "machine": {"board": "Pi 4", "governor": "performance"},
        "backbones": [{"recipe": "int8", "backbone_ms": 5.0}],
    }
    found = compare(NOW, then)
    assert found["ratios"] == {"predict_ms": 0.75, "open_ms": 1.0}
    assert found["backbones"] == {"int8": 0.4}
    assert found["differences"] == {"board": ["Pi 4", "Pi 5"]}
    assert list(comparison_lines(NOW, then, found)) == [
        "predict: 3.00 ms, reference 4.00 ms, ratio 0.75",
        "open: 20.00 ms, reference 20.00 ms, ratio 1.00",
        "backbone, int8: ratio 0.40",
        "not the same board: Pi 5 here, Pi 4 in the reference",
    ]


@pytest.fixture
def bundle(make, tmp_path):
    return make.write_bundle(tmp_path / "bundle")


def bench(bundle, *options):
    return main(["bench", str(bundle), "--runtime", "numpy", "--repeat", "1", *map(str, options)])


def test_a_board_is_compared_with_what_it_printed_before(bundle, tmp_path, capsys):
    assert bench(bundle, "--json") == 0
    file = tmp_path / "before.json"
    file.write_text(capsys.readouterr().out)
    assert set(json.loads(file.read_text())) >= {"bundle", "machine", "temperature_c", "predict_ms"}
    assert bench(bundle, "--compare", file, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["compared"]["differences"] == {}
    assert record["compared"]["ratios"]["predict_ms"] == pytest.approx(
        record["predict_ms"] / json.loads(file.read_text())["predict_ms"]
    )
    assert bench(bundle, "--compare", file) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[1:5]] == ["predict", "backbone", "train", "open"]
    assert all(" ratio " in line for line in lines[1:5])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("{", "is not JSON ("),
        ("[1]", "has none of predict_ms, "),
        ('{"predict_ms": "4"}', "has none of predict_ms, "),
    ],
)
def test_what_is_no_measurement_is_refused_before_anything_is_timed(content, said, bundle, tmp_path, capsys):
    file = tmp_path / "file.json"
    if content is not None:
        file.write_text(content)
    assert bench(bundle, "--compare", file) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{file} {said}" in err
    assert err.count("\n") == 1
