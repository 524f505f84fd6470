"""The script as users meet it: training, settings and their edits, translating."""

import io
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, TINY, call, messages, refused, run

import seq2seq_char as script

# ------------------------------------------ Training ------------------------------------------


def test_the_report_shows_arrays_samples_figures_and_steps(trained):
    out = trained.out
    assert re.search(r"encoder_input_data +\(1, \d+, \d+\)", out)
    fed = re.search(r"decoder_input_data +\(\S+ \S+ \S+\) +\^ (.+)", out)[1].split()
    target = re.search(r"decoder_target_data +\(\S+ \S+ \S+\) +(.+)", out)[1].split()
    assert target == [*fed, "$"]
    assert re.search(r"^Of 6 validation sentences [0-9.]+% are exact", out, re.MULTILINE)
    assert re.search(r"^Of 54 training sentences [0-9.]+% are exact", out, re.MULTILINE)
    assert re.search(r"^ +1 \^\t +[0-9.]+% \S+\t", out, re.MULTILINE)


def test_a_translation_is_exact_if_it_is_any_reference_of_its_sentence(capsys):
    pairs = [("a", "가나다"), ("a", "가나"), ("b", "라마바사"), ("c", "아자")]
    outputs = {"a": "가나", "b": "라바", "c": ""}
    script.report("some", pairs, lambda sentences: [outputs[sentence] for sentence in sentences])
    title, *lines = capsys.readouterr().out.strip().splitlines()
    assert "Of 4 some sentences 50.0% are exact" in title
    right = [line for line in lines if "the corpus" not in line]
    assert len(lines) == 4 and {line.split()[0] for line in right} == {"a"}
    assert "  b -> 라바 (the corpus: 라마바사)" in lines


def test_the_report_on_a_large_corpus_takes_a_sample(trained, capsys):
    script.report("training", trained.training, trained.translate, limit=7)
    assert "Of 7 training sentences" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_model(corpus, tmp_path):
    def weights(name, seed):
        path = tmp_path / name
        arguments = ["--data-path", corpus, "--model-path", path, "--epochs", 1, "--seed", seed]
        assert call(*arguments, *TINY).status == 0
        return script.load_model(path)[0].get_weights()

    first, again, other = weights("a.keras", 5), weights("b.keras", 5), weights("c.keras", 6)
    for a, b in zip(first, again):
        np.testing.assert_allclose(a, b, atol=1e-5)  # threads add up in any order
    assert any(a.shape != c.shape or abs(a - c).max() > 0.1 for a, c in zip(first, other))


# ------------------------------------------ Settings ------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--epochs", "0"], "EPOCHS = 0: must be a whole number, 1 or more"),
        (["--epochs", "1.5"], "--epochs: invalid int value: '1.5'"),
        (["--epochs"], "--epochs: expected one argument"),
        (["--epochs", "9" * 20], "EPOCHS = 99999999999999999999: must be"),
        (["--learning-rate", "nan"], "LEARNING_RATE = nan: must be a number between 0 and 1"),
        (["--learning-rate", "inf"], "LEARNING_RATE = inf: must be"),
        (["--validation-fraction", "0"], "VALIDATION_FRACTION = 0.0: must be"),
        (["--validation-fraction", "1"], "VALIDATION_FRACTION = 1.0: must be"),
        (["--seed", "-1"], "SEED = -1: must be a whole number, 0 or more"),
        (["--token", "syllable"], "TOKEN = 'syllable': must be char or word"),
        (["--architecture", "x"], "ARCHITECTURE = 'x': must be encoder-decoder or same-length"),
        (["--epoch", "3"], "--epoch: no such setting; did you mean --epochs?"),
        (["--latent-dims=3"], "--latent-dims=3: no such setting; did you mean --latent-dim?"),
        (["--wibble"], "--wibble: no such setting; see --help"),
        (["tranlate", "Hello."], "command = 'tranlate': must be train or translate"),
        (["train", "Hello."], "only translate takes sentences and --steps"),
        (["--steps"], "only translate takes sentences and --steps"),
        (["--model-path", "model.h5"], "MODEL_PATH = model.h5: must end in .keras"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["ten", 0, -1, 2.5, None, True, [3]])
def test_a_constant_edited_to_nonsense_is_refused(value, monkeypatch):
    monkeypatch.setattr(script, "EPOCHS", value)
    with pytest.raises(script.UserError, match=r"EPOCHS = .*: must be a whole number"):
        script.read_settings([])


