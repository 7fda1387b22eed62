"""The commands: each takes the parsed arguments and yields what to print, as a record for machines and as text."""
