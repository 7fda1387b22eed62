"""`python -m firmware_host`."""

from __future__ import annotations

import sys

from firmware_host.shared.packages import missing_package


def main() -> int:
    """Run a command; where NumPy is missing, say how to install it."""
    try:
        from firmware_host.cli import main as run
    except ImportError as error:
        print("error:", missing_package(error), file=sys.stderr)
        return 2
    return run()


sys.exit(main())
