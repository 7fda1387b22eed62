"""What tests of the host library share: a run small enough for a test."""

import pytest
from helpers import tiny_stream


@pytest.fixture(scope="module")
def stream(tmp_path_factory, tiny_backbone):
    with tiny_stream.opened(tmp_path_factory.mktemp("stream"), tiny_backbone) as stream:
        yield stream
