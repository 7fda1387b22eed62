"""A plain model of what a device knows: a list of lessons, from which statistics come by their definition."""

import numpy as np

SLOTS, D = 4, 6


class Model:
    """What a device knows, as a list of lessons: feature [n, d] of each class that has a name."""

    def __init__(self, start):
        self.lessons = {name: [] for name in start.classes}  # in slot order
        self.start = {
            name: (start.statistics.count[slot], start.statistics.mean[slot]) for slot, name in enumerate(start.classes)
        }
        self.competing = set(start.classes)
        self.scatter = start.statistics.scatter  # of the start, and of classes forgotten

    def add(self, name):
        self.lessons.setdefault(name, [])

    def teach(self, name, feature):
        self.add(name)
        self.lessons[name].append(feature)
        self.competing.add(name)

    def forget(self, name):
        self.scatter = self.scatter + self._of(name)[2]
        del self.lessons[name]
        self.start.pop(name, None)
        self.competing.discard(name)

    def spare(self, new):
        return len(set(self.lessons) | set(new)) <= SLOTS

    def statistics(self):
        """Return count [C], mean [C, d] and scatter [d, d], and which slots compete [C]."""
        count, mean, mask, scatter = np.zeros(SLOTS), np.zeros((SLOTS, D)), np.zeros(SLOTS), self.scatter.copy()
        for slot, name in enumerate(self.lessons):
            count[slot], mean[slot], own = self._of(name)
            mask[slot] = name in self.competing
            scatter += own
        return count, mean, scatter, mask

    def _of(self, name):
        n, at = self.start.get(name, (0, np.zeros(D)))
        rows = np.array([at] * int(n) + self.lessons[name]).reshape(-1, D)  # the start is so many images at its mean
        if not len(rows):
            return 0, np.zeros(D), np.zeros((D, D))
        centred = rows - rows.mean(axis=0)
        return len(rows), rows.mean(axis=0), centred.T @ centred
