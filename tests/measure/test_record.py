"""Records survive interruption, resume only what is of the same make, and are never half a file."""

import json

import pytest

from resnet_kernels.errors import UserError
from resnet_kernels.measure import environment, record, runner, suites

from .common import case, engine, implementation


def header(**changes):
    base = {
        "date": "2026-11-21T12:00:00Z",
        "options": {"quick": True, "cache": "cold", "time_limit": None},
        "device": {"kind": "cpu", "name": "a CPU", "threads": 2},
        "versions": {"torch": "2.11.0"},
        "git": {"revision": "0" * 40, "dirty": False},
        "binary": None,
    }
    return base | changes


def rows():
    return engine().measure(case([implementation("ours", lambda i: (i["x"] + 1,), ours=True)]))


def test_what_is_written_is_read(tmp_path):
    book = record.begin("layers", header(), tmp_path)
    measured = rows()
    book.add(measured)
    found = record.load(tmp_path / "layers.json")
    assert (found.suite, found.header, found.complete) == ("layers", header(), False)
    assert found.rows[0]["key"] == "layers/test/float32/n1/elementwise/ours"
    assert found.rows[0]["seconds"] == pytest.approx(measured[0].seconds, rel=1e-4)
    assert len(found.rows[0]["rounds"]) == 6 and found.cases() == {"layers/test/float32/n1/elementwise"}
    assert [path.name for path in tmp_path.iterdir()] == ["layers.json"]


def test_infinity_is_null(tmp_path):
    book = record.begin("layers", header(), tmp_path)
    measured = rows()
    measured[0].share, measured[0].error = float("inf"), float("nan")
    book.add(measured)
    assert "Infinity" not in book.path.read_text() and "NaN" not in book.path.read_text()
    assert record.load(book.path).rows[0]["share"] is None


def test_a_crash_while_writing_leaves_the_old_file(tmp_path):
    book = record.begin("layers", header(), tmp_path)
    book.add(rows())
    before = book.path.read_text()
    book.header["peers"] = object()  # not JSON
    with pytest.raises(TypeError):
        book.add(rows())
    assert book.path.read_text() == before


@pytest.mark.parametrize(
    "changes",
    (
        {"options": {"quick": False, "cache": "cold", "time_limit": None}},
        {"git": {"revision": "1" * 40, "dirty": False}},
        {"versions": {"torch": "2.12.0"}},
        {"device": {"kind": "cuda", "name": "a GPU", "threads": None}},
        {"binary": "abc"},
    ),
)
def test_another_make_starts_a_new_file(tmp_path, changes):
    record.begin("layers", header(), tmp_path).add(rows())
    book = record.begin("layers", header(**changes), tmp_path)
    assert book.rows == []
    kept = record.load(tmp_path / "layers-2026-11-21T120000Z.json")
    assert len(kept.rows) == 1


def test_resuming(tmp_path):
    record.begin("layers", header(), tmp_path).add(rows())
    later = header(date="2026-11-22T00:00:00Z") | {
        "options": {"quick": True, "cache": "cold", "time_limit": 60.0}
    }
    again = record.begin("layers", later, tmp_path)
    assert len(again.rows) == 1 and again.header["date"].startswith("2026-11-21")
    again.complete = True
    again.save()
    for number in ("", "-2"):  # complete files step aside, one after the other
        record.begin("layers", later, tmp_path).save()
        book = record.load(tmp_path / "layers.json")
        book.complete = True
        book.save()
        assert (tmp_path / f"layers-2026-11-21T120000Z{number}.json").exists() or number
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    (
        ("{", "not JSON"),
        ("[1]", "not a record"),
        ('{"format": 1}', "not a record"),
        (json.dumps({"format": 99, "suite": "layers", "header": {}, "rows": []}), "format 99"),
    ),
)
def test_other_files_are_refused(tmp_path, text, reason):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=reason):
        record.load(path)
    with pytest.raises(UserError, match="cannot read"):
        record.load(tmp_path / "none.json")


def test_out_of_time_and_on(tmp_path, monkeypatch):
    """A run that is stopped goes on where it was; what is done is not done again."""
    revision = {"revision": "0" * 40, "dirty": False}  # whoever commits while this runs
    monkeypatch.setattr(environment, "revision", lambda: revision)
    options = suites.Options(
        quick=True, models=("cifar_resnet20",), dtypes=("float32",), peers=("eager_nhwc",)
    )
    seen = []

    class Stop(Exception):
        pass

    def stop(case, done, total):
        seen.append(case)
        if len(seen) == 3:
            raise Stop

    with pytest.raises(Stop):
        runner.run("layers", options, tmp_path, float("inf"), stop)
    half = record.load(tmp_path / "layers.json")
    assert not half.complete and half.cases() == set(seen[:2])

    late = runner.run("layers", options, tmp_path, 0.0, lambda *_: pytest.fail("no time is left"))
    assert not late.complete and late.cases() == set(seen[:2])

    measured = []
    whole = runner.run("layers", options, tmp_path, float("inf"), lambda case, *_: measured.append(case))
    assert whole.complete and measured[0] == seen[2] and not set(seen[:2]) & set(measured)
    assert whole.rows[: len(half.rows)] == half.rows
    assert whole.header["timer"] and whole.header["ceilings"] == half.header["ceilings"]
    assert whole.header["peers"]["eager_nchw"] == "not among --peers"
    assert {row["implementation"] for row in whole.rows} == {"ours", "eager_nhwc"}
    assert runner.wrong(whole) == []
    assert all(row["floor_share"] > 0 for row in whole.rows)


@pytest.mark.parametrize(
    ("options", "reason"),
    (
        (suites.Options(dtypes=("float8",)), "--dtype"),
        (suites.Options(models=("resnet51",)), "--model"),
        (suites.Options(peers=("mkl",)), "--peers"),
        (suites.Options(cache="lukewarm"), "--cache"),
        (suites.Options(batches=(8, 0)), "--batch"),
    ),
)
def test_wrong_options(options, reason):
    with pytest.raises(UserError, match=reason):
        runner.check(options)
