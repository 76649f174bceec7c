"""`xtrace mcp`: knowledge bases for the agent of an MCP host, on the machine that has the keys.

`shapes` defines what tools take and return, `tools` what they do with an `Access`, and `files` which files they may
load. `resources` lets hosts read what is stored. `server` implements the protocol for both, and turns every error into
a sentence; `serving` runs it over standard input and output, or over HTTP, where `guard` checks who may call.
"""
