"""Class-incremental learning, method by method: final average accuracy over all classes after T tasks.

    python -m benchmarks.class_incremental --data npz:cifar100.npz --tasks 10,20,50 --seeds 0,1,2,3,4
    python -m benchmarks.class_incremental --data npz:cifar100.npz --preset deit_tiny_16_224 --weights FILE

Every row is a run of `python -m keras_cbpnet.train` without quantization, whose options the result file holds; each
image is classified on its own, without its task's number. A command that was killed goes on in its --work folder.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.common import results, runs
from benchmarks.common.stages import ROOT, shown
from benchmarks.common.tables import markdown
from keras_cbpnet import cli
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import get_preset

# What each row changes of the trainer's defaults and of COMMON; rates from earlier sketches, not tuned yet.
COMMON: dict[str, Any] = {"qat": False, "epochs": 1, "head_epochs": 5, "batch": 24}
PAPER: dict[str, Any] = {"learning_rate": 2e-4, "prompts": True, "bank": False}  # CBPNet as published
BLOCK: dict[str, Any] = {"learning_rate": 2e-4, "bank": False}
WIDE: dict[str, Any] = {"units": 256, "learning_rate": 1e-4, "bank": False}
LINEAR: dict[str, Any] = {"learning_rate": 1e-3}
ROWS: dict[str, dict[str, Any]] = {
    "mixture": {"learning_rate": 2e-4, "views": 0},
    "bank": {"method": "bank", "views": 0},
    "cbpnet_bank": {"learning_rate": 2e-4, "prompts": True, "views": 0},
    "cbpnet": {**PAPER},
    "cbpnet_no_cbp": {**PAPER, "plasticity": "none"},
    "cbpnet_random_choice": {**PAPER, "plasticity": "cbp_random"},
    "block": {**BLOCK},
    "block_no_cbp": {**BLOCK, "plasticity": "none"},
    "block_wide": {**WIDE},
    "cbpnet_replay": {**PAPER, "replay": "statistics"},
    "cbpnet_white": {**PAPER, "whiten": "task"},
    "block_white": {**BLOCK, "whiten": "task"},
    "block_wide_white": {**WIDE, "whiten": "task"},
    "dualprompt": {**LINEAR, "method": "dualprompt"},
    "l2p": {**LINEAR, "method": "l2p"},
    "finetune": {**LINEAR, "method": "finetune"},
    "finetune_white": {**LINEAR, "method": "finetune", "whiten": "task"},
    "ncm": {"method": "ncm"},
    "ncm_white": {"method": "ncm", "whiten": "task"},
    "slda": {"method": "slda"},
    "ranpac": {"method": "ranpac"},
    "klda": {"method": "klda"},
    "ncm_adapted": {"method": "ncm", "adapt": "alore"},
    "slda_adapted": {"method": "slda", "adapt": "alore"},
    "ncm_adapted_white": {"method": "ncm", "adapt": "alore", "whiten": "task"},
    "slda_adapted_white": {"method": "slda", "adapt": "alore", "whiten": "task"},
    "slda_white": {"method": "slda", "whiten": "task"},
    "foster": {"method": "foster", "units": 128, "head_epochs": 16, "learning_rate": 1e-3},
}
PAIR = ("cbpnet", "dualprompt")


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = runs.build_parser("class_incremental", __doc__, data=None, seeds=[0, 1, 2])
    add = parser.add_argument
    add("--tasks", type=cli.seed_list, default=[10], metavar="T,T,...", help="numbers of tasks")
    add(
        "--rows",
        type=runs.names_of("row", ROWS),
        default=list(ROWS),
        metavar="R,R,...",
        help="rows, of " + ", ".join(ROWS),
    )
    add("--prompt-tasks", type=int, default=0, metavar="N", help="first tasks that train prompts; 0: all")
    add(
        "--whiten",
        default="task",
        metavar="SPEC",
        help="data for the whitening of the rows *_white, as for the trainer",
    )
    add("--epochs", type=int, default=COMMON["epochs"], metavar="E", help="passes with the prompts")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run every row, print a table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    commit = results.commit(ROOT)
    images = runs.images_of(args)
    chosen = {**COMMON, "prompt_tasks": args.prompt_tasks, "epochs": args.epochs}
    rows = {row: {**ROWS[row], **({"whiten": args.whiten} if "whiten" in ROWS[row] else {})} for row in args.rows}
    found: dict[str, dict[str, Any]] = {}
    for tasks in args.tasks:
        found[str(tasks)] = {}
        for row in args.rows:
            config = TrainConfig(**{**chosen, **images, **rows[row], "tasks": tasks})
            name = f"{args.preset}-{tasks}-{row}"
            found[str(tasks)][row] = runs.measure(config, args.seeds, args.work / name, args.jobs)
            runs.say(f"{tasks} tasks, {row}: {runs.cell(found[str(tasks)][row])}")
    record = {
        **results.provenance("benchmarks.class_incremental", given, commit),
        "preset": args.preset,
        "image_size": get_preset(args.preset).backbone.image_size,
        "seeds": args.seeds,
        "per_class": args.per_class,
        "common": chosen,
        "rows": rows,
        "tasks": found,
        "paired": {
            tasks: results.paired(*(rows[name]["average_accuracy"] for name in PAIR))
            for tasks, rows in found.items()
            if all(name in rows for name in PAIR)
        },
    }
    if args.json:
        results.write(args.json, record)
        runs.say(f"written: {shown(args.json)}")
    print(render(record))
    return 0


def same_runs(record: dict[str, Any]) -> tuple[Any, ...]:
    """Return what two results must have in common to be columns or rows of one table."""
    words = shlex.split(record["command"])
    data = words[words.index("--data") + 1]
    return record["preset"], data, record["per_class"], record["seeds"], record["common"]


def merge(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one result for several of which `same_runs` is equal.

    Raises:
        UserError: two of them hold the same row for the same number of tasks.
    """
    rows: dict[str, Any] = {}
    tasks: dict[str, dict[str, Any]] = {}
    paired: dict[str, Any] = {}
    for record in records:
        rows.update(record["rows"])
        paired.update(record["paired"])
        for number, found in record["tasks"].items():
            if twice := set(found) & set(tasks.setdefault(number, {})):
                raise UserError(f"two result files hold {min(twice)} for {number} tasks; remove one of them")
            tasks[number].update(found)
    return {**records[0], "rows": rows, "tasks": tasks, "paired": paired}


