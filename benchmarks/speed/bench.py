"""What the measurements share: where things lie, what is made once, and what is missing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Optional

from benchmarks.common.stages import ROOT
from benchmarks.common.turns import Spread, alternate, ratio
from benchmarks.common.worker import Worker
from benchmarks.speed import peers
from benchmarks.speed.rows import Found, Row

__all__ = ["SCRIPTS", "Area", "Bench", "MissingError", "cpu_seconds"]

SCRIPTS = Path(__file__).parent / "scripts"
LIMIT = 600  # seconds that one child may take
BEFORE = "5553d0b261f31490f04b9049227ea90c090e5f27"  # the commit before photos were read ahead and decoded small
QUICK = ("--dataset", "digits", "--tasks", "2", "--epochs", "0", "--head-epochs", "1")  # a training of seconds


class MissingError(Exception):
    """What a row needs is not here; the message says what."""


class Bench:
    """A measurement.

    Args:
        work: folder to work in.
        peer_folder: of the peers' environment.
        weights: of DeiT-tiny; None: drawn, which takes as long.
        photos: folder of photos by class; None: none are at hand.
        rounds: turns of what alternates.
        say: takes a line of progress.
    """

    def __init__(
        self,
        work: Path,
        peer_folder: Path,
        weights: Optional[Path],
        photos: Optional[Path],
        rounds: int,
        say: Callable[[str], None],
    ) -> None:
        self.work, self.photos, self.rounds, self.say = work, photos, rounds, say
        self._peer_folder, self._weights = peer_folder, weights
        self.growth: dict[str, dict[str, dict[str, Any]]] = {}  # curves, by what is measured and what grows

    @cached_property
    def _peers(self) -> Path:
        try:
            return peers.prepare(self._peer_folder, self.say)
        except (OSError, subprocess.CalledProcessError) as error:
            raise MissingError(f"an environment for peers cannot be made ({error})") from error

    def peer(self, *modules: str) -> str:
        """Return the Python of the peers' environment, which has `modules`.

        Raises:
            MissingError: it lacks one of them.
        """
        if missing := peers.missing_of(self._peers, *modules):
            raise MissingError(f"{', '.join(missing)} could not be installed beside the project")
        return str(self._peers)

    def run(self, *words: str | Path, python: str = sys.executable, limit: int = LIMIT) -> str:
        """Run `python WORDS` in the project's root with one thread; return what it prints.

        Raises:
            MissingError: it failed, or took longer than `limit` seconds.
        """
        command = [python, *map(str, words)]
        shown = " ".join(command[1:4])
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired:
            raise MissingError(f"{shown} took longer than {limit} s") from None
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise MissingError(f"{shown} failed: {said[:200]}")
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a child: compiled files beside nothing of the user's, TensorFlow's words away."""
        added = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(self.work / "pyc")}
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, **added}

    def benchmark(self, module: str, *words: str | Path, limit: int = LIMIT) -> dict[str, Any]:
        """Run `python -m benchmarks.MODULE WORDS --json FILE`; return the result."""
        file = self.work / f"{module}.json"
        self.run("-m", f"benchmarks.{module}", *words, "--json", file, limit=limit)
        return dict(json.loads(file.read_text(encoding="utf-8")))

    @contextlib.contextmanager
    def workers(self, commands: Mapping[str, Sequence[str | Path]]) -> Iterator[dict[str, Worker]]:
        """Start a worker for each command: a Python, a script of `SCRIPTS` and its arguments; end them afterwards."""
        found: dict[str, Worker] = {}
        try:
            for name, (python, script, *arguments) in commands.items():
                found[name] = Worker(name, SCRIPTS / script, arguments, str(python))
            yield found
        finally:
            for worker in found.values():
                worker.end()

    def compare(
        self, commands: Mapping[str, Sequence[str | Path]], calls: Mapping[str, int], rounds: int = 0
    ) -> dict[tuple[str, str], Spread]:
        """Let workers alternate; return the ratio of each to each other one.

        Args:
            commands: as for `workers`.
            calls: of a turn, by name; the first turn of each does not count.
            rounds: turns; 0: the bench's.
        """
        with self.workers(commands) as workers:
            for name, worker in workers.items():
                worker.ask(max(1, calls[name] // 4))
            turns = alternate(workers, rounds or self.rounds, calls)
        return {(one, other): ratio(turns[one], turns[other]) for one in turns for other in turns if one != other}

    @cached_property
    def networks(self) -> Path:
        """A folder with the backbones to time, as files; made once."""
        folder = self.work / "networks"
        if not (folder / "done").exists():
            self.say("making backbones to time")
            weights = [self._weights.resolve()] if self._weights else []
            self.run(SCRIPTS / "networks.py", folder, *weights)
            (folder / "done").touch()
        return folder

    def onnx(self, name: str, kind: str) -> Path:
        """Return the network `name` as an ONNX file, `float32` or `int8`, with the same shapes and drawn weights."""
        file = self.networks / f"{name}.{kind}.onnx"
        if not file.exists():
            python = self.peer("onnx", "onnxruntime", "numpy", "sympy")
            self.run(SCRIPTS / "onnx_vit.py", self.networks / f"{name}.json", self.networks, python=python)
        return file

    @cached_property
    def bundle(self) -> Path:
        """A bundle of digits, made once."""
        folder = self.work / "bundle"
        if not (folder / "manifest.json").exists():
            self.say("training and converting a bundle to measure with")
            run = self.work / "run"
            for old in (run, folder):
                shutil.rmtree(old, ignore_errors=True)
            self.run("-m", "keras_cbpnet.train", *QUICK, "--output", run, "--bundle", folder)
        return folder

    @cached_property
    def earlier(self) -> Path:
        """A checkout of the project as it was before photos were read ahead."""
        folder = self.work / "before"
        if not (folder / ".git").exists():
            command = ["git", "worktree", "add", "--detach", "--force", str(folder), BEFORE]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stderr.strip().splitlines() or ["git failed"])[-1]
                raise MissingError(f"commit {BEFORE[:7]} to compare with cannot be checked out ({said})")
        return folder

    def remove_earlier(self) -> None:
        """Remove the checkout of `earlier`, which git keeps a record of."""
        if (self.work / "before").exists():
            command = ["git", "worktree", "remove", "--force", str(self.work / "before")]
            subprocess.run(command, cwd=ROOT, capture_output=True, check=False)


class Area(NamedTuple):
    """Rows that are measured together.

    Args:
        rows: what is asked.
        measure: measures them all.
    """

    rows: Sequence[Row]
    measure: Callable[[Bench], Mapping[str, Found]]


def cpu_seconds(environment: Mapping[str, str], *words: str | Path) -> tuple[float, int]:
    """Run `python WORDS`; return the processor seconds of it and of its children, and its exit code."""
    before = os.times()
    done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, env=dict(environment), capture_output=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, done.returncode
