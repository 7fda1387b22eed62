"""WiAR, WiFi channel state as pictures, split by repetition: `python -m benchmarks.common.wiar FILE OUT.npz`.

FILE is wiar_images_32.npz: `x` uint8 [N, 32, 32, 3] (time x subcarrier x antenna), `y`, `domain` and `repetition` [N].
OUT is what `--dataset npz:OUT` reads. Guo et al., 10.1155/2018/6163475; no licence, so nothing of it is in this tree.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet import cli
from keras_cbpnet.errors import UserError

WALK = 11  # its recordings of the last three settings are the same files
NAMES = ("x", "y", "domain", "repetition")


class Recordings(NamedTuple):
    """Pictures uint8 [N, 32, 32, 3], their activities [N], and which are for testing, [N]."""

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    test: NDArray[np.bool_]


def read(file: Path) -> Recordings:
    """Return the recordings in `file`; the last third of the repetitions of every setting is for testing.

    Raises:
        UserError: the file is missing, or is another one.
    """
    if not file.is_file():
        raise UserError(f"{file} is not a file; give wiar_images_32.npz")
    with np.load(file) as arrays:
        if missing := [name for name in NAMES if name not in arrays]:
            raise UserError(f"{file} has no array {missing[0]!r}; give wiar_images_32.npz")
        keep = (arrays["y"] != WALK) | (arrays["domain"] < 3)
        x, y, domain, repetition = (arrays[name][keep] for name in NAMES)
    last = {each: np.quantile(repetition[domain == each], 2 / 3) for each in np.unique(domain)}
    return Recordings(x, y.astype(np.int64), repetition > np.array([last[each] for each in domain]))


def main(argv: list[str] | None = None) -> int:
    """Write the data set."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.common.wiar", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="wiar_images_32.npz")
    parser.add_argument("output", type=Path, help="file to write (.npz)")
    args = parser.parse_args(argv)
    found = read(args.file)
    arrays: dict[str, Any] = {"class_names": np.array([f"activity {c}" for c in range(int(found.y.max()) + 1)])}
    for part, chosen in (("train", ~found.test), ("test", found.test)):
        arrays[f"x_{part}"], arrays[f"y_{part}"] = found.x[chosen], found.y[chosen]
    np.savez(args.output, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
