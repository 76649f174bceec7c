"""The implementation of `xtrace demo`."""
