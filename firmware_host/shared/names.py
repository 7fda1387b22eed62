"""Names of classes: one rule and one normal form (Unicode NFC), wherever they come from."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence

from firmware_host.shared.errors import DeviceError

__all__ = ["class_name", "distinct_names", "known_name", "look", "nearest", "restored_names"]

INVISIBLE = (  # and no blanks to `str.strip`: spaces of no width, hyphens, marks of direction as Windows copies them
    "\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
NOT_IN_A_LINE = ("Cc", "Zl", "Zp")  # categories of Unicode: control characters, separators of lines and paragraphs


def class_name(text: str, kind: str = "class") -> str:
    """Return a name in its normal form (NFC): the same name, whichever system wrote it.

    Args:
        text: the name as it was found.
        kind: what it names, for the message.

    Raises:
        DeviceError: for what is not one line of UTF-8 text without blanks around it, and for `.` and `..`.
    """
    name = unicodedata.normalize("NFC", text) if isinstance(text, str) else ""
    if (
        not name
        or name in (".", "..")
        or name != name.strip().strip(INVISIBLE)
        or any(unicodedata.category(letter) in (*NOT_IN_A_LINE, "Cs") for letter in name)  # Cs: bytes of no encoding
    ):
        raise DeviceError(
            f"{kind} name {text!a} must be one line of text: UTF-8, without blanks around it or control characters, "
            f"and not . or ..; rename the {kind}"
        )
    return name


def distinct_names(texts: Iterable[str], kind: str = "class", known: Sequence[str] = ()) -> tuple[str, ...]:
    """Return names in their normal form, after those `known`; raises DeviceError as `class_name`, and for two alike.

    Two are alike when they are the same in their normal form, or differ only by case or by characters that look alike.
    """
    names = tuple(class_name(text, kind) for text in texts)
    seen: dict[str, str] = {look(name): name for name in known}
    for name in names:
        other = seen.setdefault(look(name), "")
        if other == name:
            raise DeviceError(f"{kind} name {name!r} appears more than once: names must be different, rename one")
        if other:
            raise DeviceError(
                f"{kind} names {other!r} and {name!r} can hardly be told apart, and are one name to some file systems: "
                f"rename one, to {f'{name} 2'!r} for example, or merge them if they are one {kind}"
            )
        seen[look(name)] = name
    return (*known, *names)


def known_name(text: str, known: Sequence[str]) -> str:
    """Return the one of the `known` names that `text` is, or else its normal form; raises as `class_name`."""
    return text if text in known else class_name(text)


def restored_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names that were written before there was a rule, in their normal form where that keeps them apart."""
    normal = tuple(unicodedata.normalize("NFC", name) for name in names)
    return normal if len(set(normal)) == len(normal) else tuple(names)


def look(name: str) -> str:
    """Return what is the same for names that look alike: without case, compatible forms and invisible characters."""
    shown = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(letter for letter in shown if unicodedata.category(letter) != "Cf")


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the one of the `known` names that `name` may be a slip of the pen for, if any."""
    return next(iter(difflib.get_close_matches(name, known, 1)), None)
