"""The planner of a TFLM arena, whatever the graph: no tensor is written over while somebody still reads it."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from keras_cbpnet.export.micro import memory
from keras_cbpnet.export.micro.memory import ALIGNMENT, aligned, offsets, order
from keras_cbpnet.export.micro.variables import Variable

QUIET = settings(derandomize=True, deadline=None, max_examples=100, phases=[Phase.explicit, Phase.generate])
SIZES = st.integers(1, 16).map(lambda n: 4 * n) | st.integers(1, 6000)  # small ones are often equal once rounded up


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
    """A graph of up to 14 operators: each reads some of the tensors before it and makes one or two new ones.

    Some of its tensors are variables; at its end operators in place give some of them a new value.
    """
    sizes, constants, operators, variables = [], {}, [], []

    def tensor(size):
        sizes.append(size)
        return len(sizes) - 1

    inputs = [tensor(draw(SIZES)) for _ in range(draw(st.integers(1, 2)))]
    for _ in range(draw(st.integers(0, 2))):
        constants[tensor(draw(SIZES))] = np.zeros(1)
    for _ in range(draw(st.integers(0, 2))):
        variables.append(Variable("", np.zeros(1), [tensor(draw(SIZES))]))
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
    for variable in variables:
        for _ in range(draw(st.integers(0, 2))):
            old = variable.versions[-1]
            variable.versions.append(tensor(sizes[old]))
            inputs_of = [old, draw(st.sampled_from(made))]
            operators.append(SimpleNamespace(kind="ADD", inputs=inputs_of, outputs=variable.versions[-1:]))
    held = {variable.versions[0] for variable in variables}
    tensors = [SimpleNamespace(isVariable=i in held, buffer=i) for i in range(len(sizes))]
    graph = SimpleNamespace(operators=operators, inputs=inputs, outputs=outputs, tensors=tensors)
    return Graphs(sizes, constants), graph, variables


def home_of(variables):
    """The variable in whose memory each version lies."""
    return {version: variable.versions[0] for variable in variables for version in variable.versions}


def place(model, graph, variables):
    """The plan as `write_plan` asks for it: by then the versions of a variable are one tensor."""
    home = home_of(variables)
    operators = [
        SimpleNamespace(
            kind=op.kind, **{end: [home.get(i, i) for i in getattr(op, end)] for end in ("inputs", "outputs")}
        )
        for op in graph.operators
    ]
    return offsets(model, SimpleNamespace(**{**vars(graph), "operators": operators}))


def run(model, graph, variables, plan):
    """Write and read the arena as an interpreter does, every byte marked with the tensor that it belongs to."""
    home = home_of(variables)
    held = {i: i for i in set(home.values())}  # the version that lies in each variable's memory
    top = max((place + model.sizes[i] for i, place in enumerate(plan) if place >= 0), default=0)
    owner = np.full(top, -1)

    def where(i):
        return slice(plan[i], plan[i] + model.sizes[i])

    for i in graph.inputs:
        owner[where(i)] = i
    for op in graph.operators:
        for i in home.keys() & op.inputs:
            assert held[home[i]] == i, f"{op} reads a variable's value {i}, which is not there"
        held.update({home[i]: i for i in op.outputs if i in home})
        read = [i for i in op.inputs if i >= 0 and i not in model.constants and i not in home]
        for i in read:
            assert (owner[where(i)] == i).all(), f"{op} reads tensor {i}, which is written over"
        written = [i for i in op.outputs if i not in home]
        for i in written:
            for other in read:
                over = plan[i] < plan[other] + model.sizes[other] and plan[other] < plan[i] + model.sizes[i]
                # Element i over element i is right; over an operand that is repeated to the result's shape it is not.
                in_place = op.kind == "ADD" and (plan[i], model.sizes[i]) == (plan[other], model.sizes[other])
                assert not over or in_place, f"{op} writes {i} over its operand {other}"
        for number, i in enumerate(written):
            owner[where(i)] = i
            for other in written[:number]:
                assert (owner[where(other)] == other).all(), f"{op} writes two results into one place"
    for i in graph.outputs:
        assert (owner[where(i)] == i).all(), f"result {i} is written over"


@given(graphs())
@QUIET
def test_no_tensor_is_written_over_while_it_is_needed(made):
    model, graph, variables = made
    plan = place(model, graph, variables)
    home = home_of(variables)
    for i, offset in enumerate(plan):
        needed = i in graph.inputs or any(i in op.outputs for op in graph.operators)
        assert (offset >= 0) == (needed and i not in home)
        assert offset < 0 or offset % ALIGNMENT == 0
    run(model, graph, variables, plan)


@given(graphs())
@QUIET
def test_a_plan_is_no_larger_than_a_place_for_each(made):
    model, graph, variables = made
    plan = place(model, graph, variables)
    used = [i for i, place in enumerate(plan) if place >= 0]
    most = sum(aligned(model.sizes[i]) for i in used)
    assert max(plan[i] + aligned(model.sizes[i]) for i in used) <= most


@given(graphs())
@QUIET
def test_another_order_makes_everything_before_it_is_read(made):
    model, graph, variables = made
    before = list(graph.operators)
    order(model, graph, variables)
    assert sorted(map(id, graph.operators)) == sorted(map(id, before))
    there = {*graph.inputs, *model.constants, *(variable.versions[0] for variable in variables), -1}
    for op in graph.operators:
        assert there.issuperset(op.inputs)
        there.update(op.outputs)
    run(model, graph, variables, place(model, graph, variables))


def plain(sizes, inputs, *operators, outputs):
    """A graph without variables and constants; `operators` as kind, inputs, outputs."""
    tensors = [SimpleNamespace(isVariable=False, buffer=i) for i in range(len(sizes))]
    made = [SimpleNamespace(kind=kind, inputs=list(read), outputs=list(result)) for kind, read, result in operators]
    return Graphs(sizes, {}), SimpleNamespace(operators=made, inputs=inputs, outputs=outputs, tensors=tensors)


def test_both_results_of_one_operator_may_be_read_by_one():
    model, graph = plain([600] * 4, [0], ("SPLIT", (0,), (1, 2)), ("FULLY_CONNECTED", (1, 2), (3,)), outputs=[3])
    before = list(graph.operators)
    order(model, graph, [])
    assert graph.operators == before


def test_a_small_operand_that_is_repeated_is_not_written_over():
    model, graph = plain([64, 4, 16], [0], ("FULLY_CONNECTED", (0,), (1,)), ("ADD", (1,), (2,)), outputs=[2])
    plan = offsets(model, graph)
    assert plan[1] != plan[2]


def test_a_value_from_before_and_after_a_change_is_refused():
    model, graph = plain([16] * 4, [0], ("ADD", (1, 0), (2,)), ("ADD", (1, 2), (3,)), outputs=[3])
    graph.tensors[1].isVariable = True
    with pytest.raises(ValueError, match="before and after its change"):
        order(model, graph, [Variable("w", np.zeros(4), [1, 2])])
