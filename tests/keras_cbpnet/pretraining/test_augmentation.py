"""Augmented images: order, shifts, mirrors and mixtures, by seed and epoch alone; targets that follow the images."""

import keras
import numpy as np
import pytest

from keras_cbpnet.pretraining.augmentation import AugmentedImages, resample


@pytest.fixture
def augmented():
    """augmented(seed, epoch): images whose pixels name image, row and column, in batches of 4 out of 10."""
    image, row, column = np.meshgrid(np.arange(10), np.arange(8), np.arange(8), indexing="ij")
    images = np.stack([image, row, column], axis=-1).astype(np.uint8)
    return lambda seed=0, epoch=0, shift=2: AugmentedImages(
        images, np.eye(3)[np.arange(10) % 3], 4, seed, shift, epoch=epoch
    )


def all_batches(dataset):
    parts = [dataset[i] for i in range(len(dataset))]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y["label"] for _, y in parts])


def test_augmented_images_are_shifted_and_mirrored_whole(augmented):
    x, y = all_batches(augmented(shift=2))
    assert x.shape == (8, 8, 8, 3)
    assert x.dtype == np.float32
    assert len(augmented()) == 2  # the last two images are dropped in this epoch
    number = x[:, 0, 0, 0].astype(int)
    assert len(set(number.tolist())) == 8
    np.testing.assert_array_equal(y, np.eye(3)[number % 3])
    mirrored, tops = 0, set()
    for picture in x:
        rows, columns = picture[:, :, 1], picture[:, :, 2]
        assert np.ptp(picture[:, :, 0]) == 0
        assert np.all(rows == rows[:, :1])
        assert np.all(columns == columns[:1])
        inner = np.diff(columns[0, 2:-2])
        assert set(np.abs(inner).tolist()) == {1}
        mirrored += inner[0] < 0
        tops.add(float(rows[2, 0]))
    assert 0 < mirrored < 8
    assert len(tops) > 1


def test_augmentation_depends_on_seed_and_epoch_alone(augmented):
    first, again, other_seed = augmented(seed=1), augmented(seed=1), augmented(seed=2)
    again[0]  # reading one batch does not move the next
    x, _ = all_batches(first)
    np.testing.assert_array_equal(all_batches(again)[0], x)
    assert np.any(all_batches(other_seed)[0] != x)
    for dataset in (first, again):
        dataset.on_epoch_end()
    later, _ = all_batches(first)
    assert np.any(later != x)
    np.testing.assert_array_equal(all_batches(again)[0], later)
    np.testing.assert_array_equal(all_batches(augmented(seed=1, epoch=1))[0], later)  # a resumed training


def test_without_shift_the_images_stay(augmented):
    x, _ = all_batches(augmented(shift=0))
    for picture in x:
        columns = picture[0, :, 2]
        assert columns.tolist() in (list(range(8)), list(range(7, -1, -1)))
        np.testing.assert_array_equal(picture[:, 0, 1], np.arange(8))


def test_a_resumed_training_sees_the_batches_it_would_have_seen(augmented):
    def batches_of_epochs(first, last):
        seen = []
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
        model.compile("sgd", run_eagerly=True)

        def recording(data):
            seen.append(data[0].numpy())
            return {"loss": 0.0}

        model.train_step = recording
        # Without shuffle=False Keras would shuffle the batches once more, by Python's global random state.
        model.fit(augmented(epoch=first), initial_epoch=first, epochs=last, shuffle=False, verbose=0)
        return seen

    whole, resumed = batches_of_epochs(0, 3), batches_of_epochs(2, 3)
    assert len(whole) == 6
    np.testing.assert_array_equal(resumed, whole[4:])
    assert np.any(whole[0] != whole[2])


def teacher_of(side, width=3):
    """Tokens whose patches name image, row and column: float16 [10, 1 + side * side, width]."""
    image, row, column = np.meshgrid(np.arange(10), np.arange(side), np.arange(side), indexing="ij")
    patches = np.stack([image, row, column], axis=-1).reshape(10, side * side, 3)
    feature = np.stack([np.arange(10)] * 3, axis=-1)[:, None]
    return np.concatenate([feature, patches], axis=1).astype(np.float16)


