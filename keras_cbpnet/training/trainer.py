"""The trainer: one loop over the tasks of a stream around an ordinary Keras model, the same for every method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.data import Dataset, Task
from keras_cbpnet.keras_settings import use_keras
from keras_cbpnet.layers.fake_quant import float32, set_mode
from keras_cbpnet.methods.batches import TaskBatches
from keras_cbpnet.methods.build import build_model
from keras_cbpnet.methods.method import Seen
from keras_cbpnet.metrics import summarize, summarize_drifting
from keras_cbpnet.models.calibration import CALIBRATION, calibrate
from keras_cbpnet.models.prompted_classifier import PromptedClassifier
from keras_cbpnet.models.rotation import spread_outliers
from keras_cbpnet.seeds import folded
from keras_cbpnet.tables import METHODS
from keras_cbpnet.training.adaptation import adapt_backbone
from keras_cbpnet.training.adaptation_settings import parse_adaptation
from keras_cbpnet.training.check import check_finite
from keras_cbpnet.training.evaluate import accuracies, plasticity
from keras_cbpnet.training.features.cache import FrozenFeatures
from keras_cbpnet.training.features.tasks import TaskFeatures
from keras_cbpnet.training.inputs import Inputs, read_inputs
from keras_cbpnet.training.report import write_report
from keras_cbpnet.training.run import Run, writing
from keras_cbpnet.training.whitening import whiten_by_data, whiten_by_task
from keras_cbpnet.training.workers import ALONE, Follower, Place, meet, together

COMPILE_FROM = 4000  # steps of the head in a run, from which compiling them pays
Progress = Callable[[str], None]
Row = dict[str, Any]


def train(config: TrainConfig, output: Path, progress: Progress = lambda line: None, board: bool = False) -> Row:
    """Train a method on the host's tasks of a stream and write the run folder.

    Args:
        config: of the run.
        output: the run folder; a killed run of the same configuration is resumed.
        progress: called with a line after every epoch and task.
        board: whether to write events for TensorBoard into the run folder.

    Returns:
        The contents of metrics.json.

    Raises:
        UserError: the configuration, the data or the folder are not usable; nothing is overwritten.
    """
    return train_on(read_inputs(config, output, progress), output, progress, board)


def train_on(
    inputs: Inputs, output: Path, progress: Progress = lambda line: None, board: bool = False, place: Place = ALONE
) -> Row:
    """Train as `train` does, on what `read_inputs` has read and found usable.

    Args:
        inputs: what the run needs.
        output: the run folder.
        progress: called with a line after every epoch and task.
        board: whether to write events for TensorBoard.
        place: of this process among those that share the batches of prompts.

    Raises:
        UserError: the weights do not fit, the folder has come into use meanwhile, the training diverged, or a worker
            was lost.
    """
    use_keras("tensorflow")
    with together(place):
        keras.utils.set_random_seed(folded(inputs.config.seed))
        model = new_model(inputs)
        with (Follower if place.rank else Run)(output, inputs.config) as run:
            run.keep(inputs.record, progress)
            return learn_tasks(inputs, model, run, progress, board)


def learn_tasks(inputs: Inputs, model: PromptedClassifier, run: Run, progress: Progress, board: bool) -> Row:
    """Train on the tasks that `run` has not finished, and finish it; arguments and result as of `train_on`."""
    config, data, other, tasks, *_ = inputs
    restored = run.restore(model)
    meet()  # before worker 0 writes the next checkpoint
    if restored:
        set_mode(model, "on")
    else:
        adapt(model, config, tasks[0], other, progress)
    statistics, done = restored or (nothing_seen(model), {"tasks": 0, "accuracy": [], "history": [], "plasticity": []})
    features = task_features(model, config, data, progress)
    events = keras.callbacks.TensorBoard(run.path / "tensorboard") if board else keras.callbacks.Callback()
    events.set_model(model)

    def record(row: Row) -> None:
        done["history"].append(row)
        numbers = {key: value for key, value in row.items() if isinstance(value, float)}
        events.on_epoch_end(len(done["history"]) - 1, numbers)

    for task in tasks[done["tasks"] :]:
        epochs = len(done["history"])
        again = config.stream == "drifting"  # a label is the name of something else now, the tasks before are gone
        past = nothing_seen(model) if again else statistics
        statistics = learn_task(model, task, past, features, config, record, progress)
        check_finite(model, task)
        seen = [task] if again else tasks[: task.index + 1]
        tested = [features(each, "test") for each in seen]
        done["accuracy"].append(accuracies(model, tested, [each.y_test for each in seen]))
        done["plasticity"].append(plasticity(model, tested[-1], done["history"][epochs:]))
        done["tasks"] += 1
        if run.is_due() or done["tasks"] == len(tasks):
            run.save(model, statistics, done)
        progress(f"task {task.index + 1}/{len(tasks)}: accuracy {np.mean(done['accuracy'][-1]):.3f}")
    events.on_train_end()

    metrics = results(model, tasks, features, config, done)
    if run.writes:
        with writing(run.path):
            settings = {"name": run.path.name, **config.to_dict()}
            write_report(run.path / "report.html", settings, metrics, done["history"])
    run.finish(model, statistics, metrics, done["history"])
    return metrics


def new_model(inputs: Inputs) -> PromptedClassifier:
    """Return the untrained model of a run."""
    config = inputs.config
    model = build_model(config, inputs.classes)
    steps = config.head_epochs * sum(len(task.y_train) for task in inputs.tasks) // config.batch
    model.head.compiled = steps > COMPILE_FROM
    return model


def adapt(
    model: PromptedClassifier, config: TrainConfig, first: Task, other: Dataset | None, progress: Progress
) -> None:
    """Fit the backbone of a new run, in place: adapted to `first`, whitened by `other`, calibrated by `first`."""
    if settings := parse_adaptation(config.adapt):
        adapt_backbone(model.backbone, first, settings, folded(config.seed), progress)
    if other is not None:
        whiten_by_data(model.backbone, other, progress)
    if config.qat:
        images = first.images("train")[:CALIBRATION]
        spread_outliers(model.backbone, images)
        calibrate(model, model.features, images)


def nothing_seen(model: PromptedClassifier) -> ClassStatistics:
    """Return class statistics of no image."""
    return ClassStatistics.empty(model.head.slots, model.backbone.config.width)


def task_features(model: PromptedClassifier, config: TrainConfig, data: Dataset, progress: Progress) -> TaskFeatures:
    """Return the features of the model's images; those of a backbone that stays as it is come from the cache."""
    moves = config.qat and model.prompts.reads_tokens  # ranges of the fake quantizers follow what they see
    if moves:
        return TaskFeatures(model, None, again=True)
    return TaskFeatures(model, FrozenFeatures(model.backbone, data, progress, model.query_blocks))


