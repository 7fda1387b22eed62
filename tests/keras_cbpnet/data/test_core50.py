"""CORe50 in its layout on disk: 11 sessions of 50 objects, with and without the official lists."""

import os

import numpy as np
import pytest
from PIL import Image

from keras_cbpnet.data import load_dataset, make_stream
from keras_cbpnet.errors import UserError

TRAIN = (1, 2, 4, 5, 6, 8, 9, 11)
TEST = (3, 7, 10)


def name(session, number, frame=0):
    return f"s{session}/o{number}/C_{session:02d}_{number:02d}_{frame:03d}.png"


def write_image(root, session, number, frame=0):
    file = root / name(session, number, frame)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (128, 128), (session, number, frame)).save(file, compress_level=1)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """core50_128x128 with one frame of every object and session, and two of object 1 in session 2."""
    root = tmp_path_factory.mktemp("core50") / "core50_128x128"
    for session in range(1, 12):
        for number in range(1, 51):
            write_image(root, session, number)
    write_image(root, 2, 1, frame=7)
    (root / "s1/o1/D_01_01_000.png").write_bytes((root / name(1, 1)).read_bytes())  # a depth map
    return root


@pytest.fixture
def root(frames, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    root = tmp_path / "datasets" / "core50"
    root.mkdir(parents=True)
    (root / "core50_128x128").symlink_to(frames)
    return root


def write_list(root, file, lines):
    run = root / "batches_filelists" / "NI_inc" / "run0"
    run.mkdir(parents=True, exist_ok=True)
    (run / file).write_text("".join(f"{line}\n" for line in lines))


def write_lists(root):
    """The NI lists of a run that meets the sessions backwards; they leave frame 7 out."""
    for batch, session in enumerate(reversed(TRAIN)):
        lines = (f"{name(session, number)} {number - 1}" for number in range(1, 51))
        write_list(root, f"train_batch_{batch:02d}_filelist.txt", lines)
    write_list(root, "test_filelist.txt", (f"{name(s, number)} {number - 1}" for s in TEST for number in range(1, 51)))


def refused(root):
    before = sorted(os.walk(root))
    with pytest.raises(UserError) as error:
        load_dataset("core50", 1)
    assert "\n" not in str(error.value)
    assert sorted(os.walk(root)) == before
    return str(error.value)


def test_the_split_is_by_session(root):
    data = load_dataset("core50", 8)
    assert len(data.class_names) == 50
    assert data.class_names[:6] == (*(f"plug_adapter{i}" for i in range(1, 6)), "mobile_phone1")
    assert data.class_names[49] == "remote_control5"
    assert data.domain_names == ("s1", "s2", "s4", "s5", "s6", "s8", "s9", "s11")
    assert data.domain_test is None
    assert np.bincount(data.domain_train).tolist() == [50, 51, 50, 50, 50, 50, 50, 50]
    assert len(data.x_test) == 150
    assert sorted(set(data.x_test[:, 0, 0, 0])) == list(TEST)
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        np.testing.assert_array_equal(x[:, 0, 0, 1], y + 1)
    np.testing.assert_array_equal(data.x_train[:, 0, 0, 0], np.array(TRAIN)[data.domain_train])


def test_official_lists_say_what_is_used(root):
    write_lists(root)
    data = load_dataset("core50", 8)
    assert (len(data.x_train), len(data.x_test)) == (400, 150)
    assert data.x_train[..., 2].max() == 0
    assert data.x_train[0, 0, 0].tolist() == [11, 1, 0]
    np.testing.assert_array_equal(data.x_train[:, 0, 0, 0], np.array(TRAIN)[data.domain_train])
    np.testing.assert_array_equal(data.x_train[:, 0, 0, 1], data.y_train + 1)


def test_the_domain_stream_tests_on_one_fixed_set(root):
    stream = make_stream("domain", load_dataset("core50", 1), 8, seed=0)
    assert sorted(int(task.x_train[0, 0, 0, 0]) for task in stream) == list(TRAIN)
    for task in stream:
        assert len(set(task.x_train[:, 0, 0, 0])) == 1
        assert task.test_rows.tolist() == list(range(150))


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("train_batch_03_filelist.txt", ["s1/o51/C_01_51_000.png 50"], "has the line 's1/o51/C_01_51_000.png 50'"),
        ("train_batch_03_filelist.txt", [name(6, 1) + " 0"], "'plug_adapter2' has no train images in domain 's6'"),
        ("test_filelist.txt", [name(3, 1, 99) + " 0"], "C_03_01_099.png is missing"),
        ("test_filelist.txt", [], "test_filelist.txt is empty"),
    ],
)
def test_damaged_lists(root, file, lines, message):
    write_lists(root)
    write_list(root, file, lines)
    assert message in refused(root)


def test_an_incomplete_download(root):
    (root / "core50_128x128").unlink()
    for number in (1, 2):
        write_image(root / "core50_128x128", 1, number)
    assert f"{root / 'core50_128x128/s1/o3'} has no images" in refused(root)


def test_lists_without_the_run(root):
    (root / "batches_filelists").mkdir()
    assert "NI_inc/run0 has no train_batch" in refused(root)
