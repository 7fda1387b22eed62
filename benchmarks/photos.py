"""Quality of frozen backbones on photographs: `python -m benchmarks.photos --photos PATH --preset vit_nano_32,...`.

PATH holds one folder of photos a class. `--shots` photos of each class are drawn for training, all others are tested;
top-1 accuracy of nearest class mean, linear discriminant analysis and logistic regression on the prompt-free features,
in float32 and as the bundle's int8 file gives them under LiteRT, mean and standard deviation over the seeds of the
draw.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.backbones import CLASSIFIERS, int8_file, say
from benchmarks.common import results
from benchmarks.common.stages import ROOT
from benchmarks.common.tables import markdown
from benchmarks.parameters import multiply_adds
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import check_weights, get_preset

CALIBRATION = 300  # photos that set the int8 ranges
PENALTY = 0.03  # C of the logistic regression

# Dimensions: N photos, K classes, d features.


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.photos", description=__doc__)
    parser.add_argument("--photos", required=True, type=Path, help="folder with one folder of photos a class")
    parser.add_argument(
        "--preset", default="vit_tiny_96,vit_nano_32,vit_micro_32", help="backbones, with commas between"
    )
    parser.add_argument("--weights", type=Path, help="weights file of a single backbone; default: the shipped ones")
    parser.add_argument(
        "--shots", type=cli.seed_list, default="15", help="training photos of a class, numbers with commas between"
    )
    parser.add_argument(
        "--seeds", type=cli.seed_list, default="0,1,2,3,4", help="seeds of the draw, numbers with commas between"
    )
    parser.add_argument(
        "--float-only", action="store_true", help="measurement in float32 alone, without the int8 files"
    )
    parser.add_argument(
        "--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every backbone, print a table, write the results."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(arguments)
    names = args.preset.split(",")
    if args.weights and len(names) > 1:
        raise UserError(f"--weights is of one backbone, --preset names {len(names)}; give them one by one")
    for name in names:
        check_weights(get_preset(name), args.weights)
    commit = results.commit(ROOT)
    shots, seeds = args.shots, args.seeds
    if min(shots) < 1:
        raise UserError(f"--shots must be at least 1, got {min(shots)}")
    measured = {name: measure(name, args, shots, seeds) for name in names}
    record = {
        **results.provenance("benchmarks.photos", arguments, commit),
        "shots": shots,
        "seeds": seeds,
        "backbones": measured,
    }
    if args.json:
        results.write(args.json, record)
    print(render(record))
    return 0


def measure(name: str, args: Any, shots: list[int], seeds: list[int]) -> dict[str, Any]:
    """Return sizes and accuracies of the preset `name`."""
    from keras_cbpnet.data import open_dataset
    from keras_cbpnet.models.backbone import Backbone

    backbone = Backbone.from_preset(name, args.weights)
    data = open_dataset(f"folder:{args.photos}", backbone.config.image_size)
    images = np.concatenate([data.images(part, np.arange(len(y))) for part, y in parts(data)])
    labels = np.concatenate([y for _, y in parts(data)])
    say(f"{name}: {len(images)} photos of {len(data.class_names)} classes, float32")
    step = backbone.pass_images
    features = {
        "float32": np.concatenate([np.asarray(backbone.features(x)) for x in split(images, step)]),
    }
    if not args.float_only:
        from keras_cbpnet.export.runtimes import run_backbone

        say(f"{name}: int8")
        some = np.random.default_rng(0).permutation(len(images))[:CALIBRATION]
        features["int8"] = run_backbone(int8_file(backbone, images[some]), images, "ai_edge_litert").feature
    found = {
        kind: {str(count): averaged([probes(x, labels, count, seed) for seed in seeds]) for count in shots}
        for kind, x in features.items()
    }
    return {
        "parameters": backbone.count_params(),
        "multiply_adds": multiply_adds(backbone.config),
        "photos": len(images),
        "classes": len(data.class_names),
        "accuracy": found,
    }


def parts(data: Any) -> list[tuple[str, NDArray[np.int64]]]:
    """Return the two parts of a data set and their labels."""
    return [("train", data.y_train), ("test", data.y_test)]


def split(images: NDArray[np.uint8], step: int) -> Iterator[NDArray[np.uint8]]:
    """Yield `images` in pieces of `step`."""
    for start in range(0, len(images), step):
        yield images[start : start + step]


def probes(features: NDArray[np.float32], labels: NDArray[np.int64], shots: int, seed: int) -> dict[str, float]:
    """Return the classifiers' top-1 accuracy when `shots` photos of each class are drawn for training.

    LDA shrinks its covariance as Ledoit and Wolf do, for there are fewer photos than a covariance needs.

    Raises:
        UserError: a class has no photo left to test.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import NearestCentroid

    if np.bincount(labels).min() <= shots:
        raise UserError(f"--shots {shots}: a class has {np.bincount(labels).min()} photos; give a smaller number")
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:shots] for c in np.unique(labels)])
    rest = np.setdiff1d(np.arange(len(labels)), drawn)
    mean, scale = features[drawn].mean(axis=0), features[drawn].std(axis=0) + 1e-6
    x = (features - mean) / scale
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    tried = (
        (NearestCentroid(), unit),
        (LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), x),
        (LogisticRegression(C=PENALTY, max_iter=300), x),
    )
    scores = [c.fit(z[drawn], labels[drawn]).score(z[rest], labels[rest]) for c, z in tried]
    return {name: float(score) for name, score in zip(CLASSIFIERS, scores, strict=True)}


def averaged(found: list[dict[str, float]]) -> dict[str, Any]:
    """Return `mean`, `deviation` and `values` over the seeds, by classifier."""
    values = {name: [one[name] for one in found] for name in CLASSIFIERS}
    return {name: {"mean": float(np.mean(v)), "deviation": float(np.std(v)), "values": v} for name, v in values.items()}


def render(record: dict[str, Any]) -> str:
    """Return the table of a result."""
    head = ["backbone", "M parameters", "M multiply-adds", "kind", "photos a class"]
    rows = [[*head, *(name.replace("_", " ") for name in CLASSIFIERS)]]
    for name, one in record["backbones"].items():
        sizes = [f"{one['parameters'] / 1e6:.2f}", f"{one['multiply_adds'] / 1e6:.0f}"]
        for kind, by_shots in one["accuracy"].items():
            for count, found in by_shots.items():
                cells = (f"{100 * found[c]['mean']:.1f} ± {100 * found[c]['deviation']:.1f}" for c in CLASSIFIERS)
                rows.append([name, *sizes, kind, count, *cells])
    return f"top-1 in %, {len(record['seeds'])} draws\n\n{markdown(rows)}"


if __name__ == "__main__":
    sys.exit(cli.run(main))
