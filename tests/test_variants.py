"""Words as tokens, the same-length network, and all four combinations of the two settings."""

import csv
import functools
import io
import itertools
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    EPOCHS,
    KOR_ENG,
    TINY,
    bundled_pairs,
    call,
    call_without_training,
    interrupt,
    run,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import seq2seq_char as script

ARCHITECTURES = ["encoder-decoder", "same-length"]
COMBINATIONS = list(itertools.product(["char", "word"], ARCHITECTURES))


@pytest.fixture(params=COMBINATIONS, ids="-".join)
def small(request, train_small):
    """A small model of each combination."""
    return train_small(*request.param)


@pytest.fixture(params=ARCHITECTURES)
def word_model(request, train_small):
    """A small model of words, of each architecture."""
    return train_small("word", request.param)


@pytest.fixture(params=["char", "word"])
def same_length(request, train_small):
    """A small same-length model, of characters and of words."""
    return train_small(request.param, "same-length")


# -------------------------------------------- Words --------------------------------------------


@pytest.mark.parametrize(
    "sentence, words",
    [
        ("I am busy.", ["I", "am", "busy", "."]),
        ("Don't!", ["Don't", "!"]),
        ("It's five o'clock.", ["It's", "five", "o'clock", "."]),
        ("Meet me at 7:30.", ["Meet", "me", "at", "7:30", "."]),
        ("It costs $5.", ["It", "costs", " $", "5", "."]),
        ("$5, or 3.50 or 1,000?", ["$", "5", ", ", "or", "3.50", "or", "1,000", "?"]),
        ("2:30에 만나요.", ["2:30에", "만나요", "."]),
        ("저는 톰의 책을 읽었어요.", ["저는", "톰의", "책을", "읽었어요", "."]),
        ('He said, "I know."', ["He", "said", ", ", '"', "I", "know", ".", '"']),
        ('"Stop," I said.', ['"', "Stop", ",", '" ', "I", "said", "."]),
        ('"알아요"라고 했어요.', ['"', "알아요", '"', "라고", "했어요", "."]),
        ("Tom's open-minded.", ["Tom's", "open-minded", "."]),
        ("Well...", ["Well", ".", ".", "."]),
        ("Wait ... what?!", ["Wait", " .", ".", ". ", "what", "?", "!"]),
        ("The boys' dogs", ["The", "boys", "' ", "dogs"]),
        ("yes - no", ["yes", " - ", "no"]),
        ("100% (of it)", ["100", "% ", "(", "of", "it", ")"]),
        ("A: 5,b", ["A", ": ", "5", ",", "b"]),
        ("", []),
    ],
)
def test_words_and_marks(sentence, words):
    assert script.split_words(sentence) == words
    assert script.join_words(words) == sentence


def test_two_marks_in_a_row_share_no_space():
    assert script.split_words('No. "Yes."') == ["No", ". ", '"', "Yes", ".", '"']
    # What a model puts out need not be what a sentence splits into: no word runs into the next.
    assert script.join_words(["저는", "7:30에", "가요", ". ", "네"]) == "저는 7:30에 가요. 네"
    assert script.join_words([". "]) == "." and script.join_words([]) == ""


def corpora():
    yield [side for pair in bundled_pairs() for side in pair]
    if KOR_ENG.exists():
        lines = KOR_ENG.read_text(encoding="utf-8").splitlines()
        yield [script.clean(side) for line in lines for side in line.split("\t")[:2]]


@pytest.mark.parametrize("number", [0, 1], ids=["bundled", "Tatoeba"])
def test_every_sentence_comes_back_from_its_words(number):
    sentences = list(corpora())[number:]
    if not sentences:
        pytest.skip("the Tatoeba corpus is not part of the project")
    assert len(sentences[0]) > 10_000
    changed = [s for s in sentences[0] if script.join_words(script.split_words(s)) != s]
    assert not changed


def test_every_korean_sentence_comes_back_from_its_ids():
    split, join, special, *_ = script.TOKENS["word"]
    sentences = [korean for _, korean in bundled_pairs()]
    table = script.build_table([special, [script.START, script.END], *map(split, sentences)])
    assert len(table) > 1000
    for sentence in sentences:
        ids = script.to_ids([*split(sentence), script.END, *split(sentence)], table)
        assert join(script.to_characters(ids, table)) == sentence


