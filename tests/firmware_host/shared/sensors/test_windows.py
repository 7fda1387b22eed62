"""Windows of any sensor: .npy and .csv files."""

import io

import numpy as np
import pytest

from firmware_host.bundle import DeviceError
from firmware_host.shared.sensors.windows import read_window

ROWS = np.arange(18.0).reshape(9, 2) / 4 - 2


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def text(separator=",", head="", rows=ROWS):
    return (head + "\n".join(separator.join(str(value) for value in row) for row in rows) + "\n").encode()


FILES = {
    "npy": npy(ROWS),
    "npy of float32": npy(ROWS.astype(np.float32)),
    "commas": text(),
    "names": text(head="x,y\n"),
    "names and a byte order mark": b"\xef\xbb\xbf" + text(head="x,y\n"),
    "tabs": text("\t"),
    "blanks": text("  "),
    "decimal commas": text(";").replace(b".", b","),
    "empty lines, other line ends": text().replace(b"\n", b"\r\n") + b"\r\n",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_window_is_read(content):
    np.testing.assert_array_equal(read_window("a", content), ROWS)


def test_a_vector_is_one_channel():
    assert read_window("a", npy(np.arange(10))).shape == (10, 1)
    assert read_window("a", text(rows=ROWS[:, :1])).shape == (9, 1)


GAP = ROWS.copy()
GAP[3, 1] = np.nan
BAD = {
    "nan": (npy(GAP), "holds nan at sample 3, channel 1: fill the gap or leave the window out"),
    "nan in text": (text(rows=GAP), "holds nan at sample 3, channel 1"),
    "infinite": (npy(np.where(ROWS[0, 0] == ROWS, -np.inf, ROWS)), "holds -inf at sample 0, channel 0"),
    "an empty cell": (text(head="1,\n"), "holds other than numbers in line 1"),
    "words": (text() + b"end,of,it\n", "holds other than numbers in line 10"),
    "a short row": (text() + b"5\n", "has 1 numbers in line 10 and 2 before it"),
    "short": (npy(ROWS[:7]), "has 7 samples, at least 8 are needed"),
    "empty": (b"", "has 0 samples"),
    "names alone": (b"x,y\n", "has 0 samples"),
    "three axes": (npy(np.zeros((9, 2, 2))), "has shape [9, 2, 2]: write [samples, channels]"),
    "objects": (npy(np.array([{}] * 9)), "cannot be read"),
    "strings": (npy(np.array(["1"] * 9)), "holds <U1: write numbers"),
    "cut off": (npy(ROWS)[:-9], "cannot be read"),
    "not text": (b"\xff\xd8\xff\xe0" * 20, "is neither a .npy file nor text"),
}


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
def test_other_files_are_refused_in_a_line(content, said):
    with pytest.raises(DeviceError) as error:
        read_window("a.csv", content)
    assert said in str(error.value)
    assert str(error.value).startswith("window a.csv ")
    assert "\n" not in str(error.value)