def test_every_constant_is_a_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(["--help"])
    assert stop.value.code == 0
    help = capsys.readouterr().out
    settings = script.read_settings([])
    for name in """DATA_PATH REVERSED MODEL_PATH TOKEN ARCHITECTURE NUM_PAIRS MAX_LENGTH
    VALIDATION_FRACTION BATCH_SIZE EPOCHS LATENT_DIM LEARNING_RATE SEED""".split():
        assert "--" + name.lower().replace("_", "-") in help and name in script.SETTINGS
        value = getattr(script, name)
        assert getattr(settings, name) == (str(ROOT / value) if "PATH" in name else value)


def test_flags_may_stand_anywhere_and_after_two_dashes_all_is_text():
    settings = script.read_settings(["translate", "--seed", "3", "One.", "--epochs=4", "Two."])
    assert settings.sentences == ["One.", "Two."] and (settings.SEED, settings.EPOCHS) == (3, 4)
    settings = script.read_settings(["translate", "--", "--epochs", "-5 degrees"])
    assert settings.sentences == ["--epochs", "-5 degrees"]
    assert script.read_settings(["--reversed"]).REVERSED is True


# Ten edits of the top of the file, all of which have to work: (what is there, what is written).
EDITS = [
    (r"^EPOCHS = .*", "EPOCHS = 1"),
    (r"^EPOCHS = .*", "EPOCHS = 1 # short"),
    (r"^EPOCHS = .*", "EPOCHS=1  # 1 to 10; or more, e.g. 100%"),
    (r"^EPOCHS = .*", "EPOCHS: int = 1"),
    (r"^EPOCHS = .*", "EPOCHS = (\n    1\n)"),
    (r"^EPOCHS = .*", "# a comment\n\nEPOCHS = 2 - 1"),
    (r"^LEARNING_RATE = .*", "LEARNING_RATE = 1e-3"),
    (r"^TOKEN = .*", "TOKEN = 'word'"),
    (r"^REVERSED = .*", "REVERSED = True;"),
    (r"^SEED = (.*)", "SEED = 7\nMY_OWN = 3  # a constant more"),
]


def test_any_edit_that_leaves_a_python_constant_works(corpus, tmp_path):
    source = (ROOT / "seq2seq_char.py").read_text(encoding="utf-8")
    for pattern, replacement in EDITS:
        edited, count = re.subn(pattern, replacement, source, flags=re.MULTILINE)
        assert count == 1
        namespace = {"__name__": "edited", "__file__": str(ROOT / "seq2seq_char.py")}
        exec(compile(edited, "edited.py", "exec"), namespace)
        settings = namespace["read_settings"]([])
        name = re.match(r"\W*(\w+)", pattern)[1]
        assert getattr(settings, name) == namespace[name] != getattr(script, name)
    for pattern, replacement in [*EDITS[:1], *EDITS[6:]]:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    (tmp_path / "edited.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "edited.py", "--data-path", str(corpus), *TINY, "--my-own", "4"]
    result = subprocess.run(command, capture_output=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr.decode()
    _, notes = script.load_model(tmp_path / "runs" / "eng-kor.keras")
    assert (notes["settings"]["TOKEN"], notes["epochs_done"]) == ("word", 1)


# ----------------------------------------- Translating -----------------------------------------


def test_sentences_as_arguments(trained):
    sentences = [english for english, _ in trained.training[:3]]
    result = call("translate", *sentences, "--model-path", trained.path)
    assert result.out.splitlines() == trained.translate(sentences) and result.err == ""


def translate_stdin(trained, data, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="replace")
    monkeypatch.setattr(sys, "stdin", stdin)
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
        "😀 👨‍👩‍👧\n".encode(),
        b"\xff\xfe\x00\x80\n",
        b"\x00\x01\x02\x1b[31m\n",
        b"a" * 5_000 + b"\n",
        "\u2028\u2029\u0085\n".encode(),
    ],
    ids="snowmen emoji invalid control long separators".split(),
)
def test_odd_input_gives_one_line_and_no_traceback(trained, data, monkeypatch):
    result = translate_stdin(trained, data, monkeypatch)
    assert result.out.count("\n") == 1
    assert len(result.err.splitlines()) <= 1 and "Traceback" not in result.err


def test_words_never_seen_are_named_once(trained, monkeypatch):
    known = trained.training[0][0]
    result = translate_stdin(trained, f"{known} Xyzzy!\nxyzzy {known} ☃\n".encode(), monkeypatch)
    (warning,) = result.err.splitlines()
    assert warning == "warning: training never saw xyzzy ☃: what stands for it is a guess"
    assert translate_stdin(trained, f"{known}\n".encode(), monkeypatch).err == ""


