"""What is frozen is computed once, whatever happens on the way."""

import errno
import json
import os
import threading

import numpy as np
import pytest

from keras_cbpnet.data import Dataset
from keras_cbpnet.training.features import cache
from keras_cbpnet.training.features.cache import (
    CachedFeatures,
    cache_folder,
    computed_once,
    fingerprint,
)

# Dimensions: N images, D feature size.
N, D = 10, 3
EXPECTED = np.arange(N * D, dtype=np.float32).reshape(N, D) ** 2


class KilledError(Exception):
    pass


class Source:
    """Computes rows of EXPECTED + shift, remembers which, and is killed when it shall give row `until`."""

    def __init__(self, until=N, shift=0):
        self.until, self.shift, self.asked = until, shift, []

    def __call__(self, start, end):
        if end > self.until:
            raise KilledError
        self.asked += range(start, end)
        return EXPECTED[start:end] + self.shift


@pytest.fixture(autouse=True)
def _four_rows_a_record(monkeypatch):
    monkeypatch.setattr(cache, "ROWS", 4)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "features.npy"


def once(file, source, identity="a", shape=(N, D), say=lambda line: None):
    return computed_once(file, identity, shape, np.float32, source, say)


def test_a_second_call_computes_nothing(file):
    source, lines = Source(), []
    found = once(file, source, say=lines.append)
    np.testing.assert_array_equal(found, EXPECTED)
    assert found.dtype == np.float32
    assert source.asked == list(range(N))
    assert lines == ["4 of 10 images", "8 of 10 images", "10 of 10 images"]
    again = Source()
    np.testing.assert_array_equal(once(file, again, say=lines.append), EXPECTED)
    assert again.asked == []
    assert len(lines) == 3
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0
    np.testing.assert_array_equal(np.load(file), EXPECTED)


def test_a_killed_computation_goes_on_where_it_was(file):
    with pytest.raises(KilledError):
        once(file, Source(until=9))
    assert json.loads(file.with_suffix(".json").read_text())["done"] == 8
    rest = Source()
    np.testing.assert_array_equal(once(file, rest), EXPECTED)
    assert rest.asked == [8, 9]


def test_another_identity_or_shape_is_computed_anew(file):
    first = once(file, Source())
    other = Source(shift=1)
    np.testing.assert_array_equal(once(file, other, identity="b"), EXPECTED + 1)
    assert other.asked == list(range(N))
    np.testing.assert_array_equal(first, EXPECTED)  # whoever still reads the old file is not disturbed
    fewer = Source()
    np.testing.assert_array_equal(once(file, fewer, identity="b", shape=(N - 1, D)), EXPECTED[:-1])
    assert fewer.asked == list(range(N - 1))


RECORDS = ["", "{", "[]", "null", "{}", '{"identity": "a", "shape": [10, 3]}', '"done"', "\x00\x00"]
DONE = [0, -4, 11, 2.5e9, "ten", None]


@pytest.mark.parametrize("text", [*RECORDS, *({"identity": "a", "shape": [N, D], "done": done} for done in DONE)])
def test_a_damaged_record_is_no_record(text, file):
    once(file, Source(shift=7))
    file.with_suffix(".json").write_text(text if isinstance(text, str) else json.dumps(text))
    source = Source()
    np.testing.assert_array_equal(once(file, source), EXPECTED)
    assert source.asked == list(range(N))
    assert json.loads(file.with_suffix(".json").read_text())["done"] == N


def cut(content):
    return content[:-5]


def emptied(content):
    return b""


def text(content):
    return b"this is text"


def of_another_type(content):
    return content.replace(b"<f4", b"<i4")


@pytest.mark.parametrize("damage", [cut, emptied, text, of_another_type])
@pytest.mark.parametrize("until", [9, N])
def test_a_damaged_file_is_computed_anew(damage, until, file):
    if until == N:
        once(file, Source(shift=7))
    else:
        with pytest.raises(KilledError):
            once(file, Source(until, shift=7))
    content = file.read_bytes()
    assert damage(content) != content
    file.write_bytes(damage(content))
    source = Source()
    np.testing.assert_array_equal(once(file, source), EXPECTED)
    assert source.asked == list(range(N))


def test_a_missing_file_is_computed_anew(file):
    once(file, Source())
    file.unlink()
    source = Source()
    np.testing.assert_array_equal(once(file, source), EXPECTED)
    assert len(source.asked) == N


def test_two_at_once_compute_it_once(file):
    """A lock belongs to an opened file, so two threads contend for it as two processes do."""
    source, found = Source(), []
    begun, go_on = threading.Event(), threading.Event()

    def slow(start, end):
        begun.set()
        go_on.wait(10)
        return source(start, end)

    def work():
        found.append(np.array(once(file, slow)))

    threads = [threading.Thread(target=work) for _ in range(2)]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    threads[1].join(0.2)
    assert threads[1].is_alive()  # waits
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert source.asked == list(range(N))
    for array in found:
        np.testing.assert_array_equal(array, EXPECTED)
    assert len(found) == 2


