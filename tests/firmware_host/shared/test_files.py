"""A file is there as before or as it should be, and nothing is left beside it."""

import os

import numpy as np
import pytest

from firmware_host.shared.files import sha256_of_file, write_atomically


@pytest.fixture(params=[None, "file.part"])
def temporary(request, tmp_path):
    return tmp_path / request.param if request.param else None


@pytest.mark.parametrize("content", [b"new", lambda file: file.write(b"new")], ids=["bytes", "writer"])
def test_a_file_is_replaced(tmp_path, temporary, content):
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    write_atomically(path, content, temporary)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]
    assert path.stat().st_mode & 0o777 == 0o644
    assert sha256_of_file(path) == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"


def test_a_writer_that_fails_leaves_the_old_file(tmp_path, temporary):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def half(file):
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, half, temporary)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_arrays_are_streamed(tmp_path):
    write_atomically(tmp_path / "file.npz", lambda file: np.savez(file, a=np.arange(3)))
    with np.load(tmp_path / "file.npz") as file:
        np.testing.assert_array_equal(file["a"], [0, 1, 2])


def test_what_a_kill_left_is_written_over(tmp_path):
    (tmp_path / "file.part").write_bytes(b"longer than the new content")
    write_atomically(tmp_path / "file", b"new", tmp_path / "file.part")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]
