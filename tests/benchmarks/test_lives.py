"""The lives benchmark on made-up features: what a life is, what is kept, what is reported."""

import json

import numpy as np
import pytest

from benchmarks import lives
from keras_cbpnet import cli

CLASSES, WIDTH = 20, 8


@pytest.fixture
def features(tmp_path):
    """Twenty classes apart from each other, 50 training and 10 test rows each, names from 30 on."""
    rng = np.random.default_rng(0)
    centre = 3 * rng.normal(size=(CLASSES, WIDTH))
    arrays = {}
    for part, count in (("train", 50), ("test", 10)):
        label = np.repeat(np.arange(CLASSES), count)
        arrays[f"x_{part}"] = (centre[label] + rng.normal(size=(len(label), WIDTH))).astype(np.float32)
        arrays[f"y_{part}"] = label + 30
    path = tmp_path / "features.npz"
    np.savez(path, **arrays)
    return path


def run(features, *arguments):
    return cli.run(lives.main, ["--features", str(features), "--units", "8", *arguments])


@pytest.mark.slow
def test_every_life_of_every_rule_is_measured(features, tmp_path, capsys):
    output = tmp_path / "out.json"
    sizes = ("--lives", "3", "--tasks", "5", "--passes", "2", "--learning-rate", "0.01", "--replacement-rate", "0.1")
    assert run(features, *sizes, "--seeds", "0,1", "--json", str(output)) == 0
    record = json.loads(output.read_text())
    assert list(record["rules"]) == ["cbp", "none", "cbp_random"]
    for found in record["rules"].values():
        assert np.shape(found["lives"]) == (2, 3)
        np.testing.assert_allclose(found["average"], np.mean(found["lives"], axis=1))
        assert 0.5 < found["mean"] <= 1
    assert record["rules"]["cbp"]["lives"] != record["rules"]["none"]["lives"]
    differences = np.subtract(*(record["rules"][rule]["average"] for rule in ("cbp", "none")))
    assert record["paired"]["difference"] == pytest.approx(np.mean(differences))
    shown = capsys.readouterr().out
    assert "cbp over none:" in shown
    assert "3 lives of 5 tasks; h 8, seeds 0, 1, passes 2, rate 0.01," in shown


@pytest.mark.slow
def test_the_block_goes_on_and_the_classes_do_not(features):
    args = lives.build_parser().parse_args(["--features", str(features), "--lives", "2", "--tasks", "4"])
    data = lives.load(features)
    assert set(data.y_train) == set(data.y_test) == set(range(CLASSES))
    both, again = (lives.live(data, "none", 0, args) for _ in range(2))
    assert both == again
    args.lives = 1
    assert lives.live(data, "none", 0, args) == both[:1]  # a life does not know how many follow
    args.learning_rate = 0.0
    # An untrained block leaves the nearest class mean, whose slots are those of this life alone.
    assert lives.live(data, "none", 0, args)[0] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("told", [True, False])
def test_a_bank_is_emptied_between_lives_or_notices_them(features, told):
    """Labels mean other classes in the second life."""
    options = ["--features", str(features), "--lives", "2", "--tasks", "4", "--passes", "1"]
    args = lives.build_parser().parse_args(options if told else [*options, "--untold"])
    data = lives.load(features)
    for rule in ("bank", "mixture"):
        found = lives.live(data, rule, 0, args)
        assert min(found) > (0.9 if told else 0.8), (rule, found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "3"], "--tasks 3 does not divide 20 classes"),
        (["--lives", "0"], "--lives is 0"),
        (["--passes", "0"], "--passes is 0"),
    ],
)
def test_bad_input_is_one_line(features, arguments, message, capsys):
    assert run(features, *arguments) == 2
    assert message in capsys.readouterr().err
