"""A video as OpenCV gives it, without OpenCV."""


class Video:
    """What OpenCV's VideoCapture does, with frames in BGR."""

    frames = ()
    opened = None

    def __init__(self, place):
        self.place, self.left = place, list(self.frames)
        self.opened.append(self)
        self.released = False

    def isOpened(self):  # noqa: N802
        return self.place != "closed.avi"

    def get(self, what):
        return {3: 64, 4: 48}[what]

    def grab(self):
        self.now = self.left.pop(0) if self.left else None
        return self.now is not None

    def retrieve(self):
        return self.now is not False, self.now

    def release(self):
        self.released = True
