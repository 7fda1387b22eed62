"""The benchmark of the prompt's selection: its rows are runs, what it writes, what it concludes."""

import json

import pytest

from benchmarks import prompt_selection
from keras_cbpnet import cli
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.train import check


def test_every_row_is_a_run_of_the_trainer():
    assert next(iter(prompt_selection.ROWS)) == "two_passes"
    for settings in prompt_selection.ROWS.values():
        check(TrainConfig(**settings))


@pytest.fixture
def measured(tmp_path, monkeypatch, capsys):
    """measured(arguments...): what a benchmark writes and prints whose runs and files are stand-ins."""
    from keras_cbpnet.training import trainer

    def train(config, folder):
        lost = 0.02 if config.prompt_selection == "fixed" else 0.001 * config.query_depth
        return {
            "average_accuracy": 0.9 + 0.01 * config.seed - lost,
            "average_incremental_accuracy": 0.95,
            "forgetting": 0.1,
        }

    adds = {"two_passes": 100, "depth_1": 52, "depth_3": 61, "fixed": 50}
    seen = {}

    def cost(runs):
        seen.update(runs)
        return {name: {"multiply_adds": 10**6 * adds[name], "milliseconds": {"one": adds[name] / 10}} for name in runs}

    monkeypatch.setattr(trainer, "train", train)
    monkeypatch.setattr(prompt_selection, "cost", cost)

    def measured(*arguments):
        output = tmp_path / "out" / "found.json"
        given = ["--work", str(tmp_path / "work"), "--json", str(output), "--seeds", "3,4", *arguments]
        assert cli.run(prompt_selection.main, given) == 0
        return json.loads(output.read_text()), capsys.readouterr().out, seen

    return measured


def test_rows_are_trained_under_every_seed_and_compared(measured, tmp_path):
    record, printed, seen = measured("--rows", "two_passes,depth_1,depth_3,fixed")
    assert record["rows"]["depth_1"]["average_accuracy"] == pytest.approx([0.929, 0.939])
    assert record["rows"]["fixed"]["paired"]["difference"] == pytest.approx(-0.02)
    assert record["options"]["fixed"] == {"prompt_selection": "fixed"}
    assert seen["fixed"] == tmp_path / "work" / "vit_nano_32-5-qat-fixed" / "seed-3"
    assert " 93.5 ± 0.7 |" in printed
    assert "52.0 (52%)" in printed
    assert "-0.10 (" in printed
    assert "At most 60% of the multiply-adds, at most 0.3 points lost: depth_1." in printed
    assert printed.strip() == prompt_selection.render(record).strip()


def test_where_none_is_cheap_enough_it_says_so(measured):
    assert "None costs at most 60% of the first: the cheapest 61% of its" in measured("--rows", "two_passes,depth_3")[1]


def test_an_unknown_row_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        prompt_selection.main(["--rows", "two_passes,early"])
    assert ended.value.code == 2
    assert "no row 'early'; known are two_passes, depth_1" in capsys.readouterr().err
