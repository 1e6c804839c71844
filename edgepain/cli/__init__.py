"""The `edgepain` command: one small module a command, each a thin shell over one API call."""
