"""A sensor in a setting that it was not trained in: `python -m benchmarks.sensor --data wiar_csi.npz`.

Each setting of --settings is left out in turn: the host trains on the others, and the run becomes a bundle. Fresh
devices then learn 0, 1, 5 and 10 recordings of each class in the setting that was left out, and are tested on all the
other recordings there; which ones, is drawn --draws times. Three ways of learning: `learn` adds to what was taught,
`calibrate` estimates an offset of the features first (`calibrate BUNDLE`), `moved` forgets what the classes looked like
first (`state BUNDLE moved`). Beside them, on the same int8 features of the same recordings, nearest class mean and LDA
from the shots alone. WiAR: let it lie outside the project, and cite Guo et al.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import results, runs
from benchmarks.common.stages import ROOT
from benchmarks.common.tables import markdown
from firmware_host import Device
from firmware_host.shared.npz import read_arrays
from firmware_host.shared.sensors.csi_npz import ARRAYS, Recordings, read_csi_npz
from keras_cbpnet import cli
from keras_cbpnet.config import read_config
from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import PRESETS, check_weights, get_preset

WAYS = ("learn", "calibrate", "moved", "ncm", "slda")

# Dimensions: N recordings, d features, C classes.


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.sensor", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FILE", help="recordings, an .npz as csi: takes it")
    add("--preset", choices=list(PRESETS), default="vit_nano_32", help="backbone")
    add(
        "--settings",
        default="height 60 cm,height 90 cm,height 120 cm",
        metavar="A,B,...",
        help="settings, each of which is left out in turn and learned by the others",
    )
    add("--without", default="", metavar="A,B,...", help="activities that are left out everywhere")
    add("--shots", type=cli.seed_list, default=[0, 1, 5, 10], metavar="N,N,...", help="recordings of a class taught")
    add("--draws", type=int, default=5, help="draws of them")
    add("--views", type=int, default=0, help="views of each picture in the host's training")
    add("--runtime", default="auto", help="runtime of the device")
    add("--work", type=Path, default=Path("runs/sensor"), help="folder of runs and bundles, which are used again")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every setting, print the table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    check_weights(get_preset(args.preset), None)
    commit = results.commit(ROOT)
    arrays = read_arrays(args.data, ARRAYS)
    settings = chosen(args.settings, arrays["domain_names"], "setting")
    left = [] if not args.without else chosen(args.without, arrays["activity_names"], "activity")
    activities = [index for index in range(len(arrays["activity_names"])) if index not in left]
    measured = {}
    for held in settings:
        name = str(arrays["domain_names"][held])
        others = [setting for setting in settings if setting != held]
        folder = args.work / args.preset / f"without {name}".replace(" ", "_")
        bundle = make_bundle(folder, part_of(arrays, others, activities), args)
        file = folder / "held_out.npz"
        np.savez(file, **part_of(arrays, [held], activities))
        measured[name] = measure(bundle, read_csi_npz(file), args)
        runs.say(f"{name}: " + ", ".join(f"{way} {told(measured[name][way])}" for way in measured[name]))
    record = {
        **results.provenance("benchmarks.sensor", given, commit),
        "preset": args.preset,
        "settings": list(measured),
        "without": args.without,
        "draws": args.draws,
        "shots": args.shots,
        "results": measured,
        "mean": mean_of(measured),
    }
    if args.json:
        results.write(args.json, record)
    print(render(record))
    return 0


def chosen(text: str, names: NDArray[np.str_], what: str) -> list[int]:
    """Return the numbers of the names in `text`, with commas between."""
    known = [str(name) for name in names]
    if unknown := [name for name in text.split(",") if name not in known]:
        raise UserError(f"unknown {what} '{unknown[0]}'; the file has {', '.join(known)}")
    return [known.index(name) for name in text.split(",")]


def part_of(arrays: dict[str, Any], settings: list[int], activities: list[int]) -> dict[str, Any]:
    """Return a file's arrays with the recordings of some settings and activities alone, numbered from 0."""
    kept = np.flatnonzero(np.isin(arrays["domain"], settings) & np.isin(arrays["activity"], activities))
    start, length = arrays["start"][kept].astype(np.int64), arrays["length"][kept].astype(np.int64)
    packets = np.concatenate([np.arange(a, a + n) for a, n in zip(start, length, strict=True)])
    return {
        "csi": arrays["csi"][packets],
        "start": np.cumsum(length) - length,
        "length": length,
        "activity": np.searchsorted(activities, arrays["activity"][kept]),
        "domain": np.searchsorted(sorted(settings), arrays["domain"][kept]),
        "repetition": arrays["repetition"][kept],
        "activity_names": arrays["activity_names"][activities],
        "domain_names": arrays["domain_names"][sorted(settings)],
    }


