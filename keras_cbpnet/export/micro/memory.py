"""Order of the operators and place of every tensor, so that the arena of a TFLM graph is small.

TFLM runs operators in the file's order, and by itself gives every tensor its own memory while it lives. A plan in
the file (metadata `OfflineMemoryAllocation`) may do better: an elementwise operator here writes over an operand that
nobody reads again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_cbpnet.export.micro.variables import IN_PLACE, Variable
from keras_cbpnet.export.tflite_file.graph import Model, shape_of

ALIGNMENT = 16  # of TFLM's buffers
BEAM = 64
LARGE = 512  # bytes; steps that hold less are not searched over
TRIES = 1000
PLAN = b"OfflineMemoryAllocation"


class _Step(NamedTuple):
    """An operator; `over` are the operands that its result may be written over."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    over: tuple[int, ...]


def order(model: Model, graph: Any, variables: list[Variable]) -> None:
    """Sort the operators of `graph` so that the bytes alive at once are few.

    Beam search over the order of the operators that hold much; the small ones they need come right before them, and
    one that frees memory comes as soon as it can. A version of a variable is made after the last use of the one before.
    """
    sizes = _sizes(model, graph, variables)
    steps = [
        _Step(tuple(i for i in dict.fromkeys(op.inputs) if i >= 0), tuple(op.outputs), _over(model, graph, op, sizes))
        for op in graph.operators
    ]
    before = _dependencies(steps, variables)
    everything = (1 << len(steps)) - 1
    needs = _ancestors(before)
    large = [index for index, step in enumerate(steps) if max((sizes[i] for i in step.outputs), default=0) >= LARGE]
    holding = sum(1 << index for index in large)
    left = [0] * len(sizes)
    for step in steps:
        for i in step.inputs:
            left[i] += 1
    for i in graph.outputs:
        left[int(i)] += 1
    alive = sum(sizes[int(i)] for i in graph.inputs)

    beam = [_Progress(alive, alive, 0, left, ())]
    while any(progress.done != everything for progress in beam):
        found: dict[int, _Progress] = {}
        for progress in beam:
            ready = [i for i in large if not progress.done >> i & 1 and not needs[i] & ~progress.done & holding]
            goals = [(1 << i) | needs[i] for i in ready] or [everything]
            for goal in goals:
                grown = _advance(progress, goal, steps, sizes, before)
                known = found.get(grown.done)
                if known is None or (grown.peak, grown.alive) < (known.peak, known.alive):
                    found[grown.done] = grown
        beam = sorted(found.values(), key=lambda progress: (progress.peak, progress.alive, progress.path))[:BEAM]
    graph.operators = [graph.operators[index] for index in beam[0].path]


class _Progress(NamedTuple):
    """A beginning of an order: highest and present bytes alive, steps done as bits, readers left, the steps."""

    peak: int
    alive: int
    done: int
    left: list[int]
    path: tuple[int, ...]


def _advance(progress: _Progress, goal: int, steps: list[_Step], sizes: list[int], before: list[int]) -> _Progress:
    """Do the steps of `goal` (bits) that are not done, in the file's order, and then all that free memory."""
    peak, alive, done, left, path = progress
    left, added = left.copy(), []

    def do(index: int) -> None:
        nonlocal peak, alive, done
        now, after = _memory(steps[index], left, sizes)
        peak, alive, done = max(peak, alive + now), alive + after, done | 1 << index
        for i in steps[index].inputs:
            left[i] -= 1
        added.append(index)

    while missing := [index for index in range(len(steps)) if goal >> index & 1 and not done >> index & 1]:
        for index in missing:
            if not before[index] & ~done:
                do(index)
    again = True
    while again:
        again = False
        for index, step in enumerate(steps):
            if done >> index & 1 or before[index] & ~done:
                continue
            now, after = _memory(step, left, sizes)
            if (after < 0 and alive + now <= peak) or (not after and not now):
                do(index)
                again = True
    return _Progress(peak, alive, done, left, (*path, *added))


def _memory(step: _Step, left: list[int], sizes: list[int]) -> tuple[int, int]:
    """Return the bytes that `step` adds while it runs, and after it."""
    made = sum(sizes[i] for i in step.outputs)
    dying = sum(sizes[i] for i in step.inputs if left[i] == 1)
    reused = any(left[i] == 1 for i in step.over)
    return 0 if reused else made, made - dying


def _sizes(model: Model, graph: Any, variables: list[Variable]) -> list[int]:
    """Return the bytes each tensor of `graph` takes of the plan; 0 for constants and what lies in a variable."""
    home = {version for variable in variables for version in variable.versions}
    sizes = []
    for i, tensor in enumerate(graph.tensors):
        free = i in home or tensor.isVariable or model.constant(graph, i) is not None
        sizes.append(0 if free else aligned(model.size(graph, i)))
    return sizes


def _over(model: Model, graph: Any, op: Any, sizes: list[int]) -> tuple[int, ...]:
    """Return the operands that the result of `op` may be written over, as far as nobody reads them again.

    An operand of fewer bytes, repeated to the result's shape, is read after the first results are written; so the
    exact sizes are compared, not `sizes`, which are rounded up.
    """
    made = op.outputs[0]
    if model.kind(op) not in IN_PLACE or not sizes[made]:
        return ()
    wanted = model.size(graph, made)
    return tuple(i for i in op.inputs if i >= 0 and sizes[i] and model.size(graph, i) == wanted)


