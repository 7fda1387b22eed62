"""One archive with all that a pretraining needs on somebody else's GPU: `make pretrain-pack DATA=npz:... TEACHER=...`.

    python -m benchmarks.pretrain_pack --data npz:tiny_imagenet_64.npz --teacher-weights deit_tiny.npz --output pack.tgz

In it: the code, the weights to start with, the teacher's weights, as many training images of each class as there is
room for (WebP), and train.sh, which installs the packages and trains under KERAS_BACKEND=jax; what comes out is
weights.npz. The teacher's outputs are not in it: for each image they are a hundred times the size of the image, and
computing them is the smaller part of the work.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import runs
from benchmarks.common.stages import ROOT, shown
from firmware_host.shared.arguments import data_argument, path_argument
from firmware_host.shared.files import write_atomically
from keras_cbpnet import cli
from keras_cbpnet.data import Dataset, open_dataset
from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import check_weights, get_preset

CODE = ("keras_cbpnet", "firmware_host", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
TRAINING = "--views 72000 --mosaics 0.5 --label-weight 0 --batch 64 --learning-rate 3e-4 --weight-decay 0.02 --shift 6"
EPOCHS = 60
HEADER = 120  # bytes that a small file takes beside its contents, compressed


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    summary = (__doc__ or "").splitlines()[0]
    parser = cli.ArgumentParser(prog="python -m benchmarks.pretrain_pack", description=summary)
    add = parser.add_argument
    add("--data", required=True, type=data_argument, metavar="SPEC", help="labelled images: npz:PATH, folder:PATH, ...")
    add("--teacher", default="deit_tiny_16_224", metavar="PRESET", help="backbone to learn from")
    add("--teacher-weights", required=True, type=path_argument, metavar="FILE", help="its weights")
    add("--preset", default="vit_tiny_96", help="backbone to train; it starts with the weights that are shipped")
    add("--output", required=True, type=path_argument, metavar="FILE", help="archive to write (.tgz)")
    add("--megabytes", type=float, default=60.0, metavar="MB", help="size of the archive at most")
    add("--quality", type=int, default=50, metavar="Q", help="quality of the images, 1 to 100")
    add("--epochs", type=int, default=EPOCHS, help="passes of the training over the images")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the archive and say what is in it."""
    args = build_parser().parse_args(argv)
    if args.output.exists():
        raise UserError(f"{args.output} exists; choose another --output")
    if not 1 <= args.quality <= 100:
        raise UserError(f"--quality is {args.quality}; use 1 to 100")
    check_weights(get_preset(args.teacher), args.teacher_weights)
    data = open_dataset(args.data, get_preset(args.preset).backbone.image_size)
    fixed: dict[str, bytes] = {name: (ROOT / name).read_bytes() for name in code_files(args.preset)}
    fixed |= {"teacher.npz": args.teacher_weights.read_bytes(), "train.sh": script(args).encode()}
    room = args.megabytes * 1e6 - len(archive(fixed))
    if room <= 0:
        raise UserError(
            f"--megabytes is {args.megabytes:g}; code and weights take {(args.megabytes * 1e6 - room) / 1e6:.1f}"
        )
    images = dict(within(encoded(data, args.quality), room))
    if not any(name.startswith("images/train/") for name in images):
        raise UserError(f"--megabytes is {args.megabytes:g}; no image fits beside code and weights; use more")
    packed = archive(fixed | images)
    write_atomically(args.output, lambda file: file.write(packed), args.output.with_name(args.output.name + ".part"))
    train = sum(name.startswith("images/train/") for name in images)
    runs.say(f"{train} of {len(data.y_train)} training images, {len(images) - train} to test on")
    print(f"{shown(args.output)}: {len(packed) / 1e6:.1f} MB; there: tar xzf {args.output.name} && sh train.sh")
    return 0


def code_files(preset: str) -> list[str]:
    """Return the files of the checkout that the training needs: `CODE`, of the weights only those of `preset`."""
    listed = subprocess.run(["git", "ls-files", *CODE], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    weights = "keras_cbpnet/weights/"
    return [name for name in listed.splitlines() if not name.startswith(weights) or name == weights + preset + ".npz"]


def script(args: Any) -> str:
    """Return train.sh: the packages, then the training, which goes on where it was if it is run again."""
    preset = shlex.quote(args.preset)
    return (
        "set -e\n"
        'python3 -m pip install -q -e ".[train]" "jax[cuda12]"\n'
        f"KERAS_BACKEND=jax exec python3 -m keras_cbpnet.pretrain --preset {preset} --data folder:images "
        f"--start keras_cbpnet/weights/{preset}.npz --teacher {shlex.quote(args.teacher)} "
        f"--teacher-weights teacher.npz --output weights.npz --work work --epochs {args.epochs} --qat-epochs 0 "
        f"{TRAINING}\n"
    )


def encoded(data: Dataset, quality: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and files of images, the first of every class, the second, ...; one to test on after ten to learn."""
    rows = {}
    for part, labels in (("train", data.y_train), ("test", data.y_test)):
        order = np.argsort(labels, kind="stable")
        counts = np.bincount(labels, minlength=len(data.class_names))
        place = np.concatenate([np.arange(count) for count in counts])
        rows[part] = order[np.argsort(place, kind="stable")]
    tests = iter(rows["test"])
    for number, row in enumerate(rows["train"]):
        yield one(data, "train", int(row), quality)
        if number % 10 == 0 and (test := next(tests, None)) is not None:
            yield one(data, "test", int(test), quality)


def one(data: Dataset, part: str, row: int, quality: int) -> tuple[str, bytes]:
    """Return name and WebP file of an image."""
    file, image = io.BytesIO(), next(iter(data.stored(part)[row : row + 1]))
    Image.fromarray(np.asarray(image)).save(file, "webp", quality=quality)
    label = (data.y_train if part == "train" else data.y_test)[row]
    return f"images/{part}/{label:04d}/{row:06d}.webp", file.getvalue()


def within(files: Iterator[tuple[str, bytes]], room: float) -> Iterator[tuple[str, bytes]]:
    """Yield files until they would take more than `room` bytes in an archive."""
    for name, contents in files:
        room -= len(contents) + HEADER
        if room < 0:
            return
        yield name, contents


def archive(files: dict[str, bytes]) -> bytes:
    """Return the compressed archive of files by name, the same for the same files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=6) as tar:
        for name, contents in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            tar.addfile(info, io.BytesIO(contents))
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(cli.run(main))
