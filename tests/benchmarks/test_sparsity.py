"""The comparison of sparse trainings: gradients by finite differences, exact budgets, and its table."""

import json

import numpy as np
import pytest

from benchmarks import sparsity
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 4
    x = (rng.normal(size=(4, 10))[y] * 2 + rng.normal(size=(400, 10))).astype(np.float32)
    return sparsity.Data(x[:300], y[:300], x[300:], y[300:])


def test_the_gradient_is_that_of_finite_differences(data):
    net = sparsity.Net((10, 5, 4), np.random.default_rng(1))
    net.kernels = [kernel.astype(np.float64) for kernel in net.kernels]
    x, y = data.x[:20].astype(np.float64), data.y[:20]

    def loss():
        z = net.forward(x, net.kernels)[-1]
        return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(20), y]))

    slopes, offsets = net.gradients(x, y, net.kernels)
    for values, found in ((net.kernels[0], slopes[0]), (net.kernels[1], slopes[1]), (net.biases[0], offsets[0])):
        place = tuple(size // 2 for size in values.shape)
        moved = []
        step = 1e-6 if values.dtype == np.float64 else 1e-3
        for sign in (1, -1):
            values[place] += sign * step
            moved.append(loss())
            values[place] -= sign * step
        assert found[place] == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-2, abs=1e-5)


@pytest.mark.parametrize("name", sparsity.ROWS)
def test_every_row_learns(name, data, monkeypatch):
    monkeypatch.setattr(sparsity, "HIDDEN", (30, 20))
    found = sparsity.train(data, sparsity.ROWS[name], 0.3, 120, 10, 0)
    assert found > 0.6  # chance: 0.25
    assert found == sparsity.train(data, sparsity.ROWS[name], 0.3, 120, 10, 0)


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sparsity, "HIDDEN", (12, 8))
    output = tmp_path / "out.json"
    arguments = ["--keep", "0.5", "--seeds", "0,1", "--steps", "6", "--every", "2", "--json", str(output)]
    assert cli.run(sparsity.main, arguments) == 0
    record = json.loads(output.read_text())
    assert set(record["data"]["digits"]) == set(sparsity.ROWS)
    shown = capsys.readouterr().out
    assert "digits, 50 %" in shown
    assert shown.count("±") == len(sparsity.ROWS) + sum(row.schedule == "afterwards" for row in sparsity.ROWS.values())


def test_unknown_data_is_one_line():
    with pytest.raises(UserError, match="no data 'wiar': give digits or wiar:FILE"):
        sparsity.read("wiar")
    with pytest.raises(UserError, match=r"nowhere is not a file; give wiar_images_32\.npz"):
        sparsity.read("wiar:nowhere")
