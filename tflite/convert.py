"""Convert a finished run into a bundle: `python tflite/convert.py RUN`; the code is keras_cbpnet.convert."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

# This folder is on the path when the script runs, and the project's root is not.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from keras_cbpnet import cli, convert  # noqa: E402

NAMES = {**cli.MODULES, "convert": "python tflite/convert.py"}


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    return convert.build_parser(NAMES)


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, verify, write the bundle and print what came of it."""
    return convert.main(argv, NAMES)


if __name__ == "__main__":
    cli.hide_native_output()
    sys.exit(cli.run(main))
