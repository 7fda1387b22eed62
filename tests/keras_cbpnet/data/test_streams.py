"""Streams: class-incremental, drifting, domain-incremental."""

import dataclasses

import numpy as np
import pytest

from keras_cbpnet.data import (
    Dataset,
    class_incremental,
    domain_incremental,
    drifting,
    make_stream,
)
from keras_cbpnet.errors import UserError
from keras_cbpnet.tables import STREAMS


def toy(classes=6, per_class=4, size=2):
    """A data set whose every image is filled with its class's number."""
    labels = np.repeat(np.arange(classes), per_class).astype(np.int64)
    images = np.broadcast_to(labels[:, None, None, None], (len(labels), size, size, 3)).astype(np.uint8)
    return Dataset(images, labels, images[::2], labels[::2], tuple(f"class {c}" for c in range(classes)))


def with_domains(**changes):
    """Two classes in three domains; domains are interleaved, classes are not."""
    given = {
        "domain_names": ("s1", "s2", "s3"),
        "domain_train": np.arange(12) % 3,
        "domain_test": np.array([0, 1, 2, 2, 1, 0]),
        **changes,
    }
    return dataclasses.replace(toy(classes=2, per_class=6), **given)


# --- class-incremental -----------------------------------------------------------------------------------------------


def test_slots_count_up_and_labels_follow_their_classes():
    data = toy()
    stream = class_incremental(data, tasks=3, seed=1)
    assert [task.index for task in stream] == [0, 1, 2]
    assert [task.slots for task in stream] == [(0, 1), (2, 3), (4, 5)]
    names = [name for task in stream for name in task.class_names]
    assert sorted(names) == sorted(data.class_names)
    for task in stream:
        assert task.y_train.dtype == task.y_test.dtype == np.int32
        assert (task.x_train.shape[0], task.x_test.shape[0]) == (8, 4)
        for x, y in ((task.x_train, task.y_train), (task.x_test, task.y_test)):
            assert [f"class {pixel}" for pixel in x[:, 0, 0, 0]] == [names[slot] for slot in y]
            assert set(y) == set(task.slots)


def test_class_order_follows_the_seed():
    def order(seed):
        return [name for task in class_incremental(toy(), 2, seed) for name in task.class_names]

    assert order(3) == order(3)
    assert len({tuple(order(seed)) for seed in range(5)}) > 1


def test_one_task_holds_everything():
    (task,) = class_incremental(toy(), 1, 0)
    assert len(task.x_train) == 24


@pytest.mark.parametrize("tasks", [4, 0, -1, 12])
def test_tasks_must_divide_the_classes(tasks):
    with pytest.raises(UserError, match=f"6 classes cannot be split into {tasks} equal tasks.* 1, 2, 3, 6$"):
        class_incremental(toy(), tasks, 0)


# --- drifting --------------------------------------------------------------------------------------------------------


def test_a_drifting_task_has_its_own_classes_on_the_same_slots():
    stream = drifting(toy(), tasks=40, seed=2, ways=3, shots=2)
    assert [task.index for task in stream] == list(range(40))
    for task in stream:
        assert task.slots == (0, 1, 2)
        assert len(set(task.class_names)) == 3
        assert task.y_train.dtype == task.y_test.dtype == np.int32
        assert task.y_train.tolist() == task.y_test.tolist() == [0, 0, 1, 1, 2, 2]
        assert len(set(task.train_rows)) == 6
        for x, y in ((task.x_train, task.y_train), (task.x_test, task.y_test)):
            assert [f"class {pixel}" for pixel in x[:, 0, 0, 0]] == [task.class_names[slot] for slot in y]


def test_classes_return_with_other_images_and_under_other_labels():
    stream = drifting(toy(per_class=9), tasks=40, seed=0, ways=2, shots=3)
    met = [
        (slot, frozenset(task.train_rows[task.y_train == slot]))
        for task in stream
        for slot, name in enumerate(task.class_names)
        if name == "class 0"
    ]
    assert len(met) > 1  # expected: 40 * 2 / 6
    assert {slot for slot, _ in met} == {0, 1}
    assert len({rows for _, rows in met}) > len(met) / 2
    assert all(rows <= set(range(9)) for _, rows in met)


