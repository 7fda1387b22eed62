"""Block, bank and their mixture where labels change their meaning: `python -m benchmarks.changing_labels --features F`.

The stream of `benchmarks.plasticity`: tasks of ten classes drawn with replacement, labels used again, nobody says when.
In `returning` a class comes back again and again; in `new` nothing does: the features of every task are rotated at
random. The device package's own block (rule cbp_surprise, five passes), bank and mixture (one pass, images a few at a
time, each judged before it is learned) learn side by side. Accuracy on each task's test images, mean of the last tasks.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from benchmarks.common import results, runs
from benchmarks.common.stages import ROOT, shown
from benchmarks.common.tables import markdown
from benchmarks.plasticity.stream import BATCH, EPOCHS, SHOTS, WAYS, Batches, Features, Stream, load_features
from firmware_host.bundle import state_shapes
from firmware_host.engines.numpy_head import NumpyHead
from firmware_host.learning.surprise import SurprisedHead
from firmware_host.shared.bank import Bank, Mixture, empty_bank
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError

ROWS = ("mixture", "bank", "block")
STREAMS = ("returning", "new")
SLOTS, DIRECTIONS = 128, 16  # of the bank
SAID = 50  # tasks after which it says where it is
SETTINGS = ROOT / "benchmarks" / "results" / "plasticity_surprise.json"  # what tuning found for the block


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    summary = (__doc__ or "").splitlines()[0]
    parser = cli.ArgumentParser(prog="python -m benchmarks.changing_labels", description=summary)
    add = parser.add_argument
    add("--features", type=Path, required=True, metavar="FILE", help="features of a frozen backbone, .npz")
    add("--tasks", type=int, default=1000, metavar="T", help="tasks")
    add("--last", type=int, default=100, metavar="N", help="last tasks, of which the mean is taken")
    add("--seeds", type=cli.seed_list, default=[0, 1, 2], metavar="S,S,...", help="seeds of the tasks")
    add("--jobs", type=int, default=1, metavar="N", help="seeds at a time; -1: one a core")
    known = ", ".join(STREAMS)
    add(
        "--streams",
        type=runs.names_of("stream", STREAMS),
        default=list(STREAMS),
        metavar="S,S,...",
        help=f"streams, of {known}",
    )
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run every stream, print the table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    if not 1 <= args.last <= args.tasks:
        raise UserError(f"--last is {args.last}; use 1 to {args.tasks}, the number of tasks")
    data = load_features(args.features)
    record: dict[str, Any] = {
        **results.provenance("benchmarks.changing_labels", given, results.commit(ROOT)),
        "features": args.features.name,
        **{name: getattr(args, name) for name in ("tasks", "last", "seeds")},
        "streams": {},
    }
    for name in args.streams:
        parts = joblib.Parallel(n_jobs=args.jobs)(
            joblib.delayed(last_of)(data, name, seed, args.tasks, args.last) for seed in args.seeds
        )
        found = {row: [part[row] for part in parts] for row in ROWS}
        misbound = [part["wrong"] for part in parts]
        record["streams"][name] = {**{row: summary(found[row]) for row in ROWS}, "wrong_bindings": summary(misbound)}
    if args.json:
        results.write(args.json, record)
        runs.say(f"written: {shown(args.json)}")
    print(render(record))
    return 0


def last_of(data: Features, name: str, seed: int, tasks: int, last: int) -> dict[str, float]:
    """Return the means of what `learned` yields over the last tasks of a stream, and say where it is."""
    rows: list[dict[str, float]] = []

    def mean(row: str, tasks: int) -> float:
        return statistics.fmean(each[row] for each in rows[-tasks:])

    for each in learned(data, name, seed, tasks):
        rows.append(each)
        if len(rows) % SAID == 0:
            recent = ", ".join(f"{row} {100 * mean(row, SAID):.2f}" for row in ROWS)
            runs.say(f"{name}, seed {seed}, task {len(rows):,} of {tasks:,}: {recent}")
    found = {row: mean(row, last) for row in (*ROWS, "share", "wrong")}
    runs.say(
        f"{name}, seed {seed}: {', '.join(f'{row} {100 * found[row]:.2f}' for row in ROWS)}; the block's share in the "
        f"mixture {found['share']:.2f}; {100 * found['wrong']:.1f} % of labels bound to another class"
    )
    return found


def learned(data: Features, name: str, seed: int, tasks: int) -> Iterator[dict[str, float]]:
    """Learn a stream; yield after each task how every row does on its test images, and what the mixture made of it.

    That is the accuracy of each of `ROWS`, the block's share in the mixture, and the share of labels that are bound to
    a slot of another class (`wrong`).
    """
    stream, width = Stream(data, seed), data.x_train.shape[1]
    head, settings = block(stream)
    mixture = Mixture(empty_bank(WAYS, SLOTS, width, DIRECTIONS), np.zeros(width), np.ones(width))
    owners: dict[int, int] = {}
    for index in range(tasks):
        task = stream.task(index)
        turn = rotation(width, seed, index) if name == "new" else None
        learn_task(head, mixture, data, task, turn, settings["learning_rate"])
        test = turned(data.x_test[task.test_rows], turn)
        ours = probabilities(head, test)
        bank = mixture.bank.logits(test)
        guesses = {"mixture": mixture.probabilities(ours, test), "bank": bank, "block": ours}
        accuracies = {row: float(np.mean(guess.argmax(axis=1) == task.test_label)) for row, guess in guesses.items()}
        meant = (
            meanings(data, task) if turn is None else np.arange(WAYS) + index * WAYS
        )  # what is rotated never returns
        yield {**accuracies, "share": mixture.weight, "wrong": wrong_bindings(mixture.bank, meant, owners)}


def meanings(data: Features, task: Batches) -> Any:
    """Return the class [C] that each label means in a task."""
    meant, known = np.zeros(WAYS, np.int64), task.label >= 0
    meant[task.label[known]] = data.y_train[task.rows[known]]
    return meant


def wrong_bindings(bank: Bank, meant: Any, owners: dict[int, int]) -> float:
    """Return the share of labels bound to a slot of another class than they mean; `owners`, slot to class, is updated.

    A slot is of the class that it was filled with when all its images were of one task.
    """
    wrong = 0
    for label, slot in enumerate(bank.binding - 1):
        if bank.sums.count[slot] <= SHOTS:
            owners[slot] = meant[label]
        wrong += owners.get(slot) != meant[label]
    return wrong / len(meant)


def learn_task(
    head: SurprisedHead, mixture: Mixture, data: Features, task: Batches, turn: Any, learning_rate: float
) -> None:
    """Teach both one task: the first pass judges every image before it is learned, the block makes four more."""
    first, everything = -(-WAYS * SHOTS // BATCH), np.ones(WAYS, np.float32)
    for step, (rows, label, fresh) in enumerate(zip(task.rows, task.label, task.fresh, strict=True)):
        feature = turned(data.x_train[rows], turn)
        if step < first:
            real = label >= 0
            mixture.learn(probabilities(head, feature[real]), feature[real], label[real])
        head.train(feature, label, everything, learning_rate, fresh)


def block(stream: Stream) -> tuple[SurprisedHead, dict[str, Any]]:
    """Return the block with its drift detection as tuning found it, before the first step, and its settings."""
    rule = json.loads(SETTINGS.read_text())["rules"]["cbp_surprise"]["settings"]
    settings = {**rule["head"], "feature_mean": [0.0] * stream.width, "feature_scale": [1.0] * stream.width}
    shapes = state_shapes(settings["block"], stream.width, settings["units"], WAYS)
    state = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    state["w1"] = stream.first_weights(settings["units"])
    state["class_mask"][:] = 1.0
    head = NumpyHead(settings, state)
    return SurprisedHead(
        head, settings["block"], settings["maturity_threshold"], rule["rule"]["calming"], 0.0
    ), settings


def probabilities(head: SurprisedHead, feature: Any) -> Any:
    """Return the block's probabilities [N, C] of features [N, d]."""
    return np.concatenate([head.infer(row[None])[1] for row in feature])


def rotation(width: int, seed: int, index: int) -> Any:
    """Return a random rotation [d, d]."""
    return np.linalg.qr(np.random.default_rng((seed, 2, index)).normal(size=(width, width)))[0].astype(np.float32)


def turned(feature: Any, turn: Any) -> Any:
    """Return features [N, d], rotated where there is a rotation."""
    return feature if turn is None else feature @ turn


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the values of all seeds with their mean and deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"last": list(values), "mean": statistics.fmean(values), "std": deviation}


def render(record: dict[str, Any]) -> str:
    """Return the table of a result."""
    columns = {**{row: row for row in ROWS}, "wrong_bindings": "labels bound to another class"}
    rows = [["stream", *columns.values()]]
    for name, found in record["streams"].items():
        rows.append([name, *(runs.cell(found[row]) if row in found else "" for row in columns)])
    heading = f"{record['features']}, {record['tasks']:,} tasks, {EPOCHS} passes of the block and one of the bank"
    return f"{heading}; accuracy in %, mean of the last {record['last']} tasks\n\n{markdown(rows)}"


if __name__ == "__main__":
    sys.exit(cli.run(main))
