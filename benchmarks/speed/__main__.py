"""`python -m benchmarks.speed`."""

import sys

from benchmarks.speed.command import main
from keras_cbpnet import cli

if __name__ == "__main__":
    sys.exit(cli.run(main))
