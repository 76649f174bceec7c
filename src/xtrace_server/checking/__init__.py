"""What `xtrace serve --check-config` finds before a server starts. It changes and creates nothing."""