@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40)
    | st.text("aZ9_é가힣 '\"-.:,$!?()…—\u0301\ufffd", max_size=40)
)
@settings(max_examples=400, deadline=None)
def test_any_clean_text_comes_back_from_its_words(text):
    sentence = script.clean(text)
    words = script.split_words(sentence)
    assert script.join_words(words) == sentence
    assert all(re.fullmatch(r" ?[^\w\s] ?|\w+(['.:,-]\w+)*", word) for word in words)
    assert all(word not in (script.START, script.END) for word in words)


SPLITS = (
    [("I run.", "저는 뛰어요."), ("You run.", "뛰어요.")],
    [("I swim, Tom.", "저는 수영해요.")],
)


def vectorize(token):
    return script.vectorize(script.read_settings(["--token", token]), SPLITS)


def test_the_word_tables_have_training_words_and_one_unknown(capsys):
    training, validation, notes = vectorize("word")
    assert training[0] == (["I", "run", "."], ["저는", "뛰어요", "."])
    assert validation == [(["I", "swim", ", ", "Tom", "."], ["저는", "수영해요", "."])]
    english, korean = script.tables_of(notes)
    assert set(english) == {"I", "You", "run", ".", script.UNKNOWN}
    assert set(korean) == {script.START, script.END, "저는", "뛰어요", ".", script.UNKNOWN}
    assert list(english) == sorted(english) and list(korean) == sorted(korean)
    unknown = english[script.UNKNOWN]
    assert script.to_ids(validation[0][0], english) == [
        english["I"], *[unknown] * 3, english["."],
    ]  # fmt: skip
    assert script.to_ids(["수영해요"], korean) == [korean[script.UNKNOWN]]
    assert notes["length"] == 6  # five words, and the end
    assert capsys.readouterr().out.splitlines() == [
        "English: 5 different words; 3 of 5 in validation sentences are not among them",
        "Korean: 6 different words; 1 of 3 in validation sentences are not among them",
    ]


