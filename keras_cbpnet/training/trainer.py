"""The trainer: one loop over the tasks of a stream around an ordinary Keras model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.data import Task, class_incremental, load_dataset
from keras_cbpnet.errors import UserError
from keras_cbpnet.layers.fake_quant import float32, set_mode
from keras_cbpnet.metrics import dead_unit_share, effective_rank, summarize
from keras_cbpnet.models.build import build_cbpnet
from keras_cbpnet.models.cbpnet import CBPNet
from keras_cbpnet.presets import get_preset
from keras_cbpnet.training.batches import FeatureBatches, TaskBatches
from keras_cbpnet.training.qat import calibrate
from keras_cbpnet.training.report import write_report
from keras_cbpnet.training.run import Run

Progress = Callable[[str], None]


def train(config: TrainConfig, output: Path, progress: Progress = lambda line: None) -> dict[str, Any]:
    """Train CBPNet on the host's tasks of a stream and write the run folder.

    Args:
        config: of the run.
        output: the run folder; a killed run of the same configuration is resumed.
        progress: called with a line after every epoch and task.

    Returns:
        The contents of metrics.json.

    Raises:
        UserError: the configuration, the data or the folder are not usable; nothing is overwritten.
    """
    if not 0 <= config.device_tasks < config.tasks:
        raise UserError(f"--device-tasks must be from 0 to {config.tasks - 1}, got {config.device_tasks}")
    keras.utils.set_random_seed(config.seed)
    data = load_dataset(config.dataset, get_preset(config.preset).backbone.image_size, config.seed)
    stream = class_incremental(data, config.tasks, config.seed)
    tasks = stream[: config.tasks - config.device_tasks]
    if config.slots and config.slots < len(data.class_names):
        raise UserError(
            f"--slots {config.slots} is too few for the {len(data.class_names)} classes of {config.dataset}"
        )
    model = build_cbpnet(config, len(data.class_names))

    run = Run(output, config)
    statistics = ClassStatistics.empty(model.head.config.slots, model.backbone.config.width)
    done: dict[str, Any] = {"accuracy_matrix": [], "history": [], "plasticity": []}
    restored = run.restore(model)
    if restored:
        statistics, done = restored
        set_mode(model, "on")
    elif config.qat:
        calibrate(model, model.features, tasks[0].x_train[:512])
    for task in tasks[len(done["accuracy_matrix"]) :]:
        statistics, rows = learn_task(model, task, statistics, config, progress)
        done["history"] += rows
        done["accuracy_matrix"].append(task_accuracies(model, tasks[: task.index + 1]))
        done["plasticity"].append(plasticity(model, task, done["history"]))
        run.save(model, statistics, done)
        progress(f"task {task.index + 1}/{len(tasks)}: accuracy {np.mean(done['accuracy_matrix'][-1]):.3f}")

    rows = done["accuracy_matrix"]
    matrix = [row + [None] * (len(rows) - len(row)) for row in rows]
    metrics = {**summarize(matrix), "plasticity": done["plasticity"], "final": {"trained": rows[-1]}}
    metrics["classes"] = [name for task in tasks for name in task.class_names]
    if config.qat:
        with float32(model):
            metrics["final"]["float32"] = task_accuracies(model, tasks)
    write_report(output / "report.html", {"name": output.name, **config.to_dict()}, metrics, done["history"])
    run.finish(model, statistics, metrics, done["history"])
    return metrics


def learn_task(
    model: CBPNet, task: Task, past: ClassStatistics, config: TrainConfig, progress: Progress
) -> tuple[ClassStatistics, list[dict[str, Any]]]:
    """Train `model` on one task: prompts and head together, then the head alone on the features that the device sees.

    The second part costs little, for the features behind frozen prompts are computed once; and it counts, for each
    image now selects its own prompt, which need not be the task's.

    Args:
        model: trained on the tasks before.
        task: to learn.
        past: class statistics of the tasks before.
        config: of the run.
        progress: called with a line after every epoch.

    Returns:
        The class statistics with the task's, and a row of numbers per epoch.
    """
    keras.utils.set_random_seed(config.seed * 1000 + task.index)  # so that a resumed run goes on as it would have
    replay = config.replay == "statistics"
    seen = range(max(task.slots) + 1)
    if task.index == 0:
        model.head.standardise(model.batched(lambda x: model.features(x)[0], task.x_train))
    model.begin_task(task.x_train, task.slots, seen if replay else task.slots)
    model.compile(optimizer=keras.optimizers.Adam(config.prompt_learning_rate), jit_compile=False)  # anew for each task
    model.optimizer.build(model.trainable_variables)  # else the first step is traced twice
    batches = TaskBatches(task, model.head.config.batch, (config.seed, task.index))
    history = []

    def record(part: str, epoch: int, epochs: int, row: dict[str, float]) -> None:
        history.append({"task": task.index, "part": part, "epoch": epoch, **row})
        if part == "prompts" or epoch + 1 == epochs:  # the head's take a moment each
            progress(f"task {task.index + 1} {part} epoch {epoch + 1}/{epochs}: loss {row['loss']:.4f}")

    for epoch in range(config.epochs):
        # The prompts move, and with them the features: the task's class means are taken anew before every epoch.
        current, _ = observe(model, task, past, model.prompts.tasks - 1)
        batches.statistics = current if replay else None
        result = model.fit(batches, shuffle=False, verbose=0).history
        record("prompts", epoch, config.epochs, {name: float(values[-1]) for name, values in result.items()})
    current, features = observe(model, task, past, None)
    rows = FeatureBatches(features, task.y_train, batches.rows, current if replay else None, batches.rng)
    for epoch in range(config.head_epochs):
        record("head", epoch, config.head_epochs, fit_head(model, rows))
    return current, history


def fit_head(model: CBPNet, batches: FeatureBatches) -> dict[str, float]:
    """Train the head alone for one epoch; return mean loss and accuracy, and the number of units replaced."""
    results = [model.learn_step(*batch) for batch in batches]
    means = {name: float(np.mean([result[name] for result in results])) for name in ("loss", "accuracy")}
    return {**means, "replaced": float(sum(int(result["replaced"]) >= 0 for result in results))}


def observe(
    model: CBPNet, task: Task, past: ClassStatistics, prompt: int | None
) -> tuple[ClassStatistics, NDArray[np.float32]]:
    """Set the head's class means to those of `past` and the task's images; return the statistics of both together.

    Args:
        model: whose features are taken.
        task: whose training images are counted.
        past: statistics of the tasks before; not changed.
        prompt: the expert prompt to use, or None for the one that each image selects.

    Returns:
        The statistics, and the features of the task's training images, float32 [N, D].
    """
    features = model.batched(lambda x: model.features(x, prompt)[0], task.x_train)
    current = past.copy()
    for feature, label in zip(features, task.y_train, strict=True):
        current.update(feature, int(label))
    model.head.assign({"class_mean": current.mean, "class_count": current.count})
    return current, features


def task_accuracies(model: CBPNet, tasks: Sequence[Task]) -> list[float]:
    """Return the share of each task's test images that `model` classifies rightly among all classes seen."""
    guesses = (model.batched(model, task.x_test).argmax(axis=1) for task in tasks)
    return [float(np.mean(guess == task.y_test)) for guess, task in zip(guesses, tasks, strict=True)]


def plasticity(model: CBPNet, task: Task, history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return dead-unit share, effective rank (as a share of the units) and units replaced in `task`."""
    features = model.batched(lambda x: model.features(x)[0], task.x_test)
    hidden = np.asarray(model.head.equations.hidden(model.head.values(), features))
    return {
        "dead_unit_share": dead_unit_share(hidden),
        "effective_rank": effective_rank(hidden) / hidden.shape[1],
        "units_replaced": sum(row["replaced"] for row in history if row["task"] == task.index),
    }
