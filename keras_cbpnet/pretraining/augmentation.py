"""Random crops, flips and mixtures of small images, in NumPy, so that every Keras backend trains on the same pixels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

# Dimensions: N images, B of a batch, H x W pixels, K classes, G x G patches, T x T the
# teacher's, D feature size of the teacher.


class AugmentedImages(keras.utils.PyDataset):
    """Shuffled batches of randomly shifted, mirrored and mixed images; all depends on seed and epoch alone.

    A batch is (float32 [B, H, W, 3], targets): `label` [B, K], the classes' shares, and with a teacher `feature` [B, D]
    and `patches` [B, G * G, D], its standardised outputs on the whole image: patches mirrored, cut out and mixed as
    the image is, the feature mixed.

    Args:
        images: uint8 [N, H, W, 3].
        labels: float32 [N, K], the share of each class.
        batch: B; the last incomplete batch of an epoch is dropped.
        seed: of order and augmentation.
        shift: largest shift, pixels, with a mirrored border; for uncut images.
        area: smallest share of the image that is cut out, at a random place, and enlarged; 1: uncut.
        mixup: alpha of mixup (Zhang et al., arXiv 1710.09412), whose weight is drawn from Beta(alpha, alpha); 0: none.
        cutmix: alpha of CutMix (Yun et al., arXiv 1905.04899), likewise; with both, each batch takes either.
        teacher: float16 [N, 1 + T * T, D], the teacher's tokens on each image.
        grid: G, at most T.
        epoch: the first epoch, where a training is resumed.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.float32],
        batch: int,
        seed: int,
        shift: int = 4,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        teacher: NDArray[np.float16] | None = None,
        grid: int = 0,
        area: float = 1.0,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        self.images, self.labels = images, labels
        self.batch, self.seed, self.shift = batch, seed, shift
        self.mixup, self.cutmix = mixup, cutmix
        self.teacher, self.grid, self.area = teacher, grid, area
        if teacher is not None:
            some = np.asarray(teacher[:: max(1, len(teacher) // 2000)], np.float32)
            parts = some[:, 0], some[:, 1:].reshape(-1, some.shape[-1])
            self.mean, self.deviation = zip(*((part.mean(axis=0), part.std(axis=0) + 1e-6) for part in parts))
        self.begin_epoch(epoch)

    def standardised(self, tokens: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return feature [n, D] and patches [n, T * T, D] of teacher's tokens [n, 1 + T * T, D], standardised."""
        parts = zip((tokens[:, 0], tokens[:, 1:]), self.mean, self.deviation)
        feature, patches = ((np.asarray(t, np.float32) - m) / s for t, m, s in parts)
        return feature, patches

    def plain(self, rows: NDArray[np.integer[Any]]) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Return the images `rows` as they are, and their targets."""
        still, whole = np.zeros(len(rows), bool), (np.zeros((2, len(rows))), np.ones(len(rows)))
        targets = {"label": self.labels[rows]}
        if self.teacher is not None:
            targets.update(self._taught(rows, still, *whole))
        return self.images[rows].astype(np.float32), targets

    def begin_epoch(self, epoch: int) -> None:
        """Take the order and the augmentation of `epoch`."""
        self.epoch = epoch
        self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))

    def on_epoch_end(self) -> None:
        self.begin_epoch(self.epoch + 1)

    def __len__(self) -> int:
        return len(self.images) // self.batch

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        rows = self.order[index * self.batch : (index + 1) * self.batch]
        mirrored = rng.random(len(rows)) < 0.5
        height, width = self.images.shape[1:3]
        side, place = np.ones(len(rows)), np.zeros((2, len(rows)))  # of what is cut out, as shares of the image's
        if self.area < 1:
            side = np.sqrt(rng.uniform(self.area, 1, len(rows)))
            place = rng.random((2, len(rows))) * (1 - side)  # top and left
            images = resample(self.images[rows], place, side, (height, width), mirrored)
        else:
            images = self._shifted(rows, mirrored, rng)
        targets = {"label": self.labels[rows]}
        if self.teacher is not None:
            targets.update(self._taught(rows, mirrored, place, side))
        alphas = [alpha for alpha in (self.mixup, self.cutmix) if alpha]
        if alphas:
            cut = bool(self.cutmix) and (not self.mixup or rng.random() < 0.5)
            images, targets = self._mix(images, targets, cut, rng)
        return images, targets

    def _shifted(
        self, rows: NDArray[np.integer[Any]], mirrored: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        s, (_, height, width, _) = self.shift, self.images.shape
        padded = np.pad(self.images[rows], ((0, 0), (s, s), (s, s), (0, 0)), mode="reflect")
        batch = np.empty((len(rows), height, width, 3), np.float32)
        for i, (top, left) in enumerate(rng.integers(0, 2 * s + 1, (len(rows), 2))):
            crop = padded[i, top : top + height, left : left + width]
            batch[i] = crop[:, ::-1] if mirrored[i] else crop
        return batch

    def _taught(
        self, rows: NDArray[np.integer[Any]], mirrored: NDArray[np.bool_], place: Floats, side: Floats
    ) -> dict[str, NDArray[np.float32]]:
        assert self.teacher is not None  # noqa: S101
        # A mapped file, read row by row.
        feature, patches = self.standardised(np.stack([self.teacher[row] for row in rows]))
        cells, grid = round(patches.shape[1] ** 0.5), self.grid or round(patches.shape[1] ** 0.5)
        patches = patches.reshape(len(rows), cells, cells, -1)
        cut = resample(patches, place, side, (grid, grid), mirrored)
        return {"feature": feature, "patches": cut.reshape(len(rows), grid * grid, -1)}

    def _mix(
        self, images: NDArray[np.float32], targets: dict[str, NDArray[np.float32]], cut: bool, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Mix each image with its batch's opposite one; targets by the share of each, patches by what they show."""
        alpha = self.cutmix if cut else self.mixup
        share = np.float32(rng.beta(alpha, alpha))
        height, width = images.shape[1:3]
        kept = np.full((height, width), share, np.float32)
        if cut:
            tall, wide = (round(size * float(1 - share) ** 0.5) for size in (height, width))
            top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
            kept[:] = 1.0
            kept[top : top + tall, left : left + wide] = 0.0
        weights = {name: np.float32(kept.mean()) for name in targets}
        if "patches" in targets:
            side = round(targets["patches"].shape[1] ** 0.5)
            cells = kept.reshape(side, height // side, side, width // side).mean(axis=(1, 3))
            weights["patches"] = cells.reshape(1, -1, 1)
        mixed = {name: w * targets[name] + (1 - w) * targets[name][::-1] for name, w in weights.items()}
        pixels = kept[:, :, None]
        return pixels * images + (1 - pixels) * images[::-1], mixed


def resample(
    x: NDArray[Any], place: Floats, side: Floats, size: tuple[int, int], mirrored: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Cut a box out of each of `x` and bring it to `size`.

    Args:
        x: [B, H, W, C].
        place: [2, B], top and left of the boxes, as shares of H and W.
        side: [B], of the boxes, as a share of H and W.
        size: rows and columns of the result.
        mirrored: bool [B], which results are mirrored left to right.

    Returns:
        float32 [B, rows, columns, C]; linear interpolation where the result is finer than the box, its antialiased
        form (a triangle two new cells wide) where it is coarser.
    """
    down, across = (_weights(x.shape[i + 1], size[i], place[i], side) for i in range(2))
    across[mirrored] = across[mirrored][:, ::-1]
    batch, height, width, channels = x.shape
    rows = np.matmul(down, x.reshape(batch, height, -1).astype(np.float32)).reshape(batch, size[0], width, channels)
    return np.matmul(across[:, None], rows)


def _weights(old: int, new: int, start: Floats, side: Floats) -> NDArray[np.float32]:
    """Return [B, new, old]: triangles about the middle of each new cell, as wide as the larger of both cells."""
    step = side * old / new  # (B,) old cells a new one
    middle = start[:, None] * old + (np.arange(new) + 0.5) * step[:, None] - 0.5  # (B, new)
    wide = np.maximum(step, 1.0)[:, None, None]
    weights = np.maximum(0, 1 - np.abs(np.arange(old) - middle[:, :, None]) / wide)
    return (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)
