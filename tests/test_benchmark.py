"""The benchmark's own arithmetic, on a dozen pairs; what it measures is not tested here."""

import json
import os

import benchmark
import pytest

import seq2seq_char as script

PAIRS = [(f"I have {n} dogs.", f"개가 {n}마리 있어요.") for n in range(10)] + [
    ("Go.", "가."),
    ("Go.", "가요."),
]
POINT = {"exact": 0.5, "error_rate": 0.3, "chrf": 20.0, "loss": 2.0}


def curve(*shares):
    """Return a learning curve with so many training sentences exact at 10 s, 20 s, ..."""
    return [
        {"epoch": n, "seconds": 10.0 * n, "training": POINT | {"exact": share}, "validation": POINT}
        for n, share in enumerate(shares, start=1)
    ]


def measured(shares, **others):
    """Return the measurements of one run, as a worker tells them."""
    points = curve(*shares)
    figures = {side: points[-1][side] for side in ("training", "validation")}
    base = {"name": "kor-eng, ours", "epochs": 4, "epoch_seconds": 2.0, "training_seconds": 40.0}
    return {**base, **figures, "curve": points, "peak_mb": 1000.0, **others}


def report():
    """Return a report with figures of everything but the bundled corpus, and one fault."""
    report = benchmark.new_report(False)
    ours = measured([0.5, 0.9, 1], sentences_a_second=1000, floor_seconds=1.0)
    usual = measured([0, 0], epoch_seconds=10.0, sentences_a_second=1, arrays_gb=1.0, base_mb=500)
    entry = {"pairs": 12, "all_pairs": 14, "all_arrays_gb": 1e6, "ours": ours, "usual": usual}
    report["results"]["kor-eng"] = entry
    report["growth"] = {
        "1": {"name": "1 x", "pairs": 10, "epoch_seconds": 1.0, "peak_mb": 800.0},
        "16": {"name": "16 x", "pairs": 160, "epoch_seconds": 8.0, "peak_mb": 1000.0},
    }
    report["systems"] = {"kor-eng, word, same-length": {"name": "WORDS", "error": "killed"}}
    return report


def test_copies_differ_and_keep_their_lengths_and_characters():
    copies = benchmark.grown(PAIRS, 16)
    assert len(copies) == len(set(copies)) == 16 * len(PAIRS)
    assert copies[: len(PAIRS)] == PAIRS == benchmark.grown(PAIRS, 1)
    assert [tuple(map(len, pair)) for pair in copies] == [tuple(map(len, p)) for p in PAIRS] * 16


def test_a_sample_reaches_from_the_first_to_the_last():
    assert benchmark.thin(list(range(19)), 10) == [0, 1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert benchmark.thin([1, 2], 10) == [1, 2]


def test_memory_of_the_usual_recipe_is_that_of_its_arrays():
    shape = benchmark.usual_shape(PAIRS)
    english, korean = zip(*PAIRS)
    arrays = [
        benchmark.usual_one_hot(english, shape["english"], shape["max_english"]),
        benchmark.usual_one_hot([f"\t{k}\n" for k in korean], shape["korean"], shape["max_korean"]),
        benchmark.usual_one_hot([f"{k}\n" for k in korean], shape["korean"], shape["max_korean"]),
    ]
    assert benchmark.usual_arrays_gb(PAIRS) == sum(array.nbytes for array in arrays) / 1e9
    assert all((array.sum(axis=-1) == 1).all() for array in arrays)  # no masking: spaces are real


def test_memory_of_the_usual_recipe_is_a_base_and_so_much_for_each_gb():
    run = {"arrays_gb": 2.0, "base_mb": 1000, "peak_mb": 1000 + 6e9 / 2**20}
    base, factor = benchmark.usual_memory(run)
    assert (base, factor) == (pytest.approx(1000 * 2**20 / 1e9), pytest.approx(3))


def test_floor_counts_every_product_of_the_model():
    english, korean, units = 7, 11, 5
    model = script.build_training_model(english, korean, units)
    encoder, decoder = model.get_layer("encoder_lstm"), model.get_layer("decoder_lstm")
    ends, starts = decoder.units, encoder.forward_layer.units
    patterns = 4 * english * 9 * units * 100
    one_hot = 2 * 4 * starts * english * 100, patterns, 4 * ends * korean * 60
    others = 2 * 4 * starts * starts * 100, (4 * ends * ends + ends * korean) * 60
    assert benchmark.floor_operations(model, 100, 60) == (
        2 * 3 * sum(one_hot + others),
        2 * (2 * sum(one_hot) + 3 * sum(others)),
    )


def test_seconds_to_a_share_of_exact_sentences():
    points = curve(0.2, 0.9, 0.8, 0.95)
    assert benchmark.seconds_to(points, 0.9) == 20
    assert benchmark.seconds_to(points, 0.99) is benchmark.seconds_to([], 0.5) is None


def test_quality_takes_the_closest_of_several_references():
    references = benchmark.references_of(PAIRS)
    assert references["Go."] == ["가.", "가요."]
    perfect = {english: korean for english, korean in PAIRS}
    assert benchmark.quality(perfect, references) == {"exact": 1, "error_rate": 0, "chrf": 100}
    assert benchmark.quality(dict.fromkeys(references, ""), references)["exact"] == 0


def test_ended_says_whether_it_converged():
    result = {"epochs": 21, "training_seconds": 600, "training": {"exact": 0.5}}
    assert benchmark.ended({**result, "losses": [2, 1]}, 35).endswith("10.0 min, not converged")
    assert benchmark.ended({**result, "losses": [1, 0.995]}, 35).endswith("converged (loss flat)")
    assert benchmark.ended({**result, "losses": [1]}, 35).endswith("not converged")
    result["training"]["exact"] = 1.0
    ended = benchmark.ended({**result, "losses": [1]}, 35)
    assert ended == "21 of 35 epochs in 10.0 min, converged"


def test_summary_and_tables():
    summary = benchmark.summarize(report())
    assert summary["epoch_seconds_ratio"] == 5 and summary["decode_ratio"] == 1000
    assert summary["time_to_90_ratio"] == 2 and summary["time_to_90_is_lower_bound"]
    assert summary["growth_time_16x"] == 0.5 and summary["growth_memory_16x"] == 1.25
    assert summary["seconds_to_99_kor_eng"] == 30 and summary["floor_ratio"] == 2
    text = benchmark.render(report())
    assert "| seconds until 99 % | not reached | 30 |" in text
    assert "| model file, MiB | – | – |" in text and "cannot run in" in text
    assert "| time_to_90_ratio | at least 2.000 | >= 20: undecided |" in text
    assert "| chrf_ratio | 1.000 | >= 1.5: NOT met |" in text
    assert "WORDS: killed" in text


def test_patience_with_the_usual_recipe_decides_the_time_to_90():
    measures = report()
    measures["patience"] = measured([0, 0.1], training_seconds=400.0, epochs=40)
    assert benchmark.summarize(measures)["time_to_90_ratio"] == 20
    text = benchmark.render(measures)
    assert "| time_to_90_ratio | at least 20.000 | >= 20: met |" in text
    assert "usual recipe after 40 epochs, 400 s of training: 10.0% of the training" in text
    measures["patience"] = measured([0, 0.1, 0.95])
    summary = benchmark.summarize(measures)
    assert summary["time_to_90_ratio"] == 1.5 and not summary["time_to_90_is_lower_bound"]


def test_patience_lasts_20_times_as_long_as_ours_took(monkeypatch):
    jobs, stored = [], []

    def told(worker, job, timeout):
        jobs.append((worker, job["seconds"], job["look"], job["training"] != [], timeout))
        return {"epochs": 3}

    monkeypatch.setattr(benchmark, "in_own_process", told)
    monkeypatch.setattr(benchmark, "read_corpora", lambda pairs: [("kor-eng", PAIRS)])
    measures = report()
    benchmark.patience(measures, lambda: stored.append(1))
    assert jobs == [("usual", 400.0, 20.0, True, 1200.0)]
    assert measures["patience"] == {"epochs": 3} and stored == [1]
    measures["results"]["kor-eng"]["ours"]["curve"] = curve(0.5)
    benchmark.patience(measures, stored.append)
    assert len(jobs) == 1


def test_the_usual_recipe_has_as_many_threads_as_tensorflow_gives(monkeypatch):
    def stop(pairs):
        raise StopIteration(os.environ.get("TF_NUM_INTEROP_THREADS"))

    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "7")
    monkeypatch.setattr(benchmark, "usual_shape", stop)
    with pytest.raises(StopIteration) as stopped:
        benchmark.usual({"training": [], "validation": []})
    assert stopped.value.value is None


