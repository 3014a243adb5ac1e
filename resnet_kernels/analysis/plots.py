"""How this package's analyses are drawn: one style, colours that say depth, a file at the end.

Colours are told apart by colour-blind readers and keep their order in grey (viridis without its ends).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import UserError

INK, MUTED, GRID = "#212529", "#6c757d", "#e9ecef"
PLAIN, RESIDUAL = "#d9480f", "#1c7ed6"
DPI = 160

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "legend.frameon": False,
    "figure.titlesize": 14,
    "figure.titleweight": "bold",
}


@contextmanager
def figure(path: Path, title: str, width: float, height: float, **grid: Any) -> Any:
    """Yields the axes of a picture of `width` x `height` inches: [rows, columns], see ``Figure.subplots``.

    When the block ends well, `path` holds the picture as PNG.

    Raises:
        UserError: `path` cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    writable(path)
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1))
        drawn.suptitle(title, x=0.01, ha="left")
        yield drawn.subplots(squeeze=False, **grid)
        drawn.savefig(path, dpi=DPI, format="png", metadata={"Software": None})


def writable(path: Path) -> None:
    """Raise a UserError unless a file can be made at `path`; its directory is made if it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError("it is a directory")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def family_of(name: str) -> str | None:
    """ "plain" or "residual" from a network's name; None if it says neither."""
    if re.search(r"plain", name, re.IGNORECASE):
        return "plain"
    return "residual" if re.search(r"res(idual|net)", name, re.IGNORECASE) else None


def depth_of(name: str) -> int | None:
    """The depth in a network's name, as in resnet50_v1 and cifar_plain20; None if there is none."""
    found = re.search(r"(?:net|plain|vgg)-?(\d+)", name, re.IGNORECASE)
    return int(found.group(1)) if found else None


def shades(keys: Iterable[Any]) -> Callable[[Any], Any]:
    """key -> its colour, light to dark in the order of `keys`."""
    from matplotlib import colormaps

    order = list(dict.fromkeys(keys))
    if len(order) == 1:
        return lambda key: colormaps["viridis"](0.3)
    return lambda key: colormaps["viridis"](0.8 - 0.75 * order.index(key) / (len(order) - 1))


def whole_numbers(axis: Any) -> None:
    """Ticks of an axis that counts."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def per_cent(axis: Any) -> None:
    """Label an axis of fractions in per cent."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:g}")


def distinct(names: Iterable[str]) -> list[str]:
    """The names, each once: of those that are equal the second becomes "name (2)"."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found
