"""Classes of few images beside classes of many."""

import numpy as np

from firmware_host.shared.bank import Bank, empty_bank, metric


def test_one_image_of_a_new_class_leaves_the_old_ones_theirs(monkeypatch):
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 0.8, (7, 48))

    def images(c, count):
        return (centres[c] + rng.normal(0, 1, (count, 48))).astype(np.float32)

    old = [images(c, 150) for c in range(6)]
    tested, label = np.concatenate([images(c, 60) for c in range(6)]), np.repeat(np.arange(6), 60)
    new = images(6, 8)

    def lost(count):
        bank = Bank(empty_bank(7, 9, 48, 4), np.zeros(48), np.ones(48), rebinds=False)
        for c, rows in enumerate(old):
            bank.learn(rows, np.full(len(rows), c))
        bank.renew()
        before = (bank.logits(tested).argmax(axis=1) == label).mean()
        for row in new[:count]:
            bank.learn(row[None], np.array([6]))
        bank.renew()
        return before - (bank.logits(tested).argmax(axis=1) == label).mean()

    assert max(lost(1), lost(2)) <= 0.02
    monkeypatch.setattr(metric, "HELD", 0.0)  # nothing held back
    assert lost(1) > 0.03
