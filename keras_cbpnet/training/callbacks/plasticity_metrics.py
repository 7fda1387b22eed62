"""What is left of a network's plasticity, measured while any Keras model trains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.errors import UserError
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.metrics import dead_unit_share, effective_rank

__all__ = ["PlasticityMetrics"]

# Dimensions: N rows (images, or places of them), U units or channels of a layer.

MEASURES = ("dead_unit_share", "effective_rank")  # of a layer
PROBE = 512  # inputs that are looked at, at most
ROWS = 2000  # that an effective rank is taken of, at most
NOT_HIDDEN = ("linear", "softmax", "log_softmax", "sigmoid")  # activations of output layers
RECTIFIERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)


class PlasticityMetrics(keras.callbacks.Callback):
    """Measures any model after each epoch and adds what it finds to the logs, so also to `History`.

    `dead_unit_share`: share of the hidden units that are zero for every input looked at; `effective_rank`: of the
    activations, as a share of the units (Roy & Vetterli, 2007); both the mean over the layers and, where there are
    several, of each under `dead_unit_share_LAYER` and `effective_rank_LAYER`. `weight_norm`: root of the sum of squares
    of all trained weights. `units_reset`: units that `UnitResets` reset in the epoch.

    Args:
        x: inputs of the model, of which up to 512 are looked at: an array, or the structure of arrays that it takes.
        layers: names of the layers to look at; None: every hidden layer that ends with an activation.
        every: epochs between two measurements.

    Raises:
        UserError: `every` is below 1.
    """

    def __init__(self, x: Any, layers: Sequence[str] | None = None, every: int = 1) -> None:
        super().__init__()
        if every < 1:
            raise UserError(f"every is {every}: use a number of epochs from 1 on")
        self._x = keras.tree.map_structure(lambda rows: keras.ops.convert_to_tensor(rows[:PROBE]), x)
        self._names, self._every = layers, every

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._resets = self._units_reset()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None and (epoch + 1) % self._every == 0:
            logs.update(self.measure(), units_reset=float(self._units_reset() - self._resets))

    def measure(self) -> dict[str, float]:
        """Return what is logged of the model as it is now, but for `units_reset`.

        Raises:
            UserError: the model has no layer of a name that was given, or no hidden layer.
        """
        squares = [float(np.sum(np.square(np.asarray(each, np.float64)))) for each in self.model.trainable_variables]
        each = {name: _measured(values) for name, values in self._activations().items()}
        found = {key: float(np.mean([values[key] for values in each.values()])) for key in MEASURES}
        if len(each) > 1:
            found.update({f"{key}_{name}": value for name, values in each.items() for key, value in values.items()})
        return {**found, "weight_norm": float(np.sqrt(sum(squares)))}

    def _activations(self) -> dict[str, NDArray[np.float64]]:
        """Return the activations [N, U] of each layer that is looked at."""
        found: dict[str, list[NDArray[np.float64]]] = {}
        with contextlib.ExitStack() as recordings:
            for layer in self._layers():
                recordings.enter_context(_recording(layer, found.setdefault(layer.name, [])))
            self.model(self._x, training=False)
        return {name: np.concatenate(parts) for name, parts in found.items() if parts}

    def _layers(self) -> list[keras.layers.Layer]:
        every = list(self.model._flatten_layers(include_self=False))
        if self._names is None:
            found = [layer for layer in every if _is_hidden(layer)]
            if not found:
                raise UserError("the model has no hidden layer that ends with an activation: name some with `layers`")
            return found
        known = {layer.name: layer for layer in every}
        missing = [name for name in self._names if name not in known]
        if missing:
            raise UserError(f"the model has no layer {', '.join(missing)}; it has {', '.join(known)}")
        return [known[name] for name in self._names]

    def _units_reset(self) -> int:
        return sum(layer.units_reset for layer in self.model._flatten_layers() if isinstance(layer, CBPHead))


def _is_hidden(layer: keras.layers.Layer) -> bool:
    activation = getattr(layer, "activation", None)
    named = activation is not None and getattr(activation, "__name__", "") not in NOT_HIDDEN
    return named or isinstance(layer, (CBPHead, *RECTIFIERS))


@contextlib.contextmanager
def _recording(layer: keras.layers.Layer, found: list[NDArray[np.float64]]) -> Iterator[None]:
    """Give a context in which what a layer puts out, or the hidden activations of a CBPHead, is added to `found`."""
    call = layer.call

    def recorded(*args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        seen = layer.equations.hidden(layer.values(), args[0]) if isinstance(layer, CBPHead) else outputs
        values = np.asarray(seen, np.float64)
        found.append(values.reshape(-1, values.shape[-1]))
        return outputs

    layer.call = recorded
    try:
        yield
    finally:
        del layer.call


def _measured(values: NDArray[np.float64]) -> dict[str, float]:
    rows = values[:: -(-len(values) // ROWS)]
    return dict(zip(MEASURES, (dead_unit_share(values), effective_rank(rows) / values.shape[1]), strict=True))