def aligned(size: int) -> int:
    """Return `size` rounded up to TFLM's alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _ancestors(before: list[int]) -> list[int]:
    """Return all steps that must come before each, as bits, from those that must come right before it."""
    needs = list(before)
    while True:
        grown = [bits | _union(needs[i] for i in range(len(needs)) if bits >> i & 1) for bits in needs]
        if any(bits >> index & 1 for index, bits in enumerate(grown)):
            raise ValueError("no order of the operators: one reads a variable's value from before and after its change")
        if grown == needs:
            return needs
        needs = grown


def _union(sets: Iterable[int]) -> int:
    union = 0
    for bits in sets:
        union |= bits
    return union


def _dependencies(steps: list[_Step], variables: list[Variable]) -> list[int]:
    """Return for each step the steps that must come before it, as bits."""
    maker = {i: index for index, step in enumerate(steps) for i in step.outputs}
    before = [_union(1 << maker[i] for i in step.inputs if i in maker) for step in steps]
    for variable in variables:
        for old, new in zip(variable.versions, variable.versions[1:]):
            for index, step in enumerate(steps):
                if old in step.inputs and index != maker[new]:
                    before[maker[new]] |= 1 << index
    return before


def offsets(model: Model, graph: Any) -> list[int]:
    """Return the place of every tensor of `graph`, whose operators have their final order.

    In bytes from the arena's beginning; -1 for constants and variables.
    """
    sizes = _sizes(model, graph, [])
    group, lives = _lives(model, graph, sizes)
    order = sorted(lives, key=lambda i: (-sizes[i], lives[i]))
    place = _place(order, lives, sizes)
    rng = np.random.default_rng(0)
    least = max(
        sum(sizes[i] for i, (begin, end) in lives.items() if begin <= moment <= end)
        for moment in range(len(graph.operators))
    )
    for _ in range(TRIES):  # largest first is not always best: what reaches the top is placed earlier in the next try
        if _top(place, sizes) == least:
            break
        highest = [i for i in order if place[i] + sizes[i] == _top(place, sizes)]
        moved = int(rng.choice(highest))
        other = [i for i in order if i != moved]
        other.insert(int(rng.integers(order.index(moved) + 1)), moved)
        found = _place(other, lives, sizes)
        if _top(found, sizes) <= _top(place, sizes):
            order, place = other, found
    return [place.get(group[i], -1) for i in range(len(sizes))]


def _share(graph: Any, plan: list[int]) -> None:
    """Let tensors of one place, shape and type be one tensor: TFLM keeps a record of each."""
    ends = [int(i) for i in (*graph.inputs, *graph.outputs)]

    def key(i: int) -> tuple[int, int, tuple[int, ...]]:
        return plan[i], graph.tensors[i].type, shape_of(graph.tensors[i])

    first: dict[tuple[int, int, tuple[int, ...]], int] = {}
    for i in (*ends, *range(len(plan))):
        first.setdefault(key(i), i)
    shared = {i: first[key(i)] for i in range(len(plan)) if plan[i] >= 0 and i not in ends}
    for op in graph.operators:
        op.inputs, op.outputs = ([shared.get(i, i) for i in each] for each in (op.inputs, op.outputs))


def _top(place: dict[int, int], sizes: list[int]) -> int:
    return max((offset + sizes[i] for i, offset in place.items()), default=0)


def _place(order: list[int], lives: dict[int, tuple[int, int]], sizes: list[int]) -> dict[int, int]:
    """Return the lowest free offset of each tensor, placed in this order."""
    place: dict[int, int] = {}
    for i in order:
        begin, end = lives[i]
        blocks = [
            (place[other], place[other] + sizes[other])
            for other in place
            if lives[other][0] <= end and begin <= lives[other][1]
        ]
        offset = 0
        for low, high in sorted(blocks):
            if low < offset + sizes[i] and offset < high:
                offset = high
        place[i] = offset
    return place


def _lives(model: Model, graph: Any, sizes: list[int]) -> tuple[list[int], dict[int, tuple[int, int]]]:
    """Return the place of each tensor, named by the first tensor there, and the first and last operator of a place."""
    first: dict[int, int] = {int(i): 0 for i in graph.inputs}
    last: dict[int, int] = {int(i): 0 for i in graph.inputs}
    for index, op in enumerate(graph.operators):
        for i in op.outputs:
            first.setdefault(i, index)
        for i in (*op.inputs, *op.outputs):
            last[i] = index
    last.update({int(i): len(graph.operators) for i in graph.outputs})
    group = list(range(len(sizes)))
    for index, op in enumerate(graph.operators):
        free = [i for i in _over(model, graph, op, sizes) if last[i] == index]
        if free:
            group[op.outputs[0]] = group[free[0]]
    lives: dict[int, tuple[int, int]] = {}
    for i in first:
        if sizes[i]:
            known = lives.get(group[i], (first[i], last[i]))
            lives[group[i]] = min(known[0], first[i]), max(known[1], last[i])
    return group, lives


def write_plan(model: Model, graph: Any, share: bool = True) -> None:
    """Give every tensor of `graph`, the only subgraph, its place, as metadata that TFLM reads.

    With `share`, tensors of one place become one, which is for TFLM alone: other runtimes place tensors themselves.
    """
    plan = offsets(model, graph)
    if share:
        _share(graph, plan)
    places = dict(zip(map(id, graph.tensors), plan))
    model.prune()
    plan = [places[id(tensor)] for tensor in graph.tensors]
    entry = schema.MetadataT()
    entry.name = PLAN
    entry.buffer = model.buffer(np.array([1, 0, len(plan), *plan], np.int32).tobytes())
    model.root.metadata = [*(found for found in model.root.metadata or [] if found.name != PLAN), entry]
