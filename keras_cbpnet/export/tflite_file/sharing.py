"""A flatbuffers builder that writes everything once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import flatbuffers
from numpy.typing import NDArray

BUFFER_ALIGNMENT = 16  # of a tensor's bytes, as TFLite's schema asks


class SharingBuilder(flatbuffers.Builder):
    """Writes equal strings, vectors and tables once; whatever names one of them afterwards points at the first.

    Readers cannot tell, for an offset leads to the same content. Operators of a TFLite file have many equal parts:
    shapes, options, whole tensors without a name.
    """

    def __init__(self, size: int = 1 << 16) -> None:
        super().__init__(size)
        self._written: dict[Hashable, int] = {}
        self._fields: list[tuple[int, Any, Any]] = []  # slot, type (None: an offset), value
        self._items: list[tuple[Any, Any]] | None = None  # type (None: an offset), value
        self._size: tuple[int, ...] = ()  # of the table or vector that is being collected

    def _once(self, key: Hashable, write: Callable[[], int]) -> int:
        if key not in self._written:
            self._written[key] = write()
        return self._written[key]

    def CreateString(self, s: str | bytes, encoding: str = "utf-8", errors: str = "strict") -> int:
        text = s.encode(encoding, errors) if isinstance(s, str) else s
        return self._once(("string", text), lambda: int(super(SharingBuilder, self).CreateString(text)))

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:
        content = x.astype(x.dtype.newbyteorder("<")).tobytes()

        def write() -> int:
            alignment = BUFFER_ALIGNMENT if x.itemsize == 1 else x.itemsize
            flatbuffers.Builder.StartVector(self, x.itemsize, x.size, alignment)
            self.head -= len(content)
            self.Bytes[self.head : self.head + len(content)] = content
            return int(flatbuffers.Builder.EndVector(self))

        return self._once((x.dtype.str, content), write)

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> None:
        self._items, self._size = [], (elemSize, numElems, alignment)

    def Prepend(self, flags: Any, off: Any) -> None:
        if self._items is None:
            super().Prepend(flags, off)
        else:
            self._items.append((flags, off))

    def PrependUOffsetTRelative(self, off: int) -> None:
        if self._items is None:
            super().PrependUOffsetTRelative(off)
        else:
            self._items.append((None, off))

    def EndVector(self, numElems: int | None = None) -> int:
        if self._items is None:  # of a string
            return int(super().EndVector())
        items, self._items = self._items, None

        def write() -> int:
            flatbuffers.Builder.StartVector(self, *self._size)
            for flags, value in items:
                self.PrependUOffsetTRelative(value) if flags is None else self.Prepend(flags, value)
            return int(flatbuffers.Builder.EndVector(self))

        return self._once((self._size, *items), write)

    def StartObject(self, numfields: int) -> None:
        self._fields, self._size = [], (numfields,)

    def PrependSlot(self, flags: Any, o: int, x: Any, d: Any) -> None:
        if x != d:
            self._fields.append((o, flags, x))

    def PrependUOffsetTRelativeSlot(self, o: int, x: int, d: int) -> None:
        if x != d:
            self._fields.append((o, None, x))

    def EndObject(self) -> int:
        fields, self._fields = self._fields, []

        def write() -> int:
            flatbuffers.Builder.StartObject(self, *self._size)
            for slot, flags, value in sorted(fields, key=lambda field: -_width(field[1])):  # without gaps between them
                self.PrependUOffsetTRelative(value) if flags is None else self.Prepend(flags, value)
                self.Slot(slot)
            return int(flatbuffers.Builder.EndObject(self))

        return self._once((self._size, *fields), write)


def _width(flags: Any) -> int:
    """Return the bytes of a field; an offset's without a type."""
    return 4 if flags is None else int(flags.bytewidth)
