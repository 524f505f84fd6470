"""The three one-hot arrays: their shapes, the offset of one step, padding, batches."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import bundled_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

import seq2seq_char as script

PAIRS = bundled_pairs()[::20]
ENGLISH = script.build_table(english for english, _ in PAIRS)
KOREAN = script.build_table([script.START, script.END, *(korean for _, korean in PAIRS)])


def batches(pairs=PAIRS, batch_size=8, shuffle_seed=None):
    return script.make_dataset(pairs, ENGLISH, KOREAN, batch_size, shuffle_seed)


def texts_of(array, table):
    """Read sentences back from one-hot rows, with numpy alone."""
    characters = np.array(list(table))
    return ["".join(characters[rows[rows.any(-1)].argmax(-1)]) for rows in np.asarray(array)]


@given(st.text(alphabet=sorted(set(KOREAN) - {script.END, script.START}), max_size=30))
@settings(deadline=None)
def test_text_to_ids_to_text_is_the_identity_for_known_characters(text):
    ids = script.to_ids(text + script.END, KOREAN)
    assert "".join(script.to_characters(ids, KOREAN)) == text


def test_unknown_characters_are_left_out():
    assert script.to_ids("a☃b", {"a": 0, "b": 1}) == [0, 1]


def test_arrays_have_the_shapes_of_the_lesson():
    (encoder_input, decoder_input), target = script.one_hot_arrays(
        [[0, 1, 2], [3, -1, -1]], [[0, 4, 5, 1], [0, 4, 1, -1]], 7, 9
    )
    assert encoder_input.shape == (2, 3, 7)
    assert decoder_input.shape == target.shape == (2, 3, 9)
    assert encoder_input.dtype == decoder_input.dtype == target.dtype == tf.float32


def test_the_target_is_one_step_ahead_at_every_real_position():
    for (_, decoder_input), target in batches():
        decoder_input, target = decoder_input.numpy(), target.numpy()
        np.testing.assert_array_equal(target[:, :-1], decoder_input[:, 1:])
        starts = decoder_input[:, 0].argmax(-1)
        assert (starts == KOREAN[script.START]).all()
        for rows in target:
            assert rows[rows.any(-1)][-1].argmax() == KOREAN[script.END]


def test_padding_is_all_zero_rows_at_the_end_and_nowhere_else():
    for (encoder_input, decoder_input), target in batches():
        for array in encoder_input.numpy(), decoder_input.numpy(), target.numpy():
            is_real = array.any(-1)
            assert set(np.unique(array.sum(-1))) <= {0.0, 1.0}
            # Once a row is padding, all that follow are.
            assert (np.diff(is_real.astype(int), axis=1) <= 0).all()


def test_every_pair_is_there_once_in_each_epoch():
    dataset = batches(shuffle_seed=1)
    for _ in range(2):
        seen = []
        for (encoder_input, _), target in dataset:
            assert len(target) <= 8
            korean = [text.removesuffix(script.END) for text in texts_of(target, KOREAN)]
            seen += zip(texts_of(encoder_input, ENGLISH), korean)
        assert sorted(seen) == sorted(PAIRS)


def test_epochs_differ_in_order_and_seeds_repeat_it():
    def order(dataset):
        return [korean for (_, _), target in dataset for korean in texts_of(target, KOREAN)]

    dataset = batches(shuffle_seed=1)
    first, second = order(dataset), order(dataset)
    assert first != second
    assert first == order(batches(shuffle_seed=1))
    assert first != order(batches(shuffle_seed=2))
    assert order(batches()) == order(batches())


def test_the_number_of_batches_is_known():
    dataset = batches(shuffle_seed=1)
    assert len(dataset) == sum(1 for _ in dataset)


def test_like_lengths_share_a_batch():
    real = padded = 0
    for (encoder_input, _), target in batches(bundled_pairs(), 64, shuffle_seed=1):
        real += np.sum(encoder_input) + np.sum(target)
        padded += np.prod(encoder_input.shape[:2]) + np.prod(target.shape[:2])
    assert padded < 1.2 * real


@pytest.mark.parametrize("pair", [("a☃", "가"), ("☃", "가☃")])
def test_characters_outside_the_tables_never_leave_a_hole(pair):
    english = script.build_table(["ab"])
    korean = script.build_table([script.START, script.END, "가"])
    ((encoder_input, _), target) = next(iter(script.make_dataset([pair], english, korean, 1)))
    assert texts_of(encoder_input, english) == [pair[0].replace("☃", "")]
    assert texts_of(target, korean) == ["가" + script.END]
