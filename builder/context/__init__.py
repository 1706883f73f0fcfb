"""Build contexts. What this folder promises: only files below the context's folder are read, whatever links say, and never
one that .dockerignore leaves out; content decides what a file is, stat never does. It does not protect against a user who
changes the context while it is read, beyond noticing that a file is not what its digest said.
"""
