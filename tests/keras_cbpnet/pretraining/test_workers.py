"""Several processes that share every batch learn what one learns, and go on after one of them has died."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from keras_cbpnet import cli

PROGRAM = """
import os, sys
from keras_cbpnet import cli, presets
from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.keras_settings import use_keras
from keras_cbpnet.presets import Preset

sizes = {"image_size": 32, "patch_size": 8, "width": 16, "depth": 1, "heads": 2, "mlp_width": 32}
small = BackboneConfig(stem=(), whitening=True, **sizes)
presets.PRESETS["small"] = lambda: Preset("small", small)
use_keras()
from keras_cbpnet.pretrain import main
from keras_cbpnet.pretraining import epochs

if dies := os.environ.get("DIES_AFTER"):
    ends = epochs.Follow.on_epoch_begin
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == int(dies):
            os._exit(9)
        ends(self, epoch, logs)
    epochs.Follow.on_epoch_begin = on_epoch_begin
sys.exit(cli.run(main))
"""


@pytest.fixture
def pretrain(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    pixels = rng.integers(0, 60, (64, 32, 32, 3), np.uint8)
    pixels[labels == 1, :, ::2] += 150
    part = {"x_train": pixels, "y_train": labels, "x_test": pixels[:8], "y_test": labels[:8]}
    np.savez(tmp_path / "stripes.npz", **part, class_names=np.array(["plain", "striped"]))
    plain = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    arguments = ["--preset", "small", "--data", f"npz:{tmp_path}/stripes.npz", "--batch", "16", "--epochs", "4"]
    arguments += ["--qat-epochs", "0", "--cutmix", "1", "--learning-rate", "0.01"]

    def start(output, **environment):
        command = [sys.executable, "-c", PROGRAM, *arguments, "--output", str(tmp_path / output)]
        return subprocess.Popen(command, env={**plain, **environment}, stderr=subprocess.PIPE, text=True)

    return start


def together(start, output, dies_after=""):
    """Start two workers; return their exit statuses. Those that outlive another are ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    common = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, "KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}
    first = start(output, KERAS_DISTRIBUTION_PROCESS_ID="0", **common)
    second = start(output, KERAS_DISTRIBUTION_PROCESS_ID="1", DIES_AFTER=dies_after, **common)
    second.communicate()
    if dies_after:
        first.kill()
    first.communicate()
    return first.returncode, second.returncode


def losses(path):
    return [epoch["loss"] for epoch in json.loads(path.read_text())["epochs"] if "loss" in epoch]


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(pretrain, tmp_path):
    one = pretrain("one.npz")
    one.communicate()
    assert one.returncode == 0
    assert together(pretrain, "two.npz") == (0, 0)
    np.testing.assert_allclose(losses(tmp_path / "two.json"), losses(tmp_path / "one.json"), rtol=1e-4)
    assert losses(tmp_path / "one.json")[-1] < losses(tmp_path / "one.json")[0]
    with np.load(tmp_path / "two.npz") as first, np.load(tmp_path / "two.work/worker-1/two.npz") as second:
        assert all(np.array_equal(first[name], second[name]) for name in first.files)  # the same weights everywhere

    assert together(pretrain, "died.npz", dies_after="2")[1] == 9
    assert not (tmp_path / "died.npz").exists()
    assert len(losses(tmp_path / "died.json")) == 2
    assert together(pretrain, "died.npz") == (0, 0)
    np.testing.assert_allclose(losses(tmp_path / "died.json"), losses(tmp_path / "one.json"), rtol=1e-4)


@pytest.mark.slow
def test_a_batch_that_devices_cannot_share_is_one_line(pretrain):
    devices = pretrain("odd.npz", XLA_FLAGS="--xla_force_host_platform_device_count=3")
    _, error = devices.communicate()
    assert devices.returncode == 2
    assert "error: --batch must be a multiple of the 3 devices, got 16" in error


def test_workers_without_jax_are_refused(monkeypatch, capsys):
    from keras_cbpnet.pretraining.workers import Workers

    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")

    def main(argv):
        Workers(16)

    assert cli.run(main) == 2
    message = "KERAS_DISTRIBUTION_NUM_PROCESSES needs KERAS_BACKEND=jax, not tensorflow; unset one of them"
    assert capsys.readouterr().err == f"error: {message}\n"
