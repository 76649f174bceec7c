"""`python -m xtrace_cli` is the command `xtrace`."""

from xtrace_cli.main import main

main()
