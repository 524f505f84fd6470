"""The script as users meet it: training, translating, settings, saved files, fresh processes."""

import csv
import io
import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import EPOCHS, KOR_ENG, ROOT, TINY, bundled_pairs, call, run, write_pairs

import seq2seq_char as script


def texts(result):
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode("utf-8").split("\n")[:-1]


# ----------------------------------------- Training -----------------------------------------


def test_the_report_shows_arrays_samples_and_figures_validation_first(trained):
    out = trained.out
    assert re.search(r"encoder_input_data +\(1, \d+, \d+\)", out)
    fed = re.search(r"decoder_input_data +\(\S+ \S+ \S+\) +\^ +(.+)", out)[1].split()
    target = re.search(r"decoder_target_data +\(\S+ \S+ \S+\) +(.+)", out)[1].split()
    assert target == [*fed, "$"]
    assert out.index("Some validation sentences") < out.index("Some training sentences")
    assert "Validation sentences after epoch 5:" in out
    assert re.search(r"^validation +6 of 6 +[0-9.]+% +[0-9.]+%$", out, re.MULTILINE)


def test_history_is_written_beside_the_model(trained):
    with open(trained.path.parent / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, EPOCHS + 1))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) / 5
    names = sorted(file.name for file in trained.path.parent.iterdir())
    assert names == ["history.csv", trained.path.name]


def test_the_same_seed_gives_the_same_result(trained, tmp_path):
    def weights(name, seed):
        path = tmp_path / name
        corpus = ["--data-path", trained.corpus, "--model-path", path]
        assert call(*corpus, "--epochs", "2", "--seed", seed, *TINY).status == 0
        return script.load_model(path)[0].get_weights()

    first, second, other = weights("a.keras", 5), weights("b.keras", 5), weights("c.keras", 6)
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    # Another seed splits otherwise too, so that shapes may differ as well as numbers.
    assert any(a.shape != c.shape or not np.array_equal(a, c) for a, c in zip(first, other))


def test_columns_line_up_under_hangul(capsys):
    rows = [("I am.", "바빠요.", "바빠요."), ("You are.", "아", "안녕하세요.")]
    script.show_translations(rows)
    lines = capsys.readouterr().out.splitlines()
    # Hangul syllables are two columns wide, all else here is one.
    starts = [line[: line.rindex(row[2])] for line, row in zip(lines, rows)]
    assert len({len(start) + len(re.findall("[가-힣]", start)) for start in starts}) == 1
    assert "= 바빠요." in lines[0] and "=" not in lines[1]


def test_the_score_counts_the_closest_of_several_references():
    exact, error_rate, closest = script.score(
        ["가나다", "라마", ""], [["가나", "가나다"], ["라마바사", "라바"], ["아자"]]
    )
    assert exact == pytest.approx(1 / 3)
    assert closest == ["가나다", "라바", "아자"]
    assert error_rate == pytest.approx((0 + 1 + 2) / (3 + 2 + 2))


def test_the_report_on_a_large_corpus_takes_a_sample_and_says_so(trained, monkeypatch, capsys):
    monkeypatch.setattr(script, "REPORT_LIMIT", 7)
    line = script.report("training", trained.training, trained.translate)
    assert "7 of 54" in line


# --------------------------------------- Saving, reloading ---------------------------------------


@pytest.mark.parametrize("seed", ["0", "123"])
def test_a_fresh_process_translates_the_same(trained, seed):
    sentences = [english for english, _ in trained.training]
    stdin = "\n".join(sentences).encode()
    arguments = ["translate", "--model-path", trained.path]
    result = run(*arguments, stdin=stdin, env={"PYTHONHASHSEED": seed}, cwd="/")
    assert texts(result) == trained.translate(sentences)
    assert result.stderr == b""


def test_the_model_is_one_file_with_weights_tables_and_settings(trained):
    with zipfile.ZipFile(trained.path) as archive:
        notes = json.loads(archive.read(script.NOTES))
    assert notes["english_characters"] == list(trained.tables[0])
    assert notes["korean_characters"][:2] == [script.START, script.END]
    assert notes["settings"]["epochs"] == EPOCHS
    # Without the optimizer's state: four bytes a weight, and a little.
    assert trained.path.stat().st_size < 4.3 * trained.model.count_params() + 100_000


# ----------------------------------------- Translating -----------------------------------------


def test_sentences_as_arguments(trained, capfdbinary):
    sentences = [english for english, _ in trained.pairs[:3]]
    result = call("translate", *sentences, "--model-path", trained.path)
    assert result.out.splitlines() == trained.translate(sentences) and result.err == ""


def translate_stdin(trained, data, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))
    result = call("translate", "--model-path", trained.path)
    assert result.status == 0, result.err
    return result


