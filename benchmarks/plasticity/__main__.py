"""The command: `python -m benchmarks.plasticity`."""

import sys

from benchmarks.plasticity.command import main
from keras_cbpnet import cli

sys.exit(cli.run(main))
