"""README.md tells what the benchmark measured, and its commands are those that CI runs."""

import json
import re

import pytest
from benchmark import EXERCISES, SCRIPT, SYSTEMS
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "tests" / "results" / "benchmark.json"
REPORT = json.loads(RESULTS.read_text(encoding="utf-8"))


def mean(runs, *keys, digits=1):
    values = []
    for value in runs:
        for key in keys:
            value = value[key]
        values.append(value)
    return f"{sum(values) / len(values):.{digits}f}"


def test_the_figures_of_the_readme_are_those_of_the_benchmark():
    runs = {
        "bundled": list(REPORT["seeds"].values()),
        "5,152": [REPORT["compare"]["ours"]],
        "usual recipe": [REPORT["compare"]["usual"]],
    }
    for name, group in runs.items():
        cells = [mean(group, "seconds", digits=0)]
        cells += [mean(group, split, "exact") + " %" for split in ("training", "validation")]
        row = " | ".join([*cells, mean(group, "validation", "chrf")])
        assert re.search(rf"\|[^|]*{name}[^|]*\| {re.escape(row)} \|", README), row
    seeds = runs["bundled"]
    assert f"{mean(seeds, 'first', 'right', digits=0)} % come" in README
    assert f"{mean(seeds, 'first', 'right_not_in_corpus', digits=0)} %" in README
    for name, run in REPORT["exercises"].items():
        assert f"{run['validation']['exact']:.1f} %" in README, name
    for name in "no edit", "one direction", "no weight decay", "no label smoothing":
        assert f"{REPORT['exercises'][name]['validation']['chrf']:.1f}" in README, name
    for name in SYSTEMS:
        assert f"{REPORT['systems'][name]['validation']['exact']:.1f} %" in README, name
    assert f"ready in {REPORT['ready_seconds_1m']:.0f} s" in README


@pytest.mark.parametrize("name", EXERCISES)
def test_each_exercise_is_an_edit_of_one_line_of_the_script(name):
    edit = EXERCISES[name]
    if edit:
        source = SCRIPT.read_text(encoding="utf-8")
        assert source.count(edit[0]) == 1 and edit[0] != edit[1]
        compile(source.replace(*edit), "edited.py", "exec")


def test_the_readme_names_settings_and_functions_that_exist():
    source = SCRIPT.read_text(encoding="utf-8")
    for name in re.findall(r"`([a-z_]+_[a-z_]+)`", README):
        assert name in source, name
    for name in re.findall(r"^\| (`[A-Z_`, ]+`) \|", README, re.MULTILINE):
        for setting in re.findall("[A-Z_]+", name):
            assert re.search(f"^{setting} = ", source, re.MULTILINE), setting
    for path in re.findall(r"\]\(([^)h#][^)]*)\)|srcset=\"([^\"]*)\"", README):
        assert (ROOT / "".join(path)).exists(), path


def test_results_are_small_and_keep_the_figures_at_top_level():
    assert RESULTS.stat().st_size <= 30_000
    for name in """exact_usual exact_ours chrf_ratio decode_ratio epoch_seconds_ratio peak_mb_usual
    peak_mb_ours seconds_to_99 first_sentences_right ready_seconds_1m ready_mb_1m growth_time_16x
    growth_memory_16x""".split():
        assert name in REPORT
