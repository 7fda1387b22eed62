"""What a board says of itself, from a tree of files as Linux has it; and nothing where there is none."""

from firmware_host.board import board, temperature_c


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_raspberry_pi(tmp_path):
    clock = "devices/system/cpu/cpu0/cpufreq"
    sys = tree(tmp_path / "sys", {f"{clock}/scaling_governor": "ondemand\n", f"{clock}/scaling_max_freq": "1500000\n"})
    proc = tree(
        tmp_path / "proc",
        {"device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0", "cpuinfo": "processor\t: 0\nCPU part\t: 0xd08\n"},
    )
    found = board(sys, proc)
    assert (found["board"], found["processor"]) == ("Raspberry Pi 4 Model B Rev 1.4", "0xd08")
    assert (found["governor"], found["clock_mhz"]) == ("ondemand", 1500)
    assert found["cores"] >= 1


def test_the_temperature_is_that_of_the_processor(tmp_path):
    zones = {"0/type": "nvme", "0/temp": "71000", "1/type": "cpu-thermal", "1/temp": "48312", "2/temp": "none"}
    sys = tree(tmp_path, {f"class/thermal/thermal_zone{name}": text for name, text in zones.items()})
    assert temperature_c(sys) == 48.312
    (sys / "class/thermal/thermal_zone1/type").write_text("acpitz")
    assert temperature_c(sys) == 71.0


def test_what_the_system_does_not_say_is_none(tmp_path):
    found = board(tmp_path, tmp_path)
    assert [found[name] for name in ("board", "processor", "governor", "clock_mhz")] == [None] * 4
    assert temperature_c(tmp_path) is None
