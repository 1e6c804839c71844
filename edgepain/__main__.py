"""`python -m edgepain` is the `edgepain` command."""

from edgepain.cli.main import main

main()