def make_bundle(folder: Path, arrays: dict[str, Any], args: argparse.Namespace) -> Path:
    """Return the bundle of a training on `arrays`, made if it is not there."""
    import keras_cbpnet

    run, bundle, file = folder / "run", folder / "bundle", folder / "train.npz"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        np.savez(file, **arrays)
    settings = {"dataset": f"csi:{file}", "preset": args.preset, "tasks": 1, "views": args.views}
    if not (run / "metrics.json").exists():
        keras_cbpnet.train(output=run, progress=runs.say, **settings)
    if read_config(run).views != args.views:
        raise UserError(f"{run} was trained with other views; choose another --work")
    if not (bundle / "manifest.json").exists():
        keras_cbpnet.convert(run, bundle, progress=runs.say)
    return bundle


def measure(bundle: Path, held: Recordings, args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return the accuracy of each way by number of shots, one for each draw; every recording becomes a feature once."""
    labels = [held.names[label] for label in held.y]
    with tempfile.TemporaryDirectory() as folder, Device.open(bundle, folder, args.runtime) as device:
        rows = list(device.features(list(held.x)))
        plain = np.stack([device._backbone.dequantize(row) for row in rows])
    found: dict[str, dict[str, list[float]]] = {way: {} for way in WAYS}
    for shots in args.shots:
        for draw in range(args.draws if shots else 1):
            rng = np.random.default_rng(draw)
            order = [rng.permutation(np.flatnonzero(held.y == label)) for label in range(len(held.names))]
            some = np.concatenate([each[:shots] for each in order])
            test = np.setdiff1d(np.arange(len(labels)), some)
            if len(np.unique(held.y[test])) < len(held.names):
                raise UserError(f"{shots} shots leave no recording of a class for the test; give fewer with --shots")
            for way in WAYS:
                score = None
                if way in ("ncm", "slda"):
                    score = probe(way, plain, held.y, some, test) if shots > (way == "slda") else None
                elif shots or way == "learn":
                    score = taught(way, bundle, rows, labels, some, test, args.runtime)
                if score is not None:
                    found[way].setdefault(str(shots), []).append(score)
    return found


def taught(way: str, bundle: Path, rows: list, labels: list[str], some: Any, test: Any, runtime: str) -> float:
    """Return the accuracy of a fresh device that is taught the rows `some`, on the rows `test`."""
    shown, names = [rows[row] for row in some], [labels[row] for row in some]
    with tempfile.TemporaryDirectory() as folder, Device.open(bundle, folder, runtime, seed=0) as device:
        if way == "moved":
            device.forget_looks()
        if way == "calibrate":
            device.camera.calibrate(shown, names)
        if shown:
            device.learn(shown, names)
        return float(device.evaluate([rows[row] for row in test], [labels[row] for row in test])["accuracy"])


def probe(way: str, features: Any, y: Any, some: Any, test: Any) -> float:
    """Return the accuracy of a method on features when the rows `some` alone are known."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.neighbors import NearestCentroid

    x = (features - features[some].mean(axis=0)) / (features[some].std(axis=0) + 1e-6)
    if way == "ncm":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        return float(NearestCentroid().fit(x[some], y[some]).score(x[test], y[test]))
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    return float(model.fit(x[some], y[some]).score(x[test], y[test]))


def mean_of(measured: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Return mean and deviation over settings and draws, by way and shots."""
    mean: dict[str, dict[str, dict[str, float]]] = {}
    for way in WAYS:
        shots = next(iter(measured.values()))[way]
        values = {count: [score for one in measured.values() for score in one[way][count]] for count in shots}
        mean[way] = {
            count: {"mean": statistics.fmean(each), "std": statistics.pstdev(each)} for count, each in values.items()
        }
    return mean


def told(found: dict[str, list[float]]) -> str:
    """Return the accuracies of a way in a few words."""
    return " ".join(f"{count}: {100 * statistics.fmean(values):.1f}" for count, values in found.items())


def render(record: dict[str, Any]) -> str:
    """Return the table of a result."""
    rows = [["way", *(f"{count} shots" for count in record["shots"])]]
    for way, found in record["mean"].items():
        cells = (runs.cell(found[str(count)]) if str(count) in found else "" for count in record["shots"])
        rows.append([way, *cells])
    held = ", ".join(record["settings"])
    return (
        f"{record['preset']}, a setting left out ({held}), accuracy there in %, {record['draws']} draws each\n\n"
        f"{markdown(rows)}"
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
