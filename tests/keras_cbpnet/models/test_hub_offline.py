"""Weights by name without a network, and in commands of their own."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import plain_vit
from helpers.hub_server import COMMIT, Hub, serving, sha256
from helpers.paths import ROOT
from helpers.tiny_hub import ADDRESS, CONFIG, CONTENT, FOLDER, REPOSITORY, refused
from safetensors.numpy import save

from keras_cbpnet.models.hub import fetch
from keras_cbpnet.presets import get_preset

pytest.importorskip("huggingface_hub")


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_without_a_network_one_line_says_what_to_put_where(revision, nowhere, cache):
    address = f"{ADDRESS}@{revision}/model.safetensors"
    folder = cache / FOLDER / "snapshots" / revision
    message = refused(address)
    assert message == (
        f"cannot fetch {nowhere}/{REPOSITORY}/resolve/{revision}/model.safetensors (ConnectError): try again with a "
        f"connection, or download it elsewhere and put model.safetensors into {folder}"
    )
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(CONTENT)
    assert fetch(address) == folder / "model.safetensors"
    assert fetch(address, sha256(CONTENT)) == folder / "model.safetensors"
    assert "expected " + "3" * 64 + "; remove it" in refused(address, "3" * 64)
    assert (folder / "model.safetensors").is_file()


def test_what_is_in_the_cache_needs_no_network(hub, cache, monkeypatch, request):
    fetched = fetch(ADDRESS)
    request.getfixturevalue("nowhere")
    assert fetch(ADDRESS) == fetched
    fetched.write_bytes(b"changed")
    assert "it was removed" in refused()


def test_a_hub_that_is_out_of_order(hub):
    hub.down = 503
    assert "(HTTP 503): try again with a connection" in refused()
    hub.down = 0
    fetched = fetch(ADDRESS)
    hub.down = 503
    assert fetch(ADDRESS) == fetched


def test_offline_by_the_clients_own_setting(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "(HF_HUB_OFFLINE is set): try again with a connection" in refused()
    assert hub.requests == []


# Commands -------------------------------------------------------------------------------------------------------------


def test_a_command_without_a_network_ends_with_one_line(tmp_path):
    with serving(Hub()) as gone:
        url = gone.url
    command = [sys.executable, "-m", "keras_cbpnet.train", "--preset", "deit_tiny_16_224", "--output", "new"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    preset = get_preset("deit_tiny_16_224")
    _, repository, commit, file = re.split("hf:|@|/(?=model)", preset.hub)
    assert f"error: cannot fetch {url}/{repository}/resolve/{commit}/{file} (ConnectError)" in done.stderr
    assert (
        f"put {file} into {tmp_path}/home/hub/models--{repository.replace('/', '--')}/snapshots/{commit}" in done.stderr
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_command_fetches_from_the_hub(tmp_path):
    """The client's own environment variables, a run from the hub."""
    code = f"""
import sys
from keras_cbpnet import cli, train
from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.presets import PRESETS, Preset
config = BackboneConfig.from_dict({CONFIG.to_dict() | {"depth": 5}!r})
PRESETS["tiny"] = lambda: Preset("tiny", config, hub="hf:someone/deep")
sys.exit(cli.run(train.main, sys.argv[1:]))
"""
    content = save(plain_vit.random_checkpoint(32, 8, 16, 5, 24))
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype(np.uint8)
    label = np.arange(16) % 2
    np.savez(
        tmp_path / "data.npz", x_train=images, y_train=label, x_test=images, y_test=label, class_names=["one", "two"]
    )
    arguments = "--preset tiny --dataset npz:data.npz --tasks 1 --epochs 0 --head-epochs 1 --no-qat --no-prompts"
    with serving(Hub({("someone/deep", "model.safetensors"): content})) as hub:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-c", code, *arguments.split(), "--output", "run"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"fetching {hub.url}/someone/deep/resolve/main/model.safetensors" in done.stderr
    assert len(hub.of("GET")) == 1
    assert (tmp_path / "run" / "metrics.json").is_file()
