"""Exit codes of the command."""

OK = 0
NOTHING_CLASSIFIED = 1
MISMATCH = 1  # with the golden outputs
WRONG_CALL = 2
INTERRUPTED = 130
