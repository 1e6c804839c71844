"""`python -m edgepain` is the `edgepain` command."""

from edgepain.cli.main import main

# Child processes import this module again, and must not become the command.
if __name__ == "__main__":
    main()
