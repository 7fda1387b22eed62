"""One seed from training to learning on the device, by the command lines that a user would type.

This process stays small on purpose, and what needs the data or TensorFlow runs in a child: on Linux the peak memory of
a child starts at its parent's size.
"""

# R[i][j]: accuracy on task j after learning task i

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.stages import Stages, shown
from firmware_host.shared.runtimes import installed_interpreters
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.metrics import summarize

TASKS = TrainConfig().tasks
DEVICE_TASKS = 2
HOST_TASKS = TASKS - DEVICE_TASKS


def measure(seed: int, work: Path, prefix: str = "") -> dict[str, Any]:
    """Train, convert, self-test, learn on the device, and time.

    Args:
        seed: of class order, weights, batches and replay.
        work: folder for run, bundle, images and state.
        prefix: of the announcements.

    Returns:
        The seed's record, ready for JSON; accuracies in 0..1.

    Raises:
        StageError: a stage failed.
        UserError: no runtime is installed.
    """
    runtimes = installed_interpreters()[::-1]  # all are tested and timed; the first, the slowest, learns
    if not runtimes:
        raise UserError('no TFLite runtime is installed; install "keras-cbpnet[device]"')
    run, bundle, state = work / "run", work / "bundle", work / "state"
    stages = Stages(4, prefix)

    stages.announce(
        f"training the first {HOST_TASKS} of {TASKS} tasks of digits, quantization-aware; converting the run into a "
        "bundle and verifying it"
    )
    options = ("--device-tasks", str(DEVICE_TASKS), "--replay", "statistics", "--seed", str(seed))
    files = ("--output", run, "--bundle", bundle)
    host = stages.run("train and convert", "-m", "keras_cbpnet.train", *options, *files, "--json")
    report = host["bundle"]

    stages.announce(f"self-test of the bundle under {' and '.join(runtimes)}")
    tests = {name: on_device(stages, "selftest", bundle, "--runtime", name) for name in runtimes}

    stages.announce(f"learning the last {DEVICE_TASKS} tasks from images with the device package ({runtimes[0]})")
    tasks = stages.run("write images", "-m", "benchmarks.common.images", run, work / "images")["tasks"]
    learned, device = learn_on_device(stages, work, tasks, seed, runtimes[0])

    stages.announce("timing the bundle")
    benches = {name: on_device(stages, "bench", bundle, "--runtime", name) for name in runtimes}

    rows = summarize_rows(host["accuracy_matrix"], host["final"]["float32"], device)
    average = {name: row["average_accuracy"] for name, row in rows.items()}
    files = [*sorted(bundle.iterdir()), *sorted(state.glob("*.npz"))]
    return {
        "seed": seed,
        "tasks": tasks,
        "accuracy": {name: row["accuracy_matrix"][-1] for name, row in rows.items()},
        "average_accuracy": average,
        "forgetting": {name: row["forgetting"] for name, row in rows.items()},
        "accuracy_matrix": rows["bundle after learning"]["accuracy_matrix"],
        "shipped_minus_float32": average["bundle as shipped"] - average["host float32"],
        "backbone_mean_cosine": report["backbone_mean_cosine"],
        "selftest": tests,
        "learning_runtime": runtimes[0],
        "learn": learned,
        "bench": benches,
        "bytes": {f"{path.parent.name}/{path.name}": path.stat().st_size for path in files},
        "seconds": stages.seconds,
    }


def on_device(stages: Stages, command: str, bundle: Path, *arguments: str | Path) -> dict[str, Any]:
    """Run a command of the device package; return what it prints as JSON."""
    return stages.run(command, "-m", "firmware_host", command, bundle, *arguments, "--json")


def learn_on_device(
    stages: Stages, work: Path, tasks: Sequence[Mapping[str, Any]], seed: int, runtime: str
) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """Evaluate the bundle as shipped, then let the device learn task after task and evaluate again.

    Args:
        stages: to run in.
        work: folder with bundle and images; the state goes there too.
        tasks: all tasks, with the number of test images by class name.
        seed: of the seed's random numbers.
        runtime: to learn with.

    Returns:
        What `learn` says of each task, and the rows of R from the host's last task on.
    """
    bundle, images = work / "bundle", work / "images"
    options = ("--state", shown(work / "state"), "--runtime", runtime)
    learned, rows = [], []
    for seen in range(HOST_TASKS, TASKS + 1):
        if seen > HOST_TASKS:
            stages.say(f"learning task {seen}: {', '.join(tasks[seen - 1]['classes'])}")
            rng = ("--seed", str(seed * TASKS + seen))  # another one for every seed and task
            learned.append(on_device(stages, "learn", bundle, images / f"task{seen}", *options, *rng))
            del learned[-1]["state"]  # a path of this machine
        answer = on_device(stages, "evaluate", bundle, images / f"seen{seen}", *options)
        rows.append(task_accuracies(answer["per_class"], [task["test_images"] for task in tasks[:seen]]))
        stages.say(f"tasks 1 to {seen}: average accuracy {sum(rows[-1]) / seen:.3f}")
    return learned, rows


def task_accuracies(per_class: Mapping[str, float], images: Sequence[Mapping[str, int]]) -> list[float]:
    """Return the accuracy of each task.

    Args:
        per_class: accuracy by class name, as `firmware_host evaluate` gives it.
        images: for each task the number of its test images by class name.
    """
    right = [sum(round(per_class[name] * count) for name, count in task.items()) for task in images]
    return [hits / sum(task.values()) for hits, task in zip(right, images)]


def summarize_rows(
    host: Sequence[Sequence[Any]], float32: Sequence[float], device: Sequence[Sequence[float]]
) -> dict[str, dict[str, Any]]:
    """Return the metrics of each row of the demo's table, by the row's name.

    Before the host's last task there is only the network as it is trained, through fake quantizers: those rows of R are
    the first ones of every matrix.

    Args:
        host: R of the host's training, fake quantizers on.
        float32: its last row again, fake quantizers off.
        device: that of the bundle as shipped, and a row after each task the device learned.
    """
    before = host[:-1]
    matrices = {
        "host float32": [*before, float32],
        "host QAT": host,
        "bundle as shipped": [*before, device[0]],
        "bundle after learning": [*before, *device],
    }
    return {name: summarize(_square(rows)) for name, rows in matrices.items()}


def _square(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [[*row, *[None] * len(rows)][: len(rows)] for row in rows]
