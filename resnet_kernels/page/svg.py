"""Plots as SVG fragments to stand inside a page, and pictures as data URIs.

Text stays text: the page's own font, searchable, sharp in print.  The colours named here become the page's
own (page.css), so that a plot follows it from light to dark.
"""

from __future__ import annotations

import base64
import functools
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from ..errors import UserError

OURS, PEER, PAPER, INK, MUTED, GRID = "#d9480f", "#5c7cfa", "#adb5bd", "#212529", "#6c757d", "#e9ecef"
PAGE, GOOD, BAD = "#fefefe", "#2b8a3e", "#c92a2a"
_VARIABLES = {
    OURS: "--ours",
    PEER: "--peer",
    PAPER: "--faint",
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAGE: "--paper",
    GOOD: "--good",
    BAD: "--bad",
}
SERIES = ("#5c7cfa", "#0c8599", "#9c36b5", "#2b8a3e", "#e8a400", "#868e96", "#c2255c", "#1c7ed6", "#74b816")
"""Colours for many things at once, ours (OURS) not among them."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Segoe UI", "Helvetica Neue", "Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 10.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "legend.frameon": False,
}


T = TypeVar("T")


def styled(draw: Callable[..., T]) -> Callable[..., T]:
    """Draw in the page's style, whatever the user's own matplotlib settings are."""

    @functools.wraps(draw)
    def drawn(*args: Any, **options: Any) -> T:
        import matplotlib

        with matplotlib.rc_context(_STYLE):
            return draw(*args, **options)

    return drawn


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure (inches) of its own, outside pyplot: no state is shared and no display is asked for."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.subplots(rows, columns, **options)


def svg(drawn: Any, name: str, title: str) -> str:
    """The figure as <svg> that scales with the page; ids begin with `name` so that plots can share a page."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return text.replace("<svg", f'<svg role="img" aria-label="{title}" class="plot"', 1).strip()


def save(drawn: Any, path: Path, title: str) -> None:
    """The figure as a PNG that stands alone, under its title; UserError if the place cannot be written."""
    drawn.suptitle(title, x=0.01, ha="left", fontweight="bold")
    try:
        drawn.savefig(path, dpi=150, format="png", metadata={"Software": None})
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def png(pixels: Any) -> str:
    """An image ([H, W, 3] bytes, or PIL's) as a data URI."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
