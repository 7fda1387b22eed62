"""Measurements of the README's numbers; each module's docstring is its run sheet, NOTES.md is the log."""

import sys

from keras_cbpnet import cli

if sys.argv[:1] == ["-m"]:  # python -m benchmarks.NAME, whose module may import TensorFlow at its top
    cli.hide_native_output()
