"""What the model asks of prompts and head: every layer that is one or the other has it, under the same names."""

import inspect
from types import SimpleNamespace

import keras
import pytest

from keras_cbpnet.config import HeadConfig, PromptConfig, TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.layers import interfaces
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.layers.klda_head import KLDAHead
from keras_cbpnet.layers.mixed_head import MixedHead
from keras_cbpnet.layers.no_prompts import NoPrompts
from keras_cbpnet.layers.prompt_pool import PromptPool
from keras_cbpnet.layers.ranpac_head import RanPACHead
from keras_cbpnet.layers.slda_head import SLDAHead
from keras_cbpnet.tables import METHODS, SELECTIONS

D = 8
PROMPTS = {
    **{name: lambda kind=kind: kind(PromptConfig(pool=2), D) for name, kind in SELECTIONS.items()},
    "none": NoPrompts,
    "pool": lambda: PromptPool(width=D),
}
HEADS = {
    "cbp": lambda: CBPHead(HeadConfig(units=2, slots=4), own_step=True),
    "mixed": lambda: MixedHead(HeadConfig(units=2, slots=4)),
    "slda": lambda: SLDAHead(4),
    "ranpac": lambda: RanPACHead(4, projected=3),
    "klda": lambda: KLDAHead(4, projected=3),
}
CASES = [
    *((interfaces.Prompts, make) for make in PROMPTS.values()),
    *((interfaces.Head, make) for make in HEADS.values()),
]


@pytest.mark.parametrize(("interface", "make"), CASES, ids=[*PROMPTS, *HEADS])
def test_a_layer_has_what_its_interface_asks_for(interface, make):
    layer = make()
    layer.build((None, D))
    assert isinstance(layer, interface)
    for name, wanted in vars(interface).items():
        if inspect.isfunction(wanted) and not name.startswith("_"):
            asked = [each for each in list(inspect.signature(wanted).parameters)[1:] if each not in ("args", "kwargs")]
            assert list(inspect.signature(getattr(layer, name)).parameters)[: len(asked)] == asked, name


def test_another_layer_is_neither():
    layer = keras.layers.Dense(D)
    layer.build((None, D))
    assert not isinstance(layer, (interfaces.Prompts, interfaces.Head))


def test_every_methods_layers_are_among_those_tested():
    prompts, heads = ({type(make()) for make in table.values()} for table in (PROMPTS, HEADS))
    for method in METHODS.values():
        assert type(method().prompts(TrainConfig(), D)) in prompts
        assert type(method().head(TrainConfig(), 4)) in heads


@pytest.mark.parametrize(("depth", "blocks"), [(None, None), (0, 5), (1, 1), (5, 5)])
def test_what_a_query_depth_means(depth, blocks):
    assert interfaces.query_blocks(SimpleNamespace(query_depth=depth), 5) == blocks


def test_a_query_deeper_than_the_backbone():
    with pytest.raises(UserError, match="query_depth 6 is more than the backbone's 5 blocks"):
        interfaces.query_blocks(SimpleNamespace(query_depth=6), 5)
