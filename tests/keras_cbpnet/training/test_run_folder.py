"""The run folder: one training at a time, a full disk loses nothing, what is damaged is one line."""

import contextlib
import json
import resource
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers.paths import ROOT

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.training.run import Run, check_folder

CONFIG = TrainConfig(tasks=2)
METRICS = {"average_accuracy": 0.5}


def model(value):
    layers = [keras.layers.Input((64,)), keras.layers.Dense(256, kernel_initializer=keras.initializers.Constant(value))]
    return keras.Sequential(layers)


def statistics(value=1.0):
    return ClassStatistics(np.full((3, 4), value), np.ones(3), np.eye(4))


@contextlib.contextmanager
def few_bytes():
    """Files of more than 2,000 bytes cannot be written, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_goes_round(tmp_path):
    with Run(tmp_path / "run", CONFIG) as run:
        assert run.restore(model(0)) is None
        run.save(model(3), statistics(2.0), {"tasks": 1})
        restored = model(0)
        found, progress = run.restore(restored)
    np.testing.assert_array_equal(restored.layers[0].kernel, 3)
    np.testing.assert_array_equal(found.mean, 2.0)
    assert progress == {"tasks": 1}
    assert names(tmp_path / "run") == ["checkpoint-0001", "config.json"]


def test_a_full_disk_at_a_checkpoint_leaves_the_one_before(tmp_path):
    with Run(tmp_path / "run", CONFIG) as run:
        run.save(model(1), statistics(), {"tasks": 1})
        with few_bytes(), pytest.raises(UserError, match=r"run.* cannot be written .File too large.; free some space"):
            run.save(model(2), statistics(), {"tasks": 2})
        assert names(tmp_path / "run") == ["checkpoint-0001", "config.json", "lock"]
        restored = model(0)
        assert run.restore(restored)[1] == {"tasks": 1}
    np.testing.assert_array_equal(restored.layers[0].kernel, 1)


def test_a_full_disk_at_the_end_leaves_a_run_that_goes_on(tmp_path):
    history = [{"task": 0, "loss": 0.5}]
    with Run(tmp_path / "run", CONFIG) as run:
        run.save(model(1), statistics(), {"tasks": 2})
        with few_bytes(), pytest.raises(UserError, match="cannot be written"):
            run.finish(model(1), statistics(), METRICS, history)
    assert names(tmp_path / "run") == ["checkpoint-0002", "config.json"]
    with Run(tmp_path / "run", CONFIG) as run:
        run.finish(model(1), statistics(), METRICS, history)
    assert names(tmp_path / "run") == ["config.json", "log.csv", "metrics.json", "model.keras", "statistics.npz"]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == METRICS
    assert (tmp_path / "run" / "log.csv").read_text() == "task,loss\n0,0.5\n"
    with pytest.raises(UserError, match="holds a finished run"):
        check_folder(tmp_path / "run", CONFIG)


@pytest.mark.parametrize("file", ["model.keras", "statistics.npz", "progress.json"])
@pytest.mark.parametrize("content", [b"", b"[" * 100_000, None])
def test_a_damaged_checkpoint_is_one_line(file, content, tmp_path):
    with Run(tmp_path / "run", CONFIG) as run:
        run.save(model(1), statistics(), {"tasks": 1})
        path = tmp_path / "run" / "checkpoint-0001" / file
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(UserError, match=r"checkpoint-0001 is damaged .*; remove .*run and train from the start"):
            run.restore(model(0))


def test_a_second_training_is_told_that_the_folder_is_in_use(tmp_path):
    folder = tmp_path / "run"
    with Run(folder, CONFIG) as run:
        for use in (Run, check_folder):
            with pytest.raises(UserError, match="run is in use by another training; wait until"):
                use(folder, CONFIG)
        run.save(model(1), statistics(), {"tasks": 1})
    assert names(folder) == ["checkpoint-0001", "config.json"]
    with Run(folder, CONFIG) as run:
        assert run.restore(model(0))[1] == {"tasks": 1}


def test_a_killed_training_does_not_keep_the_folder(tmp_path):
    code = (
        f"import os, signal, sys; sys.path.insert(0, {str(ROOT)!r}); from pathlib import Path\n"
        "from keras_cbpnet.locks import take_lock\n"
        "lock = take_lock(Path(sys.argv[1])); print('locked', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "locked\n", done.stderr
    assert names(tmp_path) == ["lock"]
    with Run(tmp_path, CONFIG):
        assert names(tmp_path) == ["config.json", "lock"]
    assert names(tmp_path) == ["config.json"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.* cannot be written .Not a directory"):
        Run(tmp_path / "file" / "run", CONFIG)


def test_what_data_a_run_has_is_written_once(tmp_path):
    lines = []
    with Run(tmp_path / "run", CONFIG) as run:
        run.keep({"source": "a"}, lines.append)
        run.keep({"source": "b"}, lines.append)
        run.save(model(1), statistics(), {"tasks": 1})
    assert json.loads((tmp_path / "run" / "data.json").read_text()) == {"source": "a"}
    assert lines == []
    (tmp_path / "run" / "data.json").unlink()  # as an older version left it
    with Run(tmp_path / "run", CONFIG) as run:
        run.keep({"source": "b"}, lines.append)
    assert lines == [
        f"warning: {tmp_path / 'run'} does not say which images it was trained on so far; are these the same?"
    ]
