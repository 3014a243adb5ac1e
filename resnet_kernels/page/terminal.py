"""Tables for the terminal, by rich."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text


def table(title: str, *heads: str, caption: str | None = None) -> Table:
    """A table; a head that begins with # is a numeric column."""
    made = Table(
        title=title, title_justify="left", title_style="bold", caption=caption, caption_justify="left"
    )
    for head in heads:
        made.add_column(head.removeprefix("#"), justify="right" if head.startswith("#") else "left")
    return made


def verdict(passed: bool) -> Text:
    """PASS or FAIL, coloured."""
    return Text("PASS", "bold green") if passed else Text("FAIL", "bold red")
