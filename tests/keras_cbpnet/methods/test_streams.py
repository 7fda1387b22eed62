"""Streams that use labels again, through the trainer: what metrics.json holds, and the same numbers for a seed."""

import json

import numpy as np
import pytest
from helpers import tiny_stream
from PIL import Image

from keras_cbpnet.config import read_config
from keras_cbpnet.training.trainer import train

pytestmark = pytest.mark.slow  # each builds or trains networks

DRIFTING = {
    "stream": "drifting",
    "tasks": 21,
    "ways": 2,
    "shots": 3,
    "prompts": False,
    "block": "mlp",
    "plasticity": "cbp_random",
    "maturity_threshold": 1,
    "replacement_rate": 0.1,
    "head_epochs": 3,
    "learning_rate": 0.02,
}


@pytest.fixture(scope="module")
def drifting(stream, tmp_path_factory):
    run = tmp_path_factory.mktemp("drifting") / "run"
    return run, train(stream.config(**DRIFTING), run)


def test_a_drifting_run_has_a_curve(drifting):
    run, metrics = drifting
    assert metrics == json.loads((run / "metrics.json").read_text())
    curve = metrics["learning_curve"]
    assert len(curve) == 21
    assert metrics["first_20"] == pytest.approx(np.mean(curve[:20]))
    assert metrics["last_100"] == metrics["learning_accuracy"] == pytest.approx(np.mean(curve))
    assert metrics["first_20"] != metrics["last_100"]
    assert "accuracy_matrix" not in metrics
    assert np.mean(curve) > 0.6  # chance: 0.5
    assert sum(row["units_replaced"] for row in metrics["plasticity"]) > 30  # 126 steps, six units at 0.1
    assert "<svg" in (run / "report.html").read_text()


def test_a_drifting_run_is_the_seeds(drifting, stream, tmp_path, monkeypatch):
    """A shorter stream is the beginning of the longer one, also when it goes on after a kill."""
    _, metrics = drifting
    monkeypatch.setattr("keras_cbpnet.training.run.PAUSE", 0.0)  # a checkpoint after every task
    config = stream.config(**{**DRIFTING, "tasks": 3})
    with pytest.raises(tiny_stream.KilledError):
        train(config, tmp_path / "run", tiny_stream.killed_at("task 2/3:"))
    assert [path.name for path in (tmp_path / "run").glob("checkpoint*")] == ["checkpoint-0002"]
    assert train(config, tmp_path / "run")["learning_curve"] == metrics["learning_curve"][:3]
    other = train(stream.config(**{**DRIFTING, "tasks": 3, "seed": 4}), tmp_path / "other")
    assert other["learning_curve"] != metrics["learning_curve"][:3]


@pytest.fixture(scope="module")
def domains(stream, tmp_path_factory):
    """Images by day, at dusk and at night; two runs, and one of another seed."""
    folder = tmp_path_factory.mktemp("domains")
    pixels, label = tiny_stream.images(5, seed=0)
    for index, (image, c) in enumerate(zip(pixels, label)):
        for domain, light in (("day", 1.0), ("dusk", 0.6), ("night", 0.3)):
            path = folder / "images" / domain / tiny_stream.CLASSES[c] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * light).astype(np.uint8)).save(path)
    changes = {"stream": "domain", "tasks": 0, "method": "slda", "dataset": f"domains:{folder / 'images'}"}
    runs = [train(stream.config(**{**changes, "seed": seed}), folder / name) for name, seed in (("a", 3), ("b", 3))]
    return folder, runs


def test_the_matrix_of_domains_is_square(domains):
    folder, (metrics, _) = domains
    R = metrics["accuracy_matrix"]
    assert [len(row) for row in R] == [3, 3, 3]
    assert all((R[i][j] is None) == (j > i) for i in range(3) for j in range(3))
    assert metrics["classes"] == sorted(tiny_stream.CLASSES)  # once, not once a domain
    assert metrics["average_accuracy"] > 0.5  # chance: 0.25
    assert read_config(folder / "a").tasks == 3


def test_a_domain_run_is_the_seeds(domains):
    folder, runs = domains
    assert runs[0] == runs[1]
    assert (folder / "a" / "metrics.json").read_bytes() == (folder / "b" / "metrics.json").read_bytes()
