"""A backbone and a head over LiteRT's `CompiledModel`, which is to follow its `Interpreter`.

`CompiledModel` says nothing of a tensor's quantization, so the file's details come from an `Interpreter` that computes
nothing.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_host.bundle import Bundle
from firmware_host.engines import interpreter
from firmware_host.engines.backbone import Backbone
from firmware_host.engines.interpreter import InterpreterHead, scalars_have_an_axis
from firmware_host.engines.protocol import Array

if TYPE_CHECKING:
    from firmware_host.engines.find import Runtime

__all__ = ["CompiledInterpreter", "open_backbone", "open_head"]

PACKAGE = "ai_edge_litert"


class CompiledInterpreter:
    """A compiled model with that part of an `Interpreter` which engines use.

    Args:
        compiled: the class `CompiledModel`.
        model_path: the .tflite file.
        num_threads: threads of the processor.
        experimental_preserve_all_tensors: of an `Interpreter`; `CompiledModel` has no such thing and goes without
            delegates instead.
    """

    def __init__(
        self, compiled: Any, model_path: str, num_threads: int, experimental_preserve_all_tensors: bool = False
    ) -> None:
        if importlib.util.find_spec(f"{PACKAGE}.options") is None:
            raise ValueError("this ai-edge-litert compiles models without options")
        options = importlib.import_module(f"{PACKAGE}.options").Options
        cpu = importlib.import_module(f"{PACKAGE}.cpu_options")
        kernels = cpu.CpuKernelMode.BUILTIN if experimental_preserve_all_tensors else None
        self._plain = importlib.import_module(f"{PACKAGE}.interpreter").Interpreter(model_path=model_path)
        if "get_state" in self._plain.get_signature_list() and not scalars_have_an_axis(self._plain):
            raise ValueError("a head of bundle schema 1, whose scalars CompiledModel reads wrongly")
        self._model = compiled.from_file(
            model_path, options=options(cpu_options=cpu.CpuOptions(num_threads, kernels)), environment=_environment()
        )

    def allocate_tensors(self) -> None:
        """Do nothing: compiling has done it."""

    def get_signature_list(self) -> Mapping[str, Any]:
        """Return the names of inputs and outputs of every signature."""
        signatures: Mapping[str, Any] = self._plain.get_signature_list()
        return signatures

    def get_signature_runner(self, signature: str) -> CompiledRunner:
        """Return what runs a signature."""
        return CompiledRunner(self._model, signature, self._plain.get_signature_runner(signature))


class CompiledRunner:
    """Runs one signature of a compiled model: arrays in and out by name, in buffers that stay.

    Args:
        model: the compiled model.
        signature: its name.
        plain: an interpreter's runner of it, for the details of its tensors.
    """

    def __init__(self, model: Any, signature: str, plain: Any) -> None:
        self._model, self._signature = model, signature
        self._inputs, self._outputs = plain.get_input_details(), plain.get_output_details()
        self._taken = {name: model.create_input_buffer_by_name(signature, name) for name in self._inputs}
        self._given = {name: model.create_output_buffer_by_name(signature, name) for name in self._outputs}

    def __call__(self, **arrays: Array) -> dict[str, Array]:
        """Run the signature once."""
        for name, values in arrays.items():
            self._taken[name].write(np.ascontiguousarray(values))
        self._model.run_by_name(self._signature, self._taken, self._given)
        return {name: self._read(name, details) for name, details in self._outputs.items()}

    def _read(self, name: str, details: Mapping[str, Any]) -> Array:
        shape = tuple(int(n) for n in details["shape"])
        read = self._given[name].read(int(np.prod(shape)), np.dtype(details["dtype"]).type)
        values: Array = np.asarray(read).reshape(shape)
        return values

    def get_input_details(self) -> Mapping[str, Any]:
        """Return the details of every input by name, as an interpreter does."""
        inputs: Mapping[str, Any] = self._inputs
        return inputs

    def get_output_details(self) -> Mapping[str, Any]:
        """Return the details of every output by name, as an interpreter does."""
        outputs: Mapping[str, Any] = self._outputs
        return outputs


def open_backbone(bundle: Bundle, runtime: Runtime, threads: int, file: str, signature: str) -> Backbone:
    """Open a `signature` of a backbone's `file`; raises as `interpreter.open_backbone`."""
    return interpreter.open_backbone(bundle, _adapted(runtime), threads, file, signature)


def open_head(bundle: Bundle, runtime: Runtime, threads: int) -> InterpreterHead:
    """Open head.tflite in its start state; raises as `interpreter.open_head`, and for a bundle of schema 1."""
    return interpreter.open_head(bundle, _adapted(runtime), threads)


def _adapted(runtime: Runtime) -> Runtime:
    return runtime._replace(interpreter=functools.partial(CompiledInterpreter, runtime.interpreter))


@functools.lru_cache(maxsize=1)
def _environment() -> Any:
    return importlib.import_module(f"{PACKAGE}.compiled_model")._create_default_environment()
