"""The error that means "the input is wrong", as opposed to "the program is wrong"."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(ValueError):
    """Bad input from the user; the text is one line saying what, which value, and what to do.

    Command lines print it as `error: ...` and end with exit code 2; nothing on disk has changed by then.
    """