def test_the_character_tables_have_no_unknown(capsys):
    _, validation, notes = vectorize("char")
    english, korean = script.tables_of(notes)
    assert set(english) == set("I run.You") and script.UNKNOWN not in korean
    assert len(script.to_ids(validation[0][0], english)) == len("I  o.")
    assert notes["length"] == len("I swim, Tom.") + 1
    assert capsys.readouterr().out.splitlines() == [
        "English: 8 different characters; 7 of 12 in validation sentences are not among them",
        "Korean: 9 different characters; 3 of 8 in validation sentences are not among them",
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_unknown_word_is_a_row_of_its_own_in_the_arrays(architecture):
    _, validation, notes = vectorize("word")
    tables = script.tables_of(notes)
    make_dataset, _, _ = script.choose_architecture(notes)
    inputs, target = next(iter(make_dataset(validation, *tables, 1)))
    read = inputs[0].numpy()[0, :5]
    assert (read.sum(-1) == 1).all()
    unknown = tables[0][script.UNKNOWN]
    assert read.argmax(-1).tolist() == [tables[0]["I"], unknown, unknown, unknown, tables[0]["."]]
    korean = [tables[1][word] for word in ("저는", script.UNKNOWN, ".", script.END)]
    assert target.numpy()[0, :4].argmax(-1).tolist() == korean


def test_training_says_how_many_words_validation_has_that_it_never_saw(word_model):
    for side, language in enumerate(["English", "Korean"]):
        known = {word for pair in word_model.training for word in script.split_words(pair[side])}
        said = [word for pair in word_model.validation for word in script.split_words(pair[side])]
        unknown = sum(word not in known for word in said)
        assert 0 < unknown < len(said)
        line = f"{unknown} of {len(said)} in validation sentences are not among them"
        size = len(known) + (1 if language == "English" else 3)
        assert f"{language}: {size} different words; {line}\n" in word_model.out
        assert set(word_model.tables[side]) - known <= {script.START, script.END, script.UNKNOWN}


def translate_stdin(path, text, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="ascii")
    monkeypatch.setattr(sys, "stdin", stdin)
    return call("translate", "--model-path", path)


def test_unknown_words_become_one_symbol_and_are_named_once(word_model, monkeypatch):
    words = script.split_words(word_model.training[0][0])
    one, other = (script.join_words([new, *words[1:]]) for new in ("Zebras", "Yaks"))
    text = f"{one}\n{script.join_words(words)}\n{other}\nZebras\n\n"
    result = translate_stdin(word_model.path, text, monkeypatch)
    assert result.status == 0
    first, known, second, alone, empty = result.out.split("\n")[:-1]
    assert first == second == word_model.translate([one])[0]
    assert known == word_model.training[0][1]
    assert alone == word_model.translate(["Yaks"])[0] and empty == ""
    what = "2 words that training never saw, taken for one unknown word: 'Yaks Zebras'"
    assert result.err == f"warning: {what}\n"


def test_a_line_of_many_words_is_cut_by_an_encoder_decoder(train_small, monkeypatch):
    model = train_small("word", "encoder-decoder")
    length = model.notes["length"]
    sentence = " ".join([script.split_words(model.training[0][0])[0]] * (length + 1))
    result = translate_stdin(model.path, sentence, monkeypatch)
    assert result.out.splitlines() == model.translate([sentence.rpartition(" ")[0]])
    cut = f"1 sentences to their first {length} words, all that the model takes"
    assert result.err == f"warning: cut {cut}\n"


# ---------------------------------------- The same length ----------------------------------------


PAIRS = [("ab", "가나다"), ("abc", "가"), ("c", "나나")]
ENGLISH = {"a": 0, "b": 1, "c": 2}
KOREAN = {script.START: 0, script.END: 1, "가": 2, "나": 3, "다": 4}


def test_both_arrays_have_the_same_length():
    """Input: all-zero rows up to the length. Target: the Korean sentence, then end characters."""
    dataset = script.make_same_length_dataset(5, PAIRS, ENGLISH, KOREAN, 2)
    batches = [(inputs, target) for inputs, target in dataset]
    assert len(dataset) == len(batches) == 2
    for (input_data,), target_data in batches:
        assert input_data.dtype == target_data.dtype == tf.float32
    assert [inputs[0].shape for inputs, _ in batches] == [(2, 5, 3), (1, 5, 3)]
    assert [target.shape for _, target in batches] == [(2, 5, 5), (1, 5, 5)]
    rows = np.eye(6, 5)  # the last one is all zero: padding
    english = [[0, 1, 5, 5, 5], [0, 1, 2, 5, 5], [2, 5, 5, 5, 5]]
    korean = [[2, 3, 4, 1, 1], [2, 1, 1, 1, 1], [3, 3, 1, 1, 1]]
    input_data = np.concatenate([inputs[0] for inputs, _ in batches])
    target_data = np.concatenate([target for _, target in batches])
    np.testing.assert_array_equal(input_data, rows[english][..., :3])
    np.testing.assert_array_equal(target_data, rows[korean])


def test_same_length_batches_are_shuffled_by_the_seed_and_complete():
    def order(dataset):
        return [ids for _, target in dataset for ids in target.numpy().argmax(-1).tolist()]

    pairs = [("a", "가" * n) for n in range(1, 30)]
    make_dataset = functools.partial(script.make_same_length_dataset, 40, pairs, ENGLISH, KOREAN, 4)
    in_order = [[2] * n + [1] * (40 - n) for n in range(1, 30)]
    dataset = make_dataset(7)
    first, second = order(dataset), order(dataset)
    assert order(make_dataset()) == in_order == sorted(first) == sorted(second)
    assert in_order != first != second != in_order
    assert first == order(make_dataset(7)) != order(make_dataset(8))


def test_the_length_is_that_of_the_longest_sentence_and_its_end(same_length):
    longest = max(len(same_length.split(side)) for pair in same_length.pairs for side in pair)
    assert same_length.notes["length"] == longest + 1
    for (input_data,), target_data in same_length.dataset(same_length.pairs, 8):
        assert input_data.shape[1] == target_data.shape[1] == longest + 1
        # Each translation has its end.
        assert (target_data.numpy()[:, -1].argmax(-1) == same_length.tables[1][script.END]).all()


def test_the_architecture_is_one_stack_of_bidirectional_lstms(same_length):
    model, (english, korean) = same_length.model, map(len, same_length.tables)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["InputLayer", "Bidirectional", "Bidirectional", "Dense"]
    assert [tensor.shape for tensor in model.inputs] == [(None, None, english)]
    assert [tensor.shape for tensor in model.outputs] == [(None, None, korean)]
    assert model.inputs[0].dtype == "float32"
    first, second, dense = model.layers[1:]
    latent_dim = same_length.notes["settings"]["latent_dim"]
    for layer, rows in (first, english), (second, 2 * latent_dim):
        for reader in layer.forward_layer, layer.backward_layer:
            assert isinstance(reader, keras.layers.LSTM)
            assert reader.return_sequences and not reader.return_state
            # One-hot rows go straight into the first kernel.
            assert reader.cell.kernel.shape == (rows, 4 * latent_dim)
    assert dense.activation is keras.activations.softmax
    # Each layer reads the one before it, whole.
    for layer, before in (first, model.layers[0]), (second, first), (dense, second):
        assert layer.input is before.output


def test_decoding_is_one_argmax_over_all_positions(same_length):
    (english, korean), length = same_length.tables, same_length.notes["length"]
    sentences = [sentence for sentence, _ in same_length.pairs]
    rows = np.zeros((len(sentences), length, len(english)), "float32")
    for row, sentence in zip(rows, sentences):
        # Unknown words are there under one id, unknown characters not at all.
        words = [
            word if word in english else script.UNKNOWN for word in same_length.split(sentence)
        ]
        ids = [english[word] for word in words if word in english]
        row[range(len(ids)), ids] = 1
    join, words = script.TOKENS[same_length.token][1], [*korean]
    expected = []
    for choice in same_length.model(rows).numpy().argmax(-1):
        chosen = [words[id] for id in choice]
        expected.append(join(chosen[: [*chosen, script.END].index(script.END)]))
    assert same_length.translate(sentences) == expected


def test_padding_counts_in_loss_and_accuracy(same_length):
    model = same_length.build()
    model.set_weights(same_length.model.get_weights())
    script.compile_model(model, 0.01, 100)
    dataset = same_length.dataset(same_length.validation + same_length.training[:7], 5)
    shown = model.evaluate(dataset, verbose=0, return_dict=True)
    losses, hits = [], []
    for inputs, target in dataset:
        probabilities, target = model(inputs).numpy().astype(np.float64), target.numpy()
        assert (target.sum(-1) == 1).all()
        losses += [*-np.log((probabilities * target).sum(-1)).ravel()]
        hits += [*(probabilities.argmax(-1) == target.argmax(-1)).ravel()]
    assert len(losses) == 13 * same_length.notes["length"] and 0 < np.mean(hits) < 1
    assert shown["loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert shown["accuracy"] == pytest.approx(np.mean(hits), abs=1e-5)


def test_the_same_length_decoder_pads_and_refuses_more_than_its_length(same_length):
    length, korean = same_length.notes["length"], same_length.tables[1]
    decode = script.make_same_length_decoder(same_length.model, korean, length)
    ids = np.array([[0, 1, 2], [2, 1, script.PADDING]], "int32")
    padded = np.pad(ids, [(0, 0), (0, length - 3)], constant_values=script.PADDING)
    assert decode(tf.constant(ids)).shape == (2, length)
    np.testing.assert_array_equal(decode(tf.constant(ids)), decode(tf.constant(padded)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.zeros([1, length + 1], tf.int32))


def test_an_input_longer_than_the_same_length_is_refused(same_length):
    length, kind = same_length.notes["length"], same_length.token
    sentence = {"char": "a" * length, "word": " ".join("a" * length)}[kind]
    at_most = call("translate", sentence, "--model-path", same_length.path)
    assert at_most.status == 0 and at_most.out.count("\n") == 1 and "longer" not in at_most.err
    longer = {"char": sentence + "a", "word": sentence + " a"}[kind]
    known = same_length.training[0][0]
    result = call("translate", known, longer, known, "--model-path", same_length.path)
    assert result.status == 2 and result.out == ""
    sizes = {"char": f"has {length + 1} characters", "word": f"has {length + 1} words"}[kind]
    what = f"{longer[:40]!r} ...: {sizes}; this same-length model was built for {length}"
    assert result.err == f"seq2seq_char.py: error: {what}; shorten it\n"
    with pytest.raises(script.UserError, match=f"was built for {length};"):
        same_length.translate([longer])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_left_out_does_not_count_as_cut(architecture, train_small):
    """A sentence that fits once its unknown characters are left out is translated as it is."""
    model = train_small("char", architecture)
    sentence, korean = model.training[0]
    noisy = "☃" * model.notes["length"] + sentence
    result = call("translate", noisy, "--model-path", model.path)
    assert result.status == 0 and result.out == korean + "\n"
    what = "1 characters that training never saw, left out: '☃'"
    assert result.err == f"warning: {what}\n"


# ------------------------------------- All four combinations -------------------------------------


def test_each_combination_learns_a_few_dozen_pairs(small):
    sentences = [english for english, _ in small.training]
    outputs = small.translate(sentences)
    exact = np.mean([out == korean for out, (_, korean) in zip(outputs, small.training)])
    assert exact >= 0.95
    shown = re.search(r"^training +54 of 54 +([0-9.]+)% +[0-9.]+%$", small.out, re.MULTILINE)
    assert float(shown[1]) == pytest.approx(100 * exact, abs=0.06)
    assert re.search(r"^validation +6 of 6 +[0-9.]+% +[0-9.]+%$", small.out, re.MULTILINE)
    assert "Validation sentences after epoch 5:" in small.out
    assert f"Saved in {small.path}." in small.out
    with open(small.path.parent / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, EPOCHS + 1))
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(rows[0])
    names = sorted(file.name for file in small.path.parent.iterdir())
    assert names == ["history.csv", "model.keras"]
    chosen = small.notes["settings"]
    assert (chosen["token"], chosen["architecture"]) == (small.token, small.architecture)


def test_a_fresh_process_needs_no_flags_to_translate_the_same(small):
    sentences = [english for english, _ in small.pairs]
    arguments = ["translate", "--model-path", small.path]
    stdin = "\n".join(sentences).encode()
    result = run(*arguments, stdin=stdin, env={"PYTHONHASHSEED": "77"}, cwd="/")
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout.decode().split("\n")[:-1] == small.translate(sentences)
    # Validation sentences may have what training never saw; nothing else is to be said.
    assert result.stderr.count(b"\n") <= 1 and b"error" not in result.stderr


def test_alone_or_in_a_batch_the_translations_are_the_same(small):
    sentences = [english for english, _ in small.pairs] + [""]
    together = small.translate(sentences)
    assert together[-1] == "" and len(set(together)) > 50
    assert small.translate(sentences, batch_size=1) == together
    assert small.translate(sentences[::-1], batch_size=7)[::-1] == together


def test_an_interrupted_run_goes_on_unless_it_is_of_another_kind(
    train_small, tmp_path, monkeypatch
):
    path = tmp_path / "model.keras"
    corpus = train_small("char", "encoder-decoder").corpus
    arguments = ["--data-path", corpus, "--model-path", path, "--epochs", "3", *TINY]
    kind = ["--token", "word", "--architecture", "same-length"]
    assert interrupt([*arguments, *kind], monkeypatch, after=2).status == 130
    checkpoint = tmp_path / "checkpoint-model.keras"
    for other, changed in [
        (["--token", "char", "--architecture", "same-length"], "token"),
        (["--token", "word", "--architecture", "encoder-decoder"], "architecture"),
        (["--token", "char", "--architecture", "encoder-decoder"], "token, architecture"),
    ]:
        result = call_without_training([*arguments, *other], monkeypatch)
        reason = f"interrupted run in {checkpoint} (changed: {changed}).\n"
        assert f"Not going on with the {reason}" in result.out
        assert result.err.startswith("\n0 of 3 epochs are done;")
    result = call(*arguments, *kind)
    assert result.status == 0 and "Not going on" not in result.out
    assert "Going on with an interrupted run, after epoch 2.\n" in result.out
    assert "Epoch 3/3" in result.out and "Epoch 2/3" not in result.out
    assert sorted(file.name for file in tmp_path.iterdir()) == ["history.csv", "model.keras"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--token", "wrong"], "TOKEN = wrong: must be char or word"),
        (["--token", "Word"], "TOKEN = Word: must be char or word"),
        (["--token", ""], "TOKEN = : must be char or word"),
        (
            ["--architecture", "wrong"],
            "ARCHITECTURE = wrong: must be encoder-decoder or same-length",
        ),
        (
            ["--architecture=same_length"],
            "ARCHITECTURE = same_length: must be encoder-decoder or same-length",
        ),
        (["--tokens=word"], "--tokens=word: no such setting; did you mean --token?"),
    ],
)
@pytest.mark.parametrize("command", [[], ["translate", "Hello."]], ids=["train", "translate"])
def test_other_kinds_are_refused_in_one_line(command, arguments, message):
    result = call(*command, *arguments)
    assert result.status == 2 and result.out == ""
    assert result.err == f"seq2seq_char.py: error: {message}\n"


@pytest.mark.parametrize("value", ["words", "Char", "", None, 3, ["char"]])
def test_a_token_or_architecture_edited_to_nonsense_is_refused(value, monkeypatch):
    for name, choices in ("TOKEN", "char or word"), (
        "ARCHITECTURE", "encoder-decoder or same-length"
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(script, name, value)
            message = re.escape(f"{name} = {value}: must be {choices}")
            with pytest.raises(script.UserError, match=f"^{message}$"):
                script.read_settings([])


def test_the_lesson_is_the_default():
    assert (script.TOKEN, script.ARCHITECTURE) == ("char", "encoder-decoder")


@pytest.mark.parametrize(
    "architecture, shown",
    [
        (
            "encoder-decoder",
            """\
encoder_input_data   (1, 5, 6)      Don't go ,_ Tom .
decoder_input_data   (1, 5, 7)      ^  가지 말아요 ,_ 톰
decoder_target_data  (1, 5, 7)      가지 말아요 ,_ 톰 $
""",
        ),
        (
            "same-length",
            """\
input_data           (1, 7, 6)      Don't go ,_ Tom .  0  0
target_data          (1, 7, 7)      가지 말아요 ,_ 톰 $  $  $
""",
        ),
    ],
)
def test_the_first_pair_is_shown_in_words(architecture, shown, capsys):
    pair = ["Don't", "go", ", ", "Tom", "."], ["가지", "말아요", ", ", "톰"]
    english = script.build_table([[script.UNKNOWN], pair[0]])
    korean = script.build_table([[script.UNKNOWN, script.START, script.END], pair[1]])
    notes = {"settings": {"token": "word", "architecture": architecture}, "length": 7}
    make_dataset, _, _ = script.choose_architecture(notes)
    script.show_arrays(make_dataset([pair], english, korean, 1), english, korean)
    legend = "Each is a one-hot row: _ is a space, ^ the start, $ the end, 0 a row of padding.\n\n"
    lines = [line.rstrip() + "\n" for line in capsys.readouterr().out.splitlines()]
    assert "".join(lines) == shown + legend


def test_training_shows_the_arrays_of_its_kind(small):
    names = re.findall(r"^(\w+_data) +\(1, \d+, \d+\) ", small.out, re.MULTILINE)
    assert (
        names
        == {
            "encoder-decoder": ["encoder_input_data", "decoder_input_data", "decoder_target_data"],
            "same-length": ["input_data", "target_data"],
        }[small.architecture]
    )
    if small.architecture == "same-length":
        (length,) = set(re.findall(r"_data +\(1, (\d+), \d+\)", small.out))
        assert int(length) == small.notes["length"]
