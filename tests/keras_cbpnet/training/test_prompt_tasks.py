"""Prompts that stop learning after the first tasks: what moves, and what is then computed once."""

import json

import keras
import numpy as np
import pytest
from helpers import tiny_stream

from keras_cbpnet.data import make_stream, open_dataset
from keras_cbpnet.training.features import tasks as features
from keras_cbpnet.training.trainer import train


@pytest.mark.slow
def test_prompts_stay_as_the_first_task_left_them(stream, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_CBPNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("keras_cbpnet.training.trainer.write_report", lambda *_: None)
    calls = []
    computed = features.TaskFeatures._computed

    def counted(self, frozen, part, rows, prompt):
        calls.append((part, len(rows), prompt is None))
        return computed(self, frozen, part, rows, prompt)

    monkeypatch.setattr(features.TaskFeatures, "_computed", counted)
    config = stream.config(tasks=4, prompts=True, prompt_tasks=1, learning_rate=5e-3)
    run, again = tmp_path / "run", tmp_path / "again"
    metrics = train(config, run, tiny_stream.copied_at("task 1/4:", run, again))
    everything = [(part, 4 * count, True) for part, count in (("train", tiny_stream.TRAIN), ("test", tiny_stream.TEST))]
    assert [call for call in calls if call[2]][-2:] == everything  # once, of all images; nothing after it

    model = keras.models.load_model(run / "model.keras")
    assert model.prompts.tasks == 1
    data = open_dataset(config.dataset, 16)
    tasks = make_stream("class", data, 4, config.seed)
    guesses = [np.asarray(model(task.x_test)).argmax(axis=1) for task in tasks]
    expected = [float(np.mean(guess == task.y_test)) for guess, task in zip(guesses, tasks, strict=True)]
    assert metrics["accuracy_matrix"][-1] == pytest.approx(expected)

    calls.clear()
    train(config, again)  # from the checkpoint behind the first task
    assert calls == []  # the cache has it all
    assert json.loads((again / "metrics.json").read_text()) == json.loads((run / "metrics.json").read_text())
