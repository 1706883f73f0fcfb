"""Build contexts. What this folder promises: only files below the context's folder are read, whatever links say, and never
one that .dockerignore leaves out; content decides what a file is, stat never does. What is fetched, by URL or by git, is
hostile: a download is bounded in time and size, and links are never followed on the host. It does not protect against a user
who changes the context while it is read, beyond noticing that a file is not what its digest said; nor against what a server
learns by being asked.
"""
