"""Every file of the tree keeps the rules for texts, and every rule fires on a sample that breaks it."""

import pytest

from . import text_rules
from .tree import files, report

FILES = list(files())
RULES = {rule.__name__: rule for rule in text_rules.RULES}
SLASH = "/"  # apart from what follows, so that this file keeps the rule
BAD = [
    *(("unfinished", f"# {word}: later") for word in text_rules.WORDS),
    ("machine_path", f"see {SLASH}root/notes"),
    ("machine_path", f"path = '{SLASH}home/someone/data'"),
    ("machine_path", f"-I{SLASH}work/include"),
    ("size", "x" * (text_rules.LONGEST + 1)),
]
GOOD = [
    ("unfinished", "a method, the mastodon, prefix methods, hacksaw"),
    ("machine_path", "https://example.org/work/a and build/work/b and ~/home/x"),
    ("size", "x"),
]


@pytest.mark.parametrize("rule", RULES)
def test_files(rule):
    assert len(FILES) > 50
    findings = [finding for path, text in FILES for finding in RULES[rule](path, text)]
    assert not findings, report(findings)


@pytest.mark.parametrize(("rule", "text"), BAD)
def test_a_breach_is_found(rule, text):
    assert list(RULES[rule]("sample", text))


def test_records_may_be_large():
    assert not list(text_rules.size(f"{text_rules.MEASURED}h200/layers.json", "x" * (text_rules.LONGEST + 1)))


@pytest.mark.parametrize(("rule", "text"), GOOD)
def test_no_false_alarm(rule, text):
    assert not list(RULES[rule]("sample", text))


def test_every_rule_has_a_sample():
    assert {rule for rule, _ in BAD} == set(RULES)
