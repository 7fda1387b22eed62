"""docs/results.md from the result files: `python -m benchmarks.page`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import (
    backbones,
    bank_runtime,
    boards,
    changing_labels,
    class_incremental,
    defaults,
    endurance,
    flash,
    fleet,
    fleet_growth,
    lives,
    loop,
    micro,
    micro_bank,
    moved_camera,
    photos,
    reading,
    recipes,
    reparam,
    sensor,
    serve,
    smaller,
    sparsity,
    step,
    unattended,
    unknown_classes,
)
from benchmarks.common import tables
from benchmarks.common.stages import ROOT
from benchmarks.plasticity.tables import render_all as plasticity_table
from benchmarks.speed import rows as speed
from keras_cbpnet import cli

FOLDER = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"
HEAD = """\
# Results

Made by `python -m benchmarks.page` from the files in [benchmarks/results](../benchmarks/results), which hold every
number below with its command, seeds, versions and commit. Files of the same backbone, data and seeds are one table; a
dash was not run; ± is the standard deviation over seeds. What was tried on the way, also without success:
[benchmarks/NOTES.md](../benchmarks/NOTES.md). Words: [glossary.md](glossary.md).
"""
TAIL = """\
## Other files

`plasticity_tuning*.json`: the settings that each rule of the plasticity benchmark tried, best first (NOTES 16, 37, 56).
`prompt_selection*.json`: what selects the prompt, shown in [tflite/README.md](../tflite/README.md), One pass or two.
"""
Record = dict[str, Any]


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        files: their names' pattern.
        title: of the part.
        show: the text of one group of results.
        group: what the results of one group have in common; by default each is alone.
        words: about all of them.
    """

    files: str
    title: str
    show: Callable[[Sequence[Record]], str]
    group: Callable[[Record], Any] = lambda record: record["file"]
    words: str = ""


def alone(render: Callable[[Record], str]) -> Callable[[Sequence[Record]], str]:
    """Return what shows a group of one result."""
    return lambda records: render(records[0])


