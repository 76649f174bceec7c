"""The checks of `xtrace doctor`."""
