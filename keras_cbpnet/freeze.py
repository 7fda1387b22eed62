"""Make one ordinary classifier of a bundle and what a device learned with it: `keras-cbpnet freeze BUNDLE FOLDER`.

The classifier no longer learns, and any TensorFlow Lite program reads it: image uint8 [1, H, W, 3], raw RGB, to one
score for each class known, in the order of labelmap.txt.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence

from firmware_host.shared.arguments import folder_argument, path_argument
from keras_cbpnet import cli
from keras_cbpnet.export.frozen.asked import MODEL, Wanted, read_asked
from keras_cbpnet.keras_settings import use_keras


def build_parser(names: Mapping[str, str] = cli.MODULES) -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog=names["freeze"], description=__doc__)
    parser.add_argument(
        "source", type=path_argument, metavar="BUNDLE_OR_RUN", help="bundle, or run folder, which is converted first"
    )
    parser.add_argument(
        "output", type=folder_argument, metavar="FOLDER", help="folder to write: model.tflite, labelmap.txt, labels.txt"
    )
    parser.add_argument(
        "--state",
        type=path_argument,
        metavar="STATE",
        help="what a device learned: a file of `state BUNDLE export FILE`, or a state folder; default: nothing",
    )
    parser.add_argument(
        "--input-size",
        type=int,
        default=0,
        metavar="N",
        help="size of the images, N x N, which the classifier resizes itself; Frigate gives 224; 0: the backbone's own",
    )
    parser.add_argument(
        "--scores",
        choices=("uint8", "float32"),
        default="uint8",
        help="type of the scores, which are probabilities: uint8 in steps of 1/256",
    )
    parser.add_argument("--overwrite", action="store_true", help="permission to replace a folder of this command")
    parser.add_argument("--json", action="store_true", help="JSON output of the result")
    return parser


def main(argv: Sequence[str] | None = None, names: Mapping[str, str] = cli.MODULES) -> int:
    """Freeze, verify, write the folder and print what came of it; `names`: how commands are started."""
    args = build_parser(names).parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    wanted = Wanted(args.state, args.input_size, args.scores)
    with cli.progress_lines(total=0) as progress:
        asked = read_asked(args.source, args.output, wanted, args.overwrite, progress)
        # Imported late: TensorFlow takes seconds, what cannot be frozen should not.
        use_keras("tensorflow")
        from keras_cbpnet.export.frozen.freeze import freeze

        report = freeze(asked, progress)
    if args.json:
        print(json.dumps({"output": str(args.output), **report}))
        return 0
    shape = ", ".join(map(str, report["input"]))
    print(f"{args.output / MODEL}: {report['bytes'] / 1024:.0f} KiB, image uint8 [{shape}]")
    print(f"scores {args.scores} of {len(report['classes'])} classes: {', '.join(report['classes'][:8])}")
    print(f"largest difference from a device's scores: {report['largest_difference']:.1e}")
    return 0


if __name__ == "__main__":
    cli.hide_native_output()
    sys.exit(cli.run(main))
