"""The two variants of the lesson: words for characters, and the case of one known length."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import EPOCHS, SMALL, refused, train_small
from hypothesis import given, settings
from hypothesis import strategies as st

import seq2seq_char as script


@pytest.fixture(scope="module")
def words(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    return train_small(corpus, folder, "--epochs", EPOCHS, "--token", "word", *SMALL)


@pytest.fixture(scope="module")
def same_length(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("same-length")
    arguments = ["--epochs", EPOCHS, "--architecture", "same-length", "--token", "word", *SMALL]
    return train_small(corpus, folder, *arguments)


@pytest.mark.parametrize(
    "sentence, wanted",
    [
        ("I don't know.", [" I", " don't", " know", "."]),
        ('Yes, "I" do!', [" Yes", ",", ' "', "I", '"', " do", "!"]),
        ("It is 7:30 or 1,000.5 now", [" It", " is", " 7:30", " or", " 1,000.5", " now"]),
        ("톰 씨는 바빠요.", [" 톰", " 씨는", " 바빠요", "."]),
        ("हिन्दी में", [" हिन्दी", " में"]),
        ("", []),
    ],
)
def test_a_sentence_is_a_list_of_words_and_marks(sentence, wanted):
    assert script.split_sentence(sentence, "word") == wanted
    assert script.split_sentence(sentence, "char") == sentence


@given(st.text())
@settings(deadline=None)
def test_joining_the_words_gives_the_sentence(text):
    sentence = script.clean(text)
    assert "".join(script.split_sentence(sentence, "word")).strip() == sentence


def test_words_are_learned(words):
    sentences, references = zip(*words.training)
    right = np.mean([o == k for o, k in zip(words.translate(sentences), references)])
    assert right >= 0.9
    assert " " + references[0].split()[0].strip(".?!") in words.tables[1]


def test_a_word_never_seen_is_one_unknown_word(words):
    assert script.UNKNOWN in words.tables[0]
    first, second = words.translate(["I am xyzzy.", "I am frobnitz."])
    assert first == second != ""


def test_same_length_arrays_are_padded_with_zeros_and_with_ends():
    (input_data,), target_data = script.same_length_arrays(
        tf.constant([[2, 3], [4, -1]]), tf.constant([[0, 5, 6, 1], [0, 5, 1, -1]]), 7, 8, 5, 1
    )
    assert input_data.shape == (2, 5, 7) and target_data.shape == (2, 5, 8)
    assert input_data.numpy().any(-1).tolist() == [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert target_data.numpy().argmax(-1).tolist() == [[5, 6, 1, 1, 1], [5, 1, 1, 1, 1]]
    assert (target_data.numpy().sum(-1) == 1).all()


def test_same_length_answers_at_each_position_without_a_decoder(same_length):
    model = same_length.model
    assert len(model.inputs) == 1
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["InputLayer", "Bidirectional", "Bidirectional", "Dense"]
    sentences, references = zip(*same_length.training)
    outputs = same_length.translate(sentences)
    assert np.mean([o == k for o, k in zip(outputs, references)]) >= 0.9
    assert same_length.translate(sentences, batch_size=3) == outputs
    # The answer at all positions at once is that of the training model.
    ids = script.source_ids(sentences[0], same_length.notes)
    length = same_length.notes["length"]
    padded = ids + [script.PADDING] * (length - len(ids))
    probabilities = model((tf.one_hot([padded], len(same_length.tables[0])),))
    best = probabilities.numpy()[0].argmax(-1)
    assert script.to_text(best, same_length.tables[1]) == outputs[0]


def test_same_length_cuts_longer_sentences_and_has_no_steps(same_length):
    long, *short = "I am " * 40, *[english for english, _ in same_length.training[:3]]
    cut = script.normalize_source(long)
    cut = "".join(script.split_sentence(cut, "word")[: same_length.notes["length"]])
    wanted = same_length.translate([cut, *short])
    assert same_length.translate([long, *short]) == wanted
    message = refused("translate", "--steps", "I am.", "--model-path", same_length.path)
    assert "--steps" in message


@pytest.mark.parametrize("kind", ["words", "same_length"])
def test_a_saved_model_knows_what_it_is(kind, request):
    small = request.getfixturevalue(kind)
    assert small.notes["settings"]["TOKEN"] == "word"
    for weight, again in zip(small.model.get_weights(), script.load_model(small.path)[0].weights):
        np.testing.assert_array_equal(weight, again)
