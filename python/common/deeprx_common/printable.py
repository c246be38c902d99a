# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of strangers, for a terminal or a log: both obey control characters."""


def printable(text: object, most: int = 1000) -> str:
    """str(text) in one line of at most so many characters; "?" for what a terminal would obey."""
    text = " ".join(str(text)[: 4 * most].split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= most else text[: most - 3] + "..."
