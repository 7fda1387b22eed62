"""A class that is new takes a slot: that is said, and confirmed where a single name is given."""

import io
import json

import pytest

from firmware_host import Device
from firmware_host.cli import main


@pytest.fixture
def learn(make, bundle, tmp_path, capfd):
    photos = make.folder_of_images(tmp_path / "photos", names=("green",), each=3) / "green"

    def learn(*options):
        code = main(["learn", str(bundle), str(photos), "--runtime", "numpy", *options])
        return code, *capfd.readouterr()

    return learn


@pytest.fixture
def terminal(monkeypatch):
    """Somebody sits there and types an answer."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def terminal(answer):
        shown = Terminal()
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        monkeypatch.setattr("sys.stderr", shown)
        return shown

    return terminal


def classes(bundle):
    with Device.open(bundle, runtime="numpy") as device:
        return device.classes


def test_a_script_says_when_a_class_is_meant_to_be_new(learn, bundle, tmp_path):
    code, out, err = learn("--label", "gren")
    assert (code, out) == (2, "")
    assert err == (
        "error: class 'gren' is new (known are red, green; do you mean 'green'?): correct --label, or give --new to "
        "learn a new class\n"
    )
    assert not (tmp_path / "tiny.state").exists()
    assert learn("--label", "green")[0] == 0
    code, out, err = learn("--label", "lime", "--new")
    assert code == 0
    assert "new classes: lime; free slots: 1" in out
    assert f"python -m firmware_host state {bundle} undo" in out
    assert classes(bundle) == ("red", "green", "lime")
    assert json.loads(learn("--label", "lime", "--json")[1])["new_classes"] == []


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("yes\n", 0), ("n\n", 2), ("\n", 2), ("", 2)])
def test_on_a_terminal_you_are_asked(learn, terminal, bundle, answer, code):
    shown = terminal(answer)
    assert learn("--label", "lime")[0] == code
    assert shown.getvalue().startswith("class 'lime' is new (known are red, green). Learn it as a new class? [y/N] ")
    assert classes(bundle) == (("red", "green", "lime") if code == 0 else ("red", "green"))


def test_class_folders_may_be_new(make, bundle, tmp_path, capfd):
    data = make.folder_of_images(tmp_path / "new_photos", names=("blue", "red"), each=2)
    assert main(["learn", str(bundle), str(data), "--runtime", "numpy"]) == 0
    assert "new classes: blue; free slots: 1" in capfd.readouterr().out
