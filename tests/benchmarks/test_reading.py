"""The benchmark of reading photos: its arithmetic, and its photos."""

import io
import sys

import numpy as np
import pytest

from benchmarks import reading

CHEAP, DEAR = {"cpu": [1.0, 3.0, 1.0], "wall": [1.0, 1.5, 1.0]}, {"cpu": [2.0, 4.0, 2.0], "wall": [4.0, 5.0, 2.0]}


def record(load):
    seconds = {f"{name}, {what}": CHEAP for name in reading.COMMANDS for what in ("now", "now, 1 job")}
    seconds |= {f"{name}, before": DEAR for name in reading.COMMANDS}
    seconds |= {f"load {size}, now": CHEAP for size in ("VGA", "12 MP")}
    seconds |= {f"load {size}, before": DEAR for size in ("VGA", "12 MP")}
    common = {"images": 200, "rounds": 3, "jobs": 2, "before": "0123456789", "machine": {"cores": 2}}
    return {**common, "busy_cores": load, "seconds": seconds}


def test_every_round_gives_a_ratio():
    found = reading.ratios(record(0.1))
    assert found["predict, cpu"] == [0.5, 0.75, 0.5]
    assert found["learn, wall"] == [0.25, 0.3, 0.5]
    assert not any("ONNX" in name for name in found)  # no peer was measured
    shown = " ".join(reading.render(record(0.1)).split())
    assert "| learn, wall | 0.30 | 0.25 to 0.50 | 0.55 (reached) |" in shown
    assert "| load 12 MP, cpu | 0.50 | 0.50 to 0.75 | 0.7 (reached) |" in shown
    assert "before: commit 0123456." in shown


def test_the_clock_counts_on_a_quiet_machine_alone():
    found = reading.ratios(record(3.0))
    assert not any(name.endswith("wall") for name in found)
    assert "load 12 MP, cpu" in found
    assert "Others used 3.0 cores" in reading.render(record(3.0))


def test_the_photos_are_as_hard_as_photos():
    image = reading.photo(np.random.default_rng(0), reading.VGA)
    assert image.size == (640, 480)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    assert 40_000 < len(content.getvalue()) < 100_000


def test_a_child_tells_its_time_and_its_failure(tmp_path):
    code = reading.IN_A_CHILD.format(prepare="", run="sum(range(10**6)); print('not shown')")
    wall, cpu = reading.child(tmp_path, [sys.executable, "-c", code])
    assert min(wall, cpu) > 0
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        reading.child(tmp_path, [sys.executable, "-c", reading.IN_A_CHILD.format(prepare="", run="1 / 0")])
