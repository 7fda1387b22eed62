"""`state BUNDLE undo`: what it says, what it brings back, and what leaves nothing to be taken back."""

from dataclasses import replace

import numpy as np
import pytest

from firmware_host import Device, DeviceError
from firmware_host.cli import main
from firmware_host.state.snapshot import to_arrays


@pytest.fixture
def bundle(make, tmp_path):
    return make.write_bundle(tmp_path / "b", bank=True)


def opened(bundle):
    return Device.open(bundle, runtime="numpy")


def content(device):
    """Return all that a state file holds of what the device knows, byte by byte; not who it is."""
    arrays = to_arrays(replace(device._working.snapshot(), device=""))
    return {
        name: (value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes()) for name, value in arrays.items()
    }


def test_the_command_takes_back_a_whole_call_of_learn(make, bundle, tmp_path, capsys):
    data = make.folder_of_images(tmp_path / "data", names=("blue", "red"), each=3)
    with opened(bundle) as device:
        start = content(device)
    for options in ([], ["--one-by-one", "--save-every", "1"]):
        assert main(["learn", str(bundle), str(data), "--runtime", "numpy", "--epochs", "1", *options]) == 0
        assert f"take this lesson back with: python -m firmware_host state {bundle} undo" in capsys.readouterr().out
        words = [str(bundle), "undo"] if options else ["undo", str(bundle)]
        assert main(["state", *words, "--runtime", "numpy"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("took the last lesson back; saved in ")
        assert "classes now: red, green; 2 of 4 slots are free" in out
        with opened(bundle) as device:
            assert content(device) == start
    assert main(["state", str(bundle), "undo", "--runtime", "numpy"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_import_and_reset_leave_nothing_to_undo(make, bundle, tmp_path, capsys):
    images, labels = make.images(["blue"], 3)
    for action in (["import", str(tmp_path / "backup.npz")], ["reset"]):
        with opened(bundle) as device:
            device.learn(images, labels, epochs=3, save_every=1)
            device.save()
        if action[0] == "import":
            assert main(["state", str(bundle), "export", action[1]]) == 0
        assert main(["state", str(bundle), *action]) == 0
        with opened(bundle) as device, pytest.raises(DeviceError, match="nothing to undo"):
            device.undo()
