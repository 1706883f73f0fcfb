"""Layers on disk: the canonical tar writer, the reader of foreign archives, compressors, and the merged index of a stack.

What this folder promises: a layer's bytes are a function of its items alone; no path that an image or an archive names
is ever followed on the host; whatever bytes a foreign archive holds, reading it ends in items or in a BuildError. It does
not protect against another process that rewrites a source file with the same size while it is read, unless its digest
was known before.
"""
