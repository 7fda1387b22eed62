"""Are images of no known class told? `python -m benchmarks.unknown_classes --features FILE --known 80 --images 200`.

Some classes of a feature file are learned by the bank as the host learns them, ten a task; the test images of all
others are unknown. Area under the ROC curve of the device's novelty, beside the maximum softmax probability (Hendrycks
and Gimpel 2017) and the Mahalanobis distance to the nearest class mean (Lee et al. 2018), both of the same bank; images
of known classes that are rejected at a stated rate; expected calibration error of the probabilities of those.

Then a stream of images that were not learned, as many of ten unknown classes as of known ones: of the groups of unknown
images alike that the device offers as a new class, which share of a group is of one class, how many of the unknown
classes are offered, and how many groups are the first of their class.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import results, runs
from benchmarks.common.stages import ROOT, shown
from benchmarks.common.tables import markdown
from benchmarks.plasticity.stream import Features, load_raw
from firmware_host.shared.bank import Mixture, empty_bank
from firmware_host.shared.bank.unknowns import OFFERED, Unknowns
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError

TASK = 10  # classes
SPARE, DIRECTIONS = 12, 16  # of the bank
RATES = (0.05, 0.1)
BINS = 15  # of the calibration error
STRANGE = 10  # unknown classes of the stream, at most
OFFERS = {
    "offered_purity": "groups offered: images of their commonest class",
    "offered_classes": "unknown classes offered",
    "offered_once": "groups offered: the first of their class",
}
SCORES = {"novelty": "novelty", "softmax": "maximum softmax", "mahalanobis": "Mahalanobis"}


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    summary = (__doc__ or "").splitlines()[0]
    parser = cli.ArgumentParser(prog="python -m benchmarks.unknown_classes", description=summary)
    add = parser.add_argument
    add("--features", type=Path, required=True, metavar="FILE", help="features of a frozen backbone, .npz")
    add("--known", type=int, default=80, metavar="K", help="known classes, drawn at random")
    add("--images", type=int, default=200, metavar="N", help="training images of each, at most")
    add("--seeds", type=cli.seed_list, default=[0, 1, 2], metavar="S,S,...", help="seeds of classes and images")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every seed, print the table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    data = load_raw(args.features, ways=3, shots=1)
    classes = len(np.unique(data.y_train))
    if not 2 <= args.known < classes:
        raise UserError(
            f"--known is {args.known}; use 2 to {classes - 1}, so that some of {classes} classes are unknown"
        )
    if args.images < 1:
        raise UserError(f"--images is {args.images}; use 1 or more")
    commit = results.commit(ROOT)
    found = []
    for seed in args.seeds:
        found.append(measure(data, args.known, args.images, seed))
        runs.say(f"seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in found[-1].items()))
    record = {
        **results.provenance("benchmarks.unknown_classes", given, commit),
        "features": args.features.name,
        **{name: getattr(args, name) for name in ("known", "images", "seeds")},
        "found": {name: over(found, name) for name in found[0]},
    }
    if args.json:
        results.write(args.json, record)
        runs.say(f"written: {shown(args.json)}")
    print(render(record))
    return 0


def measure(data: Features, known: int, images: int, seed: int) -> dict[str, float]:
    """Return what one draw of classes gives, each in 0..1."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(data.y_train))[:known]
    rows = [rng.permutation(np.flatnonzero(data.y_train == c))[:images] for c in order]
    label = np.repeat(np.arange(known), [len(part) for part in rows])
    feature = data.x_train[np.concatenate(rows)].astype(np.float32)
    first = feature[label < TASK]
    mean, scale = first.mean(axis=0), first.std(axis=0) + 1e-6
    bank = empty_bank(known, known + SPARE, feature.shape[1], DIRECTIONS)
    mixture = Mixture(bank, mean, scale, start=0.0, rebinds=False)
    no_block = np.zeros((len(data.y_train) + len(data.y_test), known), np.float32)
    for begin in range(0, known, TASK):
        mine = (label >= begin) & (label < begin + TASK)
        mixture.learn_apart(no_block[: mine.sum()], feature[mine], label[mine], rng)
    slot = np.full(int(data.y_train.max()) + 1, -1)
    slot[order] = np.arange(known)
    truth = slot[data.y_test]  # -1: unknown
    test = data.x_test.astype(np.float32)
    probability, novelty = mixture.judge(no_block[: len(test)], test)
    new, right = truth < 0, probability.argmax(axis=1) == truth
    scores = {
        "novelty": novelty,
        "softmax": -probability.max(axis=1),
        "mahalanobis": distance(mixture, (test - mean) / scale),
    }
    return {
        **{name: area(new, score) for name, score in scores.items()},
        **{f"rejected_{rate}": float(np.mean(novelty[~new] > 1.0 - rate)) for rate in RATES},
        **{f"noticed_{rate}": float(np.mean(novelty[new] > 1.0 - rate)) for rate in RATES},
        "calibration_error": calibration_error(probability[~new].max(axis=1), right[~new]),
        "accuracy": float(np.mean(right[~new])),
        **offers(mixture, *stream(data, np.concatenate(rows), order, rng), order),
    }


