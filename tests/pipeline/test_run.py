"""The run folder: its files, metrics and model; going on after a kill."""

import csv
import json
import shutil

import numpy as np
import pytest

# Dimensions: T tasks of the host, N images, C class slots.
T = 2


@pytest.fixture(scope="module")
def model(road):
    import keras

    import keras_cbpnet.models.prompted_classifier  # noqa: F401 (registers the classes)

    return keras.models.load_model(road.run / "model.keras")


@pytest.fixture(scope="module")
def tasks(road):
    from keras_cbpnet.config import read_config
    from keras_cbpnet.data import class_incremental, load_dataset

    config = read_config(road.run)
    return class_incremental(load_dataset(config.dataset, 32), config.tasks, config.seed)


def test_the_promised_files_and_no_others(road):
    promised = {"config.json", "model.keras", "metrics.json", "report.html", "log.csv", "statistics.npz", "data.json"}
    assert {path.name for path in road.run.iterdir()} == promised
    assert json.loads((road.run / "config.json").read_text())["dataset"] == f"npz:{road.npz}"
    assert "<svg" in (road.run / "report.html").read_text()


def test_metrics_are_those_of_the_matrix(road):
    metrics = road.metrics
    R = metrics["accuracy_matrix"]
    assert [len(row) for row in R] == [T] * T
    assert all((R[i][j] is None) == (j > i) for i in range(T) for j in range(T))
    last, first = R[-1], [R[j][j] for j in range(T)]
    best = [max(R[i][j] for i in range(j, T)) for j in range(T)]
    expected = {
        "average_accuracy": np.mean(last),
        "average_incremental_accuracy": np.mean([np.mean(R[i][: i + 1]) for i in range(T)]),
        "forgetting": np.mean(np.subtract(best, last)[:-1]),
        "backward_transfer": np.mean(np.subtract(last, first)[:-1]),
        "learning_accuracy": np.mean(first),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert 0.8 < metrics["average_accuracy"] <= 1  # chance: 0.25
    assert metrics["final"]["trained"] == last
    assert json.loads(road.printed.read_text()) == {"output": str(road.run), **metrics}


def test_log_and_plasticity_agree(road):
    with (road.run / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    config = json.loads((road.run / "config.json").read_text())
    parts = {"prompts": config["epochs"], "head": config["head_epochs"]}
    expected = [(str(task), part, str(i)) for task in range(T) for part, count in parts.items() for i in range(count)]
    assert [(row["task"], row["part"], row["epoch"]) for row in rows] == expected
    for task in range(T):
        losses = [float(row["loss"]) for row in rows if row["task"] == str(task)]
        assert losses[-1] < losses[0]
    plasticity = road.metrics["plasticity"]
    for task, values in enumerate(plasticity):
        assert set(values) == {"dead_unit_share", "effective_rank", "units_replaced"}
        assert 0 <= values["dead_unit_share"] < 0.5
        assert 0 < values["effective_rank"] <= 1
        assert values["units_replaced"] == sum(float(row["replaced"]) for row in rows if row["task"] == str(task))
    assert sum(values["units_replaced"] for values in plasticity) >= 2


@pytest.mark.slow
def test_the_model_is_as_good_as_the_metrics_say(road, model, tasks):
    from keras_cbpnet.layers.fake_quant import float32

    assert road.known == tasks[0].class_names + tasks[1].class_names
    predicted = {"trained": [model.predict(task.x_test, verbose=0) for task in tasks[:T]]}
    with float32(model):
        predicted["float32"] = [model.batched(model, task.x_test) for task in tasks[:T]]
    for kind, logits in predicted.items():
        found = [np.mean(z.argmax(axis=1) == task.y_test) for z, task in zip(logits, tasks)]
        assert found == pytest.approx(road.metrics["final"][kind], abs=1e-9), kind
    unknown = predicted["trained"][0][:, len(road.known) :]  # (N, C - 4)
    assert np.all(unknown == -1e9)


def test_each_image_counts_on_its_own(model, tasks):
    from keras_cbpnet.layers.fake_quant import float32

    images = np.concatenate([task.x_test[:1] for task in tasks])
    with float32(model):
        together, alone = (model.batched(model, images, batch) for batch in (len(images), 1))
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-4)  # logits up to 20


def test_statistics_count_every_image_once(road, model, tasks):
    with np.load(road.run / "statistics.npz") as file:
        mean, count, scatter = (file[name] for name in ("mean", "count", "scatter"))
    expected = np.zeros(len(count))
    for task in tasks[:T]:
        expected[list(task.slots)] = np.bincount(task.y_train)[list(task.slots)]
    np.testing.assert_array_equal(count, expected)
    np.testing.assert_array_equal(model.head.state["class_count"], count)
    np.testing.assert_allclose(model.head.state["class_mean"], mean, rtol=0, atol=1e-6)
    assert np.linalg.eigvalsh(scatter).min() > -1e-6 * np.trace(scatter)


@pytest.mark.slow
def test_a_killed_training_ends_as_if_it_had_not_been(road, tmp_path, capsys):
    import keras

    from keras_cbpnet.train import main

    assert [path.name for path in sorted(road.killed.iterdir())] == [
        "checkpoint-0001",
        "config.json",
        "data.json",
        "lock",
    ]
    again = tmp_path / "again"
    shutil.copytree(road.killed, again)
    assert main([*road.arguments, "--output", str(again)]) == 0
    out, err = capsys.readouterr()
    assert "average accuracy" in out
    assert "task 1 " not in err  # is not learned twice
    assert json.loads((again / "metrics.json").read_text()) == road.metrics
    assert (again / "log.csv").read_text() == (road.run / "log.csv").read_text()
    models = [keras.models.load_model(run / "model.keras") for run in (road.run, again)]
    assert models[0].get_config() == models[1].get_config()
    for one, other in zip(*(model.variables for model in models)):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)
    assert {path.name for path in again.iterdir()} == {path.name for path in road.run.iterdir()}
