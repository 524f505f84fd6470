"""The lesson, in its order: arrays, masks, states, loss, inference, greedy decoding."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import bundled_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

import seq2seq_char as script

PAIRS = [(script.normalize_source(english), korean) for english, korean in bundled_pairs()[::40]]
ENGLISH = script.build_table(english for english, _ in PAIRS)
KOREAN = script.build_table([script.START, script.END, *(korean for _, korean in PAIRS)])


def batches(pairs=PAIRS, batch_size=8, shuffle_seed=None):
    return script.make_dataset(pairs, (ENGLISH, KOREAN), batch_size, shuffle_seed)


def texts_of(array, table):
    """Read sentences back from one-hot rows, with numpy alone."""
    characters = np.array(list(table))
    return ["".join(characters[rows[rows.any(-1)].argmax(-1)]) for rows in np.asarray(array)]


def batch_of(trained, size=16):
    dataset = script.make_dataset(trained.training, trained.tables, size)
    return next(iter(dataset))


def more_padding(array):
    return tf.pad(array, [[0, 0], [0, 7], [0, 0]])


# ---------------------------------------- Vectorization ----------------------------------------


@pytest.mark.parametrize(
    "spelling", ["I am busy.", "i am busy", "I AM BUSY!", "I am busy!!", "I am busy . "]
)
def test_spellings_of_a_sentence_are_one_input(spelling):
    assert script.normalize_source(spelling) == "i am busy"


def test_a_question_stays_a_question_and_curly_quotes_become_straight():
    assert script.normalize_source("Who’s there?") == "who's there?"


@given(st.text())
@settings(deadline=None)
def test_normalizing_twice_changes_nothing(text):
    once = script.normalize_source(script.clean(text))
    assert script.normalize_source(script.clean(once)) == once


def test_a_table_numbers_the_characters_in_order():
    assert script.build_table(["ba", "ca"]) == {"a": 0, "b": 1, "c": 2}


@given(st.text(alphabet=sorted(set(KOREAN) - {script.END, script.START, " "}), max_size=30))
@settings(deadline=None)
def test_text_to_ids_to_text_is_the_identity_for_known_characters(text):
    assert script.to_text(script.to_ids(text + script.END, KOREAN), KOREAN) == text


def test_text_ends_at_the_end_character_and_begins_and_ends_with_no_space():
    table = script.build_table([script.START, script.END, " ab"])
    assert script.to_text(script.to_ids(f" a b {script.END}ba", table), table) == "a b"


def test_unknown_characters_are_left_out_or_become_the_unknown_one():
    assert script.to_ids("a☃b", {"a": 0, "b": 1}) == [0, 1]
    assert script.to_ids("a☃b", {"a": 0, "b": 1, script.UNKNOWN: 2}) == [0, 2, 1]


def test_arrays_have_the_shapes_of_the_lesson():
    (encoder_input, decoder_input), target = script.one_hot_arrays(
        [[0, 1, 2], [3, -1, -1]], np.array([[0, 4, 5, 1], [0, 4, 1, -1]]), 7, 9
    )
    assert encoder_input.shape == (2, 3, 7)
    assert decoder_input.shape == target.shape == (2, 3, 9)
    assert encoder_input.dtype == decoder_input.dtype == target.dtype == tf.float32


def test_the_target_is_one_step_ahead_at_every_real_position():
    for (_, decoder_input), target in batches():
        decoder_input, target = decoder_input.numpy(), target.numpy()
        np.testing.assert_array_equal(target[:, :-1], decoder_input[:, 1:])
        assert (decoder_input[:, 0].argmax(-1) == KOREAN[script.START]).all()
        for rows in target:
            assert rows[rows.any(-1)][-1].argmax() == KOREAN[script.END]


def test_padding_is_all_zero_rows_at_the_end_and_nowhere_else():
    for (encoder_input, decoder_input), target in batches():
        for array in encoder_input.numpy(), decoder_input.numpy(), target.numpy():
            assert set(np.unique(array.sum(-1))) <= {0.0, 1.0}
            # Once a row is padding, all that follow are.
            assert (np.diff(array.any(-1).astype(int), axis=1) <= 0).all()


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


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_the_number_of_batches_is_computed_from_the_lengths(batch_size):
    dataset = batches(batch_size=batch_size, shuffle_seed=1)
    assert len(dataset) == sum(1 for _ in dataset)


def test_like_lengths_share_a_batch():
    real = padded = 0
    for (encoder_input, _), target in batches(PAIRS * 8, 32, shuffle_seed=1):
        real += np.sum(encoder_input) + np.sum(target)
        padded += np.prod(encoder_input.shape[:2]) + np.prod(target.shape[:2])
    assert padded < 1.3 * real


def test_combining_characters_come_out_as_they_went_in():
    sentences = ["हिन्दी में", "தமிழ் மொழி", "বাংলা ভাষা ক্‌ষ", "می‌خواهم"]
    for sentence in sentences:
        table = script.build_table([script.START, script.END, sentence])
        assert script.clean(sentence) == sentence
        assert script.to_text(script.to_ids(sentence + script.END, table), table) == sentence


# ---------------------------------------- Training model ----------------------------------------


def layers_between(model, start, end):
    """Return the names of the layers on each path of the graph from tensor `start` to `end`.

    Each path is a frozenset; a KerasTensor knows the node that made it.
    """
    node = end._keras_history.operation._inbound_nodes[end._keras_history.node_index]
    if end is start:
        return {frozenset()}
    name = end._keras_history.operation.name
    inputs = [tensor for tensor in node.arguments.keras_tensors]
    paths = {path for tensor in inputs for path in layers_between(model, start, tensor)}
    return {path | {name} for path in paths}


def test_nothing_but_h_and_c_passes_from_the_encoder_to_the_decoder(trained):
    model = trained.model
    source, fed = (tensor for tensor in model.inputs)
    paths = layers_between(model, source, model.outputs[0])
    assert paths and all(("state_h" in path) != ("state_c" in path) for path in paths)
    assert all("decoder_lstm" in path for path in paths)
    assert not any(
        path & {"state_h", "state_c"} for path in layers_between(model, fed, model.outputs[0])
    )
    # h and c are the final states of the two directions, and not the encoder's outputs.
    outputs, *states = model.get_layer("encoder_lstm").output
    joined = [*model.get_layer("state_h").input, *model.get_layer("state_c").input]
    assert {id(state) for state in joined} == {id(states[place]) for place in (0, 1, 2, 3)}
    assert id(outputs) not in {id(tensor) for tensor in joined}
    encoder_model, decoder_model = script.build_inference_models(model)
    assert [tensor.shape[-1] for tensor in encoder_model.outputs] == [96, 96]
    assert [tensor.shape for tensor in decoder_model.inputs[1:]] == [(None, 96)] * 2
    assert not any("encoder" in layer.name for layer in decoder_model.layers)


def test_h_starts_h_and_c_starts_c(trained):
    """Both directions' h are joined into the decoder's h, and both c into its c."""
    (encoder_input, _), _ = batch_of(trained)
    encoder_model, _ = script.build_inference_models(trained.model)
    state_h, state_c = encoder_model(encoder_input)
    layer = trained.model.get_layer("encoder_lstm")
    _, forward_h, forward_c, backward_h, backward_c = layer(
        encoder_input, mask=tf.reduce_any(encoder_input > 0, -1)
    )
    np.testing.assert_allclose(state_h, tf.concat([forward_h, backward_h], -1), atol=1e-5)
    np.testing.assert_allclose(state_c, tf.concat([forward_c, backward_c], -1), atol=1e-5)
    # h is bounded by tanh; c is not, and here it is larger.
    assert np.abs(state_h).max() <= 1 < np.abs(state_c).max()
    lstm = trained.model.get_layer("decoder_lstm")
    wired = lstm._inbound_nodes[0].arguments.keras_tensors
    names = [tensor._keras_history.operation.name for tensor in wired]
    assert names == ["decoder_inputs", "state_h", "state_c"]


def test_one_hot_rows_go_straight_into_large_kernels():
    model = script.build_training_model(30, 40, 8)
    reader, decoder = model.get_layer("encoder_lstm").forward_layer, model.get_layer("decoder_lstm")
    assert reader.cell.kernel.shape == (30, 32) and decoder.cell.kernel.shape == (40, 64)
    for layer in reader, decoder:
        assert np.std(layer.cell.kernel) > 1  # Glorot's are ten times as small


def test_padding_changes_no_state_output_loss_or_accuracy(trained):
    (encoder_input, decoder_input), target = batch_of(trained)
    expected = trained.model((encoder_input, decoder_input))
    padded = trained.model((more_padding(encoder_input), more_padding(decoder_input)))
    np.testing.assert_allclose(padded[:, : target.shape[1]], expected, atol=1e-5)
    for figure in script.cross_entropy, script.accuracy:
        values = figure(target, expected)
        np.testing.assert_allclose(figure(more_padding(target), padded), values, atol=1e-4)
    encoder_model, _ = script.build_inference_models(trained.model)
    for state, same in zip(
        encoder_model(encoder_input), encoder_model(more_padding(encoder_input))
    ):
        np.testing.assert_allclose(state, same, atol=1e-5)


def test_loss_and_accuracy_are_those_of_real_characters():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(5), (3, 4)).astype("float32")
    ids = [[0, 4, 2, -1], [3, -1, -1, -1], [1, 1, 2, 4]]
    losses, hits = [], []
    for row, characters in zip(probabilities.astype(np.float64), ids):
        for values, id in zip(row, characters):
            if id >= 0:
                losses.append(-0.9 * np.log(values[id]) - 0.1 * np.mean(np.log(values)))
                hits.append(values.argmax() == id)
    assert len(losses) == 8
    target = tf.one_hot(ids, 5)
    np.testing.assert_allclose(script.cross_entropy(target, probabilities), losses, rtol=1e-4)
    np.testing.assert_array_equal(script.accuracy(target, probabilities), hits)


def test_what_is_shown_as_loss_is_what_is_optimised(trained):
    """On one batch: the mean over its real characters, of which the gradient is taken."""
    inputs, target = batch_of(trained)
    model = script.build_model(trained.notes)
    script.compile_model(model, 0.01, 100)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(script.cross_entropy(target, model(inputs)))
    norm = tf.linalg.global_norm(tape.gradient(loss, model.trainable_variables))
    shown = model.evaluate(tf.data.Dataset.from_tensors((inputs, target)), verbose=0)
    assert shown[0] == pytest.approx(float(loss), rel=1e-4)
    assert shown[1] == pytest.approx(np.mean(script.accuracy(target, model(inputs))), rel=1e-4)
    assert float(norm) > 0


def test_accuracy_is_exact_over_batches_of_different_lengths(trained):
    model = trained.model
    script.compile_model(model, 0.01, 100)
    dataset = script.make_dataset(trained.training, trained.tables, 7)
    hits = [np.array(script.accuracy(target, model(inputs))) for inputs, target in dataset]
    shown = model.evaluate(dataset, verbose=0, return_dict=True)
    assert shown["accuracy"] == pytest.approx(np.mean(np.concatenate(hits)), rel=1e-5)


def test_the_learning_rate_falls_to_zero():
    model = script.build_training_model(3, 4, 2)
    script.compile_model(model, 0.5, 200)
    rates = [float(model.optimizer._learning_rate(step)) for step in range(201)]
    assert max(rates) == pytest.approx(0.5, rel=0.01)
    assert rates[200] == pytest.approx(0, abs=1e-6) and np.diff(rates[20:]).max() <= 0


def test_the_optimizer_is_one_of_keras_and_is_there_before_the_first_step():
    model = script.build_training_model(3, 4, 2)
    script.compile_model(model, 0.5, 200)
    assert type(model.optimizer).__module__.startswith("keras.")
    assert model.optimizer.built and len(model.optimizer.variables) > len(model.weights)


# --------------------------------------- Inference models ---------------------------------------


def test_the_inference_models_share_the_weights_of_the_training_model(trained):
    models = script.build_inference_models(trained.model)
    shared = {id(weight) for weight in trained.model.weights}
    assert {id(weight) for model in models for weight in model.weights} == shared


def test_stepping_the_decoder_model_gives_the_outputs_of_the_training_model(trained):
    (encoder_input, decoder_input), target = batch_of(trained)
    expected = trained.model((encoder_input, decoder_input)).numpy()
    encoder_model, decoder_model = script.build_inference_models(trained.model)
    states = encoder_model(encoder_input)
    is_real = target.numpy().any(-1)
    for step in range(decoder_input.shape[1]):
        probabilities, *states = decoder_model([decoder_input[:, step : step + 1], *states])
        real = is_real[:, step]
        np.testing.assert_allclose(probabilities.numpy()[real, 0], expected[real, step], atol=1e-5)


def test_greedy_decoding_is_the_six_steps(trained):
    """The compiled loop against the same in plain Python, with numpy's argmax."""
    encoder_model, decoder_model = script.build_inference_models(trained.model)
    english, korean = trained.tables
    decode = script.make_greedy_decoder(trained.model, korean, 30)
    for sentence, _ in trained.validation:
        ids = script.to_ids(sentence, english)
        states = encoder_model(tf.one_hot([ids], len(english)))
        character, wanted = korean[script.START], []
        while character != korean[script.END] and len(wanted) < 30:
            probabilities, *states = decoder_model(
                [tf.one_hot([[character]], len(korean)), *states]
            )
            character = int(np.argmax(probabilities[0, 0]))
            wanted.append(character)
        assert list(decode(tf.constant([ids]))[0].numpy()) == wanted


