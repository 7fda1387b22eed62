"""What every worker here does: as many calls as a line of its input says, and their mean processor time as answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def answer(call: Callable[[], object], per: int = 1) -> None:
    """Answer until the input ends.

    Args:
        call: what is timed; once before anything is.
        per: what the microseconds of a call are divided by, such as the images of a batch.
    """
    call()
    for line in sys.stdin:
        count = int(line)
        began = time.process_time()
        for _ in range(count):
            call()
        print(1e6 * (time.process_time() - began) / count / per, flush=True)
