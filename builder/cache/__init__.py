"""The portable cache: records of steps with their layers, outside of the store (docs/cache.md).

`format` says what it is made of, and does no I/O; `local` keeps one in an OCI image layout. A registry will be another
`Source` and `Sink` for the same format. What is read from a cache is hostile until it is checked.
"""
