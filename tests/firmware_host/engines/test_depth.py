"""Which numbers of encoder blocks a bundle has, and which signature runs them."""

from types import SimpleNamespace

import pytest

from firmware_host.bundle import DeviceError
from firmware_host.engines.find import Runtime, checked_depth, signature_of
from firmware_host.engines.interpreter import only_first


def bundle(manifest, depths=()):
    return SimpleNamespace(path="kitchen", manifest=manifest, depths=dict(depths))


def runtime(depth):
    return Runtime("ai_edge_litert", None, None, depth=depth)


def test_each_number_has_a_signature():
    several = bundle({}, {3: "depth_3", 5: "serving_default"})
    assert [signature_of(several, runtime(depth)) for depth in (None, 5, 3)] == [
        "serving_default",
        "serving_default",
        "depth_3",
    ]
    assert checked_depth(bundle({"depth": 3}), 3) == "serving_default"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            bundle({}, {3: "depth_3", 5: "serving_default"}),
            "no backbone of 4 encoder blocks, it has 5 and 3: use one of",
        ),
        (bundle({"depth": 3}), "no backbone of 4 encoder blocks, it has 3: use one of"),
        (bundle({}), "no backbone of 4 encoder blocks, it runs all of its blocks: convert with --depth"),
    ],
)
def test_another_number_is_one_line(found, message):
    with pytest.raises(DeviceError, match=message):
        checked_depth(found, 4)


def test_a_runtime_without_signatures_runs_the_first_alone():
    only_first(runtime(5), "serving_default")
    with pytest.raises(DeviceError, match="ai_edge_litert runs the first graph of a file alone: leave out --depth 3"):
        only_first(runtime(3), "depth_3")
