"""The pieces of a page: document, sections, tables, cards; and writing it, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from ..errors import UserError

Row = Sequence[str]


def document(title: str, header: str, body: str) -> str:
    """A page: `header` and `body` are HTML, `title` is text."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n<body>\n"
        f"{header}\n<main>\n{body}</main>\n</body></html>\n"
    )


def write(text: str, path: Path) -> None:
    """Write the page to `path`; UserError if the place cannot be written."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False
        ) as file:
            file.write(text)
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except OSError as error:
        raise UserError(f"cannot write the report {path}: {error.strerror or error}") from error


def hero(title: str, paragraphs: Iterable[str], facts: Iterable[str], aside: str = "") -> str:
    """The page's head: a title and facts (text), paragraphs and what stands beside them (HTML)."""
    said = "".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs)
    chips = "".join(f"<span>{escape(fact)}</span>" for fact in facts)
    return (
        f'<header class="hero"><div><div><h1>{escape(title)}</h1>\n{said}'
        f'<div class="facts">{chips}</div></div>\n{aside}</div></header>'
    )


def cards(figures: Iterable[tuple[str, str]]) -> str:
    """Figures in large type, each with what it is below (both HTML)."""
    made = "".join(f'<div class="card"><b>{figure}</b><span>{text}</span></div>' for figure, text in figures)
    return f'<div class="cards">{made}</div>'


def section(title: str, body: str, anchor: str = "") -> str:
    """A titled part of the page (HTML)."""
    opening = f'<section id="{anchor}">' if anchor else "<section>"
    return f"{opening}<h2>{title}</h2>\n{body}</section>\n"


def table(heads: Iterable[str], rows: Iterable[Row], marked: Sequence[bool] = ()) -> str:
    """A table; a head that begins with # is a numeric column.  `marked` rows stand out."""
    heads = list(heads)
    opening = [' class="n">' if head.startswith("#") else ">" for head in heads]
    top = "".join(f"<th{o}{head.removeprefix('#')}</th>" for o, head in zip(opening, heads, strict=True))
    body = ""
    for i, row in enumerate(rows):
        cells = "".join(f"<td{o}{cell}</td>" for o, cell in zip(opening, row, strict=True))
        body += ('<tr class="here">' if i < len(marked) and marked[i] else "<tr>") + cells + "</tr>"
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def folded(summary: str, body: str) -> str:
    """Something that opens on a click."""
    return f"<details><summary>{summary}</summary>{body}</details>"


def tag(text: str) -> str:
    """A small label beside a title."""
    return f' <span class="tag">{escape(text)}</span>'


def verdict(passed: bool) -> str:
    """pass or fail, coloured."""
    return '<span class="pass">pass</span>' if passed else '<span class="fail">fail</span>'
