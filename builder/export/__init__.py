"""Outputs of a build (SPEC section 4): image layouts, archives and folders, written where the user says.

What it promises: a file has its final name only when it is whole; equal images give equal bytes; inside a destination
folder no link is followed, and nothing that the image does not name is removed. What it does not: a folder output that
fails half way leaves what was written so far; outputs are not synced to the disk.
"""
