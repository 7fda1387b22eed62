"""Metrics of a stream against values worked out by hand."""

import json
import math

import numpy as np
import pytest

from keras_cbpnet.metrics import dead_unit_share, effective_rank, over_seeds, summarize, summarize_drifting

MATRIX = [
    [0.8, None, None],
    [0.6, 0.9, None],
    [0.7, 0.5, 1.0],
]


def test_summarize_by_hand():
    metrics = summarize(MATRIX)
    assert metrics["average_accuracy"] == pytest.approx((0.7 + 0.5 + 1.0) / 3)
    assert metrics["average_incremental_accuracy"] == pytest.approx((0.8 + 0.75 + 2.2 / 3) / 3)
    assert metrics["forgetting"] == pytest.approx(((0.8 - 0.7) + (0.9 - 0.5)) / 2)
    assert metrics["backward_transfer"] == pytest.approx(((0.7 - 0.8) + (0.5 - 0.9)) / 2)
    assert metrics["learning_accuracy"] == pytest.approx((0.8 + 0.9 + 1.0) / 3)


def test_forgetting_counts_from_the_best_moment_and_is_never_negative():
    rising = [[0.5, None], [0.9, 0.7]]  # the last moment is the best one
    assert summarize(rising)["forgetting"] == 0
    assert summarize(rising)["backward_transfer"] == pytest.approx(0.4)
    late_best = [[0.2, None, None], [0.8, 0.5, None], [0.3, 0.5, 0.5]]
    assert summarize(late_best)["forgetting"] == pytest.approx((0.5 + 0.0) / 2)


def test_what_stands_above_the_diagonal_is_ignored_and_becomes_null():
    with_nan = np.array([[np.nan if value is None else value for value in row] for row in MATRIX])
    with_numbers = np.where(np.isnan(with_nan), 0.1, with_nan)
    assert summarize(with_nan) == summarize(MATRIX) == summarize(with_numbers)
    assert json.loads(json.dumps(summarize(with_numbers), allow_nan=False))["accuracy_matrix"] == MATRIX


def test_a_single_task():
    assert summarize([[0.75]]) == {
        "accuracy_matrix": [[0.75]],
        "average_accuracy": 0.75,
        "average_incremental_accuracy": 0.75,
        "forgetting": 0.0,
        "backward_transfer": 0.0,
        "learning_accuracy": 0.75,
    }


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0.5, 0.5]], r"shape \(1, 2\)"),
        (np.empty((0, 0)), "at least one task"),
        ([[0.5, None], [None, 0.5]], r"nan at \[1\]\[0\]"),
        ([[0.5, None], [0.5, 50.0]], r"50.0 at \[1\]\[1\]"),
    ],
)
def test_bad_matrices(matrix, message):
    with pytest.raises(ValueError, match=message):
        summarize(matrix)


def test_summarize_drifting_by_hand():
    assert summarize_drifting([0.5, 1.0, 0.75]) == {
        "learning_curve": [0.5, 1.0, 0.75],
        "learning_accuracy": 0.75,
        "first_20": 0.75,
        "last_100": 0.75,
    }
    metrics = summarize_drifting([1.0] * 20 + [0.0] * 5 + [0.5] * 100)
    assert metrics["first_20"] == 1
    assert metrics["last_100"] == 0.5
    assert metrics["learning_accuracy"] == pytest.approx(70 / 125)
    json.dumps(summarize_drifting(np.full(3, 0.5, np.float32)), allow_nan=False)


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ([], "at least one task"),
        ([[0.5]], r"shape \(1, 1\)"),
        ([0.5, None], r"nan at \[1\]"),
        ([0.5, 0.5, 86.0], r"86.0 at \[2\]"),
        ([-0.1], r"-0.1 at \[0\]"),
    ],
)
def test_bad_curves(curve, message):
    with pytest.raises(ValueError, match=message):
        summarize_drifting(curve)


def test_over_seeds_by_hand():
    seeds = [{"a": 0.1, "b": 1, "list": [1.0]}, {"a": 0.2, "b": 1}, {"a": np.float32(0.6), "b": 1}]
    found = over_seeds(seeds)
    assert list(found) == ["a", "b"]
    assert found["a"]["mean"] == pytest.approx(0.3)
    assert found["a"]["std"] == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert found["b"] == {"mean": 1.0, "std": 0.0}


def test_over_seeds_of_a_single_seed():
    assert over_seeds([summarize([[0.75]])])["average_accuracy"] == {"mean": 0.75, "std": None}


def test_over_seeds_leaves_out_what_is_not_a_number_in_every_seed():
    first = {"none": 0.5, "nan": 0.5, "gone": 0.5, "text": "0.5", "flag": True, "kept": 0.5}
    other = {"none": None, "nan": math.nan, "text": "0.5", "flag": True, "kept": 0.7, "new": 1.0}
    assert list(over_seeds([first, other])) == list(over_seeds([other, first])) == ["kept"]
    with pytest.raises(ValueError, match="no metrics given"):
        over_seeds([])


def test_effective_rank():
    assert effective_rank(np.eye(4)) == pytest.approx(4)
    assert effective_rank(np.outer([1, 2, 3], [1, 1])) == pytest.approx(1)
    assert effective_rank(np.zeros((3, 5))) == 0
    p = 3 / 4  # singular values 3 and 1
    expected = math.exp(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert effective_rank([[3.0, 0.0], [0.0, 1.0]]) == pytest.approx(expected)
    assert effective_rank([[300.0, 0.0], [0.0, 100.0]]) == pytest.approx(expected)


def test_dead_unit_share():
    activations = [[0.0, 1.0, 0.0, 1e-9], [0.0, 0.0, 2.0, 0.0]]
    assert dead_unit_share(activations) == 0.25
    assert dead_unit_share(activations, tolerance=1e-6) == 0.5
    assert dead_unit_share(np.ones((3, 2))) == 0


@pytest.mark.parametrize("function", [effective_rank, dead_unit_share])
@pytest.mark.parametrize("activations", [np.empty((0, 3)), np.ones(3), [[np.nan, 1.0]]])
def test_bad_activations(function, activations):
    with pytest.raises(ValueError, match="activations have shape"):
        function(activations)
