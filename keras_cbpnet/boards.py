"""Boards, and the backbone that `--preset auto --board NAME` picks for one.

The numbers of the backbones are those of `python -m benchmarks.boards`, which writes boards.json beside this file. What
a board needs for an image is estimated from them, for no board was measured: see `Board.milliseconds`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import get_preset

AUTO = "auto"
FILE = Path(__file__).with_name("boards.json")
VELA_HERTZ = 500e6  # of the Ethos-U55 in Vela's default system, Ethos_U55_High_End_Embedded
MIB = 1 << 20

Row = Mapping[str, Any]  # of boards.json: a backbone


@dataclass(frozen=True)
class Board:
    """What a backbone may take on a board.

    Attributes:
        title: its name.
        runtime: what computes the bundle there.
        cpu: what computes the backbone; under Linux, the emulated processor whose instructions are counted.
        megahertz: its clock, nominal.
        per_cycle: ESTIMATE of the instructions (Linux) or int8 multiply-adds (TFLM) of a cycle, one core, all waiting
            included; unused for an Ethos-U, of which Vela estimates the images a second.
        memory: MiB that the device process (Linux) or the arena (TFLM) may take; our choice, below what the board has.
        flash: MiB for the models; 0: a card or a disk, never too small.
        limit: milliseconds an image that are acceptable; our choice, ten images a second under Linux, one under TFLM.
    """

    title: str
    runtime: str
    cpu: str
    megahertz: float
    per_cycle: float
    memory: float
    flash: float
    limit: float

    def milliseconds(self, row: Row) -> Optional[float]:
        """Return an estimate of the milliseconds of an image; None where what it is made from was not measured."""
        if self.cpu == "ethos-u55":
            rate = row["ethos_u55_per_second"]
            return None if rate is None else 1e3 / rate * VELA_HERTZ / (1e6 * self.megahertz)
        work = row["multiply_adds"] if self.micro else row["instructions"][self.cpu]
        return None if work is None else work / (self.per_cycle * self.megahertz * 1e3)

    @property
    def micro(self) -> bool:
        """Whether it runs TFLM, not Linux."""
        return self.runtime == "TFLM"


# Clocks and sizes are nominal, as makers name them (Raspberry Pi; coral.ai; Espressif ESP32-S3-WROOM-1; ST STM32H743
# and STM32N657; Alif Ensemble E7); check them against your board. Every `per_cycle` is an estimate: a Cortex-A53 issues
# two instructions in order and computes 64 bits of a vector a cycle, an A72 three and an A76 four out of order;
# ESP-NN's table has 0.96 multiply-adds a cycle for a 1x1 convolution on the ESP32-S3 and 0.08 for a short dense layer;
# CMSIS-NN reaches about 0.5 on a Cortex-M7 and several on an M55 with Helium, which then waits for its weights.
BOARDS: dict[str, Board] = {
    "pizero2": Board("Raspberry Pi Zero 2 W, 512 MB", "Linux", "cortex-a53", 1000, 0.7, 128, 0, 100),
    "pi4": Board("Raspberry Pi 4, 1 GB", "Linux", "cortex-a72", 1500, 1.2, 256, 0, 100),
    "pi5": Board("Raspberry Pi 5, 2 GB", "Linux", "cortex-a76", 2400, 2.0, 512, 0, 100),
    # The Edge TPU stays idle: its compiler takes a bundle's operators only up to the class token, so the CPU computes.
    "coral": Board("Coral Dev Board, its CPU, 1 GB", "Linux", "cortex-a53", 1500, 0.7, 256, 0, 100),
    # Likewise idle there. 64 MB of SDRAM hold the weights, too, which come from 128 MB of NAND flash.
    "coral_micro": Board("Coral Dev Board Micro, its Cortex-M7", "TFLM", "cortex-m7", 800, 0.3, 16, 32, 1000),
    # 8 MB of flash with 2 MB for the program; 8 MB of PSRAM, half of it for the camera and the rest.
    "esp32s3": Board("ESP32-S3, 8 MB flash, 8 MB PSRAM", "TFLM", "xtensa-lx7", 240, 0.3, 4, 6, 1000),
    # 2 MB of flash with 128 KiB for the program; 512 KiB of its RAM are one piece.
    "stm32h7": Board("STM32H743", "TFLM", "cortex-m7", 480, 0.4, 0.5, 1.875, 1000),
    # 4.2 MB of RAM; no flash inside: the Discovery kit's 128 MB. Its NPU stays idle, for it needs ST's compiler.
    "stm32n6": Board("STM32N657 (Discovery kit), its Cortex-M55", "TFLM", "cortex-m55", 800, 1.0, 3, 64, 1000),
    # 5.5 MB of MRAM with 128 KiB for the program; the larger RAM bank has 4 MB. 256 multiply-adds a cycle at 400 MHz;
    # Vela was asked about 128, so this is on the safe side.
    "alif": Board("Alif Ensemble E7, Ethos-U55", "TFLM", "ethos-u55", 400, 0, 4, 5.375, 1000),
}


def measured() -> dict[str, Row]:
    """Return the rows of boards.json by preset, the most accurate first."""
    rows: dict[str, Row] = json.loads(FILE.read_text(encoding="utf-8"))
    return dict(sorted(rows.items(), key=lambda item: -item[1]["accuracy"]))


def obstacle(board: Board, row: Row) -> str:
    """Return why the backbone of `row` does not suit `board`, or an empty text."""
    memory, flash = (row["arena"], row["flash"]) if board.micro else (row["memory"], 0)
    milliseconds = board.milliseconds(row)
    if memory is None or flash is None or milliseconds is None:
        return "does not run under TFLM" if board.micro and memory is None else "was not measured"
    for need, have, what in ((memory, board.memory, "RAM"), (flash, board.flash, "flash")):
        if need > have:
            return f"needs {need:.1f} MiB of {what}, {have:g} are there"
    if milliseconds > board.limit:
        return f"would take an estimated {milliseconds:,.0f} ms of {board.limit:g}"
    return ""


def pick(name: str, weights: bool = False) -> tuple[str, str]:
    """Return the most accurate backbone that suits the board called `name`, and a line that says why.

    Args:
        name: in `BOARDS`.
        weights: whether a file of weights was given, for a preset that is shipped without.

    Raises:
        UserError: no backbone suits it.
    """
    board, refused = BOARDS[name], []
    for preset, row in measured().items():
        given = weights or bool(get_preset(preset).weights)
        if reason := obstacle(board, row) or ("" if given else "needs --weights"):
            refused.append(f"{preset} {reason}")
            continue
        size = row["arena"] if board.micro else row["memory"]
        words = f"{row['bytes'] / MIB:.1f} MiB, {size:.1f} MiB of RAM of {board.memory:g}"
        time = f"an estimated {board.milliseconds(row):.0f} ms of {board.limit:g} an image"
        return preset, "; ".join([f"{preset} for {board.title}: {words}, {time}", *refused])
    raise UserError(f"no backbone suits {name} ({'; '.join(refused)}); give --preset NAME to take one all the same")
