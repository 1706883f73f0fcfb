"""Registries: the OCI distribution API 1.1, as a client (github.com/opencontainers/distribution-spec), and Docker's schema 2.

Promises: what comes is compared with its digest and size before anybody gets to see it whole; credentials go to the registry
that they are for and to the token server that it names, and into no message; every request has timeouts, every retry a bound.
It does **not** protect from a registry that gives another image for a tag: only a digest does.
"""
