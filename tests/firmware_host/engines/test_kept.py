"""A head whose state is read once after each change: it says what the head around it would say."""

import numpy as np
import pytest

from firmware_host.engines.kept import KeptHead
from firmware_host.engines.numpy_head import NumpyHead

BLOCKS = ["prototype", "mlp", "residual"]


class Counted(NumpyHead):
    """A NumPy head that counts how often its state is read."""

    reads = 0

    def get_state(self):
        self.reads += 1
        return super().get_state()


@pytest.fixture(params=BLOCKS)
def heads(make, request):
    """A head around another, that one, and the same without."""
    config = make.head_config(request.param)
    inner, plain = (cls(config, make.start_state(config, known=3)) for cls in (Counted, NumpyHead))
    return KeptHead(inner, config), inner, plain


def batch(rng):
    label = rng.integers(-1, 4, 4).astype(np.int32)
    return rng.normal(size=(4, 6)).astype(np.float32), label, np.ones(4, np.float32), 1e-2, rng.normal(size=6)


def test_it_says_bit_by_bit_what_the_head_says_of_one_feature(heads):
    head, _, plain = heads
    rng = np.random.default_rng(0)
    for _ in range(20):
        given = batch(rng)
        for each in (head, plain):
            each.observe(*given[:2])
        assert head.train(*given) == plain.train(*given)
        for row in given[0]:
            found, expected = head.infer(row[None]), plain.infer(row[None])
            assert [part.tobytes() for part in found] == [part.tobytes() for part in expected]
    for name, value in plain.get_state().items():
        assert head.get_state()[name].tobytes() == value.tobytes()


def test_rows_together_are_the_rows_one_by_one(heads):
    head, _, plain = heads
    rng = np.random.default_rng(0)
    for _ in range(9):
        given = batch(rng)
        head.train(*given)
        plain.train(*given)
    rows = rng.normal(size=(30, 6)).astype(np.float32)
    expected = [np.concatenate(part) for part in zip(*(plain.infer(row[None]) for row in rows))]
    for found, one_by_one in zip(head.infer(rows), expected):
        assert found.shape == (30, 4)
        np.testing.assert_allclose(found, one_by_one, rtol=1e-5, atol=1e-6)


def test_the_state_is_read_once_after_each_change(heads):
    head, inner, _ = heads
    rng = np.random.default_rng(0)
    given = batch(rng)
    reads = []
    for change in (
        lambda: None,
        lambda: head.observe(*given[:2]),
        lambda: head.train(*given),
        lambda: head.set_state(head.get_state()),
    ):
        change()
        inner.reads = 0
        for _ in range(3):
            head.infer(given[0])
            head.get_state()
        reads.append(inner.reads)
    assert reads == [1, 1, 1, 1]


def test_what_was_asked_for_does_not_change_later_and_cannot_be_changed(heads):
    head, _, _ = heads
    before = head.get_state()
    copies = {name: value.copy() for name, value in before.items()}
    head.train(*batch(np.random.default_rng(0)))
    np.testing.assert_equal(before, copies)
    assert head.get_state()["step"] == copies["step"] + 1
    with pytest.raises(ValueError, match="read-only"):
        head.get_state()["w1"][:] = 0
    entries = head.get_state()
    entries["w1"] = None
    assert head.get_state()["w1"] is not None
