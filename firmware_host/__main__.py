"""`python -m firmware_host`, and the console command `cbpnet`."""

from __future__ import annotations

import os
import sys

from firmware_host.shared.packages import missing_package


def main(program: str = "cbpnet") -> int:
    """Run a command of `program`, the name in usage lines; where NumPy is missing, say how to install it."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's products are small here: threads would only wait
    try:
        from firmware_host.cli import main as run
    except ImportError as error:
        print("error:", missing_package(error), file=sys.stderr)
        return 2
    return run(program=program)


if __name__ == "__main__":
    sys.exit(main("python -m firmware_host"))
