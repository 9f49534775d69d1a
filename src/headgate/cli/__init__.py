"""The command `headgate`: one file per command, errors turned into lines in `main`."""
