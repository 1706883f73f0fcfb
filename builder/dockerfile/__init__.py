"""The Dockerfile language: text to syntax tree and back, words, globs, the ignore file. Pure: no I/O but reading the grammar.

`source` makes logical lines of a text, `syntax` makes the tree of `ast` from them by `grammar` and `instructions`,
`printer` writes a tree as text, `codec` as bytes for a cache.
"""
