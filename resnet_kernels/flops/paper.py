"""Every cost that He et al. 2015 print, beside ours.

The paper writes "FLOPs" and counts multiply-adds.  Its figures have two or three digits, some rounded, some
cut off: `Comparison.agrees` says which of the two gives its figure from ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

GMACS = {
    18: "1.8",
    34: "3.6",
    50: "3.8",
    101: "7.6",
    152: "11.3",
}
"""Depth -> the last row of table 1, in 10^9 multiply-adds."""

VGG_GMACS = {16: "15.3", 19: "19.6"}
"""Depth -> sections 3.3 and 4.1, in 10^9 multiply-adds."""

CIFAR_MPARAMS = {20: "0.27", 32: "0.46", 44: "0.66", 56: "0.85", 110: "1.7", 1202: "19.4"}
"""Depth -> table 6, in 10^6 parameters; the plain networks have the same."""


def gmacs(name: str, depth: int) -> float | None:
    """The paper's multiply-adds in 10^9 for the network at its own input size, or None."""
    if name.startswith("cifar"):
        return None
    return float((VGG_GMACS if name.startswith("vgg") else GMACS)[depth])


def mparams(name: str, depth: int) -> float | None:
    """The paper's parameters in 10^6, or None."""
    return float(CIFAR_MPARAMS[depth]) if name.startswith("cifar") else None


@dataclass(frozen=True)
class Comparison:
    """One printed figure, and ours in the same unit.

    Attributes:
        network: the name `flops.count` knows.
        source: where in the paper.
        unit: "GMACs" or "M parameters".
        paper: the figure as printed.
        ours: in the same unit, exact.
        note: what explains a difference; "" where there is none.
    """

    network: str
    source: str
    unit: str
    paper: str
    ours: float
    note: str = ""

    @property
    def difference(self) -> float:
        """Ours over the paper's, minus one."""
        return self.ours / float(self.paper) - 1

    @property
    def agrees(self) -> str:
        """How ours becomes the paper's figure: "rounded", "cut", or "" if neither gives it."""
        digit = Decimal(1).scaleb(Decimal(self.paper).as_tuple().exponent)  # type: ignore[arg-type]
        exact = Decimal(repr(self.ours))
        if exact.quantize(digit, ROUND_HALF_UP) == Decimal(self.paper):
            return "rounded"
        return "cut" if exact.quantize(digit, ROUND_DOWN) == Decimal(self.paper) else ""


FIGURES = (
    *(
        (name, "table 1", "GMACs", GMACS[depth])
        for name, depth in (
            ("plain18", 18),
            ("resnet18_a", 18),
            ("plain34", 34),
            ("resnet34_a", 34),
            ("resnet50_v1", 50),
            ("resnet101_v1", 101),
            ("resnet152_v1", 152),
        )
    ),
    ("plain34", "section 3.3", "GMACs", "3.6"),
    ("vgg16", "section 4.1", "GMACs", VGG_GMACS[16]),
    ("vgg19", "sections 3.3, 4.1", "GMACs", VGG_GMACS[19]),
    *((f"cifar_resnet{depth}", "table 6", "M parameters", figure) for depth, figure in CIFAR_MPARAMS.items()),
)
"""(network, source, unit, figure) of everything printed, for the networks as the paper built them."""