def stream(data: Features, learned: Any, known: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return features [N, d] and classes [N] of images that were not learned, half of them of unknown classes."""
    rest = np.setdiff1d(np.arange(len(data.y_train)), learned)
    label = np.concatenate([data.y_test, data.y_train[rest]])
    strange = rng.permutation(np.setdiff1d(label, known))[:STRANGE]
    halves = [rng.permutation(np.flatnonzero(np.isin(label, classes))) for classes in (strange, known)]
    rows = rng.permutation(np.concatenate([half[: min(map(len, halves))] for half in halves]))
    return np.concatenate([data.x_test, data.x_train[rest]])[rows].astype(np.float32), label[rows]


def offers(mixture: Mixture, feature: Any, label: Any, known: Any) -> dict[str, float]:
    """Return how good the offers of a device are that sees images, features [N, d] and classes [N], one by one."""
    novelty = mixture.judge(np.zeros((len(label), len(known)), np.float32), feature)[1]
    unknowns, groups = Unknowns(), {}
    for row in np.flatnonzero(novelty > 1.0 - RATES[0]):
        group, alike = unknowns.see(mixture, feature[row])
        if alike <= OFFERED:
            groups.setdefault(group, []).append(int(label[row]))
    offered = [classes for classes in groups.values() if len(classes) == OFFERED]
    commonest = [max(sorted(classes), key=classes.count) for classes in offered]
    strange = set(label.tolist()) - set(known.tolist())
    shares = [classes.count(one) / OFFERED for classes, one in zip(offered, commonest)]
    return {
        "offered_purity": statistics.fmean(shares) if offered else 0.0,
        "offered_classes": len(strange & set(commonest)) / len(strange),
        "offered_once": len(set(commonest)) / max(len(commonest), 1),
    }


def distance(mixture: Mixture, feature: Any) -> Any:
    """Return the squared Mahalanobis distance [N] of standardised features [N, d] to the nearest class mean."""
    metric, sums = mixture.bank.metric(), mixture.bank.sums
    white, means = feature @ metric.whitener, sums.mean[mixture.bank.binding - 1] @ metric.whitener
    return np.min([np.sum((white - each) ** 2, axis=1) for each in means], axis=0)


def area(new: Any, score: Any) -> float:
    """Return the area under the ROC curve of a score [N] for images [N] that are new."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(new, score))


def calibration_error(confidence: Any, right: Any) -> float:
    """Return the expected calibration error over equal bins of the confidence [N] (Guo et al. 2017)."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    inside = [place == one for one in range(BINS) if (place == one).any()]
    return float(sum(np.mean(each) * abs(right[each].mean() - confidence[each].mean()) for each in inside))


def over(found: Sequence[dict[str, float]], name: str) -> dict[str, Any]:
    """Return a number of all seeds with its mean and deviation."""
    values = [each[name] for each in found]
    return {"values": values, "mean": statistics.fmean(values), "std": statistics.stdev(values) if values[1:] else None}


def render(record: dict[str, Any]) -> str:
    """Return the table of a result."""
    found = record["found"]
    rows = [
        ["", "%"],
        *([f"area under the ROC curve, {text}", runs.cell(found[name])] for name, text in SCORES.items()),
    ]
    for rate in map(str, RATES):
        rows.append([f"known images rejected, {float(rate):.0%} asked", runs.cell(found[f"rejected_{rate}"])])
        rows.append([f"unknown images noticed, {float(rate):.0%} asked", runs.cell(found[f"noticed_{rate}"])])
    rows.append(["expected calibration error, known images", runs.cell(found["calibration_error"])])
    rows.append(["accuracy, known images", runs.cell(found["accuracy"])])
    rows += [[text, runs.cell(found[name])] for name, text in OFFERS.items() if name in found]
    seeds = ", ".join(map(str, record["seeds"]))
    heading = f"{record['features']}, {record['known']} classes known, {record['images']} images each, seeds {seeds}"
    return f"{heading}\n\n{markdown(rows)}"


if __name__ == "__main__":
    sys.exit(cli.run(main))