def test_a_language_without_spaces_has_no_words_to_warn_of(trained, tmp_path):
    pairs = [(f"何{n}", "가요") for n in range(20)]
    settings = script.read_settings([])
    notes = script.make_notes(settings, pairs, pairs)
    assert notes["english_words"] == []
    assert " i" in trained.notes["english_words"] or trained.notes["english_words"]


def test_many_lines_are_streamed(trained, monkeypatch):
    """What was read at any time is no more than a batch ahead of what was written."""
    read_ahead, written = [], io.StringIO()

    class Lines:
        def __iter__(self):
            for number in range(20_000):
                if number % 1999 == 0:
                    read_ahead.append(number - written.getvalue().count("\n"))
                yield "\n" if number % 100 else "I am.\n"

        def isatty(self):
            return False

    monkeypatch.setattr(sys, "stdin", Lines())
    monkeypatch.setattr(sys, "stdout", written)
    assert script.main(["translate", "--model-path", str(trained.path)]) == 0
    assert written.getvalue().count("\n") == 20_000 and max(read_ahead) <= 1024


def test_at_a_terminal_each_line_is_answered_at_once(trained, monkeypatch, capsys):
    written = io.StringIO()

    class Terminal:
        def __iter__(self):
            for number in range(3):
                assert written.getvalue().count("\n") == number
                yield "I xyzzy.\n"

        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stdout", written)
    assert script.main(["translate", "--model-path", str(trained.path)]) == 0
    assert written.getvalue().count("\n") == 3
    assert capsys.readouterr().err.count("xyzzy") == 1  # named once is enough


def test_steps_show_the_three_most_probable_at_each_step(trained):
    sentence = trained.training[0][0]
    result = call("translate", "--steps", sentence, "--model-path", trained.path)
    _, title, _, *rows = result.out.splitlines()
    assert title.startswith(sentence)
    rows = [[cell.split() for cell in row.split("\t")] for row in rows]
    assert [row[0][0] for row in rows] == [str(step) for step in range(1, 1 + len(rows))]
    fed, chosen = [row[0][1] for row in rows], [row[1][1] for row in rows]
    assert fed == ["^", *chosen[:-1]] and chosen[-1] == "$"
    assert "".join(chosen[:-1]).replace("_", " ") == trained.translate([sentence])[0]
    for row in rows:
        probabilities = [float(cell[0].rstrip("%")) for cell in row[1:]]
        assert len(probabilities) == 3 and probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 100.1
    # The columns line up: with 8 to 15 columns before each tab, which stops at multiples of 8.
    for cell in [cell for line in result.out.splitlines()[3:] for cell in line.split("\t")[:-1]]:
        assert 8 <= len(cell) + len(re.findall("[가-힣]", cell)) <= 15


def test_steps_of_a_sentence_of_which_nothing_is_known(trained):
    result = call("translate", "--steps", "☃", "--model-path", trained.path)
    assert result.out == "\n☃: nothing in it is known\n"


def test_a_broken_pipe_ends_quietly(trained):
    command = f'yes "I am." | "{sys.executable}" "{ROOT}/seq2seq_char.py" translate'
    command += f' --model-path "{trained.path}" | head -n 2'
    result = subprocess.run(["bash", "-c", command], capture_output=True, timeout=120)
    assert result.stdout.count(b"\n") == 2 and messages(result.stderr) == []


def test_hangul_comes_out_on_a_console_that_is_not_utf8(trained):
    sentence = trained.training[0][0]
    env = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    env |= {"PYTHONCOERCECLOCALE": "0", "KERAS_BACKEND": "nonsense"}
    stdin = f"{sentence}\n☃\n".encode()
    result = run("translate", "--model-path", trained.path, stdin=stdin, env=env)
    assert result.stdout.decode("utf-8").split("\n") == [*trained.translate([sentence]), "", ""]
    assert "☃" in messages(result.stderr)[0]


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "<&-"])
def test_closed_streams_do_no_harm(trained, closed):
    command = f'"{sys.executable}" "{ROOT}/seq2seq_char.py" translate "I xyzzy." {closed}'
    command += f' --model-path "{trained.path}"'
    result = subprocess.run(["bash", "-c", command], capture_output=True, timeout=120)
    assert result.returncode == 0
    if "1>" not in closed:
        assert result.stdout.decode("utf-8").splitlines() == trained.translate(["I xyzzy."])


def test_without_a_model_one_line_says_how_to_train_one(tmp_path):
    result = run("translate", "Hello.", "--model-path", tmp_path / "none.keras")
    assert result.returncode == 2 and result.stdout == b""
    wanted = f"{tmp_path}/none.keras: no model yet; train one: python seq2seq_char.py"
    assert messages(result.stderr) == [f"seq2seq_char.py: error: {wanted}"]
