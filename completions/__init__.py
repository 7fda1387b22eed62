"""Completion files of the console commands, installed with the wheel; `python -m completions` writes them again."""
