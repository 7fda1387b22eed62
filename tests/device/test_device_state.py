"""The learned state: back as written, or one line and nothing changed."""

import json

import numpy as np
import pytest

from firmware_host.bundle import ClassStatistics, DeviceError, read_bundle, write_manifest
from firmware_host.state import LearnedState, default_folder, read_state, write_state


@pytest.fixture
def opened(bundle):
    return read_bundle(bundle)


@pytest.fixture
def learned(opened):
    rng = np.random.default_rng(0)
    head = {name: rng.normal(size=shape).astype(np.float32) for name, shape in opened.state_shapes.items()}
    statistics = ClassStatistics(rng.normal(size=(4, 6)), [1, 2, 3, 0], rng.normal(size=(6, 6)))
    return LearnedState(head, statistics, ("red", "green", "größer"), dict(rng.bit_generator.state))


def test_a_state_reads_back_exactly(opened, learned, tmp_path):
    folder = tmp_path / "deep" / "state"
    assert read_state(folder, opened) is None
    path = write_state(folder, opened, learned)
    assert [entry.name for entry in folder.iterdir()] == [path.name] == ["state.npz"]
    back = read_state(folder, opened)
    assert back.classes == learned.classes
    assert back.generator == learned.generator
    assert list(back.head) == list(learned.head)
    for name, value in learned.head.items():
        np.testing.assert_array_equal(back.head[name], value)
    for name, value in learned.statistics.arrays().items():
        np.testing.assert_array_equal(back.statistics.arrays()[name], value)


def test_the_default_folder_is_beside_the_bundle(tmp_path, monkeypatch):
    assert default_folder(tmp_path / "b.v2") == tmp_path / "b.v2.state"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert default_folder(type(tmp_path)(".")) == tmp_path / "here.state"


def test_the_state_of_another_bundle_is_refused(make, opened, learned, tmp_path):
    write_state(tmp_path / "state", opened, learned)
    other = read_bundle(make.write_bundle(tmp_path / "other", block="mlp"))
    before = make.tree(tmp_path)
    with pytest.raises(DeviceError, match=r"belongs to another bundle .* give the state of this bundle with --state"):
        read_state(tmp_path / "state", other)
    assert make.tree(tmp_path) == before


def test_a_bundle_converted_again_to_the_same_model_keeps_its_state(opened, learned, tmp_path):
    write_state(tmp_path / "state", opened, learned)
    (opened.path / "report.json").write_text('{"measured": "again"}')
    write_manifest(opened.path, {**opened.manifest, "versions": {"keras_cbpnet": "1"}})
    again = read_bundle(opened.path)
    assert again.identity != opened.identity
    np.testing.assert_array_equal(read_state(tmp_path / "state", again).head["w1"], learned.head["w1"])


def test_a_truncated_state_is_refused(opened, learned, tmp_path):
    path = write_state(tmp_path, opened, learned)
    content = path.read_bytes()
    for length in range(0, len(content), 997):
        path.write_bytes(content[:length])
        with pytest.raises(DeviceError, match=r"state.npz is damaged .*: restore a backup") as error:
            read_state(tmp_path, opened)
        assert "\n" not in str(error.value)


def test_a_changed_byte_never_changes_what_is_read(opened, learned, tmp_path):
    path = write_state(tmp_path, opened, learned)
    content = path.read_bytes()
    refused = 0
    for offset in range(0, len(content), 211):
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 0x10]) + content[offset + 1 :])
        try:
            back = read_state(tmp_path, opened)
        except DeviceError:
            refused += 1
            continue
        for name, value in learned.head.items():  # a byte of the zip container that means nothing
            np.testing.assert_array_equal(back.head[name], value)
        assert back.classes == learned.classes
    assert refused > 0.8 * len(range(0, len(content), 211))


def test_another_schema_version_is_refused(opened, learned, tmp_path, monkeypatch):
    monkeypatch.setattr("firmware_host.state.STATE_SCHEMA_VERSION", 7)
    write_state(tmp_path, opened, learned)
    monkeypatch.undo()
    with pytest.raises(DeviceError, match="schema version 7, this firmware_host reads 1: install the matching"):
        read_state(tmp_path, opened)


def test_a_forged_checksum_is_found(opened, learned, tmp_path):
    path = write_state(tmp_path, opened, learned)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["meta"] = np.array(json.dumps({**json.loads(str(arrays["meta"])), "classes": ["x"]}))
    np.savez(path, **arrays)
    with pytest.raises(DeviceError, match="its checksum does not hold"):
        read_state(tmp_path, opened)


def test_a_failed_write_leaves_the_old_state(make, opened, learned, tmp_path, monkeypatch):
    folder = tmp_path / "state"
    write_state(folder, opened, learned)
    before = make.tree(folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DeviceError, match=r"cannot be written \(No space left on device\): free space or give another"):
        write_state(folder, opened, learned)
    assert make.tree(folder) == before


def test_a_file_where_the_folder_should_be_is_refused(opened, learned, tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(DeviceError, match="is not a folder: give another --state"):
        read_state(tmp_path / "state", opened)
    with pytest.raises(DeviceError, match="cannot be written"):
        write_state(tmp_path / "state", opened, learned)
