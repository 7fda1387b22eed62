"""Files as a bundle takes them, by their kind."""

import numpy as np
import pytest
from helpers import csi
from PIL import Image

from firmware_host.bundle import DeviceError, Input
from firmware_host.bundle.contract import INPUTS
from firmware_host.shared.sensors.csi_npz import read_csi_npz
from firmware_host.shared.sensors.pictures import csi_picture
from firmware_host.shared.sensors.readers import IMAGE, READERS, read_input_bytes, read_input_file, suffixes_of

CSI, SERIES = Input("csi"), Input("series", 3)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.dat").write_bytes(csi.log(csi.recording(0, 0, 1)))
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(40, 3)))
    Image.new("RGB", (9, 5), (10, 200, 30)).save(tmp_path / "a.png")
    return tmp_path


def test_every_kind_has_a_reader_and_its_own_suffixes():
    assert set(READERS) == set(INPUTS) - {"image"}
    assert suffixes_of("csi") == (".dat",)
    assert ".jpg" in suffixes_of("image")


@pytest.mark.parametrize(("name", "taken"), [("a.dat", CSI), ("a.npy", SERIES), ("a.png", IMAGE)])
@pytest.mark.parametrize("size", [(32, 32), (96, 48)])
def test_a_file_and_its_bytes_give_the_same_picture_at_any_size(files, name, taken, size):
    found = read_input_file(files / name, size, taken=taken)
    assert (found.dtype, found.shape) == (np.uint8, (*size, 3))
    np.testing.assert_array_equal(found, read_input_bytes("sent", (files / name).read_bytes(), size, None, taken))


def test_a_log_and_a_row_of_the_npz_give_the_same_picture(files, tmp_path):
    found = read_csi_npz(csi.write_npz(tmp_path / "all.npz"))
    picture = read_input_file(files / "a.dat", (32, 32), taken=CSI)
    np.testing.assert_array_equal(found.x[0], picture)
    np.testing.assert_array_equal(picture, csi_picture(csi.amplitude(csi.recording(0, 0, 1))))


@pytest.mark.parametrize(
    ("name", "taken", "said"),
    [
        ("a.png", CSI, "a.png is not of an Intel 5300"),
        ("a.npy", CSI, "a.npy is not of an Intel 5300"),
        ("a.dat", SERIES, "a.dat is neither a .npy file nor text"),
        ("a.dat", IMAGE, "is not an image"),
        ("a.npy", IMAGE, "is not an image but a single array"),
        ("a.npy", Input("series", 6), "has 3 channels, 6 are expected"),
        ("b.dat", CSI, "b.dat does not exist"),
        (".", SERIES, "is not a recording but a folder"),
    ],
)
def test_a_file_of_another_kind_is_refused(files, name, taken, said):
    with pytest.raises(DeviceError) as error:
        read_input_file(files / name, (32, 32), taken=taken)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_recording_that_would_not_fit_is_refused_before_it_is_read(files):
    with (files / "large.dat").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(DeviceError, match=r"large\.dat needs 8192 MiB .* use --max-memory"):
        read_input_file(files / "large.dat", (32, 32), 512, CSI)


def test_the_same_repetitions_of_every_class_are_for_testing(tmp_path):
    found = read_csi_npz(csi.write_npz(tmp_path / "all.npz", repetitions=10))
    assert found.tests.sum() == 2 * len(csi.ACTIVITIES) * len(csi.SETTINGS)
    for activity in range(len(csi.ACTIVITIES)):
        for setting in range(len(csi.SETTINGS)):
            mine = found.tests[(found.y == activity) & (found.domain == setting)]
            assert np.flatnonzero(mine).tolist() == [4, 9]


BAD = {
    "of another card": ({"csi": np.zeros((2400, 56), np.uint8)}, "csi is uint8 [2400, 56]: write packets of an Intel"),
    "floats": ({"csi": np.full((2400, 90), np.nan)}, "csi is float64 [2400, 90]"),
    "packets that are not there": ({"start": np.arange(40) * 61}, "recording 39 has packets 2379 to 2439 of 2400"),
    "an activity without a name": ({"activity": np.full(40, 4)}, "activity contains 4, activity_names has 4 names"),
    "a number too few": ({"domain": np.zeros(39, int)}, "domain is int64 [39]: write one integer a recording"),
    "names twice": ({"activity_names": np.array(["sit", "sit", "wave", "fall"])}, "more than once"),
    "one repetition": ({"repetition": np.ones(40, int)}, "setting 'hall' has 1 repetition(s)"),
    "nothing": ({"repetition": None}, "lacks repetition"),
}


@pytest.mark.parametrize(("changes", "said"), BAD.values(), ids=BAD)
def test_an_npz_that_is_something_else_is_refused(tmp_path, changes, said):
    with pytest.raises(DeviceError) as error:
        read_csi_npz(csi.write_npz(tmp_path / "bad.npz", **changes))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
