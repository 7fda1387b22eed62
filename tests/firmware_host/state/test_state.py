"""The learned state: back as written, the newest whole slot of two, or one line and nothing lost."""

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT

from firmware_host.bundle import DeviceError, read_bundle, write_manifest
from firmware_host.state import StateFolder, default_folder

OLD, NEW = ("red", "green", "größer"), ("red", "green", "größer", "newer")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def flipped(content, offset):
    return content[:offset] + bytes([content[offset] ^ 0x10]) + content[offset + 1 :]


def test_a_state_reads_back_exactly(opened, learned, tmp_path):
    folder = tmp_path / "deep" / "state"
    assert StateFolder(folder, opened).read() is None
    path = StateFolder(folder, opened).write(learned)
    assert path == folder / "state.a.npz"
    back = StateFolder(folder, opened).read()
    assert (back.classes, back.generator, back.rolled_back) == (learned.classes, learned.generator, 3)
    assert list(back.head) == list(learned.head)
    for name, value in learned.head.items():
        np.testing.assert_array_equal(back.head[name], value)
    for mine, other in [(learned.statistics, back.statistics), (learned.buffer, back.buffer)]:
        for name, value in mine.arrays().items():
            np.testing.assert_array_equal(other.arrays()[name], value)
            assert other.arrays()[name].dtype == value.dtype
    for mine, other in zip(learned.pending, back.pending):
        np.testing.assert_array_equal(mine, other)
    with np.load(path) as file:  # an ordinary .npz to anybody else
        np.testing.assert_array_equal(file["head.w1"], learned.head["w1"])


def test_slots_are_written_in_turn(opened, learned, tmp_path):
    folder = StateFolder(tmp_path / "s", opened)
    written = []
    for number in range(5):
        written.append(folder.write(replace(learned, rolled_back=number)).name)
        assert StateFolder(tmp_path / "s", opened).read().rolled_back == number
    assert written == ["state.a.npz", "state.b.npz", "state.a.npz", "state.b.npz", "state.a.npz"]
    assert names(tmp_path / "s") == ["lock", "state.a.npz", "state.b.npz"]
    folder.close()
    again = StateFolder(tmp_path / "s", opened)
    assert (again.read().rolled_back, again.generation) == (4, 5)
    assert again.write(learned).name == "state.b.npz"


def test_bytes_written_are_counted_for_life(opened, learned, tmp_path):
    now = [1000.0]
    folder = StateFolder(tmp_path, opened, clock=lambda: now[0])
    sizes = [folder.write(learned).stat().st_size for _ in range(2)]
    assert (folder.saves, folder.bytes_written) == (2, sum(sizes))
    now[0] += 60  # a minute later it is still the rate of a whole hour
    assert folder.bytes_per_hour == sum(sizes)
    folder.close()
    again = StateFolder(tmp_path, opened, clock=lambda: now[0])
    again.read()
    sizes.append(again.write(learned).stat().st_size)
    now[0] += 10 * 3600 - 60
    assert (again.saves, again.bytes_written) == (1, sizes[-1])
    assert again.bytes_per_hour == pytest.approx(sum(sizes) / 10)


def test_the_default_folder_is_beside_the_bundle(tmp_path, monkeypatch):
    assert default_folder(tmp_path / "b.v2") == tmp_path / "b.v2.state"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert default_folder(type(tmp_path)(".")) == tmp_path / "here.state"


def test_the_state_of_another_bundle_is_refused(make, opened, two, tmp_path):
    other = read_bundle(make.write_bundle(tmp_path / "other", block="mlp"))
    before = make.tree(tmp_path)
    with pytest.raises(DeviceError, match=r"belongs to another bundle .* give the state of this bundle with --state"):
        StateFolder(two, other).read()
    assert make.tree(tmp_path) == before


def test_a_bundle_converted_again_to_the_same_model_keeps_its_state(opened, learned, two):
    (opened.path / "report.json").write_text('{"measured": "again"}')
    write_manifest(opened.path, {**opened.manifest, "versions": {"keras_cbpnet": "1"}})
    again = read_bundle(opened.path)
    assert again.identity != opened.identity
    np.testing.assert_array_equal(StateFolder(two, again).read().head["w1"], learned.head["w1"])


@pytest.mark.slow
@pytest.mark.parametrize(("slot", "left"), [("state.a.npz", NEW), ("state.b.npz", OLD)])
@pytest.mark.parametrize("damage", [flipped, lambda content, offset: content[:offset]], ids=["flipped", "truncated"])
def test_one_damaged_slot_costs_at_most_one_save(opened, two, caplog, slot, left, damage):
    content = (two / slot).read_bytes()
    offsets = range(0, len(content), 64)
    for number, offset in enumerate(offsets, 1):
        (two / slot).write_bytes(damage(content, offset))
        caplog.clear()
        assert StateFolder(two, opened).read().classes == left
        [message] = caplog.messages
        assert message.startswith(f"state {two / slot} is damaged (")
        assert message.endswith(f"going on with the other slot; kept as {slot}.damaged-{number}")
        assert "\n" not in message
        assert (two / f"{slot}.damaged-{number}").read_bytes() == damage(content, offset)
        if number == 3:  # the next ones overwrite a name that is free again, so that this stays quick
            break
    for offset in offsets[3:]:
        (two / slot).write_bytes(damage(content, offset))
        assert StateFolder(two, opened).read().classes == left
        (two / f"{slot}.damaged-4").unlink()
    assert len(offsets) > 100
    folder = StateFolder(two, opened)
    state = folder.read()
    assert folder.write(state) == two / slot  # the slot that is not there is the next


