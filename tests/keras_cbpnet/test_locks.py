"""One process at a time in a folder, and what file managers leave in it does not count."""

import fcntl
import shutil
import types

import pytest

from keras_cbpnet.config import HeadConfig, TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.replacing import recover, replacing
from keras_cbpnet.locks import in_use, locked, take_lock
from keras_cbpnet.pretrain import build_parser, check


def test_a_locked_folder_is_refused_with_the_message_and_left_without_a_lock(tmp_path):
    assert not in_use(tmp_path)
    with locked(tmp_path, "busy"):
        assert in_use(tmp_path)
        assert take_lock(tmp_path) is None
        with pytest.raises(UserError, match="busy"), locked(tmp_path, "busy"):
            pass
    assert not in_use(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_lock_that_its_holder_removed_is_taken_again(tmp_path, monkeypatch):
    flock, calls = fcntl.flock, []

    def removed_first(file, how):
        if not calls:
            (tmp_path / "lock").unlink()  # its holder ended between opening and locking
        calls.append(how)
        return flock(file, how)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    lock = take_lock(tmp_path)
    assert len(calls) == 2
    assert take_lock(tmp_path) is None
    lock.close()


def test_two_conversions_into_one_bundle(tmp_path):
    output = tmp_path / "bundle"
    with replacing(output) as folder:
        (folder / "manifest.json").write_text("first")
        for other in (lambda: recover(output), lambda: replacing(output).__enter__()):
            with pytest.raises((UserError, FileExistsError)):
                other()
    assert [path.name for path in output.iterdir()] == ["manifest.json"]
    with pytest.raises(UserError, match="bundle is being written by another conversion"), replacing(output):
        recover(output)


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
@pytest.mark.parametrize("option", ["--learning-rate", "--mixup", "--weight-decay", "--feature-weight"])
def test_numbers_of_a_pretraining_are_numbers(option, value):
    with pytest.raises(UserError, match=f"{option} must be a"):
        check(build_parser().parse_args(["--data", "digits", "--output", "never.npz", option, value]))


def test_a_pretraining_ends_before_a_checkpoint_that_does_not_fit(tmp_path, monkeypatch):
    from keras_cbpnet.pretraining.room import Room

    room, free = Room(tmp_path), [0]
    room.set_model(types.SimpleNamespace(count_params=lambda: 1_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=free[0]))
    with pytest.raises(UserError, match="has 0 MB free, a checkpoint needs 32; free some space"):
        room.on_epoch_end(0)
    free[0] = 32_000_000
    room.on_epoch_end(0)


def test_rates_of_a_head_are_numbers():
    with pytest.raises(UserError, match="replacement_rate must be from 0 on, got nan"):
        HeadConfig(replacement_rate=float("nan"))


def test_a_folder_that_a_file_manager_looked_into_is_empty(tmp_path):
    from keras_cbpnet.training.run import check_folder

    for name in (".DS_Store", "._run", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).write_text("")
    check_folder(tmp_path, TrainConfig())
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="exists and is not a run folder"):
        check_folder(tmp_path, TrainConfig())
