"""Write a page to look at: what was confused, how sure the network is, how it does with what it does not know.

`keras-cbpnet report RUN` tests a run, converted, on its own test images; `keras-cbpnet report BUNDLE --data DATA` a
bundle on images of yours. `cbpnet evaluate --report` writes the same page of what a device has learned.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from firmware_host.shared.arguments import data_argument, new_file_argument, path_argument
from keras_cbpnet import cli
from keras_cbpnet.config import read_config
from keras_cbpnet.errors import UserError
from keras_cbpnet.keras_settings import use_keras


def build_parser(names: Mapping[str, str] = cli.MODULES) -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog=names["report"], description=__doc__)
    parser.add_argument("source", type=path_argument, metavar="BUNDLE_OR_RUN", help="run folder, or bundle")
    parser.add_argument(
        "--data",
        type=data_argument,
        help="folder with one folder of images per class, or npz:PATH; default: the run's own test images",
    )
    parser.add_argument(
        "--strangers", metavar="IMAGES", type=data_argument, help="folder of images of none of the classes"
    )
    parser.add_argument(
        "--output",
        metavar="FILE.html",
        type=new_file_argument,
        help="page to write, replaced if it exists; default: its name.html",
    )
    return parser


def main(argv: Sequence[str] | None = None, names: Mapping[str, str] = cli.MODULES) -> int:
    """Write the page and print accuracies; `names`: how commands are started."""
    args = build_parser(names).parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    output = args.output or Path(f"{args.source.name}.html")
    with cli.progress_lines(total=0) as progress, tempfile.TemporaryDirectory() as folder:
        bundle, data = _tested(args.source, args.data, Path(folder), progress)
        command = ["evaluate", bundle, data, "--report", output, "--state", Path(folder) / "state"]
        command += ["--strangers", args.strangers] if args.strangers else []
        # A process of its own: not every interpreter loads beside TensorFlow.
        return subprocess.run([sys.executable, "-m", "firmware_host", *map(str, command)], check=False).returncode


def _tested(source: Path, data: str | None, folder: Path, progress: Callable[[str], None]) -> tuple[Path, str]:
    """Return a bundle and the data to test it on, made in `folder` where they are a run's.

    Raises:
        UserError: `source` is neither run nor bundle, a bundle has no data, or the run cannot be converted.
    """
    if (source / "manifest.json").is_file():
        if data is None:
            raise UserError(f"{source} is a bundle, which holds no images: name some with --data")
        return source, data
    if not (source / "config.json").is_file():
        raise UserError(f"{source} is neither a bundle (it has no manifest.json) nor a run (no config.json)")
    # Imported late: TensorFlow takes seconds, a mistyped option should not.
    use_keras("tensorflow")
    from keras_cbpnet.export.bundle import export_bundle
    from keras_cbpnet.export.order import Order
    from keras_cbpnet.export.recipes import OF_TARGET
    from keras_cbpnet.export.samples import sample
    from keras_cbpnet.export.source import load_source

    config, bundle = read_config(source), folder / (source.resolve().name or "run")
    export_bundle(source, config, bundle, Order(OF_TARGET["linux"]), progress=progress)
    if data is None:
        run = load_source(source, config)
        images, slots = sample(run.tasks, "test", sys.maxsize, config.seed)
        data = f"npz:{folder / 'test.npz'}"
        arrays = {
            f"{kind}_{part}": value for part in ("train", "test") for kind, value in (("x", images), ("y", slots))
        }
        np.savez(folder / "test.npz", **arrays, class_names=np.array(run.names))
    return bundle, data


if __name__ == "__main__":
    cli.hide_native_output()
    sys.exit(cli.run(main))
