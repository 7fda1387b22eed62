"""The simulated cameras: what each does to a picture, that noise can be repeated, and which are held out."""

import ast
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import cameras
from benchmarks.common.cameras import CAMERAS, HOST
from keras_cbpnet.data.preprocessing import resize_images

SIZE = (32, 24)


@pytest.fixture(scope="module")
def images():
    """Random pictures of another size than the network's, uint8 [6, 8, 6, 3]."""
    return np.random.default_rng(0).integers(60, 190, (6, 8, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", list(CAMERAS))
def test_a_camera_brings_images_to_size_the_same_each_time(name, images):
    before = images.copy()
    camera = CAMERAS[name]
    taken = camera(images, SIZE, seed=1)
    assert taken.dtype == np.uint8
    assert taken.shape == (6, *SIZE, 3)
    np.testing.assert_array_equal(camera(images, SIZE, seed=1), taken)
    np.testing.assert_array_equal(images, before)
    host = CAMERAS[HOST](images, SIZE, seed=1)
    assert np.array_equal(taken, host) == (name == HOST)
    # It shows the same: nearer to its own picture than to the others', up to brightness.
    flat, other = (x.reshape(6, -1) - x.reshape(6, -1).mean(axis=1, keepdims=True) for x in (host, taken))
    likeness = other @ flat.T / np.linalg.norm(flat, axis=1)
    np.testing.assert_array_equal(likeness.argmax(axis=1), np.arange(6))


def test_eight_cameras_or_more_and_three_held_out():
    assert len(CAMERAS) - 1 >= 8
    held_out = [name for name, camera in CAMERAS.items() if camera.held_out]
    assert held_out == ["vignette", "rotated", "cool_coarse"]


def test_the_host_sees_what_the_product_sees(images):
    np.testing.assert_array_equal(CAMERAS[HOST](images, SIZE, seed=0), resize_images(images, SIZE))


def test_noise_is_another_one_under_another_seed(images):
    for name, camera in CAMERAS.items():
        random = "noisy" in name
        assert np.array_equal(camera(images, SIZE, seed=1), camera(images, SIZE, seed=2)) != random, name


def test_effects_by_numbers():
    rng = np.random.default_rng(0)
    grey = np.full((32, 32, 3), 100, np.uint8)
    np.testing.assert_array_equal(cameras.gain(0.5, 1.0, 2.0, black=7)(grey, rng)[3, 4], [57, 107, 207])
    assert cameras.noisy(10)(grey, rng).std() == pytest.approx(10, rel=0.1)
    shaded = cameras.vignetted(0.3)(grey, rng)
    assert shaded[0, 0, 0] == shaded[-1, -1, 2] == 30
    assert shaded[16, 16, 0] == 100
    line = np.zeros((41, 41, 3), np.uint8)
    line[20] = 255
    turned = cameras.rotated(10)(line, rng)
    rise = turned[:, 36, 0].argmax() - turned[:, 4, 0].argmax()
    assert abs(rise) == pytest.approx(32 * np.tan(np.radians(10)), abs=1)
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.ptp(cameras.coarse(0.5)(stripes, rng)) == 0
    assert np.ptp(cameras.blurred(0.3)(stripes, rng)[:, 8:24]) < 20


def test_nothing_is_shared_with_the_views_of_training():
    tree = ast.parse(Path(cameras.__file__).read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert not [module for module in modules if module.startswith(("keras_cbpnet", "firmware_host", "benchmarks"))]


def test_a_folder_of_photos_is_seen_as_its_pixels_are(images, tmp_path):
    from PIL import Image

    from keras_cbpnet.data.images import ImageFiles

    files = [tmp_path / f"{index}.png" for index in range(len(images))]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image).save(file)
    stored = ImageFiles(files, images.shape[1:3])
    camera = CAMERAS[HOST]
    np.testing.assert_array_equal(camera(stored, SIZE, 1), camera(stored[:], SIZE, 1))
