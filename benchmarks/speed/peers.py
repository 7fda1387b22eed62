"""The environment of what this project is compared with: PyTorch and ONNX Runtime, apart from .venv."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["LONGEST", "PACKAGES", "missing_of", "prepare"]

# Versions whose figures are comparable from one machine to the next. PyTorch's plain wheel for x86-64 brings CUDA; with
# an index of CPU wheels in pip's own configuration (`extra-index-url`, `find-links`) pip takes the smaller one.
PACKAGES = {
    "numpy": "numpy>=1.26,<3",
    "PIL": "pillow>=10,<14",
    "onnx": "onnx>=1.16,<2",
    "onnxruntime": "onnxruntime>=1.20,<2",
    "sympy": "sympy>=1.12,<2",  # what onnxruntime's quantization imports
    "torch": "torch==2.13.0",
}
LONGEST = 600  # seconds that pip may take for one package


def prepare(folder: Path, say: Callable[[str], None]) -> Path:
    """Make the environment in `folder`, or complete it; return its Python, which may lack some of the packages.

    Each package is installed on its own, so that one that cannot be had leaves the others.

    Args:
        folder: of the environment.
        say: takes a line about each package that is installed, or cannot be.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"peers: making {folder}")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    for module in missing_of(python, *PACKAGES):
        say(f"peers: installing {PACKAGES[module]}")
        command = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", PACKAGES[module]]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
            said = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        except subprocess.TimeoutExpired:
            said = f"pip took longer than {LONGEST} s"
        if said:
            say(f"peers: {PACKAGES[module]} cannot be installed ({said}); its rows are left out")
    return python


def missing_of(python: Path, *modules: str) -> list[str]:
    """Return those of `modules` that the environment of `python` does not have."""
    code = "import importlib.util, sys; print(*[m for m in sys.argv[1:] if importlib.util.find_spec(m) is None])"
    done = subprocess.run([str(python), "-c", code, *modules], capture_output=True, text=True, check=False)
    return list(modules) if done.returncode else done.stdout.split()
