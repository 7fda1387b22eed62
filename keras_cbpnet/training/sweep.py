"""One configuration under several seeds: a run folder each, and what they have in common."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
) -> dict[str, Any]:
    """Train `config` under each of `seeds` in turn, into `output`/seed-S; write summary.json and report.html.

    Args:
        config: of every run, but for its seed.
        seeds: all different.
        output: folder; runs that a killed command finished or began there are taken up.
        progress: as for `train`.
        board: as for `train`.

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
    runs = []
    for seed in seeds:
        folder, own = output / f"seed-{seed}", dataclasses.replace(config, seed=seed)
        if (folder / "metrics.json").exists() and is_run_of(folder, own):
            open_data(own, folder)  # refuses others
            runs.append(_metrics(folder))
            continue
        progress(f"seed {seed}")
        inputs = read_inputs(own, folder, progress)
        use_keras("tensorflow")
        from keras_cbpnet.training.trainer import train_on

        runs.append(train_on(inputs, folder, progress, board))
    settings = {key: value for key, value in config.to_dict().items() if key != "seed"}
    summary = {"config": settings, "seeds": list(seeds), **over_seeds(runs)}
    write_comparison(output / "report.html", f"{output.name}: {config.method}", {config.method: runs})
    write_json(output / "summary.json", summary)
    return summary


def _metrics(run: Path) -> dict[str, Any]:
    file = run / "metrics.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}); remove {run} to train it again") from None
