"""Training and conversion from Python: what `keras-cbpnet train` and `convert` do, with keywords named as the options.

For example `run = keras_cbpnet.train(dataset="folder:photos", device_tasks=1, output="run")`, and then
`bundle = keras_cbpnet.convert(run, output="kitchen")`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

from firmware_host.bundle import Bundle
from firmware_host.shared.arguments import given_path
from keras_cbpnet.boards import AUTO, BOARDS, pick
from keras_cbpnet.config import PAPER, TrainConfig, read_config
from keras_cbpnet.conversion import convert_recipes
from keras_cbpnet.data.sources import defaults_of, shows_photographs
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.check import TARGETS, check_planned
from keras_cbpnet.export.recipes import AUTO as AUTO_RECIPE
from keras_cbpnet.keras_settings import use_keras
from keras_cbpnet.models.sizes import whitened
from keras_cbpnet.presets import default_preset, get_preset
from keras_cbpnet.training.check import check
from keras_cbpnet.training.inputs import read_inputs
from keras_cbpnet.training.workers import find_place

if TYPE_CHECKING:
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier

__all__ = ["TARGETS", "Plan", "Run", "convert", "load_run", "plan", "train"]

PathLike = Union[str, "os.PathLike[str]"]
Progress = Optional[Callable[[str], None]]
FIELDS = tuple(field.name for field in dataclasses.fields(TrainConfig))
BESIDE = ("board", "paper")  # settings that decide others


class Run:
    """A finished run.

    Attributes:
        path: its folder.
        config: its configuration.
        metrics: the contents of metrics.json; of several seeds, those of summary.json.
        runs: where it stands for several seeds, the run of each; it has no model then, and no classes.
    """

    def __init__(
        self, path: PathLike, config: TrainConfig, metrics: Mapping[str, Any], runs: Sequence[Run] = ()
    ) -> None:
        self.path, self.config, self.metrics, self.runs = Path(path), config, dict(metrics), tuple(runs)

    def __repr__(self) -> str:
        return f"<Run {os.fspath(self.path)!r}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that it knows, in slot order."""
        return tuple(self.metrics.get("classes", ()))

    @cached_property
    def model(self) -> PromptedClassifier:
        """The trained model, pixels [B, S, S, 3] to logits over the class slots; raises UserError if it is damaged."""
        if self.runs:
            raise UserError(f"{self.path} holds {len(self.runs)} runs: take the model of one of `runs`")
        use_keras("tensorflow")
        import keras

        from keras_cbpnet.models import prompted_classifier as registered

        file = self.path / "model.keras"
        try:
            model: registered.PromptedClassifier = keras.models.load_model(file)
        except Exception as error:  # zipfile, h5py and Keras raise many kinds for one cause
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise UserError(f"{file} is missing or damaged ({reason}); train again into another folder") from error
        return model


class Plan(NamedTuple):
    """What a training will do.

    Attributes:
        config: with every default of the data set's or the board's preset.
        notes: lines about what was chosen.
    """

    config: TrainConfig
    notes: tuple[str, ...]


def train(
    *,
    output: PathLike = "runs/run",
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    tensorboard: bool = False,
    bundle: PathLike | None = None,
    progress: Progress = None,
    **settings: Any,
) -> Run:
    """Train on a stream of tasks and write the run folder, as `keras-cbpnet train` does.

    Args:
        output: run folder to write; a run of the same settings that was stopped there goes on.
        seeds: of several runs, each in a folder of `output`, instead of `seed`.
        bundle: bundle folder that the finished run is converted into, as `convert` does it by default, in this process;
            None: none. Of several workers (see `training.workers`), worker 0 does it.
        jobs: runs of `seeds` at a time, through joblib; -1: as many as there are cores.
        tensorboard: whether events for TensorBoard are written into the run folder.
        progress: called with a line at every step.
        **settings: the other options, by the names of `TrainConfig` (`device_tasks=1` is `--device-tasks 1`); `board`
            for `preset="auto"`, and `paper=True`. What is left out or None has the default that the option has.

    Returns:
        The finished run.

    Raises:
        UserError: a setting, the data or the folder cannot be used; nothing is overwritten.
    """
    config, notes = plan(settings)
    check(config)
    say = progress or _nothing
    folder = given_path(output, "output")
    made = None if bundle is None else given_path(bundle, "bundle")
    if made is not None:
        check_planned(made, config, several=seeds is not None)
    for note in notes:
        say(note)
    if jobs != 1 and seeds is None:
        raise UserError(f"jobs are of several seeds, got {jobs} and no seeds; give both, or neither")
    if jobs == 0 or jobs < -1:
        raise UserError(f"jobs must be a number from 1 on, or -1 for one a core, got {jobs}")
    place = find_place(config)
    if seeds is not None:
        if place.size > 1:
            raise UserError("workers of TF_CONFIG share the batches of one run, not of several seeds; leave one out")
        from keras_cbpnet.training.sweep import train_seeds

        summary = train_seeds(config, seeds, folder, say, tensorboard, jobs)
        return Run(folder, config, summary, [load_run(folder / f"seed-{seed}") for seed in seeds])
    inputs = read_inputs(config, folder, say, place.rank > 0)
    use_keras("tensorflow")
    from keras_cbpnet.training import trainer

    run = Run(folder, config, trainer.train_on(inputs, folder, say, tensorboard and not place.rank, place))
    if made is not None and not place.rank:
        convert(run, made, progress=say)
    return run


