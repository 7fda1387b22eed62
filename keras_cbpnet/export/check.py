"""What is wrong with a conversion, found before Keras is imported: its options, the run, the folder, the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from firmware_host.bundle.contract import OPTIMIZERS
from firmware_host.shared.runtimes import RUNTIMES, installed_interpreters, interpreters
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.micro.compression import Compression, parse_compression
from keras_cbpnet.export.micro.packages import PACKAGES
from keras_cbpnet.export.recipes import AUTO, OF_TARGET, RECIPES, recipes_for
from keras_cbpnet.export.replacing import recover
from keras_cbpnet.export.source import RunFiles, read_run
from keras_cbpnet.plasticity import parse_rule
from keras_cbpnet.plasticity.cbp_surprise import CbpSurprise
from keras_cbpnet.tables import METHODS, RULES

__all__ = [
    "TARGETS",
    "check_compression",
    "check_options",
    "check_output",
    "check_planned",
    "prepare",
    "refusal",
    "runtimes_to_verify",
]

TARGETS = tuple(OF_TARGET)


def check_options(recipe: str, target: str, optimizer: str | None, package: str | None, end: bool = False) -> None:
    """Refuse options of `keras_cbpnet.convert` that do not exist, or not together.

    Raises:
        UserError: one line about the first of them.
    """
    for name, value, allowed in (
        ("recipe", recipe, (AUTO, *RECIPES)), ("target", target, TARGETS),
        ("optimizer", optimizer, (None, *OPTIMIZERS)), ("package", package, (None, *PACKAGES)),
    ):  # fmt: skip
        if value not in allowed:
            raise UserError(f"{name} is {value!r}; choose one of {', '.join(map(str, allowed))}")
    if optimizer is not None and target != "micro":
        raise UserError(f"--optimizer {optimizer} is for --target micro; a Linux device learns by Adam")
    if package is not None and target != "micro":
        raise UserError(f"--package {package} is for --target micro; for a Linux device there is `pip install`")
    if end and target != "micro":
        raise UserError("--end is for --target micro; a Linux device is the edge that learns")
    if end and package is not None:
        raise UserError(f"--package {package} is of a board that learns; take the folder micro/ of --end as it is")


def check_compression(text: str | None, recipes: Sequence[str], target: str) -> Compression | None:
    """Return what --compress asks for, where it does.

    Raises:
        UserError: it is unknown, the target has no operator for it, or a recipe has no int8 weights alone.
    """
    if text is None:
        return None
    compression = parse_compression(text)
    if target != "micro":
        raise UserError(
            f"--compress {text} is for --target micro: TFLM alone has the operator DECODE, and zeros or tables would "
            "not save time on Linux"
        )
    for recipe in recipes:
        if not RECIPES[recipes_for(recipe, target)[0]].integer:
            raise UserError(f"--compress {text} is for int8 weights, not for --recipe {recipe}; leave one of them out")
    return compression


def prepare(
    run: Path,
    config: TrainConfig,
    outputs: Sequence[Path],
    target: str = "linux",
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> RunFiles:
    """Return what a conversion of `run` starts from; refuse first what cannot be converted, or not to `outputs`.

    Args:
        run: the run folder.
        config: its configuration.
        outputs: bundle folders that will be written; what a killed conversion left beside them is repaired.
        target: kind of device.
        overwrite: whether existing bundles may be replaced.
        progress: takes a line of warning.

    Raises:
        UserError: the run is unfinished, damaged or of a kind that no device can go on with, its data are gone, a
            folder exists, or nothing is installed to verify with.
    """
    if not (run / "metrics.json").exists():
        raise UserError(f"{run} is not finished; run its training again, it goes on where it stopped")
    for output in outputs:
        recover(output)
        check_output(output, overwrite)
    if reason := refusal(config, target):
        raise UserError(f"{run} cannot become a bundle: {reason}")
    runtimes_to_verify()
    return read_run(run, config, progress)


def check_output(output: Path, overwrite: bool = False) -> None:
    """Refuse a folder that a bundle cannot be written to.

    Raises:
        UserError: it exists and may not be replaced, or is not a bundle.
    """
    if output.exists():
        if not overwrite:
            raise UserError(f"{output} exists; choose another --output or give --overwrite")
        if not (output / "manifest.json").exists():
            raise UserError(f"{output} is not a bundle, so --overwrite does not replace it; choose another --output")


def check_planned(bundle: Path, config: TrainConfig, several: bool) -> None:
    """Refuse, before a training, what would end the conversion of its run into the folder `bundle`.

    Args:
        bundle: folder that will be written.
        config: of the run.
        several: whether the training is of several runs.

    Raises:
        UserError: it is; no device can go on with such a run; the folder exists; nothing is installed to verify with.
    """
    if several:
        raise UserError("--bundle is for one run; give --seed, or convert the run of --seeds that is wanted")
    if bundle.exists():
        raise UserError(f"{bundle} exists; choose another --bundle or remove it")
    if reason := refusal(config):
        raise UserError(f"--bundle {bundle} cannot be made: {reason}")
    runtimes_to_verify()


def runtimes_to_verify() -> Sequence[str]:
    """Return the interpreters to verify with.

    Raises:
        UserError: none is installed.
    """
    if found := installed_interpreters():
        return found
    extra = RUNTIMES[interpreters()[0]].extra
    raise UserError(
        f"no interpreter of {', '.join(interpreters())} is installed to verify the bundle with; "
        f"pip install 'keras-cbpnet[{extra}]'"
    )


def refusal(config: TrainConfig, target: str = "linux") -> str | None:
    """Return why a run of `config` cannot become a bundle for `target`, or None if it can."""
    if not METHODS.find(config.method).in_bundle:
        possible = ", ".join(name for name, method in METHODS.items() if method.in_bundle)
        return f"a device cannot go on with --method {config.method}; it can with {possible}"
    rule = parse_rule(config.plasticity)
    if not rule.on_device:
        known = ", ".join(name for name, kind in RULES.items() if kind.on_device)
        return f"a device does not know --plasticity {config.plasticity}; it knows {known}"
    if isinstance(rule, CbpSurprise) and target == "micro":
        return "--target micro has one step for everything, without drift detection; train with --plasticity cbp"
    if config.stream == "drifting":
        return "the class names of --stream drifting mean something else in every task; train with --stream class"
    return None