def render(record: dict[str, Any]) -> str:
    """Return the table of a result: one row per method, one column per number of tasks, best first."""
    columns = sorted(record["tasks"], key=int)
    found = {row: [record["tasks"][tasks].get(row) for tasks in columns] for row in record["rows"]}
    measured = {row: next((i, -cell["mean"]) for i, cell in enumerate(cells) if cell) for row, cells in found.items()}
    table = [["", *(f"T = {tasks}" for tasks in columns)]]
    names = sorted(found, key=measured.__getitem__)
    table += [[name, *(runs.cell(cell) if cell else "-" for cell in found[name])] for name in names]
    lines = [
        f"- T = {tasks}: {' over '.join(PAIR)} {100 * pair['difference']:+.2f} points, 95 % confidence "
        f"{100 * pair['low']:+.2f} to {100 * pair['high']:+.2f}"
        for tasks, pair in sorted(record["paired"].items(), key=lambda item: int(item[0]))
    ]
    seeds = ", ".join(map(str, record["seeds"]))
    images = f"{record['image_size']} pixels, {runs.images_shown(record)}"
    first = record["common"]["prompt_tasks"]
    trained = {0: "every task", 1: "the first task"}.get(first, f"the first {first} tasks")
    head = f"{record['preset']}, {images}, prompts trained by {trained}, seeds {seeds}; final average accuracy, %"
    return "\n".join([head, "", markdown(table), *([""] if lines else []), *lines])


if __name__ == "__main__":
    sys.exit(cli.run(main))
