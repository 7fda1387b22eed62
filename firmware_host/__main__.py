"""`python -m firmware_host`."""

import sys

try:
    from firmware_host.cli import main
except ImportError as error:
    if (error.name or "").partition(".")[0] != "numpy":
        raise
    print("error: NumPy cannot be imported: install it with pip install --upgrade numpy", file=sys.stderr)
    sys.exit(2)

sys.exit(main())
