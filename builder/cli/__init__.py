"""The command line: the only reader of argv and of the environment; one small module per command.

`table` declares every command and flag once; `flags` parses by it, `help` explains by it.
"""
