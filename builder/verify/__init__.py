"""What differs between two images, and why: values in, values out. Pure.

`configs`, `alignment` and `trees` find what differs; `explain` and what it calls say why, file by file; `verdict` says what
that comes to. Nothing here knows where an image came from, or how its files are read.

What it promises: any bytes end in an answer, in bounded time and memory; nothing is ever run, unpacked or followed. What it
does not: a cause that it names is the likely one, told by what the two contents have in common.
"""
