"""The ``expclip`` command, one file a subcommand."""
