"""Builds a bundle's micro/ folder against the TFLM sources: no make, and only the kernels that its operators need."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

DOWNLOADS = Path("tensorflow/lite/micro/tools/make/downloads")  # where TFLM's own make puts what it fetches
HEADERS = (Path("."), DOWNLOADS / "flatbuffers/include", DOWNLOADS / "gemmlowp", DOWNLOADS / "ruy")
CORE = (
    "tensorflow/lite/core/api/*.cc",
    "tensorflow/lite/core/c/*.cc",
    "tensorflow/lite/kernels/kernel_util.cc",
    "tensorflow/lite/kernels/internal/*.cc",
    "tensorflow/lite/kernels/internal/reference/*.cc",
    "tensorflow/lite/micro/*.cc",
    "tensorflow/lite/micro/arena_allocator/*.cc",
    "tensorflow/lite/micro/memory_planner/*.cc",
    "tensorflow/lite/micro/tflite_bridge/*.cc",
    "tensorflow/lite/micro/kernels/kernel_util*.cc",
    "tensorflow/compiler/mlir/lite/core/api/*.cc",
    "tensorflow/compiler/mlir/lite/schema/*.cc",
)
NO_PART = re.compile(r"test|fake_|mock_|hexdump|recording_micro|_util_arc|_mli")
FLAGS = ("-std=c++17", "-w", "-fno-exceptions", "-fno-rtti", "-DTF_LITE_STATIC_MEMORY")
COMMON = "tensorflow/lite/micro/kernels/kernel_util.h", "tensorflow/lite/micro/micro_interpreter.h"


def include_flags(root: Path) -> list[str]:
    """Return the compiler's flags for TFLM's headers, as system headers: their warnings are not ours."""
    return [word for part in HEADERS for word in ("-isystem", str(root / part))]


def build_library(root: Path, kinds: Iterable[str], folder: Path) -> Path:
    """Return the library of TFLM in `root` with the kernels of the operators `kinds`, made in `folder`.

    What is in `folder` already is not compiled again.
    """
    sources = [path for pattern in CORE for path in sorted(root.glob(pattern)) if not NO_PART.search(path.name)]
    sources += _kernels(root / "tensorflow/lite/micro/kernels", kinds)
    folder.mkdir(parents=True, exist_ok=True)
    flags = [*FLAGS, *include_flags(root)]
    header = folder / "common.h"
    if not header.with_suffix(".h.gch").exists():  # precompiled: the schema alone takes a file several seconds
        header.write_text("".join(f'#include "{name}"\n' for name in COMMON))
        run("g++", *flags, "-x", "c++-header", header, "-o", header.with_suffix(".h.gch"))
    objects = []
    for source in sources:
        objects.append(folder / f"{'_'.join(source.relative_to(root).with_suffix('').parts)}.o")
        if not objects[-1].exists():
            run("g++", *flags, "-include", header, "-c", source, "-o", objects[-1])
    library = folder / "libtflm.a"
    library.unlink(missing_ok=True)
    run("ar", "rcs", library, *objects)
    return library


def run(*command: str | Path) -> str:
    """Run a command; return what it printed, RuntimeError with the same where it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def _kernels(folder: Path, kinds: Iterable[str]) -> list[Path]:
    """Return the sources that define the kernels of `kinds`, and what those share."""
    texts = {path: path.read_text() for path in sorted(folder.glob("*.cc")) if not NO_PART.search(path.name)}
    found: dict[Path, None] = {}
    for kind in kinds:
        maker = re.compile(rf"^TFLMRegistration Register_{kind}\(\)", re.MULTILINE)
        path = next(path for path, text in texts.items() if maker.search(text))
        found[path] = None
        for shared in texts:
            if shared.stem == f"{path.stem}_common":
                found[shared] = None
    return list(found)
