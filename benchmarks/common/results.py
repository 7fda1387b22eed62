"""Results of several seeds in one file: what ran, on what, each seed's record, mean and standard deviation."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

from firmware_host.shared.files import write_atomically
from firmware_host.shared.runtimes import interpreters

PACKAGES = ("keras-cbpnet", "tensorflow", "keras", "numpy", "scikit-learn")
NAMES = ("seed", "tasks")  # keys of a record that name things; all others are measurements

Reduce = Callable[[Sequence[float]], Optional[float]]


def collect(arguments: Sequence[str], commit: str | None, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the contents of a result file.

    Args:
        arguments: of the command line.
        commit: that was measured.
        records: one per seed, as `pipeline.measure` returns it.

    Returns:
        command, commit, versions, machine, seeds, results, and mean and std (of the sample, n - 1; None for a single
        seed) of every number in them.
    """
    measured = [{key: value for key, value in record.items() if key not in NAMES} for record in records]
    return {
        **provenance("benchmarks.digits", arguments, commit),
        "seeds": [record["seed"] for record in records],
        "results": list(records),
        "mean": over_seeds(measured, statistics.fmean),
        "std": over_seeds(measured, lambda values: statistics.stdev(values) if len(values) > 1 else None),
    }


def provenance(module: str, arguments: Sequence[str], commit: str | None) -> dict[str, Any]:
    """Return what made a result: command, commit, versions, machine.

    Args:
        module: that was run.
        arguments: of its command line.
        commit: that was measured.
    """
    runtimes = [name.replace("_", "-") for name in interpreters()]  # as the distributions are called
    return {
        "command": shlex.join(["python", "-m", module, *arguments]),
        "commit": commit,
        "versions": {"python": platform.python_version(), **_versions((*PACKAGES, *runtimes))},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
    }


def over_seeds(values: Sequence[Any], reduce: Reduce) -> Any:
    """Return one tree for the trees `values`: numbers are reduced, strings and booleans left out, all else is None."""
    first = values[0]
    if isinstance(first, dict):
        kept = [key for key in first if not isinstance(first[key], (str, bool))]
        return {key: over_seeds([value[key] for value in values], reduce) for key in kept}
    if isinstance(first, list):
        return [over_seeds(column, reduce) for column in zip(*values)]
    if all(isinstance(value, (int, float)) for value in values):
        return reduce(values)
    return None


def paired(first: Sequence[float], second: Sequence[float]) -> dict[str, float]:
    """Return the mean `difference` of `first` to `second`, pair by pair, and its 95 % interval, `low` to `high`."""
    from scipy.stats import t

    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean, n = statistics.fmean(differences), len(differences)
    half = math.inf if n < 2 else float(t.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    return {"difference": mean, "low": mean - half, "high": mean + half}


def commit(folder: Path) -> str | None:
    """Return the commit of the checkout in `folder`, with `-dirty` if files differ from it; None without git."""
    try:
        revision = _git(folder, "rev-parse", "HEAD")
        return revision + ("-dirty" if _git(folder, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def output_file(text: str) -> Path:
    """Return the path in `text`, an argparse type: a folder fails, and what cannot be made, before the measurement."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; give the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write(path: Path, result: dict[str, Any]) -> None:
    """Write `result` as JSON, whole or not at all."""
    write_atomically(path, (json.dumps(result, indent=1) + "\n").encode(), path.with_name(path.name + ".part"))


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _versions(packages: Sequence[str]) -> dict[str, str]:
    installed = {}
    for name in packages:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
