"""Seeds of 64 bits where a generator takes 32 or 31."""

import pytest

from keras_cbpnet import cli
from keras_cbpnet.seeds import folded


@pytest.mark.parametrize("seed", [0, 1, 20261129, 2**31 - 1])
def test_a_small_seed_is_itself(seed):
    assert folded(seed) == folded(seed, 31) == seed


@pytest.mark.parametrize("bits", [31, 32])
def test_large_seeds_fit_and_differ(bits):
    seeds = [2**bits, 20261129 * 1000, 20261129 * 1000 + 1, 2**63, 2**64 - 1, (2**64 - 1) * 1000 + 7]
    small = [folded(seed, bits) for seed in seeds]
    assert small == [folded(seed, bits) for seed in seeds]
    assert len(set(small)) == len(seeds)
    assert all(0 <= seed < 2**bits for seed in small)


def test_lists_of_seeds():
    assert cli.seed_list("0,20261129,18446744073709551615") == [0, 20261129, 2**64 - 1]
