"""Instructions that an aarch64 processor executes for one image, counted by a plugin of QEMU's user emulation.

A count says nothing of caches or of how many instructions a processor executes in a cycle; it is the same on every
machine and under any load.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
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
        MissingError: the emulator, a C compiler or the emulated system is not here.
    """
    for program, package in ((EMULATOR, "qemu-user"), (COMPILER, "gcc")):
        if not shutil.which(program):
            raise MissingError(f"{program} is not installed (apt install {package})")
    system, python = _system()
    with tempfile.TemporaryDirectory() as name:
        plugin = Path(name) / "instructions.so"
        subprocess.run([COMPILER, "-O2", "-shared", "-fPIC", "-o", str(plugin), str(PLUGIN)], check=True)
        emulator = [EMULATOR, "-cpu", cpu, "-plugin", str(plugin), "-L", str(system)]
        emulator += ["-E", f"PYTHONPATH={system.parent / 'wheels'}"]
        command = [*emulator, str(python), "-c", _GUEST, str(ROOT), str(bundle)]
        done = subprocess.run(command, capture_output=True, text=True)
    counts = re.findall(r"^instructions (\d+)$", done.stderr, re.MULTILINE)
    if done.returncode or len(counts) != 2:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise MissingError(f"{EMULATOR} with a plugin failed: {last}")
    return int(counts[1]) - int(counts[0])


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
