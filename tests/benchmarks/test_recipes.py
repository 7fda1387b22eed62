"""The recipes' benchmark: one run a seed, every recipe measured once, the table of a result file."""

import json

import pytest

from benchmarks import recipes
from benchmarks.common import runs
from keras_cbpnet import cli
from keras_cbpnet.export.recipes import RECIPES as CONVERSIONS

ACCURACY = {
    "float32": 0.9,
    "mixed": 0.89,
    "mixed_calibrated": 0.87,
    "int8": 0.88,
    "int8_calibrated": 0.8,
    "hybrid": 0.9,
}


@pytest.fixture
def played(monkeypatch):
    """What was trained and what was measured, by seed and recipe; nothing of it happens."""
    calls = []

    def measure(config, folder, recipe, runtime):
        calls.append((config.seed, recipe))
        assert config.prompts == (config.epochs > 0)
        return {"average_accuracy": ACCURACY[recipe] + config.seed / 100, "accuracy": [], "bytes": 2_140_000}

    monkeypatch.setattr(runs, "run", lambda config, folder: calls.append((config.seed, "run")))
    monkeypatch.setattr(recipes, "measure", measure)
    return calls


def test_a_run_a_seed_serves_every_recipe(played, tmp_path, capsys):
    output = tmp_path / "out.json"
    arguments = ["--seeds", "0,1,2", "--epochs", "0", "--work", str(tmp_path / "work"), "--json", str(output)]
    assert cli.run(recipes.main, arguments) == 0
    assert played == [(seed, what) for seed in range(3) for what in ("run", *recipes.RECIPES)]
    record = json.loads(output.read_text())
    assert record["command"].startswith("python -m benchmarks.recipes --seeds 0,1,2 ")
    assert record["recipes"]["int8"]["average_accuracy"] == pytest.approx([0.88, 0.89, 0.90])
    assert record["recipes"]["int8"]["std"] == pytest.approx(0.01)
    assert record["paired"]["int8_calibrated"]["difference"] == pytest.approx(-0.1)
    assert "float32" not in record["paired"]
    shown = capsys.readouterr().out
    assert "no prompts, ranges calibrated, seeds 0, 1, 2; under ai_edge_litert" in shown
    (row,) = (line for line in shown.splitlines() if line.startswith("| int8 "))
    assert [cell.strip() for cell in row.split("|")[2:6]] == ["89.0 ± 1.0", "-2.00", "-2.00 to -2.00", "2,140,000"]


def test_every_recipe_of_the_conversion_is_measured():
    assert set(recipes.RECIPES.values()) == set(CONVERSIONS)
    calibrated = [name for name in recipes.RECIPES if name not in CONVERSIONS]
    assert calibrated == [f"{name}_calibrated" for name, recipe in CONVERSIONS.items() if recipe.quantized_activations]
    assert recipes.FLOAT == next(iter(recipes.RECIPES)) == "float32"


def test_one_seed_has_no_interval(played, tmp_path, capsys):
    assert cli.run(recipes.main, ["--work", str(tmp_path)]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| hybrid "))
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["90.0", "+0.00", "-"]


def test_what_was_measured_is_kept(tmp_path):
    kept = {"accuracy": [0.5, 0.7], "average_accuracy": 0.6, "bytes": 7}
    (tmp_path / "int8-ai_edge_litert.json").write_text(json.dumps(kept))
    assert recipes.measure(None, tmp_path, "int8", "ai_edge_litert") == kept


def test_bad_options_are_one_line(tmp_path, capsys):
    for arguments, message in (
        (["--per-class", "5"], "'5' is not two or three numbers from 1 on, such as 20,10"),
        (["--json", str(tmp_path)], f"--json: {tmp_path} is a folder; give the name of a file"),
        (["--preset", "deit_tiny_16_224", "--weights", str(tmp_path / "none.npz")], "none.npz"),
    ):
        try:
            code = cli.run(recipes.main, arguments)
        except SystemExit as stop:
            code = stop.code
        assert code == 2
        said = capsys.readouterr().err
        assert message in said
        assert len(said.strip().splitlines()) == 1
