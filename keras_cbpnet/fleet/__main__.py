"""`python -m keras_cbpnet.fleet`: the command line of fleet, as a program of its own."""

import sys

from keras_cbpnet import cli
from keras_cbpnet.fleet.cli import main

if __name__ == "__main__":
    cli.hide_native_output()
    sys.exit(cli.run(main))
