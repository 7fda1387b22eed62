"""Small banks, and images of Gaussian classes to teach them."""

import numpy as np

from firmware_host.shared.bank import Bank, empty_bank

D, C, K, R = 12, 8, 11, 3


def bank_of(labels=C, slots=K, d=D, r=R, rebinds=True):
    return Bank(empty_bank(labels, slots, d, r), np.zeros(d), np.ones(d), rebinds)


def gaussians(rng, classes, each, d=D, spread=3.0, centres=None):
    """Images of classes that differ in mean: features [classes each, d], labels."""
    centres = rng.normal(size=(classes, d)) * spread if centres is None else centres
    label = np.repeat(np.arange(classes), each)
    return (centres[label] + rng.normal(size=(len(label), d))).astype(np.float32), label, centres


def taught(bank, feature, label, batch=4, rng=None):
    order = np.arange(len(label)) if rng is None else rng.permutation(len(label))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        bank.learn(feature[rows], label[rows])
    return bank


def right(bank, feature, label):
    return float(np.mean(bank.logits(feature).argmax(axis=1) == label))
