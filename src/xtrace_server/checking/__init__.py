"""The checks of `xtrace serve --check-config`, which changes and creates nothing."""
