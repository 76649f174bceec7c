"""`python -m xtrace_cli` is the command `xtrace`."""

from xtrace_cli.entry import main

main()
