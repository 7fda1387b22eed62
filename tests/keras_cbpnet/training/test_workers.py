"""Processes that share the batches of prompt training learn what one learns, and go on after one of them has died."""

import csv
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.training.workers import ALONE, Place, find_place

PROGRAM = """
import os, sys
from keras_cbpnet import cli, presets
from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.keras_settings import use_keras
from keras_cbpnet.presets import Preset

use_keras("tensorflow")
small = BackboneConfig(image_size=16, stem=((8, 2),), patch_size=4, width=16, depth=5, heads=2, mlp_width=32)
presets.PRESETS["small"] = lambda: Preset("small", small)
import keras
from keras_cbpnet.train import main
from keras_cbpnet.training import run, trainer

def plain(model, rate):  # Adam makes steps of full size of gradients that are rounding alone
    model.compile(optimizer=keras.optimizers.SGD(rate), jit_compile=False)
    model.optimizer.build(model.trainable_variables)

trainer.compile_prompts = plain
run.PAUSE = 0.0  # a checkpoint after every task
if dies := os.environ.get("DIES_IN_TASK"):
    learn_task = trainer.learn_task
    def dying(model, task, *rest):
        if task.index == int(dies):
            os._exit(9)
        return learn_task(model, task, *rest)
    trainer.learn_task = dying
sys.exit(cli.run(main))
"""


RANGES = """
import os, sys, json
from keras_cbpnet.keras_settings import use_keras
use_keras("tensorflow")
import numpy as np
import tensorflow as tf
from keras_cbpnet.layers.fake_quant import FakeQuantize
from keras_cbpnet.layers.shared_batch import joined, mean_share, part, total
from keras_cbpnet.training.workers import ALONE, Place, together

text = os.environ.get("TF_CONFIG")
place = Place(json.loads(text)["task"]["index"], 2) if text else ALONE
with together(place):
    layer = FakeQuantize()
    layer.build((None, 3))
    layer.mode = "on"
    x = np.random.default_rng(0).normal(0, 9, (8, 3)).astype(np.float32)

    @tf.function
    def step(x):
        layer(part(x), training=True)
        return joined(part(x)), total([tf.reduce_sum(part(x))])[0] / 8.0, mean_share()

    for _ in range(3):
        rows, mean, share = step(x)
    ends = [float(np.array(layer.range[name])) for name in ("min_var", "max_var")]
    print(json.dumps([ends, rows.numpy().tolist(), float(mean), float(share)]))
"""


@pytest.fixture
def train(tmp_path, tiny_backbone):
    """train(output, name=value, ...) starts a training with these variables of the environment."""
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.models.weights import save_weights

    rng = np.random.default_rng(0)
    backbone = Backbone(tiny_backbone)
    backbone.build()
    for variable in backbone.weights:
        if "scale" not in variable.name:
            variable.assign(rng.normal(0, 0.3, variable.shape))
    save_weights(backbone, tmp_path / "small.npz")
    y = (np.arange(96) % 4).astype(np.int32)
    x = rng.integers(0, 256, (108, 16, 16, 3)).astype(np.uint8)  # noise: no loss is near 0
    part = {"x_train": x[:96], "y_train": y, "x_test": x[96:], "y_test": y[:12]}
    np.savez(tmp_path / "noise.npz", **part, class_names=np.array([f"class {i}" for i in range(4)]))
    words = ["--preset", "small", "--weights", str(tmp_path / "small.npz"), "--dataset", f"npz:{tmp_path}/noise.npz"]
    words += ["--tasks", "2", "--epochs", "2", "--head-epochs", "1", "--batch", "16", "--views", "0", "--prompts"]
    words += ["--prompt-learning-rate", "0.1", "--no-qat", "--no-bank"]

    def start(output, **environment):
        command = [sys.executable, "-c", PROGRAM, *words, "--output", str(tmp_path / output)]
        own = {**os.environ, "KERAS_CBPNET_CACHE": str(tmp_path / "cache"), **environment}
        return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


def cluster():
    """Return the variable TF_CONFIG of two workers on the loopback."""
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return [json.dumps({"cluster": {"worker": ports}, "task": {"type": "worker", "index": n}}) for n in range(2)]


def together(train, output, dies_in_task=""):
    """Start two workers; return their exit codes and what they printed."""
    places = cluster()
    first = train(output, TF_CONFIG=places[0])
    second = train(output, TF_CONFIG=places[1], DIES_IN_TASK=dies_in_task)
    printed = [process.communicate(timeout=600)[0] for process in (second, first)]
    return (first.returncode, second.returncode), printed[1], printed[0]


def losses_of(folder):
    with (folder / "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_rows_sums_and_ranges_are_those_of_the_whole_batch():
    def start(**environment):
        command = [sys.executable, "-c", RANGES]
        return subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)

    one = json.loads(start().communicate()[0])
    workers = [start(TF_CONFIG=place) for place in cluster()]
    found = [json.loads(each.communicate(timeout=600)[0]) for each in workers]
    for ends, rows, mean, share in found:
        np.testing.assert_allclose(ends, one[0], rtol=1e-6)
        assert rows == one[1]
        assert mean == pytest.approx(one[2], rel=1e-5)
        assert (share, one[3]) == (0.5, 1.0)


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(train, tmp_path):
    one = train("one")
    printed = one.communicate()[0]
    assert one.returncode == 0, printed
    codes, first, second = together(train, "two")
    assert codes == (0, 0), first + second
    assert "worker 1 of 2 is done; worker 0 has written it" in second
    losses = [losses_of(tmp_path / name) for name in ("one", "two")]
    assert len(losses[0]) == 2 * (2 + 1)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one["average_accuracy"] == two["average_accuracy"]

    codes, first, second = together(train, "died", dies_in_task="1")
    assert codes == (2, 9), first + second
    assert "another worker of TF_CONFIG was lost" in first
    assert first.strip().splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "died" / "metrics.json").exists()
    codes, first, second = together(train, "died")
    assert codes == (0, 0), first + second
    np.testing.assert_allclose(losses_of(tmp_path / "died"), losses[0], rtol=1e-4)


def config_of(count, index=0, kind="worker"):
    return json.dumps({"cluster": {"worker": [f"h:{i}" for i in range(count)]}, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize("text", ["", config_of(1)])
def test_alone(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert find_place(TrainConfig()) == ALONE


def test_a_place(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config_of(3, 2))
    assert find_place(TrainConfig(batch=24)) == Place(2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "TF_CONFIG is '{'; give"),
        ("[]", "TF_CONFIG is '[]'; give"),
        (config_of(2, 2), "with N from 0 on, or unset it"),
        (config_of(2, 0, "ps"), "with N from 0 on, or unset it"),
        (config_of(5), "--batch 24 has 12 images a step, which 5 workers of TF_CONFIG cannot share evenly"),
    ],
)
def test_bad_input_is_one_line(text, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError) as error:
        find_place(TrainConfig(batch=24, replay="statistics"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
