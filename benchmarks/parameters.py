"""What each part adds to a backbone: `python -m benchmarks.parameters [--classes 100] [--tasks 10]`.

Counted on the layers themselves, built from the presets' configurations; no weights are needed.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.common.tables import markdown
from keras_cbpnet import cli
from keras_cbpnet.config import BackboneConfig, HeadConfig, PromptConfig
from keras_cbpnet.presets import PRESETS, get_preset

PAPER_SHARE = 0.002  # of the backbone, what the paper's block may add (arXiv 2509.15785)


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.parameters", description=__doc__)
    parser.add_argument("--classes", type=int, default=100, help="class slots")
    parser.add_argument("--tasks", type=int, default=10, help="tasks, an expert prompt each")
    parser.add_argument("--units", type=int, default=64, help="hidden units of the block")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    args = build_parser().parse_args(argv)
    records = [count(name, args.classes, args.tasks, args.units) for name in PRESETS]
    if args.json:
        print(json.dumps(records))
        return 0
    rows = [["preset", "multiply-adds, M", "backbone", "prompts", "share", "block", "share", "residual head", "share"]]
    for r in records:
        parts = [cell for part in ("prompts", "block", "head") for cell in shared(r[part], r["backbone"])]
        rows.append([r["preset"], f"{r['multiply_adds'] / 1e6:,.1f}", f"{r['backbone']:,}", *parts])
    print(markdown(rows))
    print(
        f"\nParameters; {args.tasks} expert prompts, {args.units} hidden units, {args.classes} classes; multiply-adds "
        "of one pass over an image (there are two, query and prompted). The `prototype` block has no other parameters: "
        "its class means are statistics. `residual` adds a linear head."
    )
    names = list(records[0]["selection"])
    print("\nMultiply-adds of an image by what selects its prompt, M, without the rows that prompts add:\n")
    rows = [["preset", *names]]
    for r in records:
        whole = r["selection"]["two passes"]
        cells = [f"{r['selection'][name] / 1e6:,.1f} ({r['selection'][name] / whole:.1%})" for name in names]
        rows.append([r["preset"], *cells])
    print(markdown(rows))
    return 0


def selections(config: BackboneConfig) -> dict[str, int | None]:
    """Return what may select the prompt, by name: the encoder blocks of its query pass, None for no such pass."""
    early = {f"query depth {depth}": depth for depth in (1, 2, 3) if depth < config.depth}
    return {"two passes": config.depth, **early, "fixed": None}


def shared(part: int, whole: int) -> tuple[str, str]:
    """Return a count and its share of `whole` as text."""
    return f"{part:,}", f"{100 * part / whole:.3g} %"


def count(name: str, classes: int, tasks: int, units: int) -> dict[str, Any]:
    """Return the number of parameters of the backbone of preset `name` and of what is put around it.

    Args:
        name: of the preset.
        classes: class slots.
        tasks: expert prompts.
        units: hidden units of the block.

    Returns:
        preset, multiply_adds (of one pass), selection (multiply-adds by what selects the prompt), backbone, prompts,
        block (w1, b1, w2, b2) and head (w3, b3 of the `residual` form).
    """
    from keras_cbpnet.layers.cbp_head import CBPHead
    from keras_cbpnet.layers.prompts import Prompts
    from keras_cbpnet.models.backbone import Backbone

    config = get_preset(name).backbone
    backbone = Backbone(config)
    backbone.build()
    prompts = Prompts(PromptConfig(pool=tasks), config.width)
    prompts.build((None, config.width))
    head = CBPHead(HeadConfig(block="residual", units=units, slots=classes), own_step=True)
    head.build((None, config.width))
    sizes = {key: math.prod(value.shape) for key, value in head.state.items()}
    return {
        "preset": name,
        "multiply_adds": multiply_adds(config),
        "selection": {name: multiply_adds(config, depth) for name, depth in selections(config).items()},
        "backbone": backbone.count_params(),
        "prompts": sum(math.prod(v.shape) for v in prompts.trainable_variables),
        "block": sum(sizes[key] for key in ("w1", "b1", "w2", "b2")),
        "head": sizes["w3"] + sizes["b3"],
    }


def multiply_adds(config: BackboneConfig, query_depth: int | None = None) -> int:
    """Return the multiply-adds of convolutions, dense layers and attention for one image.

    Args:
        config: of the backbone.
        query_depth: encoder blocks of a query pass before the other one, on the same tokens; None: there is none.
    """
    convolutions = [(filters, 3, stride) for filters, stride in config.stem]
    convolutions.append((config.width, 3 if config.stem else config.patch_size, config.patch_size))
    side, channels, total = config.image_size, 3, 0
    for filters, kernel, stride in convolutions:
        side = -(-side // stride)
        total += side**2 * kernel**2 * channels * filters
        channels = filters
    passes = [config.depth] if query_depth is None else [config.depth, query_depth]
    return total + sum(_pass(config, side * side + 1, depth) for depth in passes)


def _pass(config: BackboneConfig, tokens: int, depth: int) -> int:
    """Return the multiply-adds of `depth` encoder blocks, and of what comes after the last one."""
    d, total = config.width, 0
    for block in range(depth):
        rows = 1 if block == depth - 1 else tokens  # after the last block only the class token is wanted
        total += 2 * tokens * d * d  # keys, values
        total += rows * (2 * d * d + 2 * d * config.mlp_width)  # query, output, MLP
        total += 2 * rows * tokens * d  # scores, context
    return total + (d * d if config.whitening and depth == config.depth else 0)


if __name__ == "__main__":
    sys.exit(cli.run(main))