SECTIONS = (
    Section(
        "class_incremental_*.json",
        "Class-incremental learning",
        lambda records: class_incremental.render(class_incremental.merge(records)),
        class_incremental.same_runs,
        """\
T tasks of new classes, rehearsal-free unless a row says `replay`, each image classified among all classes without its
task's number. `mixture`: block and bank, the default; `bank`: the bank alone; `cbpnet`: prompts and block, the
paper's setting; `block`: no prompts; `no_cbp`: no unit is ever reset; `random_choice`: the
unit to reset is drawn at random; `finetune`: a linear output layer without prompts; `ncm`: nearest class mean.""",
    ),
    Section(
        "defaults*.json",
        "Defaults against best",
        alone(defaults.render),
        words="""\
`python -m keras_cbpnet.train` without options, beside settings that help somewhere; a seed draws images and class
order.""",
    ),
    Section(
        "changing_labels_*.json",
        "Labels that change their meaning: block, bank and mixture",
        alone(changing_labels.render),
        words="""\
Ten labels used again and again, nobody says when. `returning`: the classes come back, `new`: none does.""",
    ),
    Section("unknown_classes_*.json", "Images of no known class", alone(unknown_classes.render)),
    Section("moved_camera*.json", "Another camera than the host's", alone(moved_camera.render)),
    Section(
        "fleet_[!g]*.json",
        "Devices that share what they learn",
        alone(fleet.render),
        words="""\
Devices are taught parts of the new classes' images, and a fresh one takes over what they tell: sums over images. Beside
it a device that was taught all of them, and the mean of the devices before they shared.""",
    ),
    Section(
        "fleet_growth*.json",
        "A fleet as it grows",
        alone(fleet_growth.render),
        words="""\
Simulated devices around a server, which tells each the sum of what all others were taught. Accuracy of a whole device
on all classes; a class that nobody taught yet is wrong. Seconds of a processor, of the last round; bytes without those
of what carries the messages. `alone`: before anything was shared.""",
    ),
    Section(
        "sensor*.json",
        "A sensor in a setting that it was not trained in",
        alone(sensor.render),
        words="""\
WiAR: WiFi channel state of 16 activities. `learn` adds to what the host taught, `calibrate` estimates an offset first,
`moved` forgets what classes looked like first; `ncm` and `slda` know the shots alone, by the same int8 features.""",
    ),
    Section(
        "lives_*.json",
        "Twelve streams in succession",
        lives.render_all,
        lambda record: (lives.features_of(record), record["seeds"]),
        """\
A life is one class-incremental stream; the block and its optimizer go on from life to life, the classes do not, and
every feature's gain and offset drift. A single pass costs little plasticity, so resets gain nothing there.""",
    ),
    Section(
        "plasticity*.json",
        "Plasticity over a thousand tasks",
        plasticity_table,
        lambda record: (record["features"]["file"], record["tasks"]),
        """\
Ten labels used again and again, 50 images a class, nothing reset between tasks; `head_reset` alone is told where a task
begins. Engine `keras` is the step that the host trains with; `--engine tflite` drives the device package.""",
    ),
    Section("photos*.json", "Frozen backbones on photographs (40 classes of Caltech-101)", alone(photos.render)),
    Section("micro_bank.json", "The bank of a microcontroller", alone(micro_bank.render)),
    Section(
        "bank_runtime.json",
        "One prediction of the bank, in NumPy and by a .tflite file",
        alone(bank_runtime.render),
        words="""\
192 features, 126 slots of 16 directions. A prediction looks at all slots, and a second time at the likeliest four, for
which TensorFlow Lite has no operators.""",
    ),
    Section(
        "step.json",
        "One training step of the head",
        alone(step.render),
        words="""\
Processor time of `train`, Python around it included, over that of a step of eager PyTorch with gradients by autograd:
median and quartiles of 25 turns, and the fastest turn. 192 features, one thread, a machine with other work. `products`
are PyTorch's matrix products alone; `before` is head.tflite as commit 8e99839 wrote it.""",
    ),
    Section(
        "loop.json",
        "The loop around the training graph",
        alone(loop.render),
        words="""\
Ratios within each turn, median and quartiles. `learn` on 500 images for 20 epochs: a step with all that goes on between
the steps over the graph alone, and what the looks at the head (the guard's, label noise's) take of it; a lesson of 16
steps from an image to the head; a look at one image over the graph's `infer`; time to read the state as a power of the
number of features, 64 to 768.""",
    ),
    Section(
        "serve*.json",
        "The server under use",
        alone(serve.render),
        words="""\
A bundle of digits with `vit_nano_32` on two cores, on which the camera and both clients run too. The hour was measured
beside other work, and before answers were sent without waiting for an acknowledgement.""",
    ),
    Section(
        "speed.json",
        "How fast, beside others and against what was aimed at",
        alone(speed.render),
        words="""\
Made by `make bench`. Ratios of things that take turns, each in a process of its own with one thread, in processor time
unless it says by the clock: below 1 is faster than what it is compared with. Of the curves of growth the exponent is
that between the two largest sizes: 1 is as fast as the size, 0 not at all. `cbpnet bench BUNDLE --compare FILE`
compares a board with a file that `python -m benchmarks.reference` made.""",
    ),
    Section("boards.json", "Which backbone for which board", alone(boards.render)),
    Section("backbone_*.json", "Frozen backbones on CIFAR-100", alone(backbones.render)),
    Section(
        "smaller_*.json",
        "Smaller backbones",
        alone(smaller.render),
        words="""\
The first encoder blocks alone (`--depth`), features whitened by a transform of their own, and weights that `pretrain
--shrink` made; in brackets the share of the first row, and the difference from it in points.""",
    ),
    Section(
        "sparsity*.json",
        "Networks with zeros, rule by rule",
        alone(sparsity.render),
        words="""\
Zeros take less room in a file, see below, and save no time: TensorFlow Lite multiplies by them.""",
    ),
    Section(
        "reparam_*.json",
        "A stem trained in branches",
        alone(reparam.render),
        words="""\
Pretraining from random weights by labels, features of CIFAR-100, top-1 in %; processor time of the whole command.""",
    ),
    Section("flash_*.json", "Fewer bytes of flash on a microcontroller", alone(flash.render)),
    Section("unattended_*.json", "Learning unattended", alone(unattended.render)),
    Section("endurance.json", "A device that never restarts", alone(endurance.render)),
    Section(
        "reading.json",
        "Reading photos",
        alone(reading.render),
        words="""\
The commands on a folder of photos, now divided by before: `cpu` in processor time, `wall` by the clock. Threads decode
files ahead of the predictions, at 1/2, 1/4 or 1/8 where that leaves twice the pixels that are wanted.""",
    ),
    Section("recipes_*.json", "What the conversion recipes lose", alone(recipes.render)),
    Section("digits.json", "From training to device, on digits", alone(tables.render)),
    Section("micro.json", "On a microcontroller", alone(micro.render)),
)
LEFT_OUT = ("plasticity_tuning", "prompt_selection")  # beginnings of the names of the files that TAIL speaks of


def main(argv: list[str] | None = None) -> int:
    """Write the page."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.page", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=PAGE, help="file to write")
    output = parser.parse_args(argv).output
    output.write_text(page(FOLDER), encoding="utf-8")
    return 0


def page(folder: Path) -> str:
    """Return the page of the result files in `folder`; sections without files are left out."""
    parts = [HEAD]
    for section in SECTIONS:
        groups: dict[str, list[Record]] = {}
        for file in sorted(folder.glob(section.files)):
            if not file.name.startswith(LEFT_OUT):
                record = {**json.loads(file.read_text()), "file": file.name}
                groups.setdefault(json.dumps(section.group(record)), []).append(record)
        if groups:
            parts.append(f"## {section.title}\n")
            parts += [section.words + "\n"] if section.words else []
        for records in groups.values():
            parts.append(f"{section.show(records).strip()}\n")
            parts.append("\n".join(map(source, records)) + "\n")
    return "\n".join([*parts, TAIL])


def source(record: Record) -> str:
    """Return which file a result is in and what made it, a line of a list."""
    return f"- `{record['file']}`, commit {str(record['commit'])[:7]}: `{record['command']}`"


if __name__ == "__main__":
    sys.exit(cli.run(main))
