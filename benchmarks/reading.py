"""Reading photos: `predict FOLDER`, `evaluate` and `learn` on VGA JPEGs, and 12 megapixels, before and now.

    python -m benchmarks.reading BUNDLE --before FOLDER --json benchmarks/results/reading.json

FOLDER is an older checkout: `git worktree add FOLDER COMMIT`. The photos are drawn, not taken: noise of all scales,
whose JPEG files are as large as a photo's. The commands of both checkouts run in turn, each in a process of its own
whose imports do not count; `now` with one job and with as many as --jobs says. Every round gives ratios of now to
before, in processor time and, where the machine has nothing else to do, by the clock. With --peer and --onnx, Pillow
and ONNX Runtime read and classify the same folder, in an environment that has both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import results
from benchmarks.common.stages import ROOT
from benchmarks.common.tables import markdown
from benchmarks.common.turns import busy_cores
from firmware_host.bundle import read_bundle
from keras_cbpnet import cli

VGA, LARGE = (480, 640), (3000, 4000)  # (H, W) in pixels
LARGE_TO = 224
QUIET = 0.5  # cores that others use, up to which the clock counts
COMMANDS = ("predict", "evaluate", "learn")
ASKED = {  # the ratio that is asked for, by what is compared and measured
    **{f"{command}, wall": 0.55 for command in COMMANDS},
    "load 12 MP, cpu": 0.7,
    "predict to Pillow and ONNX Runtime, cpu": 0.66,
}
IN_A_CHILD = """
import json, os, sys, time
{prepare}
out, sys.stdout = sys.stdout, open(os.devnull, "w")
began = time.perf_counter(), time.process_time()
{run}
print(json.dumps([time.perf_counter() - began[0], time.process_time() - began[1]]), file=out)
"""
COMMAND = IN_A_CHILD.format(
    prepare="import PIL.Image; PIL.Image.init()\nfrom firmware_host.cli import main\nimport ai_edge_litert.interpreter",
    run="assert main(sys.argv[1:]) == 0",
)
LOAD = IN_A_CHILD.format(
    prepare="import PIL.Image; PIL.Image.init()\nfrom firmware_host.images import load_image",
    run="for name in sys.argv[2:]: load_image(name, (int(sys.argv[1]),) * 2, 4000)",
)
PEER = IN_A_CHILD.format(
    prepare="""
import numpy as np, onnxruntime
from PIL import Image
Image.init()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
[given] = session.get_inputs()
files = sorted(os.path.join(at, name) for at, _, names in os.walk(sys.argv[3]) for name in names)
""",
    run="""
for name in files:
    pixels = np.asarray(Image.open(name).convert("RGB").resize((int(sys.argv[2]),) * 2, Image.Resampling.BICUBIC))
    session.run(None, {given.name: pixels[None].astype(np.uint8 if "uint8" in given.type else np.float32)})