def test_the_folder_is_what_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_CBPNET_CACHE", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "named"
    monkeypatch.setenv("KERAS_CBPNET_CACHE", "~/here")
    assert cache_folder() == tmp_path / "home" / "here"
    monkeypatch.delenv("KERAS_CBPNET_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "keras_cbpnet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / "home" / ".cache" / "keras_cbpnet"


def test_a_user_without_a_home_folder_has_no_cache_folder(monkeypatch):
    for name in ("XDG_CACHE_HOME", "KERAS_CBPNET_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user id without a name, and no HOME
    with pytest.raises(FileNotFoundError, match="no home folder is known"):
        cache_folder()
    monkeypatch.setenv("KERAS_CBPNET_CACHE", "~/here")
    with pytest.raises(FileNotFoundError, match="no home folder is known"):
        cache_folder()


# Where nothing can be cached ------------------------------------------------------------------------------------------


class Cached(CachedFeatures):
    """Features of ten images, EXPECTED, with what was said and asked for."""

    def __init__(self):
        self.source, self.lines = Source(), []
        images, labels = np.zeros((N, 1, 1, 3), np.uint8), np.arange(N) % 2
        data = Dataset(images, labels, images, labels, ("a", "b"))
        super().__init__(data, "model", D, lambda part, rows: self.source(rows[0], rows[-1] + 1), self.lines.append)

    def all(self, part="train"):
        return self.rows(part, np.arange(N))


@pytest.fixture
def nothing_said(monkeypatch):
    monkeypatch.setattr(cache, "WARNED", set())


def full_after(monkeypatch, calls):
    """A disk that is full after so many calls of fsync."""
    done = []

    def fsync(descriptor):
        done.append(descriptor)
        if len(done) > calls:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", fsync)


def test_a_full_disk_costs_nothing_but_the_cache(monkeypatch, tmp_path, nothing_said):
    monkeypatch.setenv("KERAS_CBPNET_CACHE", str(tmp_path / "full"))
    full_after(monkeypatch, 3)  # one block: its rows, its record, the record's name
    features = Cached()
    np.testing.assert_array_equal(features.all(), EXPECTED)
    np.testing.assert_array_equal(features.all("test"), EXPECTED)
    lost = [range(4, 8), range(4)]  # of each part, the block that found the disk full
    assert sorted(features.source.asked) == sorted(row for rows in (range(N), range(N), *lost) for row in rows)
    warnings = [line for line in features.lines if line.startswith("warning: ")]
    assert warnings == [
        "warning: features are not cached (No space left on device); "
        "set KERAS_CBPNET_CACHE to a folder with room to keep them"
    ]
    assert [file.suffix for file in (tmp_path / "full").iterdir() if file.suffix in (".npy", ".json")] == []


@pytest.mark.parametrize("kind", ["a file", "nowhere", "no home", "no locks"])
def test_a_folder_that_cannot_be_used_is_one_line(kind, monkeypatch, tmp_path, nothing_said):
    folder = tmp_path / "cache"
    monkeypatch.setenv("KERAS_CBPNET_CACHE", str(folder))
    if kind == "a file":
        folder.write_text("")
    elif kind == "nowhere":
        monkeypatch.setenv("KERAS_CBPNET_CACHE", "/proc/nowhere/cache")
    elif kind == "no home":
        monkeypatch.setenv("KERAS_CBPNET_CACHE", "~/cache")
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    else:
        monkeypatch.setattr(cache.fcntl, "flock", no_locks)
    features = Cached()
    np.testing.assert_array_equal(features.all(), EXPECTED)
    assert features.source.asked == list(range(N))
    warnings = [line for line in features.lines if line.startswith("warning: features are not cached (")]
    assert len(warnings) == 1


def no_locks(file, operation):
    raise OSError(errno.ENOLCK, "No locks available")


def test_what_is_cached_whole_is_read_where_nothing_can_be_written(monkeypatch, tmp_path, nothing_said):
    monkeypatch.setenv("KERAS_CBPNET_CACHE", str(tmp_path))
    Cached().all()
    monkeypatch.setattr(cache.fcntl, "flock", no_locks)
    features = Cached()
    np.testing.assert_array_equal(features.all(), EXPECTED)
    assert (features.source.asked, features.lines) == ([], [])


def test_a_fingerprint_tells_apart():
    assert fingerprint("a", b"b") == fingerprint(b"a", memoryview(b"b"))
    assert len({fingerprint("a"), fingerprint("b"), fingerprint("a", b"b"), fingerprint()}) == 4
