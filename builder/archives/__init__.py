"""Archives and folders with images, as docker, podman, skopeo and other tools write them: what `load` and `inspect` read.

What it promises: any bytes end in images or in an error that says what is wrong; nothing of an archive is ever a path of the
host, and no link of it is followed but to another of its members; memory stays bounded, whatever is claimed. A blob is compared
with its digest when it is copied. What it does not: layers are not looked into, and an archive that is changed by others while
it is read may end in any error.
"""
