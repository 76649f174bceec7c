"""`xtrace mcp`: knowledge bases for the agent of an MCP host, on the machine that has the keys.

`shapes` is what tools take and return, `tools` what they do with an `Access`, and `files` which files they may load.
`resources` shows what is stored to be read. `server` puts both behind the protocol, and makes a sentence of every
error; `serving` speaks it over standard input and output, or over HTTP, where `guard` decides who may.
"""
