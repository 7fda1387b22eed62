"""The bank as a .tflite file: the same scores as NumPy's."""

import numpy as np
import pytest

from benchmarks import bank_runtime
from benchmarks.common import bank_look


@pytest.mark.slow
def test_the_files_say_what_numpy_says(tmp_path):
    pytest.importorskip("ai_edge_litert")
    files = bank_runtime.written(tmp_path)
    bank_runtime.compare(files)
    first, _, both, _ = bank_look.ways(files, "ai_edge_litert")
    apart = [np.abs(first(row) - both(row)).max() for row in bank_look.features(3)]
    assert min(apart) > 0.1  # the second look is more
    shown = bank_runtime.timed(files, "ai_edge_litert")
    assert list(shown) == list(bank_look.PARTS)
    assert all(spent > 0 for spent in shown.values())