def test_the_decoder_stops_at_the_limit_and_at_the_end_character(trained):
    korean = trained.tables[1]
    ids = tf.constant([script.to_ids(trained.training[0][0], trained.tables[0])])
    for limit in 1, 3:
        assert script.make_greedy_decoder(trained.model, korean, limit)(ids).shape == (1, limit)
    row = list(script.make_greedy_decoder(trained.model, korean, 500)(ids).numpy()[0])
    assert row.index(korean[script.END]) == len(row) - 1 < 499


def test_what_was_learned_comes_out_in_any_spelling(trained):
    sentences, references = zip(*trained.training)
    outputs = trained.translate(sentences)
    right = np.mean([output == korean for output, korean in zip(outputs, references)])
    assert right >= 0.9
    assert len(set(outputs)) > len(outputs) / 2
    for spelling in (str.upper, str.capitalize, "{}.".format, "{}!".format, " {} ".format):
        assert trained.translate([spelling(sentence) for sentence in sentences]) == outputs


def test_one_by_one_and_in_any_batch_the_translations_are_the_same(trained):
    sentences = [english for english, _ in trained.training + trained.validation]
    together = trained.translate(sentences)
    assert trained.translate(sentences, batch_size=1) == together
    assert trained.translate(sentences[::-1], batch_size=7)[::-1] == together


def test_a_sentence_with_no_known_character_gives_an_empty_line(trained):
    assert trained.translate(["", "☃", "I"])[:2] == ["", ""]
    assert trained.translate([]) == []


def test_the_script_defines_before_it_uses():
    """Nothing that the lesson calls is defined below the line where it ends."""
    source = (script.Path(script.__file__)).read_text(encoding="utf-8")
    lesson, plumbing = source.split("# The lesson ends here.")
    below = script.re.findall(r"^(?:def|class) (\w+)", plumbing, script.re.MULTILINE)
    assert below and not [name for name in below if script.re.search(rf"\b{name}\(", lesson)]
    assert issubclass(keras.optimizers.AdamW, keras.optimizers.Optimizer)
