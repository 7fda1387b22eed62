"""Names of classes: one rule and one form, and what can hardly be told apart."""

import pytest

from firmware_host.bundle import DeviceError
from firmware_host.shared.names import class_name, distinct_names, known_name, restored_names

NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_a_name_is_the_same_whichever_system_wrote_it():
    assert class_name(NFD) == NFC
    for name in ("mug", "coffee mug", "a.b", "9", "日本語", "👩‍🔬", "می‌خواهم"):
        assert class_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", ".", "..", " mug", "mug ", "mug\u00a0", "a\nb", "a\x85b", "a\u2028b", "a\tb", "a\x00", "\ufeffmug"),
        *("\u202amug", "mug\u2069", "\u00admug", "mug\u200b", "gr\udcfcn", 7, None, ["red"]),
    ],
)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(DeviceError, match=r"^class name .* must be one line of text: ") as error:
        class_name(name)
    assert str(error.value).isprintable()
    str(error.value).encode()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["mug", "fork", "mug"], "class name 'mug' appears more than once: names must be different"),
        ([NFC, NFD], "class name 'café' appears more than once"),
        (
            ["Mug", "mug"],
            "'Mug' and 'mug' can hardly be told apart, and are .*: rename one, to 'mug 2' for example, or merge",
        ),
        (["Straße", "STRASSE"], "can hardly be told apart"),
        (["\uff11", "1"], "can hardly be told apart"),
        (["ca\u200bt", "cat"], "can hardly be told apart"),
    ],
)
def test_names_alike_are_refused(names, message):
    with pytest.raises(DeviceError, match=message):
        distinct_names(names)


def test_new_names_follow_those_known():
    assert distinct_names([NFD, "b"], known=("x", "y")) == ("x", "y", NFC, "b")
    with pytest.raises(DeviceError, match=r"'X' and 'x' can hardly|'x' and 'X' can hardly"):
        distinct_names(["X"], known=("x",))
    assert known_name(NFD, (NFC,)) == NFC
    assert known_name(" old", (" old",)) == " old"  # taught before there was a rule


def test_old_names_get_their_form_where_that_keeps_them_apart():
    assert restored_names([NFD, "b"]) == (NFC, "b")
    assert restored_names([NFD, NFC]) == (NFD, NFC)
