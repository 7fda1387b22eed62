"""One configuration under several seeds: a run folder each, and what they have in common."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import joblib

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.keras_settings import use_keras
from keras_cbpnet.metrics import over_seeds
from keras_cbpnet.training.data import open_data
from keras_cbpnet.training.inputs import read_inputs
from keras_cbpnet.training.report import write_comparison
from keras_cbpnet.training.run import contents, is_run_of, write_json


def train_seeds(
    config: TrainConfig,
    seeds: Sequence[int],
    output: Path,
    progress: Callable[[str], None] = lambda line: None,
    board: bool = False,
    jobs: int = 1,
) -> dict[str, Any]:
    """Train `config` under each of `seeds`, into `output`/seed-S; write summary.json and report.html.

    The runs go through joblib, so that `joblib.parallel_config` can send them to a cluster, by Dask or Ray, whose
    machines see the same folder. The results do not depend on where and how many at a time they were made.

    Args:
        config: of every run, but for its seed.
        seeds: all different.
        output: folder; runs that a killed command finished or began there are taken up.
        progress: as for `train`; with several jobs lines come as the runs write them, each with its seed.
        board: as for `train`.
        jobs: runs at a time, each in a process of its own; 1: in turn, in this process.

    Returns:
        The contents of summary.json: `config`, `seeds`, and `mean` and `std` of every metric by its name.

    Raises:
        UserError: as `train`; or `output` holds something else.
    """
    if (output / "summary.json").exists():
        raise UserError(f"{output} holds a finished run of several seeds; choose another --output or remove it")
    left = ("report.html", "report.html.tmp", "summary.json.part")  # by a kill just before the end
    if output.exists() and any(not e.name.startswith("seed-") for e in contents(output, left)):
        raise UserError(f"{output} exists and is not an unfinished run of several seeds; choose another --output")
    missing = []
    for seed in seeds:
        folder, own = output / f"seed-{seed}", dataclasses.replace(config, seed=seed)
        if (folder / "metrics.json").exists() and is_run_of(folder, own):
            open_data(own, folder)  # refuses others
        else:
            missing.append((own, folder))
    say = progress if jobs == 1 else _print
    joblib.Parallel(n_jobs=jobs)(joblib.delayed(_train)(own, folder, say, board) for own, folder in missing)
    runs = [_metrics(output / f"seed-{seed}") for seed in seeds]
    settings = {key: value for key, value in config.to_dict().items() if key != "seed"}
    summary = {"config": settings, "seeds": list(seeds), **over_seeds(runs)}
    write_comparison(output / "report.html", f"{output.name}: {config.method}", {config.method: runs})
    write_json(output / "summary.json", summary)
    return summary


def _train(config: TrainConfig, folder: Path, say: Callable[[str], None], board: bool) -> None:
    """Train one run, in this process or in another one."""
    say(f"seed {config.seed}")

    def progress(line: str) -> None:
        say(f"seed {config.seed}: {line}" if say is _print else line)

    inputs = read_inputs(config, folder, progress)
    use_keras("tensorflow")
    from keras_cbpnet.training.trainer import train_on

    train_on(inputs, folder, progress, board)


def _print(line: str) -> None:
    """Show a line of a run that is not in this process."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _metrics(run: Path) -> dict[str, Any]:
    file = run / "metrics.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}); remove {run} to train it again") from None
