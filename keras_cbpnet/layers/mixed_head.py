"""The default head as a Keras layer: a block that learns by its step, and a bank of class statistics beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from firmware_host.shared.bank import BANK, Mixture, bank_shapes, empty_bank
from firmware_host.shared.bank.mixture import START
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.lazy import tf
from keras_cbpnet.plasticity.rule import Rule

# Dimensions: N images, d feature size, C class slots, K slots of the bank, r directions of a slot.

UNKNOWN = -1e9
ROWS = 16  # images that are judged together before they are learned


def bank_sizes(classes: int, features: int) -> tuple[int, int]:
    """Return K and r of a bank for C = `classes` and d = `features`: some slots are spare for what returns."""
    return classes + max(4, classes // 8), min(16, max(2, features // 8))


@keras.saving.register_keras_serializable("keras_cbpnet")
class MixedHead(CBPHead):
    """A `CBPHead` whose predictions are mixed with those of a bank; see `firmware_host.shared.bank`.

    Args:
        config, rule, seed: as of `CBPHead`.
        block_weight: weight of the block before anything has been judged; 0: the bank predicts alone.
        rebinds: whether labels may change their meaning, as in a stream that uses them again.
    """

    def __init__(
        self,
        config: HeadConfig | Mapping[str, Any] | None = None,
        rule: Rule | str = "cbp",
        seed: int = 0,
        block_weight: float = START,
        rebinds: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(config, rule, seed, own_step=True, **kwargs)
        self.block_weight, self.rebinds = block_weight, rebinds
        self._mixture: Mixture | None = None

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        d = input_shape[-1]
        spare, directions = bank_sizes(self.slots, d)
        shapes = bank_shapes(self.slots, spare, d, directions)
        self.bank: dict[str, keras.Variable] = {}
        for name, (_, dtype) in BANK.items():
            self.bank[name] = self.add_weight(
                name=f"bank_{name}", shape=shapes[name], initializer="zeros", trainable=False, dtype=dtype
            )

    @property
    def mixture(self) -> Mixture:
        """The bank and its weight, with copies of this layer's tensors; `keep` writes them back."""
        if self._mixture is None:
            arrays = {name: np.array(variable) for name, variable in self.bank.items()}
            constants = [np.asarray(value) for value in (self.feature_mean, self.feature_scale)]
            self._mixture = Mixture(arrays, constants[0], constants[1], self.block_weight, self.rebinds)
        return self._mixture

    def learn_bank(
        self,
        feature: NDArray[np.float32],
        label: NDArray[np.int32],
        rng: np.random.Generator,
        views: tuple[NDArray[np.float32], NDArray[np.intp]] | None = None,
    ) -> None:
        """Take images in, features [N, d] and slots [N], each of them once; before the block has learned them.

        Where labels may change their meaning, a few at a time and in random order, else class by class, with `views`:
        features [V, d] of other views of the images, and the row of each one's image, [V].
        """
        block = np.asarray(ops.softmax(super().call(feature)))
        if self.rebinds:
            order = rng.permutation(len(label))
            parts = [order[start : start + ROWS] for start in range(0, len(order), ROWS)]
            for rows in parts:
                self.mixture.learn(block[rows], feature[rows], label[rows])
        else:
            self.mixture.learn_apart(block, feature, label, rng, views)
        self.mixture.bank.renew()
        self._keep(self.mixture.arrays())

    def empty_bank(self) -> None:
        """Clear the bank, and what is known of how right it and the block were."""
        self._keep({name: np.zeros(variable.shape, variable.dtype) for name, variable in self.bank.items()})
        self._mixture = None

    def _keep(self, arrays: Mapping[str, np.ndarray]) -> None:
        for name, value in arrays.items():
            self.bank[name].assign(value)

    def call(self, feature: Any, training: bool = False) -> Any:
        """Return the logarithm of the mixed probabilities, [N, C], of `feature` [N, d]; -1e9 for unknown classes."""
        block = ops.softmax(super().call(feature))
        if isinstance(block, tf.Tensor) and not hasattr(block, "numpy"):  # while a graph is traced
            mixed = tf.numpy_function(self._mixed, (block, feature), tf.float32)
            mixed.set_shape(block.shape)
            return mixed
        return ops.convert_to_tensor(self._mixed(np.asarray(block), np.asarray(feature)))

    def _mixed(self, block: NDArray[np.float32], feature: NDArray[np.float32]) -> NDArray[np.float32]:
        found = self.mixture.probabilities(block, feature) * np.asarray(self.state["class_mask"])
        return np.where(found > 0, np.log(np.maximum(found, 1e-30)), UNKNOWN).astype(np.float32)

    def standardise(self, features: np.ndarray) -> None:
        super().standardise(features)
        self._mixture = None

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        self._mixture = None

    def shipped_bank(self, slots: int) -> dict[str, np.ndarray]:
        """Return the bank's tensors for a head of `slots` class slots, at least this one's."""
        d = self.width
        spare, directions = bank_sizes(slots, d)
        arrays = empty_bank(slots, spare, d, directions)
        for name, value in self.mixture.arrays().items():
            arrays[name][tuple(slice(size) for size in value.shape)] = value
        return arrays

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["own_step"]
        return {**config, "block_weight": self.block_weight, "rebinds": self.rebinds}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MixedHead:
        return cls(**config)