def convert(
    run: Run | PathLike,
    output: PathLike | None = None,
    *,
    depth: int | Sequence[int] = 0,
    recipe: str = AUTO_RECIPE,
    target: str = "linux",
    slots: int = 0,
    optimizer: str | None = None,
    package: str | None = None,
    end: bool = False,
    compress: str | None = None,
    overwrite: bool = False,
    report: bool = False,
    progress: Progress = None,
) -> Bundle:
    """Convert a finished run into a bundle for the device, as `keras-cbpnet convert` does, and verify it.

    Args:
        run: a run or its folder.
        output: bundle folder to write; None: the run folder's name with `.bundle` appended.
        depth: first encoder blocks of the backbone; 0: the run's. For another number the head is learned again. Of
            several, the first is the largest, whose head serves all; a device chooses one.
        recipe: of the quantization, a name in `keras_cbpnet.export.recipes.RECIPES`; `auto`: those of the target.
        target: kind of device, `linux` or `micro`.
        slots: class slots, for a device that ran out; 0: the run's.
        optimizer: on the device, with target `micro`: `adam` or `sgd`; None: adam.
        package: of the C++, with target `micro`, also written into the bundle, in a folder of that name: `arduino`,
            `platformio`, `espidf` or `zephyr`; None: none.
        end: whether, with target `micro`, the board sends features and takes over what an edge learns from them
            instead of learning itself.
        compress: how the firmware keeps the backbone's int8 weights, with target `micro`: `lut:B`, a table of 2^B
            values for each tensor, or `prune`, without the zeros; None: as they are.
        overwrite: whether an existing bundle may be replaced.
        report: whether report.json tells what quantization costs and which operators accelerators would run.
        progress: called with a line at every step.

    Returns:
        The bundle; its report.json says what came of it.

    Raises:
        UserError: the run is unfinished, the folder exists, an option is wrong or a verification failed; nothing is
            written then.
    """
    folder = run.path if isinstance(run, Run) else given_path(run, "run")
    made = convert_recipes(
        folder,
        (recipe,),
        None if output is None else given_path(output, "output"),
        depth=(depth,) if isinstance(depth, int) else tuple(depth) or (0,),
        target=target,
        slots=slots,
        optimizer=optimizer,
        package=package,
        end=end,
        compress=compress,
        overwrite=overwrite,
        report=report,
        progress=progress or _nothing,
    )
    return made[recipe]


def load_run(path: PathLike) -> Run:
    """Return the finished run in a folder; its model is loaded when it is asked for.

    Raises:
        UserError: it is not a run folder, not finished, or damaged.
    """
    folder = given_path(path, "run")
    config, file = read_config(folder), folder / "metrics.json"
    try:
        return Run(folder, config, json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{folder} holds an unfinished run; train it with the same settings again to go on") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}); train again into another folder") from None


def plan(settings: Mapping[str, Any]) -> Plan:
    """Return what a training of these settings will do, as `train` takes them.

    What is given counts before the preset's defaults, these before those of `paper`, and these before `TrainConfig`'s.

    Raises:
        UserError: a setting has an unknown name or a value of another type, or no preset suits the board.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    unknown = [name for name in given if name not in (*FIELDS, *BESIDE)]
    if unknown:
        raise UserError(f"unknown setting {', '.join(unknown)}; known settings: {', '.join((*FIELDS, *BESIDE))}")
    paper, board = bool(given.pop("paper", False)), given.pop("board", None)
    base: dict[str, Any] = {**TrainConfig().to_dict(), **(PAPER if paper else {})}
    dataset, method = ({**base, **given}[name] for name in ("dataset", "method"))
    preset = given.get("preset", default_preset(shows_photographs(str(dataset))))
    preset, weights, notes = _backbone(preset, board, given.get("weights"))
    own, of_data = get_preset(preset).defaults(dataset, method), defaults_of(str(dataset))
    for whose, changed in ((preset, own), (dataset, of_data)):
        if changed:
            notes.append(f"defaults of {whose}: " + ", ".join(f"{key} {changed[key]}" for key in changed))
    config = {**base, **own, **of_data, **given, "preset": preset, "weights": weights or ""}
    # Types alone: whether a number is in its range, or one at all, is for `check` to say.
    TrainConfig.from_dict({name: 1.0 if isinstance(value, float) else value for name, value in config.items()})
    settled, why = whitened(TrainConfig(**config))
    return Plan(settled, (*notes, *([why] if why else [])))


def _backbone(preset: str, board: str | None, weights: PathLike | None) -> tuple[str, str | None, list[str]]:
    """Return the preset, the file of its weights (None: its own), and which one `auto` picks and why.

    Raises:
        UserError: `auto` without a board or a board without `auto`, or no backbone suits the board.
    """
    file = None if weights is None else os.fspath(weights)
    if preset != AUTO:
        if board:
            raise UserError(f"--board {board} needs --preset {AUTO}, which picks the backbone by it")
        return preset, file, []
    if not board:
        raise UserError(f"--preset {AUTO} needs --board, one of {', '.join(BOARDS)}")
    found, why = pick(board, bool(file))
    unused = "; --weights is not used" if file and get_preset(found).weights else ""
    return found, None if unused else file, [why + unused]


def _nothing(line: str) -> None:
    """Say nothing."""