def learn_task(
    model: PromptedClassifier,
    task: Task,
    past: ClassStatistics,
    features: TaskFeatures,
    config: TrainConfig,
    record: Callable[[Row], None],
    progress: Progress,
) -> ClassStatistics:
    """Train `model` on one task: prompts and head together, then the head alone on the features that the device sees.

    The second part costs little, for features under frozen prompts are computed once; and it counts, for each
    image now selects its own prompt, which need not be the task's. Without prompts there is nothing else.

    Args:
        model: trained on the tasks before.
        task: to learn.
        past: class statistics of the tasks before; not changed.
        features: of the task's images.
        config: of the run.
        record: takes a row of numbers per epoch.
        progress: called with a line after every epoch.

    Returns:
        The class statistics with the task's.
    """
    # So that a resumed run goes on as it would have.
    keras.utils.set_random_seed(folded(config.seed * 1000 + task.index))
    method = METHODS[config.method]()
    replay = config.replay == "statistics"
    if config.whiten == "task" and task.index == 0:
        whiten_by_task(model, task, features, config.qat)
    query = features.query(task, "train")
    learns = model.prompts.reads_tokens and (not config.prompt_tasks or task.index < config.prompt_tasks)
    if model.prompts.reads_tokens and not learns:
        features.freeze_prompts()
    model.begin_task(query, task.slots, range(max(task.slots) + 1) if replay else task.slots, new_prompt=learns)
    if task.index == 0:
        model.head.standardise(features(task, "train"))
    method.begin_task(model)
    batches = TaskBatches(task, config.batch, (config.seed, task.index), query if features.frozen else None)
    if learns and config.epochs:
        if not model.compiled:
            compile_prompts(model, config.prompt_learning_rate)
        restart(model.optimizer)
        for epoch in range(config.epochs):
            # The prompts move, and with them the features: the task's class means are taken again before every epoch.
            current, _ = observe(model, task, past, features, model.prompts.newest)
            batches.statistics = current if replay else None
            result = model.fit(batches, shuffle=False, verbose=0).history
            row = {name: float(values[-1]) for name, values in result.items()}
            record({"task": task.index, "part": "prompts", "epoch": epoch, **row})
            progress(f"task {task.index + 1} prompts epoch {epoch + 1}/{config.epochs}: loss {row['loss']:.4f}")
    if learns and task.index + 1 == config.prompt_tasks:
        features.freeze_prompts()
    current, rows = observe(model, task, past, features, None)
    looks = config.views and config.bank and method.sees_views and config.stream != "drifting"
    views = features.views(task, config.views, config.seed) if looks else None
    seen, row = Seen(rows, task.y_train, current, batches.rng, views), {}
    for epoch, row in enumerate(method.learn_head(model, seen, config)):
        record({"task": task.index, "part": "head", "epoch": epoch, **row})
    if "loss" in row:
        progress(f"task {task.index + 1} head epoch {config.head_epochs}: loss {row['loss']:.4f}")
    return current


