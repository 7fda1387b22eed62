"""What compressed weights save of a microcontroller's flash and cost in accuracy: `python -m benchmarks.flash`.

    python -m benchmarks.flash --data digits --json benchmarks/results/flash_digits.json
    python -m benchmarks.flash --data npz:cifar100.npz --per-class 80,50 --json benchmarks/results/flash_cifar100.json

One backbone, calibrated on the first seed's images, int8 and arranged for TFLM. `lut:B` rounds its weights to 2^B
values a tensor; `zeros P` sets the share P of each tensor's weights that is nearest to zero to zero, without any
training, and keeps the others (`prune`). Accuracy: class means and one covariance (LDA), and class means alone (NCM),
both taken again from the training images as that file sees them; `old means`: NCM by the means of the plain file.
TFLM's answers on some images are compared with those of the same file without the operator DECODE, number by number.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import results, runs
from benchmarks.common.stages import ROOT, shown
from benchmarks.common.tables import markdown
from firmware_host.bundle import ClassStatistics
from keras_cbpnet import cli
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.export.micro.compression import parse_compression
from keras_cbpnet.export.tflite_file.graph import Model

COMPARED = 10  # images under TFLM
SHRINKAGE = 1e-2  # of the covariance, as streaming LDA has it
WAYS = ("plain", "lut:5", "lut:4", "lut:3", "zeros 0.5", "zeros 0.75", "zeros 0.9")
TFLM = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
images = np.load(sys.argv[1])
answers = []
for file in sys.argv[2:]:
    interpreter = runtime.Interpreter.from_file(file, arena_size=1 << 22)
    found = []
    for image in images:
        interpreter.set_input(image[None], 0)
        interpreter.invoke()
        found.append([interpreter.get_output(place).copy() for place in range(2)])
    answers.append(found)
same = all(np.array_equal(a, b) for one, other in zip(*answers) for a, b in zip(one, other))
print("same" if same else "other")
"""  # a process of its own: TFLM and TensorFlow do not share one


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = runs.build_parser("flash", __doc__, data="digits", seeds=[0])
    parser.set_defaults(preset="vit_micro_32")
    parser.add_argument(
        "--ways", type=runs.names_of("way", WAYS), default=list(WAYS), metavar="W,W,...", help=", ".join(WAYS)
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, compress, measure; print a table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    commit = results.commit(ROOT)
    config = TrainConfig(**runs.images_of(args), method="ncm", tasks=1, seed=args.seeds[0])
    folder = args.work / f"{args.preset}-{args.seeds[0]}"
    runs.run(config, folder)
    found = measure(config, folder, ["plain", *(way for way in args.ways if way != "plain")])
    record = {
        **results.provenance("benchmarks.flash", given, commit),
        "preset": args.preset,
        "data": args.data,
        "per_class": args.per_class,
        "seeds": args.seeds[:1],
        "ways": found,
    }
    if args.json:
        results.write(args.json, record)
        runs.say(f"written: {shown(args.json)}")
    print(render(record))
    return 0


def measure(config: TrainConfig, folder: Path, ways: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return bytes, arena, zeros and accuracies of every way, `plain` first, for the run in `folder`."""
    import keras

    from keras_cbpnet.data import make_stream
    from keras_cbpnet.data.record import open_data_of_run
    from keras_cbpnet.export import samples
    from keras_cbpnet.export.backbone import convert_backbone
    from keras_cbpnet.export.micro.arena import measure_arena
    from keras_cbpnet.export.micro.backbone import lean_backbone
    from keras_cbpnet.export.micro.decode import compress, saved
    from keras_cbpnet.export.runtimes import run_backbone

    model = keras.models.load_model(folder / "model.keras")
    data = open_data_of_run(folder, config.dataset, model.backbone.config.image_size, config.seed)
    [task] = make_stream("class", data, 1, config.seed, config.ways, config.shots)
    whole = lean_backbone(convert_backbone(model, "int8", samples.representative([task], config.seed)))
    found: dict[str, dict[str, Any]] = {}
    means: NDArray[np.float64] | None = None
    for way in ways:
        plain, compression = made(whole, way)
        small = compress(plain, compression)
        train, test = (run_backbone(plain, images, runtime()).feature for images in (task.x_train, task.x_test))
        statistics = ClassStatistics.empty(int(task.y_train.max()) + 1, train.shape[1])
        statistics.update_all(train, task.y_train)
        means = statistics.mean if means is None else means
        found[way] = {
            **saved(whole, small),
            "zeros": saved(plain, small)["zeros"],
            "arena": measure_arena(small)["bytes"],
            "same_under_tflm": same_under_tflm(plain, small, task.x_test[:COMPARED]),
            "lda": float(np.mean(lda(statistics, test) == task.y_test)),
            "ncm": float(np.mean(ncm(statistics.mean, test) == task.y_test)),
            "old_means": float(np.mean(ncm(means, test) == task.y_test)),
        }
        runs.say(f"{way}: {found[way]}")
    return found


def made(content: bytes, way: str) -> tuple[bytes, Any]:
    """Return the file that computes what `way` does without DECODE, and how it is compressed."""
    from keras_cbpnet.export.micro.decode import rounded, weight_buffers

    kind, _, share = way.partition(" ")
    if way == "plain":
        return content, None
    if kind != "zeros":
        return rounded(content, parse_compression(way)), parse_compression(way)
    model = Model(content)
    for number in weight_buffers(model):
        values = np.frombuffer(bytes(model.root.buffers[number].data), np.int8).copy()
        values[np.argsort(np.abs(values.astype(np.int16)), kind="stable")[: round(float(share) * len(values))]] = 0
        model.root.buffers[number].data = values.view(np.uint8)
    return model.pack(), parse_compression("prune")


def runtime() -> str:
    """Return the runtime that computes features."""
    from firmware_host.shared.runtimes import installed_interpreters

    return installed_interpreters()[0]


def lda(statistics: ClassStatistics, feature: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the likeliest class of each feature [N, d] by class means and one covariance."""
    kernel = np.linalg.solve(statistics.covariance(SHRINKAGE), statistics.mean.T)  # (d, C)
    return np.asarray((feature @ kernel - 0.5 * np.sum(kernel * statistics.mean.T, axis=0)).argmax(axis=1))


def ncm(mean: NDArray[np.float64], feature: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the class whose mean is nearest to each feature [N, d] by cosine."""
    return np.asarray((feature @ (mean / np.linalg.norm(mean, axis=1, keepdims=True)).T).argmax(axis=1))


def same_under_tflm(plain: bytes, small: bytes, images: NDArray[np.uint8]) -> bool:
    """Return whether two files give the same numbers for `images` [n, H, W, 3] under TFLM."""
    with tempfile.TemporaryDirectory() as name:
        files = {"plain.tflite": plain, "small.tflite": small}
        for file, content in files.items():
            (Path(name) / file).write_bytes(content)
        np.save(Path(name) / "images.npy", images)
        words = [sys.executable, "-c", TFLM, "images.npy", *files]
        done = subprocess.run(words, cwd=name, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1] == "same"


def render(record: Mapping[str, Any]) -> str:
    """Return the table of a result: a row a way."""
    table = [["", "bytes", "of plain, %", "zeros, %", "arena, KiB", "LDA, %", "NCM, %", "old means, %", "under TFLM"]]
    for way, found in record["ways"].items():
        cells = [f"{found['bytes']:,}", f"{100 * found['bytes'] / found['plain_bytes']:.1f}"]
        cells += [f"{100 * found['zeros']:.0f}", f"{found['arena'] / 1024:.1f}"]
        cells += [f"{100 * found[name]:.1f}" for name in ("lda", "ncm", "old_means")]
        table.append([way, *cells, "the same" if found["same_under_tflm"] else "other numbers"])
    return f"{record['preset']}, {record['data']}, {runs.images_shown(record)}\n\n{markdown(table)}"


if __name__ == "__main__":
    sys.exit(cli.run(main))
