"""The portable cache: records of steps with their layers, outside of the store (docs/cache.md).

`format` says what it is made of, and `inline` how an image carries one; neither does I/O. `local` keeps one in an OCI image
layout; `builder.engine.registrycache` and `registrysink` are another `Source` and `Sink` for the same format, in a registry.
What is read from a cache is hostile until it is checked.
"""
