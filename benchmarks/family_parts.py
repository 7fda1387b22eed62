"""The parts that docs/family.md is about, as data; `benchmarks.family` makes the page.

A gate takes its number from a result file; parts without a command are not built.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["PARTS", "Gate", "Part"]


class Gate(NamedTuple):
    """A number that a part was to reach.

    Attributes:
        what: is measured.
        file: its result, in benchmarks/results.
        value: takes the number from the file's contents; a KeyError: it was not measured.
        least, most: one of them: what was wanted.
        unit: of the number.
        digits: after the point.
    """

    what: str
    file: str
    value: Callable[[dict[str, Any]], float]
    least: float | None = None
    most: float | None = None
    unit: str = ""
    digits: int = 1

    @property
    def bound(self) -> float:
        """What was wanted."""
        bound = self.most if self.least is None else self.least
        if bound is None:
            raise ValueError(f"gate {self.what!r} wants nothing: give least or most")
        return bound

    def holds(self, value: float) -> bool:
        """Return whether `value` is what was wanted."""
        return value >= self.bound if self.least is not None else value <= self.bound


class Part(NamedTuple):
    """What one paper gives.

    Attributes:
        name: heading on the page.
        title: of the paper, with its number at arXiv.
        purpose: what it is for, a phrase.
        command: that uses it; empty: it is not built.
        gates: see there.
        stays: what the part stays as, for the verdict.
        remark: what else there is to say.
    """

    name: str
    title: str
    purpose: str
    command: str = ""
    gates: tuple[Gate, ...] = ()
    stays: str = ""
    remark: str = ""


def over(tasks: str, row: str, other: str) -> Callable[[dict[str, Any]], float]:
    """Return what takes the mean lead in points of `row` over `other` from a class-incremental result."""

    def value(record: dict[str, Any]) -> float:
        found = record["tasks"][tasks]
        pairs = zip(found[row]["average_accuracy"], found[other]["average_accuracy"], strict=True)
        return 100.0 * statistics.fmean(a - b for a, b in pairs)

    return value


def rule_over(row: str, other: str) -> Callable[[dict[str, Any]], float]:
    """Return what takes the lead in points of one learning rule over another from a plasticity result."""
    return lambda record: 100.0 * (record["rules"][row]["mean"] - record["rules"][other]["mean"])


def kept(data: str, share: str, row: str, other: str) -> Callable[[dict[str, Any]], float]:
    """Return what takes the lead in points of one sparse training over another from a result of benchmarks.sparsity."""

    def value(record: dict[str, Any]) -> float:
        found = record["data"][data]
        return 100.0 * (float(found[row][share]["mean"]) - float(found[other][share]["mean"]))

    return value


def share_of_bytes(way: str) -> Callable[[dict[str, Any]], float]:
    """Return what takes a compressed backbone's bytes in % of the plain one's from a result of benchmarks.flash."""
    return lambda record: 100.0 * float(record["ways"][way]["bytes"]) / float(record["ways"][way]["plain_bytes"])


def flash_loss(way: str, other: str) -> Callable[[dict[str, Any]], float]:
    """Return what takes the points of LDA that `way` loses beyond what `other` does from the same."""
    return lambda record: 100.0 * (float(record["ways"][other]["lda"]) - float(record["ways"][way]["lda"]))


def branched(other: str) -> Callable[[dict[str, Any]], float]:
    """Return what takes the points of LDA that branches of the stem gain over `other` from a result of reparam."""

    def value(record: dict[str, Any]) -> float:
        pairs = zip(record["rows"]["branches"], record["rows"][other], strict=True)
        return 100.0 * statistics.fmean(a["lda"] - b["lda"] for a, b in pairs)

    return value


def smaller(method: str) -> Callable[[dict[str, Any]], float]:
    """Return what takes the points that three blocks gain over five from a result of benchmarks.smaller."""
    return lambda record: 100.0 * (record["forms"]["3"][method]["mean"] - record["forms"]["5"][method]["mean"])


def smaller_bytes(record: dict[str, Any]) -> float:
    """Return the bytes of three blocks in % of those of five, of a result of benchmarks.smaller."""
    return 100.0 * float(record["forms"]["3"]["bytes"]) / float(record["forms"]["5"]["bytes"])


def after_shots(shots: str) -> Callable[[dict[str, Any]], float]:
    """Return what takes the accuracy in % after so many recordings a class from a result of benchmarks.sensor."""
    return lambda record: 100.0 * float(record["mean"]["learn"][shots]["mean"])


def later(record: dict[str, Any]) -> float:
    """Return the number of a gate that no command measures yet."""
    return float(record["gain"])


FOSTER = "class_incremental_foster.json"
ADAPTED, ADAPTED_PHOTOS = "class_incremental_adapted_wiar.json", "class_incremental_adapted_cifar100.json"
FLASH, SPARSE = "flash_cifar100.json", "sparsity.json"
EAST = ("EAST, cyclic", "RigL")
POWER = ("Powerpropagation, 4", "pruned at the end")
REPARAM = "reparam_micro.json"
PARTS = (
    Part(
        "Depth on demand",
        "Layer pruning with intermediate CTC, arXiv 2106.09216",
        "a backbone that answers after fewer blocks: fewer bytes and less time",
        "python tflite/convert.py RUN --depth 3",
        (
            Gate("CIFAR-100, nearest class mean, points", "smaller_nano.json", smaller("ncm"), least=-0.3, digits=2),
            Gate("CIFAR-100, SLDA, points", "smaller_nano.json", smaller("slda"), least=-0.3, digits=2),
            Gate("CIFAR-100, the default, points", "smaller_nano.json", smaller("mixture"), least=-0.3, digits=2),
            Gate("digits, nearest class mean, points", "smaller_digits.json", smaller("ncm"), least=-0.5, digits=2),
            Gate("digits, SLDA, points", "smaller_digits.json", smaller("slda"), least=-0.5, digits=2),
            Gate("digits, the default, points", "smaller_digits.json", smaller("mixture"), least=-0.5, digits=2),
            Gate("int8 file, bytes of five blocks", "smaller_nano.json", smaller_bytes, most=71.0, unit=" %"),
        ),
        "all blocks stay the default; `convert --report` shows what fewer would do",
        "Three blocks of `vit_nano_32` against all five, three seeds.",
    ),
    Part(
        "End and edge on a sensor",
        "WECAR, arXiv 2503.07669",
        "a sensor instead of a camera; a microcontroller that infers and a board that learns",
        "python -m keras_cbpnet.train --dataset csi:wiar_csi.npz --stream domain",
        (
            Gate("a new setting, 5 recordings a class", "sensor.json", after_shots("5"), least=60.0, unit=" %"),
            Gate("a new setting, 10 recordings a class", "sensor.json", after_shots("10"), least=72.0, unit=" %"),
        ),
        "a data source and a target of its own; cameras are untouched",
        "What one place is worth in another: [benchmarks/NOTES.md](../benchmarks/NOTES.md), entry 84.",
    ),
    Part(
        "Structured pruning",
        "Fisher-Taylor sensitivity, arXiv 2502.11450",
        "a smaller backbone by what its units are worth",
        "python -m keras_cbpnet.pretrain --start vit_nano_32 --shrink fts:mlp=0.25,depth=3 ...",
        remark="Numbers: [benchmarks/NOTES.md](../benchmarks/NOTES.md), entry 82.",
    ),
    Part(
        "ALoRE",
        "ALoRE, arXiv 2412.08341",
        "adaptation of the backbone to images far from photographs, merged before export",
        "python -m keras_cbpnet.train --adapt alore --dataset npz:wiar.npz --tasks 2",
        (
            Gate("WiAR, nearest class mean, points gained", ADAPTED, over("2", "ncm_adapted", "ncm"), least=20.0),
            Gate("WiAR, SLDA, points gained", ADAPTED, over("2", "slda_adapted", "slda"), least=3.0),
            Gate(
                "CIFAR-100, SLDA, points gained, whitened again",
                ADAPTED_PHOTOS,
                over("5", "slda_adapted_white", "slda"),
                least=-0.5,
            ),
        ),
        "an option, `--adapt alore`; the default adapts nothing",
        "`python -m benchmarks.common.wiar` writes wiar.npz. The first task adapts the backbone.",
    ),
    Part(
        "FOSTER",
        "FOSTER, arXiv 2204.04662",
        "new classes by a second module, which is compressed into one block again",
        "python -m keras_cbpnet.train --method foster --units 128 --dataset cifar100 --tasks 10",
        (
            Gate("ten tasks, points above SLDA", FOSTER, over("10", "foster", "slda"), least=1.5),
            Gate("twenty tasks, points above SLDA", FOSTER, over("20", "foster", "slda"), least=-0.5),
            Gate("fifty tasks, points above SLDA", FOSTER, over("50", "foster", "slda"), least=-0.5),
        ),
        "an option beside the default, `--method foster`",
        "The bank, which is the default and trains nothing, is above both; `foster` is for those who want one block. "
        "On the device: `cbpnet learn BUNDLE [DATA] --consolidate foster`, by the same code (NOTES, 94).",
    ),
    Part(
        "Flash of microcontrollers",
        "Tables of values, the control of all that is sparse, of no paper here",
        "a backbone of fewer bytes in flash, decoded by TFLM",
        "python tflite/convert.py RUN --target micro --compress lut:4",
        (
            Gate(
                "75 % zeros without training, bytes of plain", FLASH, share_of_bytes("zeros 0.75"), most=53.0, unit=" %"
            ),
            Gate(
                "the same: points of LDA lost beyond what a table of 16 values loses",
                FLASH,
                flash_loss("zeros 0.75", "lut:4"),
                most=0.0,
            ),
        ),
        "`--compress lut:4` and `--compress prune`",
        "Zeros are worth what training adds to them; no backbone was trained for zeros yet.",
    ),
    Part(
        "EAST",
        "Pushing the limits of sparsity, arXiv 2411.13545",
        "more zeros in the weights, for flash alone",
        "python -m benchmarks.sparsity --data digits,wiar:wiar_images_32.npz",
        (
            Gate("digits, 1 % of the weights, points above RigL", SPARSE, kept("digits", "1 %", *EAST), least=1.0),
            Gate("WiAR, 1 % of the weights, points above RigL", SPARSE, kept("wiar", "1 %", *EAST), least=1.0),
        ),
        "masks and schedules in `keras_cbpnet.sparsity`, for research",
        "The cyclic part alone; no backbone was pretrained with it, and blocks do not share weights.",
    ),
    Part(
        "Powerpropagation",
        "Powerpropagation, arXiv 2110.00296",
        "weights that bear pruning without training again",
        "python -m benchmarks.sparsity --data digits,wiar:wiar_images_32.npz",
        (
            Gate("digits, 10 % of the weights, points above plain", SPARSE, kept("digits", "10 %", *POWER), 15.0),
            Gate("WiAR, the same", SPARSE, kept("wiar", "10 %", *POWER), 15.0),
            Gate("digits, all weights, points from plain", SPARSE, kept("digits", "all", *POWER), -1.5),
            Gate("WiAR, the same", SPARSE, kept("wiar", "all", *POWER), -1.5),
        ),
        "`keras_cbpnet.sparsity.powerprop`, for research",
    ),
    Part(
        "IEE",
        "Enhanced saliency, arXiv 2502.03658",
        "zeros that are explored while a network trains",
        "python -m benchmarks.sparsity --data digits,wiar:wiar_images_32.npz",
        (Gate("vit_micro_32, half of the MLP, points over pruning at once", "sparsity_micro.json", later, least=0.3),),
        "a schedule in `keras_cbpnet.sparsity`, for research",
    ),
    Part(
        "OREPA",
        "OREPA, arXiv 2204.00826",
        "a better stem for the same merged convolution, when one pretrains",
        "python -m keras_cbpnet.pretrain --preset vit_micro_32 --data npz:cifar100.npz --reparam orepa ...",
        (
            Gate("vit_micro_32, equal epochs, points of LDA", REPARAM, branched("plain"), least=0.5),
            Gate("vit_micro_32, equal time, points of LDA", REPARAM, branched("plain, equal time"), least=0.5),
        ),
        "an option, `--reparam orepa`; the default trains one kernel",
        "`python -m benchmarks.reparam --data npz:cifar100.npz --epochs 5` measures its gate, in an hour of one core.",
    ),
    Part(
        "Extrapolation",
        "Extrap-SGD, arXiv 2006.05720",
        "large batches, when one pretrains",
        "python -m keras_cbpnet.pretrain --batch 1024 --accumulate 8 ...",
        stays="its gate was missed and it is left out; gradient accumulation stays, `--accumulate N`",
        remark="Wanted: 0.5 points above AdamW with 1,024 images a step; reached: none, three seeds, in "
        "[benchmarks/NOTES.md](../benchmarks/NOTES.md), entry 95.",
    ),
    Part(
        "AdaLin",
        "AdaLin, arXiv 2505.09486",
        "a learning rule against loss of plasticity that needs no resets",
        "python -m keras_cbpnet.train --plasticity adalin",
        (
            Gate(
                "1,000 tasks of changing labels, points above plain backpropagation",
                "plasticity.json",
                rule_over("adalin", "none"),
                least=0.0,
            ),
        ),
        "one of the rules of `--plasticity`",
    ),
)