def test_two_damaged_slots_are_refused_with_the_remedy(make, opened, two, caplog):
    for slot in ("state.a.npz", "state.b.npz"):
        content = (two / slot).read_bytes()
        (two / slot).write_bytes(content[:-100])
    before = make.tree(two)
    with pytest.raises(DeviceError, match=r"is damaged \(state.a.npz: .*; state.b.npz: .*\): import a backup") as error:
        StateFolder(two, opened).read()
    assert "`state BUNDLE reset`" in str(error.value)
    assert "\n" not in str(error.value)
    assert make.tree(two) == before
    assert caplog.messages == []


def test_a_reader_leaves_a_damaged_slot_to_the_writer(opened, learned, two, caplog):
    code = (
        "import sys; from firmware_host.bundle import read_bundle; from firmware_host.state import StateFolder; "
        "from pathlib import Path; f = StateFolder(Path(sys.argv[1]), read_bundle(sys.argv[2])); f.read(); f.lock(); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(two), str(opened.path)]
    writer = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"locked\n"
        (two / "state.b.npz").write_bytes(b"no state")
        assert StateFolder(two, opened).read().classes == OLD
        assert caplog.messages[0].endswith("left where it is")
        folder = StateFolder(two, opened)
        folder.read()
        with pytest.raises(DeviceError, match="is in use by another process: stop it or give another --state") as error:
            folder.write(learned)
        assert "\n" not in str(error.value)
    finally:
        writer.communicate(timeout=30)
    assert names(two) == ["lock", "state.a.npz", "state.b.npz"]


def test_what_somebody_else_saved_is_not_overwritten(opened, learned, two):
    first, second = StateFolder(two, opened), StateFolder(two, opened)
    first.read()
    second.read()
    first.write(learned)
    with pytest.raises(DeviceError, match=r"was changed by somebody else \(save 3, opened at 2\): open it again"):
        second.write(learned)
    second.read()
    assert second.write(learned) == two / "state.b.npz"


def test_a_disk_that_fills_up_leaves_the_old_state(make, opened, learned, two, monkeypatch):
    """Errors of each call of a write in turn, the first of them after any number of bytes."""
    before = make.tree(two)
    folder = StateFolder(two, opened)
    state = folder.read()
    folder.lock()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for call in ("os.open", "os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(call, full)
            with pytest.raises(DeviceError, match=r"cannot be written \(No space left on device\): free space or give"):
                folder.write(state)
        assert make.tree(two) == before
    assert folder.write(state) == two / "state.a.npz"


def test_a_file_size_limit_at_any_byte_leaves_the_old_state(opened, learned, two):
    """The kernel cuts the write short, as a full disk does."""
    folder = StateFolder(two, opened)
    state = folder.read()
    size = (two / "state.a.npz").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    failed = 0
    try:
        for limit in np.random.default_rng(0).integers(0, size, 50).tolist():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
            try:
                folder.write(state)
            except DeviceError as error:
                assert "cannot be written (File too large): free space" in str(error)  # noqa: PT017
                failed += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert failed == 50
    assert names(two) == ["lock", "state.a.npz", "state.b.npz"]
    assert StateFolder(two, opened).read().classes == NEW
    assert folder.write(replace(state, classes=OLD)) == two / "state.a.npz"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no POSIX rights here")
def test_a_read_only_folder_can_be_read_and_refuses_to_be_written(opened, learned, make):
    def unprivileged():
        if os.geteuid() == 0:
            os.seteuid(65534)

    with tempfile.TemporaryDirectory() as root:  # not below tmp_path, which nobody else may enter
        path = Path(root) / "state"
        StateFolder(path, opened).write(learned)
        path.joinpath("lock").unlink()
        path.chmod(0o555)
        Path(root).chmod(0o555)
        before, user = make.tree(path), os.geteuid()
        try:
            unprivileged()
            folder = StateFolder(path, opened)
            assert folder.read().classes == OLD
            with pytest.raises(DeviceError, match=r"cannot be written \(Permission denied\): make it writable or give"):
                folder.write(learned)
            with pytest.raises(DeviceError, match=r"cannot be written \(Permission denied\)"):
                StateFolder(Path(root) / "new", opened).write(learned)
        finally:
            os.seteuid(user)
            Path(root).chmod(0o755)
            path.chmod(0o755)
        assert make.tree(path) == before


def test_a_file_where_the_folder_should_be_is_refused(opened, learned, tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(DeviceError, match="is not a folder: give another --state"):
        StateFolder(tmp_path / "state", opened).read()
    with pytest.raises(DeviceError, match="cannot be written"):
        StateFolder(tmp_path / "state", opened).write(learned)
