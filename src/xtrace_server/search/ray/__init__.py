"""Computes searches of large knowledge bases in a Ray cluster.

`scanner` and `client` run in the server, `bridge` and `placement` in a process beside it, `holder` in the cluster.

The server does not load Ray. A process that is connected to a Ray cluster ends when the cluster's head does, so that
process is another one, which the server starts again. It gets no key, no URL of the database and no settings, and what
it answers is bytes of a known length: nothing from the cluster is unpickled in the server.
"""