def test_standard_input_is_translated_line_for_line(trained, monkeypatch):
    sentence = trained.training[0][0]
    korean = trained.translate([sentence])[0]
    data = f"{sentence}\n\n   \r\n\ufeff{sentence}\r\n{sentence}".encode()
    result = translate_stdin(trained, data, monkeypatch)
    assert result.out.split("\n") == [korean, "", "", korean, korean, ""]


@pytest.mark.parametrize(
    "data",
    [
        "☃☃☃\n".encode(),
        "안녕하세요.\n".encode(),
        "😀 👨‍👩‍👧\n".encode(),
        b"\xff\xfe\x00\x80\n",
        b"\x00\x01\x02\x1b[31m\n",
        b"a" * 10_000 + b"\n",
        "\u2028\u2029\u0085\n".encode(),
    ],
    ids="snowmen Korean emoji invalid control long separators".split(),
)
def test_odd_input_gives_one_line_and_no_traceback(trained, data, monkeypatch):
    result = translate_stdin(trained, data, monkeypatch)
    assert result.out.count("\n") == 1
    assert len(result.err.splitlines()) <= 1 and "Traceback" not in result.err


def test_unknown_characters_are_named_once_and_left_out(trained, monkeypatch):
    sentence = trained.training[0][0]
    data = f"☃{sentence}\n{sentence}☃★\n".encode()
    result = translate_stdin(trained, data, monkeypatch)
    assert result.out.splitlines() == trained.translate([sentence] * 2)
    assert result.err.count("\n") == 1 and result.err.count("☃") == 1 and "★" in result.err


def test_a_long_line_is_cut_with_a_warning(trained, monkeypatch):
    longest = trained.notes["length"]
    sentence = max((english for english, _ in trained.pairs), key=len)
    assert len(sentence) == longest - 1
    line = sentence + "a" * 10_000
    result = translate_stdin(trained, line.encode(), monkeypatch)
    assert result.out.splitlines() == trained.translate([line[:longest]])
    cut = f"cut 1 sentences to their first {longest} characters, all that the model takes"
    assert result.err == f"warning: {cut}\n"


def test_a_hundred_thousand_lines_are_streamed(trained, monkeypatch):
    """What was read at any time is no more than a batch ahead of what was written."""
    read_ahead, written = [], io.StringIO()

    class Lines:
        def __iter__(self):
            for number in range(100_000):
                read_ahead.append(
                    number - written.getvalue().count("\n") if not number % 9999 else 0
                )
                yield b"\n" if number % 100 else b"I am.\n"

    stdin = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(
        script.sys, "stdin", type("Stdin", (), {"buffer": Lines(), "isatty": stdin.isatty})()
    )
    monkeypatch.setattr(script.sys, "stdout", written)
    assert script.main(["translate", "--model-path", str(trained.path)]) == 0
    assert written.getvalue().count("\n") == 100_000
    assert max(read_ahead) <= 1024


def test_a_broken_pipe_ends_quietly(trained):
    command = f'yes "I am." | "{sys.executable}" "{ROOT}/seq2seq_char.py" translate'
    result = script_shell(f'{command} --model-path "{trained.path}" | head -n 2')
    assert result.stdout.count(b"\n") == 2 and result.stderr == b""


def script_shell(command):
    return subprocess.run(["bash", "-c", command], capture_output=True, timeout=120)


