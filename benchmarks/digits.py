"""Digits from training to learning on the device: the demo, and the README's numbers.

    python -m benchmarks.digits --demo                                                     # what `make demo` runs
    python -m benchmarks.digits --seeds 0,1,2,3,4 --json benchmarks/results/digits.json    # the README's numbers

scikit-learn's 1,797 handwritten digits in 5 tasks of 2: the host learns 3 of them with quantization in the loop, the
run becomes a bundle, the device package learns the other 2 from PNG files. Some minutes per seed on 2 cores.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import results
from benchmarks.common.pipeline import measure
from benchmarks.common.stages import ROOT, StageError, shown
from benchmarks.common.tables import render
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError

DEMO_FOLDER = ROOT / "demo_output"
DEMO_SEED = 0
MARKER = ".made-by-make-demo"


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    summary = (__doc__ or "").splitlines()[0]
    parser = cli.ArgumentParser(prog="python -m benchmarks.digits", description=summary)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--demo", action="store_true", help=f"seed {DEMO_SEED}, files kept in {DEMO_FOLDER.name}/")
    what.add_argument(
        "--seeds", type=cli.seed_list, metavar="S,S,...", help="seeds to measure; mean and deviation are printed"
    )
    parser.add_argument(
        "--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists"
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="new folder for what --seeds makes (default: a temporary one)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the results."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.demo and args.work:
        parser.error("--work is for --seeds; --demo writes into " + DEMO_FOLDER.name)
    try:
        if args.demo:
            demo(args.json)
        elif args.work:
            measure_seeds(args.seeds, new_folder(args.work), args.json)
        else:
            with tempfile.TemporaryDirectory(prefix="digits-") as folder:
                measure_seeds(args.seeds, Path(folder), args.json)
    except StageError as failure:
        if str(failure):
            print("error:", failure, file=sys.stderr)
        return failure.exit_code
    return 0


def demo(output: Path | None) -> None:
    """Measure one seed in the demo's folder; end with the files made and what to try next."""
    commit = results.commit(ROOT)
    empty_demo_folder(DEMO_FOLDER)
    record = measure(DEMO_SEED, DEMO_FOLDER)
    result = results.collect(["--demo"], commit, [record])
    for path in (DEMO_FOLDER / "results.json", output):
        if path:
            results.write(path, result)
    print(render(result))
    print(closing_words(record))


def measure_seeds(seeds: Sequence[int], work: Path, output: Path | None) -> None:
    """Measure every seed in a separate folder; print and write means and deviations."""
    commit = results.commit(ROOT)
    records = [measure(seed, work / f"seed{seed}", f"seed {seed} ") for seed in seeds]
    arguments = ["--seeds", ",".join(map(str, seeds))]
    result = results.collect([*arguments, *(["--json", shown(output)] if output else [])], commit, records)
    if output:
        results.write(output, result)
    print(render(result))


def closing_words(record: dict[str, Any]) -> str:
    """Return the files of the demo and commands that work when pasted in the repository's root."""
    python = shlex.quote(shown(Path(sys.executable)))
    folder = shlex.quote(shown(DEMO_FOLDER))
    newest = record["tasks"][-1]["classes"][0]
    image = f"{folder}/images/task{len(record['tasks'])}/test/{newest}/0000.png"
    return "\n".join(
        [
            f"Written in {folder}/:",
            "  run/report.html       the training, with plots: open it in a browser",
            "  run/                  the Keras model and its metrics",
            "  bundle/               what is copied to a device",
            "  state/state.a.npz     what the device learned beside it",
            "  images/               the PNG files it learned from and was tested on",
            "  results.json          the numbers above",
            "",
            f"Next, let the device name a digit that the bundle did not know when it was made ({newest}):",
            f"  {python} -m firmware_host predict {folder}/bundle {image} --state {folder}/state",
        ]
    )


def new_folder(path: Path) -> Path:
    """Return `path` as an absolute path if it is free or an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"--work {path} exists and is not an empty folder; choose another or remove it")
    return path.resolve()


def empty_demo_folder(folder: Path) -> None:
    """Make the demo's folder, or empty it if an earlier demo made it; anything else is left alone."""
    marker = folder / MARKER
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not marker.is_file())):
        raise UserError(f"{folder.name} exists and was not made by the demo; move it away and run again")
    folder.mkdir(exist_ok=True)
    marker.write_text("make demo empties this folder before it fills it again\n")
    for path in folder.iterdir():  # the marker stays throughout, so that an interrupted demo can be run again
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != marker:
            path.unlink()


if __name__ == "__main__":
    sys.exit(cli.run(main))
