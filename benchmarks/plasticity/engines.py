"""The stream through two engines on the same batches: the Keras step, and the device package on a head.tflite."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.stages import ROOT
from benchmarks.plasticity.rules import Setting
from benchmarks.plasticity.stream import Features, Stream
from firmware_host.bundle import state_shapes
from keras_cbpnet.errors import UserError

# Dimensions: S steps of a task, B rows, d feature size, T test images.


def first_state(setting: Setting, stream: Stream) -> dict[str, Any]:
    """Return the state tensors before the first step, all classes seen."""
    c = setting.config
    shapes = state_shapes(c.block, stream.width, c.units, c.slots)
    state = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    state["w1"] = stream.first_weights(c.units)
    state["class_mask"][:] = 1.0
    return state


class KerasEngine:
    """The Keras step under one rule, a whole task in one compiled call.

    Args:
        setting: rule and head.
        width: d.
    """

    def __init__(self, setting: Setting, width: int) -> None:
        import tensorflow as tf

        self.setting = setting
        rule, c = setting.rule, setting.config
        head = rule.head(c, tf.zeros(width), tf.ones(width))  # the features come standardised
        class_mask = tf.ones(c.slots)

        def task(state: Any, seed: Any, feature: Any, label: Any, fresh: Any, test: Any, test_label: Any) -> Any:
            """Learn feature [S, B, d] and label [S, B] with fresh [S, d]; return the state and hits on test [T, d]."""
            names = sorted(state)
            begun = tf.cond(state["step"] > 0, lambda: rule.begin_task(head, state, seed), lambda: dict(state))

            def step(i: Any, values: Any) -> Any:
                now = dict(zip(names, values, strict=True))
                new, _ = rule.learn(head, now, feature[i], label[i], class_mask, c.learning_rate, fresh[i], seed)
                return i + 1, [new[name] for name in names]

            start = (tf.constant(0), [begun[name] for name in names])
            _, values = tf.while_loop(lambda i, _: i < label.shape[0], step, start)
            new = dict(zip(names, values, strict=True))
            guess = tf.argmax(head.infer(new, test)["logits"], axis=1, output_type=tf.int32)
            return new, tf.reduce_mean(tf.cast(guess == test_label, tf.float32))

        self._task = tf.function(task, jit_compile=True, reduce_retracing=True)

    def run(self, features: Features, stream: Stream, tasks: int) -> Iterator[float]:
        """Learn `tasks` tasks in turn; yield the accuracy on the test images of each, in 0..1, once it is known."""
        import tensorflow as tf

        state = self.setting.rule.start({n: tf.constant(v) for n, v in first_state(self.setting, stream).items()})
        for index in range(tasks):
            t = stream.task(index)
            test = features.x_test[t.test_rows]
            rows = (
                features.x_train[t.rows],
                t.label,
                t.fresh * np.float32(self.setting.fresh_scale),
                test,
                t.test_label,
            )
            state, accuracy = self._task(state, tf.constant(stream.seed), *rows)
            yield float(accuracy)


def write_head(setting: Setting, stream: Stream, folder: Path) -> None:
    """Write what `device.learn` opens: head.tflite in its first state, and what a bundle's manifest says of a head."""
    from keras_cbpnet.export.bundle import head_entry
    from keras_cbpnet.export.head import convert_head
    from keras_cbpnet.layers.cbp_head import CBPHead

    trained = CBPHead(setting.config, setting.rule, own_step=True)
    shipped = CBPHead(trained.config, own_step=True)
    for head in (trained, shipped):
        head.build((None, stream.width))
    shipped.assign(first_state(setting, stream))
    manifest = {"head": head_entry(shipped, trained), "shapes": {"feature": [1, stream.width]}}
    (folder / "head.tflite").write_bytes(convert_head(shipped))
    (folder / "manifest.json").write_text(json.dumps(manifest))


def run_tflite(
    setting: Setting, file: Path, stream: Stream, tasks: int, runtime: str = "tflite_runtime"
) -> Iterator[float]:
    """Yield what `KerasEngine.run` does, from a head.tflite with `setting` that the device package trains.

    Args:
        setting: of a rule that a bundle can hold.
        file: the feature file, for the other process.
        stream: the seed's tasks.
        tasks: to learn.
        runtime: that the device package computes with.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_head(setting, stream, Path(folder))
        given = {
            "runtime": runtime,
            "folder": folder,
            "features": str(file.resolve()),
            "seed": stream.seed,
            "tasks": tasks,
            "fresh_scale": setting.fresh_scale,
        }
        command = [sys.executable, "-m", "benchmarks.plasticity.device", json.dumps(given)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                yield json.loads(line)
        if process.returncode:
            raise UserError(f"--engine tflite: {runtime} ended with exit code {process.returncode}; is it installed?")
