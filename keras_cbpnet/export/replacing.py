"""A folder that is written whole or not at all, and that takes the place of another so that one of them survives.

Beside OUTPUT lie `.OUTPUT.part`, what is written or deleted, and for a moment `.OUTPUT.old`, which is always whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_cbpnet.errors import UserError
from keras_cbpnet.locks import in_use, locked

__all__ = ["recover", "replacing"]

IN_USE = "{} is being written by another conversion; wait until that has ended, or choose another --output"


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """Yield an empty folder, which becomes `output` when the block ends, in place of an older one; not on an error."""
    part, old = _aside(output)
    part.mkdir(parents=True)
    with locked(part, IN_USE.format(output)):
        try:
            yield part
        except BaseException:
            shutil.rmtree(part)
            raise
    if output.exists():
        output.rename(old)
    part.rename(output)
    recover(output)


def recover(output: Path) -> None:
    """Repair what a process that was killed in `replacing` left: the older folder comes back where none is there."""
    part, old = _aside(output)
    if in_use(part):
        raise UserError(IN_USE.format(output))
    if part.exists():
        shutil.rmtree(part)
    if old.exists():
        old.rename(part if output.exists() else output)
    if part.exists():
        shutil.rmtree(part)


def _aside(output: Path) -> tuple[Path, Path]:
    output = output.absolute()  # `.` has no name
    return output.with_name(f".{output.name}.part"), output.with_name(f".{output.name}.old")
