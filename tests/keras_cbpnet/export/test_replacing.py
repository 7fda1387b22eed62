"""A folder that replaces another: a kill at any point leaves the one or the other, whole."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

from keras_cbpnet.export.replacing import recover, replacing

OLD = {"manifest.json": "old", "micro/model.h": "old"}
NEW = {"manifest.json": "new", "labels.txt": "new"}

KILLED = """
import os, pathlib, shutil, signal, sys
from keras_cbpnet.export.replacing import replacing

point, output = sys.argv[1], pathlib.Path(sys.argv[2])

def killed_before(owner, name, turn):
    function, calls = getattr(owner, name), []
    def call(*arguments, **options):
        calls.append(1)
        if len(calls) == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    setattr(owner, name, call)

points = {
    "before it is begun": (pathlib.Path, "mkdir", 1),
    "before the old one is moved": (pathlib.Path, "rename", 1),
    "before the new one is moved": (pathlib.Path, "rename", 2),
    "before the old one is given up": (pathlib.Path, "rename", 3),
    "before the old one is deleted": (shutil, "rmtree", 1),
    "while the old one is deleted": (os, "rmdir", 1),
    "at the end": (sys, "exit", 1),
}
if point in points:
    killed_before(*points[point])
with replacing(output) as folder:
    (folder / "manifest.json").write_text("new")
    if point == "while it is written":
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "labels.txt").write_text("new")
sys.exit(0)
"""
LEFT = {  # after recovery
    "before it is begun": OLD,
    "while it is written": OLD,
    "before the old one is moved": OLD,
    "before the new one is moved": OLD,
    "before the old one is given up": NEW,
    "before the old one is deleted": NEW,
    "while the old one is deleted": NEW,
    "at the end": NEW,
}


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("point", LEFT)
def test_a_kill_loses_nothing(point, tmp_path):
    output = tmp_path / "a.bundle"
    write(output, OLD)
    done = subprocess.run([sys.executable, "-c", KILLED, point, str(output)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    recover(output)
    assert contents(output) == LEFT[point]
    assert [path.name for path in tmp_path.iterdir()] == ["a.bundle"]
    with replacing(output) as folder:
        write(folder, {"again": "again"})
    assert contents(output) == {"again": "again"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.bundle"]


def test_a_kill_before_there_was_any_leaves_nothing(tmp_path):
    output = tmp_path / "sub" / "a.bundle"
    command = [sys.executable, "-c", KILLED, "while it is written", str(output)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    recover(output)
    assert list(output.parent.iterdir()) == []


def test_an_error_leaves_the_old_one(tmp_path):
    output = tmp_path / "a.bundle"
    write(output, OLD)
    with pytest.raises(FileExistsError), replacing(output) as folder:
        write(folder, {**NEW, "labels.txt/0": "a file cannot lie in a file"})
    assert contents(output) == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["a.bundle"]


def test_other_folders_beside_it_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output, others = Path("a.bundle"), [Path(name) for name in ("a.bundle.old", "a.bundle.part", ".b.bundle.old")]
    for folder in (output, *others):
        write(folder, OLD)
    recover(output)
    with replacing(output) as folder:
        write(folder, NEW)
    assert contents(output) == NEW
    for folder in others:
        assert contents(folder) == OLD
