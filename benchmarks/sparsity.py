"""Sparse training of a small network, schedule by schedule: `python -m benchmarks.sparsity --data digits,wiar:FILE`.

An MLP of 300 and 100 hidden units on handwritten digits and on WiFi channel state (WiAR; FILE is wiar_images_32.npz: 16
activities, the last third of the repetitions of every setting is for testing). Each row keeps the same share of all
weights and has as many steps; --json writes the accuracies.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import results, wiar
from benchmarks.common.stages import ROOT, shown
from benchmarks.common.tables import markdown
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError
from keras_cbpnet.sparsity import powerprop
from keras_cbpnet.sparsity.budgets import Mask, densities, masks, swapped
from keras_cbpnet.sparsity.schedule import Moment, find_schedule

# Dimensions: N windows, d inputs, B of a batch, K classes.

Array = NDArray[np.floating[Any]]
HIDDEN, BATCH, CLIP = (300, 100), 64, 1.0
RATE, MOMENTUM, PLAIN_RATE = 0.05, 0.9, 0.1  # the last without momentum


class Data(NamedTuple):
    """Windows float32 [N, d], standardised by the training part, and their classes [N]."""

    x: Array
    y: NDArray[np.int64]
    x_test: Array
    y_test: NDArray[np.int64]


class Net:
    """Dense layers with relu between, as `kernels` [in, out] and `biases`; He's start."""

    def __init__(self, sizes: Sequence[int], rng: np.random.Generator) -> None:
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        self.kernels = [rng.normal(0, math.sqrt(2 / a), (a, b)).astype(np.float32) for a, b in pairs]
        self.biases = [np.zeros(b, np.float32) for _, b in pairs]

    def forward(self, x: Array, kernels: Sequence[Array]) -> list[Array]:
        """Return what every layer sees, and the logits, for `x` [B, d]."""
        seen = [x]
        for place, (kernel, bias) in enumerate(zip(kernels, self.biases, strict=True)):
            out = seen[-1] @ kernel + bias
            seen.append(np.maximum(out, 0) if place + 1 < len(kernels) else out)
        return seen

    def gradients(self, x: Array, y: NDArray[np.int64], kernels: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """Return the gradients of the mean cross-entropy by every entry of `kernels`, members or not, and by biases."""
        seen = self.forward(x, kernels)
        powers = np.exp(seen[-1] - seen[-1].max(axis=1, keepdims=True))
        delta = powers / powers.sum(axis=1, keepdims=True)
        delta[np.arange(len(y)), y] -= 1
        delta /= len(y)
        found: list[tuple[Array, Array]] = []
        for place in reversed(range(len(kernels))):
            found.append((seen[place].T @ delta, delta.sum(axis=0)))
            delta = (delta @ kernels[place].T) * (seen[place] > 0)
        return [each for each, _ in reversed(found)], [each for _, each in reversed(found)]


# --- where a mask begins ----------------------------------------------------------------------------------------------
def by_chance(net: Net, data: Data, density: float, rng: np.random.Generator) -> list[Mask]:
    """Members drawn by chance, as many in each layer as ERK says."""
    return masks([rng.random(kernel.shape) for kernel in net.kernels], density, "erk")


def by_magnitude(net: Net, data: Data, density: float, rng: np.random.Generator) -> list[Mask]:
    """The largest of each layer."""
    return masks([np.abs(kernel) for kernel in net.kernels], density, "erk")


def all_of_them(net: Net, data: Data, density: float, rng: np.random.Generator) -> list[Mask]:
    """Every weight: a schedule takes them away later, or nothing does."""
    return [np.ones(kernel.shape, bool) for kernel in net.kernels]


def by_gradients(score: Callable[[Array, Array, Array], Array]) -> Callable[..., list[Mask]]:
    """Return the choice by `score` of weights, their mean gradient and its mean square over batches, in all layers."""

    def choose(net: Net, data: Data, density: float, rng: np.random.Generator) -> list[Mask]:
        found = [net.gradients(x, y, net.kernels)[0] for x, y in _epoch(data, rng)]
        scores = []
        for place, kernel in enumerate(net.kernels):
            each = np.stack([gradients[place] for gradients in found])
            scores.append(score(kernel, each.mean(axis=0), np.square(each).mean(axis=0)))
        return masks(scores, density, "global")

    return choose


class Row(NamedTuple):
    """One way to a sparse network: where its mask begins, its schedule, and whether what is out begins at zero.

    With `alpha` the parameters are those of Powerpropagation, and SGD has no momentum; 1 are the weights themselves.
    """

    begin: Callable[..., list[Mask]]
    schedule: str = "oneshot"
    empty: bool = True
    alpha: float | None = None


ROWS = {
    "dense": Row(all_of_them),
    "random ERK": Row(by_chance),
    "magnitude": Row(by_magnitude),
    "SNIP": Row(by_gradients(lambda w, g, f: np.abs(w * g))),
    "FTS, published": Row(by_gradients(lambda w, g, f: np.abs(w * g + 0.5 * BATCH * w * w * f))),
    "FTS, signed": Row(by_gradients(lambda w, g, f: -w * g + 0.5 * BATCH * w * w * f)),
    "GMP": Row(all_of_them, "gmp"),
    "RigL": Row(by_chance, "rigl"),
    "EAST, cyclic": Row(by_chance, "east"),
    "pruned at the end": Row(all_of_them, "afterwards", alpha=1.0),
    **{f"Powerpropagation, {alpha}": Row(all_of_them, "afterwards", alpha=alpha) for alpha in (2, 4)},
    "IEE": Row(by_chance, "iee", empty=False),
    "IEE, zero start": Row(by_chance, "iee"),
}


def train(data: Data, row: Row, density: float, steps: int, every: int, seed: int) -> float:
    """Train a network and return its accuracy on the test part, 0..1.

    SGD with momentum (see `Row`), its rate falling along a cosine, gradients clipped to norm 1. Moments of what does
    not train are held; what leaves the mask begins at zero again, unless the row says that it keeps its value.
    """
    rng = np.random.default_rng(seed)
    net = Net((data.x.shape[1], *HIDDEN, int(data.y.max()) + 1), rng)
    mask = row.begin(net, data, density, rng)
    alpha = row.alpha or 1.0
    first, momentum = (RATE, MOMENTUM) if row.alpha is None else (PLAIN_RATE, 0.0)
    net.kernels = [powerprop.started(kernel, alpha) for kernel in net.kernels]
    at = find_schedule(row.schedule, density, every)
    shapes = [kernel.shape for kernel in net.kernels]
    if row.empty:
        net.kernels = [kernel * m for kernel, m in zip(net.kernels, mask, strict=True)]
    speed = [np.zeros_like(each) for each in (*net.kernels, *net.biases)]
    batches = _batches(data, rng)
    for step in range(steps):
        x, y = next(batches)
        moment = at(step, steps)
        if moment.changes:
            kernels = [powerprop.weights(kernel * m, alpha) for kernel, m in zip(net.kernels, mask, strict=True)]
            grown = net.gradients(x, y, kernels)[0] if moment.grows == "gradient" else net.kernels
            mask = _changed(net, mask, grown, densities(shapes, moment.density), moment)
            if row.empty and moment.grows == "gradient":
                net.kernels = [kernel * m for kernel, m in zip(net.kernels, mask, strict=True)]
        explores = moment.trains == "others"
        kernels = [kernel * (m | explores) for kernel, m in zip(net.kernels, mask, strict=True)]
        slopes, offsets = net.gradients(x, y, [powerprop.weights(kernel, alpha) for kernel in kernels])
        moved = zip(slopes, mask, net.kernels, strict=True)
        slopes = [slope * (m ^ explores) * powerprop.slope(kernel, alpha) for slope, m, kernel in moved]
        norm = math.sqrt(sum(float(np.sum(np.square(each))) for each in (*slopes, *offsets)))
        rate = first * 0.5 * (1 + math.cos(math.pi * step / steps)) * min(1.0, CLIP / max(norm, 1e-12))
        moving = [*(m ^ explores for m in mask), *(True for _ in offsets)]
        for value, slope, v, moves in zip((*net.kernels, *net.biases), (*slopes, *offsets), speed, moving, strict=True):
            v[...] = np.where(moves, momentum * v - rate * slope, v)
            value += v * moves
    final = [powerprop.weights(kernel * m, alpha) for kernel, m in zip(net.kernels, mask, strict=True)]
    return float(np.mean(net.forward(data.x_test, final)[-1].argmax(axis=1) == data.y_test))


def _changed(
    net: Net, mask: Sequence[Mask], grown: Sequence[Array], shares: Sequence[float], moment: Moment
) -> list[Mask]:
    return [
        swapped(m, np.abs(kernel), np.abs(grow), round(share * kernel.size), moment.swaps)
        for kernel, m, grow, share in zip(net.kernels, mask, grown, shares, strict=True)
    ]


def _epoch(data: Data, rng: np.random.Generator) -> Iterator[tuple[Array, NDArray[np.int64]]]:
    order = rng.permutation(len(data.y))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        rows = order[start : start + BATCH]
        yield data.x[rows], data.y[rows]


def _batches(data: Data, rng: np.random.Generator) -> Iterator[tuple[Array, NDArray[np.int64]]]:
    while True:
        yield from _epoch(data, rng)


# --- data -------------------------------------------------------------------------------------------------------------
def read(spec: str) -> Data:
    """Return the data of `digits` or `wiar:FILE`.

    Raises:
        UserError: it is neither, or the file is missing.
    """
    kind, _, file = spec.partition(":")
    if spec == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        x, y = found.data, found.target.astype(np.int64)
        test = np.arange(len(y)) % 5 == 0
    elif kind == "wiar" and file:
        x, y, test = wiar.read(Path(file))
        size = x.shape[1] // 2  # pairs of time bins and of subcarriers together
        x = x.reshape(len(x), size, 2, size, 2, 3).mean(axis=(2, 4)).reshape(len(x), -1)
    else:
        raise UserError(f"no data {spec!r}: give digits or wiar:FILE, where FILE is wiar_images_32.npz")
    mean, scale = x[~test].mean(axis=0), x[~test].std(axis=0) + 1e-3
    x = ((x - mean) / scale).astype(np.float32)
    return Data(x[~test], y[~test], x[test], y[test])


# --- command ----------------------------------------------------------------------------------------------------------
def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.sparsity", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--data", default="digits", metavar="D,D,...", help="digits, wiar:FILE")
    add("--keep", default="0.1,0.05,0.01", metavar="P,P,...", help="shares of the weights that stay")
    add("--seeds", type=cli.seed_list, default=[0, 1, 2], metavar="S,S,...", help="weights, masks and order")
    add("--steps", type=int, default=900, help="of each training")
    add("--every", type=int, default=30, help="steps between two changes of a mask")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train every row, print the table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    commit = results.commit(ROOT)
    kept = [float(text) for text in args.keep.split(",")]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for spec in args.data.split(","):
        data = read(spec)
        rows = found.setdefault(spec.partition(":")[0], {})
        for name, row in ROWS.items():
            whole = name == "dense" or row.schedule == "afterwards"  # the accuracy before anything is pruned, too
            for density in [1.0] * whole + kept * (name != "dense"):
                accuracy = [train(data, row, density, args.steps, args.every, seed) for seed in args.seeds]
                column = "all" if density == 1 else f"{100 * density:g} %"
                rows.setdefault(name, {})[column] = {"accuracy": accuracy, "mean": statistics.fmean(accuracy)}
            print(f"{spec}, {name}: {rows[name]}", file=sys.stderr, flush=True)
    settings = {"seeds": args.seeds, "steps": args.steps, "every": args.every}
    record = {**results.provenance("benchmarks.sparsity", given, commit), **settings, "data": found}
    if args.json:
        results.write(args.json, record)
        print(f"written: {shown(args.json)}", file=sys.stderr)
    print(render(record))
    return 0


def render(record: dict[str, Any]) -> str:
    """Return the table of a result: a row a way, a column each for a data set and a share that is kept."""
    columns = [(data, share) for data, rows in record["data"].items() for share in ("all", *rows["random ERK"])]
    table = [["", *(f"{data}, {share}" for data, share in columns)]]
    for name in next(iter(record["data"].values())):
        cells = []
        for data, share in columns:
            row = record["data"][data][name]
            if (cell := row.get(share)) is None:
                cells.append("-")
                continue
            deviation = f" ± {100 * statistics.stdev(cell['accuracy']):.1f}" if len(cell["accuracy"]) > 1 else ""
            cells.append(f"{100 * cell['mean']:.1f}{deviation}")
        table.append([name, *cells])
    seeds = ", ".join(map(str, record["seeds"]))
    return f"{record['steps']} steps, seeds {seeds}; accuracy with so many weights kept, %\n\n{markdown(table)}"


if __name__ == "__main__":
    sys.exit(cli.run(main))
