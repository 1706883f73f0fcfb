"""The templates of `--format`: the part of Go's text/template that people write for docker and podman. Pure.

What it has: fields, variables, pipelines, `if`, `else`, `with`, `range`, `break`, `continue`, comments, trimming, the functions
of text/template but `call`, and those that docker adds. `define`, `template`, `block` and `call` are refused by name.
"""