def test_hangul_comes_out_on_a_console_that_is_not_utf8(trained):
    sentence = trained.training[0][0]
    env = {
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    arguments = ["translate", sentence, "☃", "--model-path", trained.path]
    result = run(*arguments, env=env)
    assert texts(result) == [*trained.translate([sentence]), ""]
    assert "☃" in result.stderr.decode("utf-8")


def test_without_a_model_one_line_says_how_to_train_one(tmp_path):
    result = run("translate", "Hello.", "--model-path", tmp_path / "none.keras")
    assert result.returncode == 2 and result.stdout == b""
    expected = f"{tmp_path}/none.keras: no model yet; train one: python seq2seq_char.py"
    assert result.stderr.decode() == f"seq2seq_char.py: error: {expected}\n"


# ------------------------------------------ Settings ------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--epochs", "0"], "EPOCHS = 0: must be a whole number from 1 to 10000"),
        (["--epochs", "1.5"], "EPOCHS = 1.5: must be a whole number"),
        (["--epochs", "ten"], "EPOCHS = ten: must be a whole number"),
        (["--epochs", ""], "EPOCHS = : must be a whole number"),
        (["--epochs"], "expected one argument"),
        (["--epochs", "99999999999999999999"], "EPOCHS = 99999999999999999999: must be"),
        (["--learning-rate", "nan"], "LEARNING_RATE = nan: must be a number from 0.000001 to 1.0"),
        (["--learning-rate", "inf"], "LEARNING_RATE = inf: must be a number"),
        (["--learning-rate", "-1"], "LEARNING_RATE = -1: must be a number"),
        (["--validation-fraction", "0"], "VALIDATION_FRACTION = 0: must be a number"),
        (["--validation-fraction", "1"], "VALIDATION_FRACTION = 1: must be a number"),
        (["--seed", "-1"], "SEED = -1: must be a whole number from 0"),
        (["--epoch", "3"], "--epoch: no such setting; did you mean --epochs?"),
        (["--latent-dims=3"], "--latent-dims=3: no such setting; did you mean --latent-dim?"),
        (["--wibble"], "--wibble: no such setting; see --help"),
        (["tranlate", "Hello."], "tranlate: no such command; the only one is translate"),
        (["--model-path", "model.h5"], "must be a file name that ends in .keras"),
        (["--model-path", "/"], "must be a file name that ends in .keras"),
        (["--model-path", "/dev/null/runs/m.keras"], "cannot be written"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.status == 2 and result.out == ""
    assert result.err.count("\n") == 1 and message in result.err
    assert not list(tmp_path.iterdir())


def test_every_hyperparameter_is_a_flag_with_its_comment_in_the_help(capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(["--help"])
    assert stop.value.code == 0
    help = " ".join(capsys.readouterr().out.split())
    names = """DATA_PATH MODEL_PATH TOKEN ARCHITECTURE NUM_PAIRS MAX_LENGTH VALIDATION_FRACTION
    BATCH_SIZE EPOCHS LATENT_DIM LEARNING_RATE SEED""".split()
    assert set(names) <= {name.upper() for name in script.hyperparameters()}
    for name, comment in script.hyperparameters().items():
        assert f"--{name.replace('_', '-')} {comment} (now " in help


def test_the_constants_themselves_are_in_range():
    settings = script.read_settings([])
    for name in script.hyperparameters():
        value = getattr(script, name.upper())
        if not name.endswith("_path"):
            assert getattr(settings, name) == value and type(getattr(settings, name)) is type(value)
    assert settings.data_path == str(ROOT / "data" / "eng-kor.tsv")


@pytest.mark.parametrize("value", ["ten", 0, -1, 2.5, None])
def test_a_constant_edited_to_nonsense_is_refused(value, monkeypatch):
    monkeypatch.setattr(script, "EPOCHS", value)
    with pytest.raises(script.UserError, match=f"EPOCHS = {value}: must be a whole number"):
        script.read_settings([])


def test_flags_may_stand_anywhere_and_after_two_dashes_all_is_text():
    settings = script.read_settings(["translate", "--seed", "3", "One.", "--epochs=4", "Two."])
    assert settings.sentences == ["One.", "Two."] and (settings.seed, settings.epochs) == (3, 4)
    settings = script.read_settings(["translate", "--", "--epochs", "-5 degrees"])
    assert settings.sentences == ["--epochs", "-5 degrees"]


def test_importing_the_script_does_nothing(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import seq2seq_char"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert not list(tmp_path.iterdir())


def test_another_keras_backend_in_the_environment_changes_nothing(trained):
    result = run("translate", "I.", "--model-path", trained.path, env={"KERAS_BACKEND": "nonsense"})
    assert texts(result) == trained.translate(["I."])


def test_the_budget_of_the_lesson():
    lines = (ROOT / "seq2seq_char.py").read_text(encoding="utf-8").splitlines()
    end = next(n for n, line in enumerate(lines) if line.startswith("# The lesson ends here."))
    assert end - 1 <= 220


@pytest.mark.skipif(not KOR_ENG.exists(), reason="the Tatoeba corpus is not part of the project")
def test_the_real_corpus_trains_and_translates(tmp_path):
    path = tmp_path / "real.keras"
    arguments = ["--data-path", KOR_ENG, "--model-path", path, "--num-pairs", "400"]
    result = call(*arguments, "--epochs", "2", "--latent-dim", "32")
    assert result.status == 0, result.err
    assert call("translate", "I am busy.", "--model-path", path).out.count("\n") == 1
    assert "dropped" not in result.err or "longer than 64 characters" in result.err


def test_pairs_with_several_references_count_when_they_hit_one(trained, capsys):
    english, korean = trained.training[0]
    pairs = [(english, "다른 말이에요."), (english, korean)]
    line = script.report("training", pairs, trained.translate)
    assert "1 of 1" in line and "100.0%" in line


def test_bundled_pairs_are_the_default(tmp_path):
    path = write_pairs(tmp_path / "copy.tsv", bundled_pairs())
    assert script.read_pairs(path, 0, 64) == script.read_pairs(
        script.read_settings([]).data_path, 0, 64
    )
