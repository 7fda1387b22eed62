"""A graph without its signature, as runtimes older than signature runners see it: tensors are known by shape and type.

tflite-runtime has signature runners from 2.7 on; Coral's 2.5 has none, and runs backbones with the NumPy head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array

__all__ = ["PlainRunner"]

Wanted = Mapping[str, "tuple[tuple[int, ...], str]"]  # name -> shape, dtype


class PlainRunner:
    """Calls a graph like a signature runner: arrays in and out by name.

    Args:
        interpreter: with allocated tensors.
        inputs: shape and dtype of every input by name.
        outputs: the same of every output.

    Raises:
        DeviceError: a name fits no tensor, or more than one.
    """

    def __init__(self, interpreter: Any, inputs: Wanted, outputs: Wanted) -> None:
        self._interpreter = interpreter
        self._inputs = _named(interpreter.get_input_details(), inputs)
        self._outputs = _named(interpreter.get_output_details(), outputs)

    def __call__(self, **arrays: Array) -> dict[str, Array]:
        """Run the graph once."""
        for name, values in arrays.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], values)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(details["index"]) for name, details in self._outputs.items()}

    def get_input_details(self) -> dict[str, Any]:
        """Return the interpreter's details of every input by name."""
        return self._inputs

    def get_output_details(self) -> dict[str, Any]:
        """Return the interpreter's details of every output by name."""
        return self._outputs


def _named(details: list[dict[str, Any]], wanted: Wanted) -> dict[str, Any]:
    found = {}
    for name, (shape, dtype) in wanted.items():
        fitting = [each for each in details if (tuple(each["shape"]), np.dtype(each["dtype"]).name) == (shape, dtype)]
        if len(fitting) != 1:
            raise DeviceError(
                f"{len(fitting)} tensors of the graph are {dtype} {list(shape)}, as {name!r} is: convert the "
                "run again, or use a runtime with signature runners (tflite-runtime 2.7 or later)"
            )
        found[name] = fitting[0]
    return found
