"""The mutation gate: leave out any one wait, commit or barrier of a kernel, and some test of it fails.

A mutant is caught when the checked simulator reports it or an answer is wrong, under any of the schedules.
HARMLESS is the reviewed list of those that cannot be caught, each with its proof.  bf16 covers every source
line of every kernel family; the other precisions share those lines and run with the long tests.
"""

from __future__ import annotations

from collections import defaultdict

import pytest

import resnet_kernels as rk
from resnet_kernels.simulator import Site

from .cases import CASES

#: (file, kind of site) -> why no test can miss it.
HARMLESS: dict[tuple[str, str], str] = {
    ("csrc/tile/sm90/consumer.h", "warp_sync"): (
        "converge_warp: barrier.cluster.aligned wants the warp converged behind the branch of its elected "
        "lane; the simulator sees to that by itself"
    ),
    ("csrc/kernels/sm90/ceilings/matrix_rate.cu", "wgmma_wait"): (
        "it bounds how many products are on their way; nothing is read or refilled before the wait for all"
    ),
}

SCHEDULES = [
    *rk.simulator.ALL_SCHEDULES,
    *map(rk.simulator.random_schedule, range(4)),
    *map(rk.simulator.pct_schedule, range(4)),
]


def sites_of(names: list[str]) -> dict[Site, list[str]]:
    """Every site that the cases execute, with the cases that execute it."""
    users: dict[Site, list[str]] = defaultdict(list)
    with rk.simulator.checked():
        for name in names:
            rk.simulator.forget_sites()
            CASES[name].check(0)
            for site in rk.simulator.sites():
                users[site].append(name)
        for name in names:  # known again, all of them
            CASES[name].check(0)
    return users


def caught(site: Site, names: list[str]) -> bool:
    """Whether some case fails under some schedule when the site is left out."""
    with rk.simulator.checked():
        for schedule in SCHEDULES:
            for name in names:
                with rk.simulator.schedule(schedule), rk.simulator.mutate(site):
                    try:
                        CASES[name].check(0)
                    except (AssertionError, RuntimeError):
                        return True
    return False


@pytest.mark.parametrize(
    "precision", ["bf16", *(pytest.param(p, marks=pytest.mark.slow) for p in ("f16", "tf32", "f32"))]
)
def test_every_mutant_is_caught(precision: str) -> None:
    users = sites_of([name for name in CASES if f"-{precision}" in name])
    assert len({(site.file, site.line) for site in users}) >= 10, "the kernels' sites were not found"
    survivors = [
        f"{site} (in {', '.join(names)})"
        for site, names in users.items()
        if (site.file, site.kind) not in HARMLESS and not caught(site, names)
    ]
    assert not survivors, "left out and not missed:\n" + "\n".join(survivors)