def compile_prompts(model: PromptedClassifier, learning_rate: float) -> None:
    """Prepare `model` for training its prompts by Adam."""
    model.compile(optimizer=keras.optimizers.Adam(learning_rate), jit_compile=False)
    model.optimizer.build(model.trainable_variables)  # else the first step is traced twice


def restart(optimizer: keras.optimizers.Optimizer) -> None:
    """Set moments and number of steps to zero: every task begins with a fresh optimizer."""
    for variable in optimizer.variables:
        if variable.name != "learning_rate":
            variable.assign(np.zeros(variable.shape))


def observe(
    model: PromptedClassifier, task: Task, past: ClassStatistics, features: TaskFeatures, prompt: Any
) -> tuple[ClassStatistics, np.ndarray]:
    """Set the head's class means to those of `past` and the task's images; return the statistics of both together.

    Args:
        model: whose features are taken.
        task: whose training images are counted.
        past: statistics of the tasks before; not changed.
        features: of the task's images.
        prompt: the expert prompt to use, or None for the one that each image selects.

    Returns:
        The statistics, and the features of the task's training images, float32 [N, D].
    """
    rows = features(task, "train", prompt)
    current = past.copy()
    current.update_all(rows, task.y_train)
    model.head.observe_all(current)
    return current, rows


def results(
    model: PromptedClassifier, tasks: list[Task], features: TaskFeatures, config: TrainConfig, done: dict[str, Any]
) -> dict[str, Any]:
    """Return the contents of metrics.json."""
    names = list(dict.fromkeys(name for task in tasks for name in task.class_names))
    common = {"plasticity": done["plasticity"], "classes": names}
    if config.stream == "drifting":
        return {**summarize_drifting([row[0] for row in done["accuracy"]]), **common}
    rows = done["accuracy"]
    matrix = [row + [None] * (len(rows) - len(row)) for row in rows]
    metrics = {**summarize(matrix), **common, "final": {"trained": rows[-1]}}
    if config.qat:
        with float32(model):
            uncached = TaskFeatures(model, None)
            tested = [uncached(task, "test") for task in tasks]
            metrics["final"]["float32"] = accuracies(model, tested, [task.y_test for task in tasks])
    return metrics
