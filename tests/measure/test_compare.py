"""Two records row by row, also two real ones of one and the same work."""

import random

import pytest

from resnet_kernels.errors import UserError
from resnet_kernels.measure import compare, record

HEADER = {
    "device": {"name": "a GPU", "threads": None},
    "ours": "kernels",
    "options": {"cache": "cold"},
    "versions": {"torch": "2.11.0", "jax": None},
}


def run(times, suite="layers", **header):
    """key -> median seconds of a round, with 0.5 % of noise on eight rounds."""
    source = random.Random(len(times))
    rows = [
        {
            "key": key,
            "status": "measured",
            "seconds": seconds,
            "rounds": [seconds * (1 + source.uniform(-0.005, 0.005)) for _ in range(8)],
        }
        for key, seconds in times.items()
    ]
    return record.Run(suite, HEADER | header, rows)


def test_every_verdict():
    old = run({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": 1.0})
    new = run({"a": 0.8, "b": 1.3, "c": 1.01, "d": 1.03, "f": 2.0})
    found = {change.key: change for change in compare.compare(old, new)}
    verdicts = {key: change.verdict for key, change in found.items()}
    assert verdicts == {"a": "faster", "b": "slower", "c": "same", "d": "unclear", "f": "new", "e": "gone"}
    assert found["a"].ratio == pytest.approx(1.25, rel=0.02) and found["a"].low < 1.25 < found["a"].high
    assert (found["f"].old, found["e"].new) == (None, None)
    assert [change.key for change in compare.compare(old, new)][-1] == "e"


def test_tolerance():
    old, new = run({"a": 1.0}), run({"a": 0.9})
    assert compare.compare(old, new, 0.05)[0].verdict == "faster"
    assert compare.compare(old, new, 0.2)[0].verdict == "same"


def test_failed_rows_are_not_times():
    old, new = run({"a": 1.0}), run({"a": 1.0})
    new.rows[0]["status"] = "failed"
    assert [change.verdict for change in compare.compare(old, new)] == ["gone"]


def test_other_suites_are_refused():
    with pytest.raises(UserError, match="different suites"):
        compare.compare(run({}, "layers"), run({}, "networks"))


def test_differences_are_named():
    old = run({})
    new = run({}, device={"name": "another", "threads": None}, versions={"torch": "2.12.0", "jax": None})
    assert compare.differences(old, old) == []
    assert compare.differences(old, new) == ["device: a GPU -> another", "torch: 2.11.0 -> 2.12.0"]