def test_the_teachers_targets_follow_order_and_mirror():
    image, row, column = np.meshgrid(np.arange(10), np.arange(8), np.arange(8), indexing="ij")
    images = np.stack([image, row, column], axis=-1).astype(np.uint8)
    dataset = AugmentedImages(images, np.eye(3)[np.arange(10) % 3], 10, seed=3, shift=0, teacher=teacher_of(4))
    x, y = dataset[0]
    deviation, mean = dataset.deviation[0][0], dataset.mean[0][0]
    np.testing.assert_allclose(y["feature"][:, 0] * deviation + mean, x[:, 0, 0, 0], rtol=1e-5, atol=1e-5)
    for pixels, patches in zip(x, y["patches"] * dataset.deviation[1] + dataset.mean[1], strict=True):
        cells = pixels[::2, ::2, 2] // 2  # the column of the patch at every second pixel
        np.testing.assert_allclose(patches.reshape(4, 4, 3)[:, :, 2], cells, atol=1e-4)
        np.testing.assert_allclose(patches[:, 0], pixels[0, 0, 0], rtol=1e-4, atol=1e-4)
    assert {float(pixels[0, 0, 2]) for pixels in x} == {0.0, 7.0}  # some are mirrored


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_targets_are_mixed_as_the_images_are(method):
    images = np.zeros((8, 8, 8, 3), np.uint8)
    images[4:] = 200
    labels = np.repeat([0, 1], 4)
    teacher = np.zeros((8, 17, 2), np.float16)
    teacher[4:] = 1
    shares = set()
    for seed in range(6):
        mixed = AugmentedImages(images, np.eye(2)[labels], 8, seed, teacher=teacher, **{method: 1.0})
        x, y = mixed[0]
        bright = (x / 200).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(y["label"].sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(y["label"][:, 1], bright, atol=1e-5)
        feature = y["feature"][:, 0] * mixed.deviation[0][0] + mixed.mean[0][0]
        np.testing.assert_allclose(feature, bright, atol=1e-5)
        patches = (y["patches"] * mixed.deviation[1] + mixed.mean[1])[..., 0].reshape(8, 4, 4)
        cells = (x[..., 0] / 200).reshape(8, 4, 2, 4, 2).mean(axis=(2, 4))
        np.testing.assert_allclose(patches, cells, atol=1e-5)
        if method == "cutmix":
            assert set(np.unique(x)) <= {0.0, 200.0}
        shares.update(np.round(bright, 3).tolist())
    assert len(shares) > 4


def test_cut_images_and_their_patches_show_the_same_place():
    # Pixels and patches hold their own coordinates, so a linear resampling of either can be compared.
    side = (np.arange(32) + 0.5) / 32
    rows, columns = np.meshgrid(side, side, indexing="ij")
    image = np.stack([rows, columns, 0 * rows], axis=-1) * 240
    cells = image.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)).reshape(64, 3)
    teacher = np.concatenate([np.zeros((1, 3)), cells]).astype(np.float16)
    images = np.repeat(np.rint(image).astype(np.uint8)[None], 8, axis=0)
    dataset = AugmentedImages(
        images, np.eye(2)[np.zeros(8, int)], 8, seed=0, teacher=np.repeat(teacher[None], 8, axis=0), grid=4, area=0.4
    )
    dataset.mean, dataset.deviation = (0, 0), (1, 1)
    x, y = dataset[0]
    assert x.shape == (8, 32, 32, 3)
    assert y["patches"].shape == (8, 16, 3)
    for pixels, patches in zip(x, y["patches"].reshape(8, 4, 4, 3), strict=True):
        height = pixels[-1, 0, 0] - pixels[0, 0, 0]
        assert np.sqrt(0.4) * 240 * 31 / 32 - 9 < height < 240 * 31 / 32 + 1
        shown = pixels.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(patches[1:3, 1:3], shown[1:3, 1:3], atol=3)  # away from the border
    assert len({float(pixels[0, 0, 0]) for pixels in x}) == 8
    assert {bool(pixels[0, 0, 1] > pixels[0, -1, 1]) for pixels in x} == {True, False}


def test_resampling_the_whole_at_its_own_size_changes_nothing():
    x = np.random.default_rng(0).random((3, 6, 6, 2)).astype(np.float32)
    whole = np.zeros((2, 3)), np.ones(3)
    np.testing.assert_allclose(resample(x, *whole, (6, 6), np.zeros(3, bool)), x, atol=1e-6)
    np.testing.assert_allclose(resample(x, *whole, (6, 6), np.ones(3, bool)), x[:, :, ::-1], atol=1e-6)
