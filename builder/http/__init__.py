"""What all that speaks HTTP has in common: addresses, proxies, trust, connections, and what their errors are called.

Promises: the system's certificates vouch for servers unless the caller says otherwise; every connection has timeouts; no
message has a URL's credentials. Redirects, retries and what an answer means are its users' (`builder.context.url`,
`builder.registry`).
"""
