"""Computes searches of large knowledge bases in a Ray cluster.

`scanner` and `client` run in the server, `bridge` and `placement` in a process beside it, `holder` in the cluster.

The server itself does not load Ray. A process that is connected to a Ray cluster ends with the cluster's head, so this
is a separate process, which the server restarts. It gets no key, no database URL and no settings, and it answers with
bytes of a known length: the server never unpickles anything from the cluster.
"""
