"""The table of tests/README.md is complete: faults and tests name each other."""

import re

from conftest import ROOT

TESTS = {
    path.name: set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    for path in (ROOT / "tests").glob("test_*.py")
}
NAMED = set(re.findall(r"`(test_\w+)`", (ROOT / "tests" / "README.md").read_text(encoding="utf-8")))


def test_every_test_named_in_the_table_exists():
    assert set().union(*TESTS.values()) >= NAMED


def test_every_test_of_faults_is_named_in_the_table():
    assert TESTS["test_data.py"] | TESTS["test_robustness.py"] <= NAMED
