"""A run as bundles by one recipe or several, in one process: what `keras_cbpnet.convert` and its command do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from firmware_host.bundle import Bundle, read_bundle
from keras_cbpnet.config import read_config
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.check import check_compression, check_options, prepare
from keras_cbpnet.export.recipes import recipes_for
from keras_cbpnet.export.source import read_run
from keras_cbpnet.keras_settings import check_installed, use_keras
from keras_cbpnet.models.sizes import backbone_of
from keras_cbpnet.training.depths import at_depth, check_early, sources_at_depths

__all__ = ["convert_recipes"]


def convert_recipes(
    run: Path,
    recipes: Sequence[str],
    output: Path | None = None,
    *,
    depth: Sequence[int] = (0,),
    target: str = "linux",
    slots: int = 0,
    optimizer: str | None = None,
    package: str | None = None,
    end: bool = False,
    compress: str | None = None,
    overwrite: bool = False,
    report: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Bundle]:
    """Convert a finished run by several recipes, which load it and convert its head once: a bundle for each.

    Args:
        run: its folder.
        recipes: names in `RECIPES`, or `auto`, all different; of several, each bundle is a folder of `output`, named by
            its recipe.
        output: bundle folder to write; None: the run folder's name with `.bundle` appended.
        depth: first encoder blocks of the backbone, 0 for the run's, and of others beside it for the device to choose.
        target: kind of device.
        slots: class slots.
        optimizer: on the device.
        package: of the C++.
        end: whether the board predicts alone and another device learns.
        compress: how the firmware keeps the backbone's weights.
        overwrite: whether existing bundles may be replaced.
        report: whether every report.json tells what quantization costs.
        progress: called with a line at every step.

    Returns:
        The bundles by recipe.

    Raises:
        UserError: the run is unfinished, a folder exists, an option is wrong or a verification failed; a bundle that
            was already written stays.
    """
    for recipe in recipes:
        check_options(recipe, target, optimizer, package, end)
    compression = check_compression(compress, recipes, target)
    if not recipes or len(set(recipes)) < len(recipes):
        raise UserError(f"recipes are {', '.join(recipes) or 'none'}; give at least one, all different")
    named = run.resolve() if run.name in ("", "..") else run
    place = named.with_name(named.name + ".bundle") if output is None else output
    outputs = {recipe: place if len(recipes) == 1 else place / recipe for recipe in recipes}
    check_installed("keras", "tensorflow")
    config, (first, *early) = read_config(run), depth
    backbone_of(config, first or config.depth)  # which has as many blocks
    files = prepare(run, config, list(outputs.values()), target, overwrite, progress)
    check_early(config, first, early, target)
    use_keras("tensorflow")
    from keras_cbpnet.export.bundle import write_bundles
    from keras_cbpnet.export.order import Order

    orders = {
        outputs[recipe]: Order(
            recipes_for(recipe, target), target, slots, optimizer or "adam", package, tuple(early), end, compression
        )
        for recipe in recipes
    }
    with at_depth(run, config, first, progress) as (folder, found):
        converted = files if folder == run else read_run(folder, found, progress)
        others = list(sources_at_depths(run, config, found.depth, progress)) if report else ()
        write_bundles(converted, orders, progress, report, others)
    return {recipe: read_bundle(path) for recipe, path in outputs.items()}
