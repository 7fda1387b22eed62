"""Heads as the converter writes them, shared by the tests of what is made of their files."""

import numpy as np
import pytest
from helpers.head_case import Case
from helpers.head_steps import head_layer

from firmware_host.bundle import BLOCKS
from keras_cbpnet.export import head as export_head

# Dimensions: B rows, d features, h hidden units, C class slots.
D, H, C, B = 96, 64, 10, 16  # vit_micro_32 with the block's default size


@pytest.fixture(scope="session")
def heads(tmp_path_factory):
    """By block: the folder of the converter's own `whole.tflite`, and the bytes of its numbers, none of them zero."""
    found = {}
    for block in BLOCKS:
        case = Case(block, D, H, C, B, {})
        rng = np.random.default_rng(1)
        state = {name: rng.uniform(0.1, 1, value.shape).astype(np.float32) for name, value in case.start().items()}
        folder = tmp_path_factory.mktemp(block)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export_head, "slim", lambda content: content)
            patch.setattr(export_head, "named", lambda content, constants: content)
            (folder / "whole.tflite").write_bytes(export_head.convert_head(head_layer(case, state)))
        found[block] = folder, 4 * (sum(value.size for value in state.values()) + 2 * D)
    return found
