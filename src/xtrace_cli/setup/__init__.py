"""The steps of `xtrace init`."""