def test_test_images_are_all_those_of_the_classes():
    data = toy()
    data = dataclasses.replace(data, x_test=data.x_train[:-2], y_test=data.y_train[:-2])
    (task,) = drifting(data, tasks=1, seed=0, ways=6, shots=1)
    assert sorted(task.test_rows) == list(range(22))
    assert [task.class_names[slot] for slot in task.y_test] == [f"class {data.y_test[row]}" for row in task.test_rows]


def test_a_task_depends_on_the_seed_and_its_number_alone():
    def rows(tasks, seed):
        return [task.train_rows.tolist() for task in drifting(toy(), tasks, seed, ways=3, shots=2)]

    assert rows(5, 1) == rows(30, 1)[:5]
    assert rows(5, 1) != rows(5, 2)
    assert len({tuple(row) for row in rows(5, 1)}) == 5


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 2, 2), "tasks 0 is not positive"),
        ((2, 0, 2), "ways 0 is not positive"),
        ((2, 2, -1), "shots -1 is not positive"),
        ((2, 7, 2), "7 ways are more than the 6 classes"),
        ((2, 2, 5), "5 shots are more than the 4 training images of class 'class 0'"),
    ],
)
def test_a_drifting_stream_needs_enough_of_everything(numbers, message):
    tasks, ways, shots = numbers
    with pytest.raises(UserError, match=message):
        drifting(toy(), tasks, 0, ways, shots)


# --- domain-incremental ----------------------------------------------------------------------------------------------


def test_a_domain_is_a_task_with_all_classes():
    stream = domain_incremental(with_domains(), 0, seed=0)
    assert [task.index for task in stream] == [0, 1, 2]
    train_rows = sorted(task.train_rows.tolist() for task in stream)
    assert train_rows == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    test_rows = {task.train_rows[0]: task.test_rows.tolist() for task in stream}
    assert test_rows == {0: [0, 5], 1: [1, 4], 2: [2, 3]}
    for task in stream:
        assert task.slots == (0, 1)
        assert task.class_names == ("class 0", "class 1")
        assert task.y_train.dtype == task.y_test.dtype == np.int32
        assert task.y_train.tolist() == [0, 0, 1, 1]
        assert task.y_test.tolist() == [0, 1]


def test_domain_order_follows_the_seed():
    def order(seed):
        return tuple(int(task.train_rows[0]) for task in domain_incremental(with_domains(), 0, seed))

    assert order(3) == order(3)
    assert len({order(seed) for seed in range(5)}) > 1


def test_one_test_set_for_all_domains():
    for task in domain_incremental(with_domains(domain_test=None), 0, seed=0):
        assert task.test_rows.tolist() == [0, 1, 2, 3, 4, 5]
        assert task.y_test.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_domain_stream_needs_domains():
    with pytest.raises(UserError, match="no domains; for a domain stream give domains:PATH or core50"):
        domain_incremental(toy(), 0, 0)


# --- by name ---------------------------------------------------------------------------------------------------------


def test_streams_by_name():
    data = with_domains()
    by_name = [make_stream(kind, data, tasks, 1, 2, 3) for kind, tasks in zip(STREAMS, (2, 4, 3))]
    direct = [class_incremental(data, 2, 1), drifting(data, 4, 1, 2, 3), domain_incremental(data, 3, 1)]
    for one, other in zip(by_name, direct):
        assert [task.train_rows.tolist() for task in one] == [task.train_rows.tolist() for task in other]
    assert len(make_stream("domain", data, 0, 1)) == 3


def test_a_domain_stream_has_as_many_tasks_as_domains():
    with pytest.raises(UserError, match="5 tasks do not fit a data set of 3 domains; give 3, or 0"):
        make_stream("domain", with_domains(), 5, 0)


def test_an_unknown_stream():
    with pytest.raises(UserError, match="unknown stream 'task'; choose one of class, drifting, domain"):
        make_stream("task", toy(), 2, 0)
