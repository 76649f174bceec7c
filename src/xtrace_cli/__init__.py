"""The command `xtrace`: the only package that knows both the client and the server."""
