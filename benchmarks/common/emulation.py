"""Instructions that an aarch64 processor executes for a piece of work, counted by a plugin of QEMU's user emulation.

A count says nothing of caches or of how many instructions a processor executes in a cycle; it is the same on every
machine and under any load.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.stages import ROOT

CPUS = ("cortex-a53", "cortex-a72", "cortex-a76")
EMULATOR, COMPILER = "qemu-aarch64", "cc"  # Debian's qemu-user; qemu-user-static has no plugins
PLUGIN = Path(__file__).with_name("instructions.c")

_GUEST = """
import os, sys
import numpy as np
root, bundle = sys.argv[1:]
sys.path.insert(0, root)
from firmware_host.bundle import read_bundle
from firmware_host.engines.find import find_runtime, open_backbone
bundle = read_bundle(bundle)
backbone = open_backbone(bundle, find_runtime("tflite_runtime"))
image = np.random.default_rng(0).integers(0, 256, (*bundle.image_size, 3), np.uint8)
backbone(image)
os.getppid()
backbone(image)
os.getppid()
"""


class MissingError(Exception):
    """What the emulation needs is not here; the message says what and where it comes from."""


def count_instructions(bundle: Path, cpu: str) -> int:
    """Return the instructions of one image through the backbone of `bundle` under tflite-runtime on one thread.

    Args:
        bundle: its folder.
        cpu: a processor's name for QEMU.

    Raises:
        MissingError: as `count_between`.
    """
    first, second = count_between(_GUEST, [str(bundle)], cpu, 2)
    return second - first


def count_between(program: str, arguments: Sequence[str], cpu: str, marks: int) -> list[int]:
    """Return the instructions that a Python program of the guest has executed at each of its `marks`.

    Args:
        program: its text; it calls `os.getppid()` at each mark, and its first argument is the root of this tree.
        arguments: all others.
        cpu: a processor's name for QEMU.
        marks: how many there must be.

    Raises:
        MissingError: the emulator, a C compiler or the emulated system is not here.
    """
    for needed, package in ((EMULATOR, "qemu-user"), (COMPILER, "gcc")):
        if not shutil.which(needed):
            raise MissingError(f"{needed} is not installed (apt install {package})")
    system, python = _system()
    with tempfile.TemporaryDirectory() as name:
        plugin = Path(name) / "instructions.so"
        subprocess.run([COMPILER, "-O2", "-shared", "-fPIC", "-o", str(plugin), str(PLUGIN)], check=True)
        emulator = [EMULATOR, "-cpu", cpu, "-plugin", str(plugin), "-L", str(system)]
        emulator += ["-E", f"PYTHONPATH={system.parent / 'wheels'}"]
        emulator += ["-E", "OPENBLAS_NUM_THREADS=1", "-E", "OMP_NUM_THREADS=1"]  # others would spin, and be counted
        command = [*emulator, str(python), "-c", program, str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
    counts = re.findall(r"^instructions (\d+)$", done.stderr, re.MULTILINE)
    if done.returncode or len(counts) != marks:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise MissingError(f"{EMULATOR} with a plugin failed: {last}")
    return [int(count) for count in counts]


def _system() -> tuple[Path, Path]:
    """Return the aarch64 Debian that `make test-aarch64` makes, and its Python."""
    sys.path.append(str(ROOT / "tests"))
    from runtimes.environments import UnavailableError, aarch64_root

    try:
        system, _ = aarch64_root()
    except UnavailableError as error:
        raise MissingError(str(error)) from error
    finally:
        sys.path.remove(str(ROOT / "tests"))
    return system, system / "usr" / "bin" / "python3.11"
