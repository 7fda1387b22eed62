"""Random crops and flips of small images, in NumPy, so that every Keras backend trains on the same pixels."""

from __future__ import annotations

import keras
import numpy as np


class AugmentedImages(keras.utils.PyDataset):
    """Shuffled batches of randomly shifted and mirrored images; the order depends on seed and epoch alone.

    Args:
        images: uint8 [N, H, W, 3].
        labels: int64 [N].
        classes: width of the one-hot targets.
        batch: rows of a batch; the last incomplete batch of an epoch is dropped.
        seed: of order and augmentation.
        shift: largest shift, pixels.
        epoch: the first epoch, where a training is resumed.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        classes: int,
        batch: int,
        seed: int,
        shift: int = 4,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        self.images, self.labels = images, keras.utils.to_categorical(labels, classes)
        self.batch, self.seed, self.shift, self.epoch = batch, seed, shift, epoch
        self._shuffle()

    def _shuffle(self) -> None:
        self.order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.images))

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._shuffle()

    def __len__(self) -> int:
        return len(self.images) // self.batch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        rows = self.order[index * self.batch : (index + 1) * self.batch]
        s, (_, height, width, _) = self.shift, self.images.shape
        padded = np.pad(self.images[rows], ((0, 0), (s, s), (s, s), (0, 0)), mode="reflect")
        batch = np.empty((len(rows), height, width, 3), np.float32)
        for i, (top, left) in enumerate(rng.integers(0, 2 * s + 1, (len(rows), 2))):
            crop = padded[i, top : top + height, left : left + width]
            batch[i] = crop[:, ::-1] if rng.random() < 0.5 else crop
        return batch, self.labels[rows]
