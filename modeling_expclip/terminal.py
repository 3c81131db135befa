"""What a terminal is shown: no name and no error of others moves its cursor or takes more than its line."""

from __future__ import annotations


def printable(text: str) -> str:
    """A file or label may be called anything; what would move the cursor or colour the terminal is shown as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(error: BaseException) -> str:
    """An error's message without the line breaks that YAML's, the Hub's and people's own words bring along."""
    return printable(" ".join(str(error).split())) or type(error).__name__
