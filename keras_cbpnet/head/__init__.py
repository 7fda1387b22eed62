"""The head's mathematics: equations and standardisation."""
