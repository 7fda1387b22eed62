"""Write the images of a run's stream as PNG files, for the device: `python -m benchmarks.common.images RUN OUTPUT`.

    OUTPUT/taskN/train/CLASS/NNNN.png, OUTPUT/taskN/test/CLASS/NNNN.png    the N-th task, from 1
    OUTPUT/seenN/CLASS/NNNN.png                                            the test images of tasks 1 to N

for every task, and for every N from the number of tasks that the host learned.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from keras_cbpnet import cli
from keras_cbpnet.config import read_config
from keras_cbpnet.data import Task, class_incremental, load_dataset
from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import get_preset


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.common.images", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder of keras_cbpnet.train")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="folder to make")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files; print the classes and the number of test images of every task as JSON."""
    args = build_parser().parse_args(argv)
    config = read_config(args.run)
    if args.output.exists():
        raise UserError(f"{args.output} exists; choose another folder or remove it")
    data = load_dataset(config.dataset, get_preset(config.preset).backbone.image_size, config.seed)
    stream = class_incremental(data, config.tasks, config.seed)
    for task in stream:
        folder = args.output / f"task{task.index + 1}"
        write_images(folder / "train", labelled(task, task.x_train, task.y_train))
        write_images(folder / "test", labelled(task, task.x_test, task.y_test))
        for seen in range(max(task.index + 1, config.tasks - config.device_tasks), config.tasks + 1):
            write_images(args.output / f"seen{seen}", labelled(task, task.x_test, task.y_test))
    counts = [Counter(name for name, _ in labelled(task, task.x_test, task.y_test)) for task in stream]
    tasks = [{"classes": list(task.class_names), "test_images": count} for task, count in zip(stream, counts)]
    print(json.dumps({"output": str(args.output), "tasks": tasks}))
    return 0


def labelled(task: Task, images: Iterable, slots: Iterable) -> list[tuple[str, Image.Image]]:
    """Return (class name, image) for uint8 images [N, H, W, 3] and their slots [N]."""
    names = dict(zip(task.slots, task.class_names))
    return [(names[int(slot)], Image.fromarray(image)) for image, slot in zip(images, slots)]


def write_images(folder: Path, images: Iterable[tuple[str, Image.Image]]) -> None:
    """Write every image into the folder of its class, numbered from 0 in each."""
    written: Counter[str] = Counter()
    for name, image in images:
        (folder / name).mkdir(parents=True, exist_ok=True)
        image.save(folder / name / f"{written[name]:04d}.png")
        written[name] += 1


if __name__ == "__main__":
    sys.exit(cli.run(main))
