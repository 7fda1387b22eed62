"""Features of a frozen backbone as a file: `python -m benchmarks.common.features --data npz:FILE OUT.npz`.

OUT holds x_train [N, d] float32, y_train [N] int64, x_test, y_test: what benchmarks that take --features read. They are
neither whitened by the data nor scaled; --preset and --weights choose the backbone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from keras_cbpnet import cli
from keras_cbpnet.presets import check_weights, get_preset


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    summary = (__doc__ or "").splitlines()[0]
    parser = cli.ArgumentParser(prog="python -m benchmarks.common.features", description=summary)
    parser.add_argument("--data", required=True, metavar="SOURCE", help="data set, as for keras_cbpnet.train")
    parser.add_argument("--preset", default="vit_nano_32", metavar="NAME", help="backbone")
    parser.add_argument("--weights", default="", metavar="FILE", help="of the backbone; default: the shipped ones")
    parser.add_argument("output", type=Path, help="file to write (.npz)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Compute the features of both parts, in the trainer's cache, and write them."""
    args = build_parser().parse_args(argv)
    check_weights(get_preset(args.preset), args.weights)
    from keras_cbpnet.data import open_dataset
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.training.features.cache import FrozenFeatures

    backbone = Backbone.from_preset(args.preset, args.weights)
    data = open_dataset(args.data, backbone.config.image_size)
    features = FrozenFeatures(backbone, data, lambda line: print(line, file=sys.stderr, flush=True))
    x_train, x_test = (features.rows(part, np.arange(len(data.stored(part)))) for part in ("train", "test"))
    np.savez(args.output, x_train=x_train, y_train=data.y_train, x_test=x_test, y_test=data.y_test)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
