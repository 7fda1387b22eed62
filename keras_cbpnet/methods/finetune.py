"""Plain training of a linear classifier, task after task."""

from __future__ import annotations

from keras_cbpnet.methods.method import LinearMethod


class Finetune(LinearMethod):
    """A masked linear classifier on the frozen features, no prompts: the usual lower bound.

    Source: the sequential baseline of every comparison, such as that of Wang et al., arXiv 2112.08654.
    Deviations: the backbone stays frozen, as for all methods here; logits are masked to the task's classes.
    """
