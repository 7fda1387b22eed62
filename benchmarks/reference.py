"""A file of benchmarks/reference: how fast a bundle is on the board that this runs on.

    python -m benchmarks.reference demo_output/bundle --name x86_64

`cbpnet bench BUNDLE --compare benchmarks/reference/NAME.json` compares another board with it, or the same one later:
`make demo` makes the same bundle everywhere. The board should have nothing else to do.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import results
from benchmarks.common.stages import ROOT, shown
from benchmarks.common.turns import busy_cores
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError

FOLDER = ROOT / "benchmarks" / "reference"


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.reference", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="bundle to time")
    add("--name", required=True, help="name of the file: of the board, and of the runtime if it is not the usual one")
    add("--runtime", default="auto", help="runtime of the device")
    add("--repeat", type=int, default=200, metavar="N", help="repetitions of each timing")
    add("--folder", type=Path, default=FOLDER, metavar="DIR", help="folder to write to")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the file."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    if not re.fullmatch(r"[a-z0-9_]+", args.name):
        raise UserError(f"--name {args.name}: use small letters, digits and _")
    busy = busy_cores()
    words = ["bench", shown(args.bundle), "--runtime", args.runtime, "--repeat", str(args.repeat), "--json"]
    command = [sys.executable, "-m", "firmware_host", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError((done.stderr.strip().splitlines() or ["bench failed"])[-1].removeprefix("error: "))
    made = results.provenance("benchmarks.reference", given, results.commit(ROOT))
    file = results.output_file(str(args.folder / f"{args.name}.json"))
    results.write(file, {**made, "busy_cores": busy, **json.loads(done.stdout)})
    print(f"written: {shown(file)}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
