"""Something to be timed in a process of its own, which answers when it is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.stages import ROOT
from keras_cbpnet.errors import UserError

__all__ = ["Worker"]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Worker:
    """A program as a process with one thread, which answers a line of numbers to a line.

    Args:
        name: for messages.
        script: the program.
        arguments: of its command line.
        python: the interpreter.
        root: the checkout that its imports come from.
    """

    def __init__(
        self, name: str, script: Path, arguments: Sequence[str | Path], python: str = sys.executable, root: Path = ROOT
    ) -> None:
        env, pipe = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(root)}, subprocess.PIPE
        command = [python, script, *arguments]
        self._name = name
        try:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env)
        except OSError as error:
            raise UserError(f"{python} does not start ({error.strerror}); give the Python of an environment") from error

    def ask(self, line: object) -> list[float]:
        """Return the numbers that it answers to a line; raises UserError where it ends instead."""
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None and stdout is not None and stderr is not None  # noqa: S101, PT018
        try:
            stdin.write(f"{line}\n")
            stdin.flush()
        except BrokenPipeError:
            answer = ""
        else:
            answer = stdout.readline()
        if not answer:
            said = (stderr.read().strip().splitlines() or ["it ended without a word"])[-1]
            raise UserError(f"{self._name} does not answer ({said}); install it again, or leave it out")
        return [float(number) for number in answer.split()]

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