""",
)


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.reading", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="bundle that both checkouts read")
    add("--before", type=Path, required=True, metavar="FOLDER", help="checkout to compare with")
    add("--jobs", type=int, default=2, metavar="N", help="threads that read ahead")
    add("--images", type=int, default=500, metavar="N", help="VGA photos")
    add("--rounds", type=int, default=7, metavar="N", help="turns of each")
    add("--peer", type=Path, metavar="PYTHON", help="interpreter of an environment with Pillow and ONNX Runtime")
    add("--onnx", type=Path, metavar="FILE", help="backbone for --peer, of the bundle's image size")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    commit, busy = results.commit(ROOT), busy_cores()
    with tempfile.TemporaryDirectory() as folder:
        cases = prepare(args, Path(folder))
        took: dict[str, list[list[float]]] = {name: [] for name in cases}
        for turn in range(args.rounds):
            for name, (where, command) in cases.items():
                took[name].append(child(where, command))
            print(f"round {turn + 1} of {args.rounds}", file=sys.stderr, flush=True)
    record = {
        **results.provenance("benchmarks.reading", given, commit),
        "before": results.commit(args.before),
        "images": args.images,
        "rounds": args.rounds,
        "jobs": args.jobs,
        "busy_cores": busy,
        "seconds": {name: {"wall": [a for a, _ in each], "cpu": [b for _, b in each]} for name, each in took.items()},
    }
    if args.json:
        results.write(args.json, record)
    print(render(record))
    return 0


def prepare(args: argparse.Namespace, folder: Path) -> dict[str, tuple[Path, list[str]]]:
    """Draw the photos; return what is run, and in which checkout, by name."""
    bundle = read_bundle(args.bundle)
    rng = np.random.default_rng(0)
    for index in range(args.images):
        place = folder / "vga" / bundle.classes[index % len(bundle.classes)]
        place.mkdir(parents=True, exist_ok=True)
        photo(rng, VGA).save(place / f"{index:04}.jpg", quality=85)
    large = [folder / f"{index}.jpg" for index in range(4)]
    for path in large:
        photo(rng, LARGE).save(path, quality=85)
    here, before = ROOT, args.before.resolve()
    cases: dict[str, tuple[Path, list[str]]] = {}
    for name in COMMANDS:
        for state, (what, where, options) in enumerate(
            (("before", before, ()), ("now, 1 job", here, ("--jobs", "1")), ("now", here, ("--jobs", str(args.jobs))))
        ):
            command = [name, str(args.bundle.resolve()), str(folder / "vga"), *options]
            command += ["--state", str(folder / f"{name}-{state}"), "--seed", "0"]
            cases[f"{name}, {what}"] = (where, [sys.executable, "-c", COMMAND, *command])
    side, files = str(bundle.image_size[0]), str(folder / "vga")
    small = [str(path) for path in sorted((folder / "vga").glob("*/*"))]
    for what, where in (("before", before), ("now", here)):
        cases[f"load VGA, {what}"] = (where, [sys.executable, "-c", LOAD, side, *small])
        cases[f"load 12 MP, {what}"] = (where, [sys.executable, "-c", LOAD, str(LARGE_TO), *map(str, large)])
    if args.peer:
        cases["Pillow and ONNX Runtime"] = (folder, [str(args.peer), "-c", PEER, str(args.onnx.resolve()), side, files])
    return cases


def photo(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Return an image of `size` (H, W) that JPEG finds as hard as a photo: each octave of noise is as strong."""
    height, width = size
    pixels = np.full((height, width, 3), 128.0, np.float32)
    for parts in (2, 4, 8, 16, 32, 64):
        noise = rng.normal(0, 1, (parts * 3, parts * 4, 3)).astype(np.float32)
        grown = [Image.fromarray(noise[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
        pixels += 16 * np.stack([np.asarray(each) for each in grown], axis=-1)
    pixels += rng.normal(0, 3, (height, width, 1)).astype(np.float32)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def child(where: Path, command: Sequence[str]) -> list[float]:
    """Run a command in a checkout; return the seconds by the clock and of the processor that it says it took."""
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=where, env=single, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[3:6]} in {where} failed: {done.stderr[-500:]}")
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ratios(record: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the ratio of now to before of every round, by what is compared and measured."""
    seconds = record["seconds"]
    pairs = {f"{name}{job}": (f"{name}, now{job}", f"{name}, before") for name in COMMANDS for job in (", 1 job", "")}
    pairs |= {f"load {size}": (f"load {size}, now", f"load {size}, before") for size in ("VGA", "12 MP")}
    pairs["predict to Pillow and ONNX Runtime"] = ("predict, now", "Pillow and ONNX Runtime")
    return {
        f"{name}, {unit}": [a / b for a, b in zip(seconds[now][unit], seconds[before][unit])]
        for name, (now, before) in pairs.items()
        for unit in ("cpu", *(["wall"] if record["busy_cores"] <= QUIET else []))
        if before in seconds
    }


def render(record: Mapping[str, Any]) -> str:
    """Return the table of the ratios: median, range of the rounds, what is asked."""
    rows = [["now / before", "median", "rounds", "asked"]]
    for name, found in ratios(record).items():
        middle, asked = statistics.median(found), ASKED.get(name)
        said = "-" if asked is None else f"{asked} ({'reached' if middle <= asked else 'not reached'})"
        rows.append([name, f"{middle:.2f}", f"{min(found):.2f} to {max(found):.2f}", said])
    busy = (
        "" if record["busy_cores"] <= QUIET else f" Others used {record['busy_cores']} cores: the clock does not count."
    )
    return (
        f"{record['images']} VGA JPEGs, {record['jobs']} jobs on {record['machine']['cores']} cores, "
        f"{record['rounds']} rounds in turn; before: commit {str(record['before'])[:7]}.{busy}\n\n{markdown(rows)}"
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
