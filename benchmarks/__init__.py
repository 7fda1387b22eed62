"""Measurements behind the README's numbers; each module's docstring is its run sheet, NOTES.md is the log."""
