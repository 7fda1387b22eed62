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
from keras_cbpnet.export.check import prepare
from keras_cbpnet.export.recipes import OF_TARGET
from keras_cbpnet.export.samples import sample
from keras_cbpnet.keras_settings import use_keras

LOOK = """
import sys
from firmware_host.bundle import DeviceError
from firmware_host.images.labelled import read_data
from firmware_host.images.sources import named_images
data, strangers = sys.argv[1:]
try:
    if data:
        read_data(data, "test")
    next(iter(named_images([strangers] if strangers else [])), None)
except DeviceError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


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
        bundle, data = _tested(args.source, args.data, args.strangers, Path(folder), progress)
        command = ["evaluate", bundle, data, "--report", output, "--state", Path(folder) / "state"]
        command += ["--strangers", args.strangers] if args.strangers else []
        # A process of its own: not every interpreter loads beside TensorFlow.
        return subprocess.run([sys.executable, "-m", "firmware_host", *map(str, command)], check=False).returncode


def _tested(
    source: Path, data: str | None, strangers: str | None, folder: Path, progress: Callable[[str], None]
) -> tuple[Path, str]:
    """Return a bundle and the data to test it on, made in `folder` where they are a run's.

    Raises:
        UserError: `source` is neither run nor bundle, a bundle has no data, the data cannot be read, or the run cannot
            be converted.
    """
    if (source / "manifest.json").is_file():
        if data is None:
            raise UserError(f"{source} is a bundle, which holds no images: name some with --data")
        return source, data
    if not (source / "config.json").is_file():
        raise UserError(f"{source} is neither a bundle (it has no manifest.json) nor a run (no config.json)")
    config, bundle = read_config(source), folder / (source.resolve().name or "run")
    _look_at(data, strangers)
    files = prepare(source, config, [bundle], progress=progress)
    # Imported late: TensorFlow takes seconds, what cannot be tested should not.
    use_keras("tensorflow")
    from keras_cbpnet.export.bundle import write_bundles
    from keras_cbpnet.export.order import Order

    write_bundles(files, {bundle: Order(OF_TARGET["linux"])}, progress)
    if data is None:
        images, slots = sample(files.tasks, "test", sys.maxsize, config.seed)
        data = f"npz:{folder / 'test.npz'}"
        arrays = {
            f"{kind}_{part}": value for part in ("train", "test") for kind, value in (("x", images), ("y", slots))
        }
        np.savez(folder / "test.npz", **arrays, class_names=np.array(files.names))
    return bundle, data


def _look_at(data: str | None, strangers: str | None) -> None:
    """Read where the images of --data and --strangers are, as the device will, before a run is converted for them.

    Raises:
        UserError: one of them cannot be read.
    """
    if data is None and strangers is None:
        return
    command = [sys.executable, "-c", LOOK, data or "", strangers or ""]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it cannot be read"]
        raise UserError(lines[-1])


if __name__ == "__main__":
    cli.hide_native_output()
    sys.exit(cli.run(main))
