"""Stages: announced on stderr, each command in a separate process, its seconds counted."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXPLAINED = (2, 130)  # bad input, interrupt: every command has printed its own line


class StageError(Exception):
    """A stage ended with an exit code other than 0; the text is empty where the stage itself has said why."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Stages:
    """Announces stages, runs their commands and adds up the seconds of each.

    Args:
        total: number of stages to announce.
        prefix: of every announcement.
    """

    def __init__(self, total: int, prefix: str = "") -> None:
        self.seconds: dict[str, float] = {}
        self._total = total
        self._prefix = prefix
        self._number = 0

    def announce(self, text: str) -> None:
        """Say that the next stage begins."""
        self._number += 1
        print(f"{self._prefix}[{self._number}/{self._total}] {text}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Say something within a stage."""
        print(f"{self._prefix}      {text}", file=sys.stderr, flush=True)

    def run(self, name: str, *arguments: str | Path) -> dict[str, Any]:
        """Run `python ARGUMENTS` in the repository's root, its stderr passed through.

        Args:
            name: whose seconds these are.
            arguments: of the command; paths are given as `shown` names them.

        Returns:
            The last line of its stdout, read as JSON.

        Raises:
            StageError: the exit code is not 0.
        """
        words = [shown(word) if isinstance(word, Path) else word for word in arguments]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
        started = time.perf_counter()
        command = [sys.executable, *words]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": _stderr()}
        done = subprocess.run(command, cwd=ROOT, env=environment, text=True, **pipes)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        last = (done.stdout.splitlines() or [""])[-1]
        if done.returncode:
            code = done.returncode if done.returncode > 0 else 128 - done.returncode  # as a shell reports a signal
            shown_command = shlex.join(["python", *words])
            raise StageError("" if code in EXPLAINED else f"exit code {code} of: {shown_command} {last}".rstrip(), code)
        return dict(json.loads(last))


def _stderr() -> int | None:
    """Return the file descriptor of sys.stderr, which may be another than 2; None where it has none."""
    try:
        return sys.stderr.fileno()
    except io.UnsupportedOperation:
        return None


def shown(path: Path) -> str:
    """Return `path` as seen from the repository's root if it lies in it, else in full; links are not followed."""
    path = Path(os.path.abspath(path))
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