def test_nothing_measured_gives_tables_all_the_same():
    assert benchmark.summarize(benchmark.new_report(True))["epoch_seconds_ratio"] is None
    assert "not measured" in benchmark.render(benchmark.new_report(True))


def test_a_stage_that_fails_costs_no_other(tmp_path, monkeypatch, capsys):
    def works(report, store):
        report["growth"] = {"1": {"pairs": 3}}
        store()

    def fails(report, store):
        report["systems"] = {"x": {"name": "x", "error": "killed"}}
        raise ValueError("no")

    monkeypatch.setattr(benchmark, "STAGES", {"systems": fails, "growth": works})
    benchmark.run(["systems", "growth"], benchmark.new_report(False), tmp_path)
    stored = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert stored["errors"] == {"systems": "ValueError: no"}
    assert stored["growth"] == {"1": {"pairs": 3}} and stored["systems"]["x"]["error"] == "killed"
    assert {path.name for path in tmp_path.iterdir()} == {"benchmark.json", "benchmark.md"}
    assert "systems failed: ValueError: no" in capsys.readouterr().out


def test_what_a_failed_process_told_is_kept(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, sys, time\n"
        'print(\'{"epochs": 1}\\n{"epochs": 2}\\n{"epo\', end=\'\', flush=True)\n'
        "os.kill(os.getpid(), 9) if sys.argv[2] == 'dies' else time.sleep(60)\n"
    )
    monkeypatch.setattr(benchmark, "__file__", str(worker))
    died = benchmark.in_own_process("dies", {"name": "x"}, 30)
    assert died == {"name": "x", "epochs": 2, "error": "ended with status -9"}
    late = benchmark.in_own_process("hangs", {"name": "x"}, 5)
    assert late == {"name": "x", "epochs": 2, "error": "stopped after 5 s"}


@pytest.mark.parametrize("token", ["char", "word"])
@pytest.mark.parametrize("architecture", ["encoder-decoder", "same-length"])
def test_ours_is_measured_with_every_setting(token, architecture):
    told = []
    arguments = ["--token", token, "--architecture", architecture, "--latent-dim", "8"]
    job = {
        "training": PAIRS[2:],
        "validation": PAIRS[:2],
        "name": "x",
        "look": 0,
        "tell": told.append,
    }
    result = benchmark.ours({**job, "arguments": [*arguments, "--epochs", "3"]})
    assert result["epochs"] == len(result["losses"]) == 3 and result["parameters"] > 0
    assert [point["epoch"] for point in result["curve"]] == [2, 3]
    assert result["unknown"][0] > 0 and told[-1]["curve"] == result["curve"]
    json.dumps(result)
