"""Heads of the bundles of one run: those that are alike are converted, and compared with Keras, once."""

from types import SimpleNamespace

from keras_cbpnet.export import steps
from keras_cbpnet.export.order import Order


def test_heads_that_are_alike_are_converted_once(monkeypatch):
    made, checked, said = [], [], []

    def convert_head(learner):
        made.append(learner)
        return learner.encode()

    def check_head(content, learner, runtime):
        checked.append((content, runtime))
        return 0.25

    monkeypatch.setattr(steps, "shipped", lambda head, slots: f"{head} of {slots}")
    monkeypatch.setattr(steps, "block_head", lambda model: model)
    monkeypatch.setattr(steps.micro, "with_optimizer", lambda head, optimizer: f"{head} by {optimizer}")
    monkeypatch.setattr(steps, "convert_head", convert_head)
    monkeypatch.setattr(steps.verify, "check_head", check_head)
    heads = steps.Heads(SimpleNamespace(model="head"))
    for order in (Order(("int8",)), Order(("float32",)), Order(("int8",), slots=32), Order(("hybrid",), slots=32)):
        learner = heads.learner(order)
        content = heads.content(order, learner, said.append)
        assert content.decode() == learner == f"head of {order.slots} by adam"
        assert heads.error(SimpleNamespace(order=order, head=content, learner=learner), "litert") == 0.25
    assert made == ["head of 0 by adam", "head of 32 by adam"]
    assert checked == [(learner.encode(), "litert") for learner in made]
    assert said == ["converting the head"] * 2
