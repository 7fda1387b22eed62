"""The planner of a TFLM arena, whatever the graph: no tensor is written over while somebody still reads it."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from keras_cbpnet.export.micro import memory
from keras_cbpnet.export.micro.memory import ALIGNMENT, aligned, offsets

QUIET = settings(derandomize=True, deadline=None, max_examples=40, phases=[Phase.explicit, Phase.generate])
SIZES = st.integers(1, 300).map(lambda n: ALIGNMENT * n)  # as rounded up: the planner compares operands by that


@pytest.fixture(autouse=True, scope="module")
def _fewer_tries():
    """A plan is right after any number of tries; more only make it smaller."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "TRIES", 10)
        yield


class Graphs:
    """As much of a model as the planner asks for: kinds of operators, sizes of tensors, which are constants."""

    def __init__(self, sizes, constants):
        self.sizes, self.constants = sizes, constants

    def kind(self, op):
        return op.kind

    def size(self, graph, tensor):
        return self.sizes[tensor]

    def constant(self, graph, tensor):
        return self.constants.get(tensor)


@st.composite
def graphs(draw):
    """A graph of up to 14 operators: each reads some of the tensors before it and makes one or two new ones."""
    sizes, constants, operators = [], {}, []

    def tensor(size):
        sizes.append(size)
        return len(sizes) - 1

    inputs = [tensor(draw(SIZES)) for _ in range(draw(st.integers(1, 2)))]
    for _ in range(draw(st.integers(0, 2))):
        constants[tensor(draw(SIZES))] = np.zeros(1)
    for _ in range(draw(st.integers(1, 14))):
        read = draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=3))
        elementwise = draw(st.booleans())
        size = sizes[read[0]] if elementwise and draw(st.booleans()) else draw(SIZES)
        made = [tensor(size)]
        if not elementwise and draw(st.booleans()):
            made.append(tensor(draw(SIZES)))
        absent = [-1] if draw(st.booleans()) else []  # an optional input that is not there
        kind = "ADD" if elementwise else "FULLY_CONNECTED"
        operators.append(SimpleNamespace(kind=kind, inputs=[*read, *absent], outputs=made))
    made = [i for op in operators for i in op.outputs]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    tensors = [SimpleNamespace(isVariable=False, buffer=i) for i in range(len(sizes))]
    graph = SimpleNamespace(operators=operators, inputs=inputs, outputs=outputs, tensors=tensors)
    return Graphs(sizes, constants), graph


def run(model, graph, plan):
    """Write and read the arena as an interpreter does, every byte marked with the tensor that it belongs to."""
    top = max((place + model.sizes[i] for i, place in enumerate(plan) if place >= 0), default=0)
    owner = np.full(top, -1)

    def where(i):
        return slice(plan[i], plan[i] + model.sizes[i])

    for i in graph.inputs:
        owner[where(i)] = i
    for op in graph.operators:
        read = [i for i in op.inputs if i >= 0 and i not in model.constants]
        for i in read:
            assert (owner[where(i)] == i).all(), f"{op} reads tensor {i}, which is written over"
        for i in op.outputs:
            for other in read:
                over = plan[i] < plan[other] + model.sizes[other] and plan[other] < plan[i] + model.sizes[i]
                # Element i over element i is right; over an operand that is repeated to the result's shape it is not.
                in_place = op.kind == "ADD" and (plan[i], model.sizes[i]) == (plan[other], model.sizes[other])
                assert not over or in_place, f"{op} writes {i} over its operand {other}"
        for number, i in enumerate(op.outputs):
            owner[where(i)] = i
            for other in op.outputs[:number]:
                assert (owner[where(other)] == other).all(), f"{op} writes two results into one place"
    for i in graph.outputs:
        assert (owner[where(i)] == i).all(), f"result {i} is written over"


@given(graphs())
@QUIET
def test_no_tensor_is_written_over_while_it_is_needed(made):
    model, graph = made
    plan = offsets(model, graph)
    for i, place in enumerate(plan):
        needed = i in graph.inputs or any(i in op.outputs for op in graph.operators)
        assert (place >= 0) == needed
        assert place < 0 or place % ALIGNMENT == 0
    run(model, graph, plan)


@given(graphs())
@QUIET
def test_a_plan_is_no_larger_than_a_place_for_each(made):
    model, graph = made
    plan = offsets(model, graph)
    used = [i for i, place in enumerate(plan) if place >= 0]
    most = sum(aligned(model.sizes[i]) for i in used)
    assert max(plan[i] + aligned(model.sizes[i]) for i in used) <= most
