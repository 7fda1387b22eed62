"""What of the bank a .tflite file can hold: the same scores as NumPy's."""

import numpy as np
import pytest

from benchmarks import bank_runtime
from benchmarks.common import bank_look


@pytest.mark.slow
def test_the_first_look_of_the_file_is_that_of_numpy(tmp_path):
    pytest.importorskip("ai_edge_litert")
    file = tmp_path / "bank.tflite"
    file.write_bytes(bank_runtime.first_look())
    bank_runtime.compare(file)
    first, _, both = bank_look.ways(str(file), "ai_edge_litert")
    apart = [np.abs(first(row) - both(row)).max() for row in bank_look.features(3)]
    assert min(apart) > 0.1  # the second look is more
    shown = bank_runtime.timed(file, "ai_edge_litert")
    assert list(shown) == list(bank_look.PARTS)
    assert all(spent > 0 for spent in shown.values())
