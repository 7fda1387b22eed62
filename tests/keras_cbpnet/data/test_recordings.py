"""csi:PATH and series:PATH on the host."""

import numpy as np
import pytest
from helpers import csi

from firmware_host.bundle import Input
from keras_cbpnet.data import make_stream, open_dataset
from keras_cbpnet.data.duplicates import duplicates
from keras_cbpnet.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("csi")


@pytest.fixture(scope="module")
def npz(folder):
    return open_dataset(f"csi:{csi.write_npz(folder / 'all.npz')}", 32)


def windows(root, classes=("still", "walk"), each=5, channels=3):
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(each):
            rng = np.random.default_rng([label, index])
            window = (1 + 4 * label) * np.sin(np.arange(50) / 3)[:, None] + rng.normal(0, 0.1, (50, channels))
            if index % 2:
                np.save(root / name / f"{index}.npy", window)
            else:
                np.savetxt(root / name / f"{index}.csv", window, delimiter=",", header="x,y,z", comments="")
    return root


def test_settings_are_domains_and_the_split_goes_by_repetition(npz):
    assert npz.class_names == csi.ACTIVITIES
    assert npz.domain_names == csi.SETTINGS
    assert (npz.x_train.shape, npz.x_test.shape) == ((32, 32, 32, 3), (8, 32, 32, 3))
    assert npz.input == Input("csi")
    assert not duplicates(npz)
    stream = make_stream("domain", npz, 0, seed=1)
    assert [task.class_names for task in stream] == [csi.ACTIVITIES] * 2
    assert {len(task.y_train) for task in stream} == {16}


def test_folders_of_logs_are_the_same_recordings(npz, folder):
    logs = open_dataset(f"csi:{csi.write_folders(folder / 'settings')}", 32)
    assert (logs.domain_names, sorted(logs.class_names)) == (csi.SETTINGS, sorted(csi.ACTIVITIES))
    assert logs.input == Input("csi")
    pictures = {x.tobytes() for data in (logs,) for part in ("train", "test") for x in data.stored(part)[:]}
    assert pictures == {x.tobytes() for x in (*npz.x_train, *npz.x_test)}


def test_folders_without_settings_and_with_parts(folder):
    plain = csi.write_folders(folder / "plain", settings=("hall",))
    data = open_dataset(f"csi:{plain}", 32)
    assert (data.domain_names, len(data.y_train), len(data.y_test)) == ((), 16, 4)
    parts = folder / "parts"
    csi.write_folders(parts / "train", repetitions=2)
    csi.write_folders(parts / "test", repetitions=1)
    data = open_dataset(f"csi:{parts}", 32)
    assert (data.domain_names, len(data.y_train), len(data.y_test)) == (csi.SETTINGS, 16, 8)


def test_windows_of_any_sensor(tmp_path):
    data = open_dataset(f"series:{windows(tmp_path / 'data')}", 32)
    assert (data.class_names, data.input) == (("still", "walk"), Input("series", 3))
    images = data.images("train", np.arange(len(data.y_train)))
    assert images.shape == (8, 32, 32, 3)
    levels = [images[data.y_train == label][..., 2].mean() for label in (0, 1)]
    assert levels[1] > levels[0] + 10


def test_windows_with_a_folder_a_setting(tmp_path):
    for setting in ("home", "work"):
        windows(tmp_path / setting)
    assert open_dataset(f"series:{tmp_path}", 32).domain_names == ("home", "work")


def test_a_larger_backbone_sees_the_same_picture_enlarged(folder, npz):
    large = open_dataset(f"csi:{folder / 'all.npz'}", 96).images("train", np.arange(2))
    assert large.shape == (2, 96, 96, 3)
    np.testing.assert_allclose(large[:, 1::3, 1::3], npz.x_train[:2], atol=40)


def broken(root, name, content):
    (windows(root) / name).write_bytes(content)
    return f"series:{root}"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: broken(root, "walk/6.csv", b"1,2\n" * 20), "has 2 channels, 3 are expected"),
        (lambda root: broken(root, "walk/6.csv", b"1,nan,2\n" * 20), "holds nan at sample 0, channel 1"),
        (lambda root: broken(root, "walk/6.npy", b"\x93NUMPY"), "cannot be read"),
        (lambda root: f"csi:{windows(root)}", "is not of an Intel 5300"),
        (lambda root: f"csi:{root}/missing", "missing'; give an existing folder with one folder of .dat files per"),
        (lambda root: f"series:{root}", "holds no .npy or .csv file"),
        (lambda root: f"folder:{windows(root)}", "is not an image"),
        (lambda root: f"csi:{csi.write_npz(root / 'a.npz', repetitions=1)}", "has 1 repetition(s)"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, make, said):
    with pytest.raises(UserError) as error:
        open_dataset(make(tmp_path), 32).check()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
