"""The training model, its exact figures, and the inference models that share its weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import EPOCHS

import seq2seq_char as script


def test_the_architecture_is_that_of_the_lesson(trained):
    model = trained.model
    num_english, num_korean = map(len, trained.tables)
    assert [tensor.shape for tensor in model.inputs] == [
        (None, None, num_english),
        (None, None, num_korean),
    ]
    assert all(tensor.dtype == "float32" for tensor in model.inputs)
    names = {type(layer).__name__: layer.name for layer in model.layers}
    assert names["Bidirectional"] == "encoder_lstm" and names["LSTM"] == "decoder_lstm"
    assert "Embedding" not in names
    encoder, decoder = model.get_layer("encoder_lstm"), model.get_layer("decoder_lstm")
    reader = encoder.forward_layer
    assert isinstance(reader, keras.layers.LSTM) and isinstance(decoder, keras.layers.LSTM)
    assert reader.return_state and not reader.return_sequences
    # The decoder starts from the final states of both directions, and sees no other output.
    outputs, forward_h, forward_c, backward_h, backward_c = encoder.output
    for name, states in ("state_h", [forward_h, backward_h]), ("state_c", [forward_c, backward_c]):
        joined = model.get_layer(name)
        assert [id(state) for state in joined.input] == [id(state) for state in states]
    fed = {id(tensor) for tensor in decoder._inbound_nodes[0].arguments.keras_tensors}
    wanted = [model.get_layer(name).output for name in ("decoder_inputs", "state_h", "state_c")]
    assert fed == {id(tensor) for tensor in wanted} and id(outputs) not in fed
    # The context is one row for all steps, of the characters of the sentence and nothing else.
    context = keras.Model(
        model.get_layer("encoder_inputs").output, model.get_layer("context").output
    )
    assert context.output.shape == (None, 1, num_korean)
    kinds = [type(layer).__name__ for layer in context.layers]
    assert kinds == ["InputLayer", "ZeroPadding1D", "Conv1D", "GlobalMaxPooling1D", "Dense"]
    # One-hot rows go straight into the kernels.
    latent_dim = trained.notes["settings"]["latent_dim"]
    assert reader.cell.kernel.shape == (num_english, 4 * latent_dim)
    assert decoder.cell.kernel.shape == (num_korean, 8 * latent_dim)


def test_the_inference_models_are_separate_and_share_the_weights(trained):
    encoder_model, decoder_model = script.build_inference_models(trained.model)
    assert encoder_model is not trained.model and decoder_model is not trained.model
    shared = {id(weight) for weight in trained.model.weights}
    assert {id(w) for w in encoder_model.weights + decoder_model.weights} == shared
    # h, c and the context, which the decoder hands on as it is.
    assert len(encoder_model.outputs) == 3 and len(decoder_model.outputs) == 4
    (encoder_input, decoder_input), _ = next(iter(trained.dataset(trained.training, 16)))
    states = encoder_model(encoder_input)
    _, *new_states = decoder_model([decoder_input[:, :1], *states])
    for index, (old, new) in enumerate(zip(states, new_states)):
        assert np.array_equal(old, new) == (index == 2)


def test_stepping_the_decoder_model_gives_the_outputs_of_the_training_model(trained):
    (encoder_input, decoder_input), target = next(iter(trained.dataset(trained.training, 16)))
    expected = trained.model([encoder_input, decoder_input]).numpy()
    encoder_model, decoder_model = script.build_inference_models(trained.model)
    states = encoder_model(encoder_input)
    is_real = target.numpy().any(-1)
    for step in range(decoder_input.shape[1]):
        probabilities, *states = decoder_model([decoder_input[:, step : step + 1], *states])
        real = is_real[:, step]
        np.testing.assert_allclose(probabilities.numpy()[real, 0], expected[real, step], atol=1e-5)


def test_padding_changes_no_state_output_or_loss(trained):
    (encoder_input, decoder_input), target = next(iter(trained.dataset(trained.training, 16)))

    def more(array):
        return tf.pad(array, [[0, 0], [0, 7], [0, 0]])

    expected = trained.model([encoder_input, decoder_input])
    padded = trained.model([more(encoder_input), more(decoder_input)])
    length = target.shape[1]
    np.testing.assert_allclose(padded[:, :length], expected, atol=1e-5)
    loss = script.cross_entropy(target, expected)
    np.testing.assert_allclose(script.cross_entropy(more(target), padded), loss, rtol=1e-5)
    encoder_model, _ = script.build_inference_models(trained.model)
    for state, same in zip(encoder_model(encoder_input), encoder_model(more(encoder_input))):
        np.testing.assert_allclose(state, same, atol=1e-5)


@pytest.mark.parametrize("split", ["training", "validation"])
def test_loss_and_accuracy_are_exact_means_over_real_characters(trained, split):
    model = trained.build()
    model.set_weights(trained.model.get_weights())
    script.compile_model(model, 0.01, 100)
    # Batches of 7 leave a last batch that is smaller: an average of batches would be wrong.
    dataset = trained.dataset(getattr(trained, split), batch_size=7)
    shown = model.evaluate(dataset, verbose=0, return_dict=True)
    losses, hits = [], []
    for inputs, target in dataset:
        probabilities, target = model(inputs).numpy().astype(np.float64), target.numpy()
        is_real = target.any(-1)
        right = np.take_along_axis(probabilities, target.argmax(-1)[..., None], -1)[..., 0]
        losses += list(-np.log(right[is_real]))
        hits += list((probabilities.argmax(-1) == target.argmax(-1))[is_real])
    assert shown["loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert shown["accuracy"] == pytest.approx(np.mean(hits), abs=1e-5)


def test_fit_and_evaluate_show_the_exact_loss_under_its_name(trained):
    header, *rows = (trained.path.parent / "history.csv").read_text().splitlines()
    assert {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"} <= set(header.split(","))
    assert len(rows) == EPOCHS
    last = dict(zip(header.split(","), rows[-1].split(",")))
    model = trained.build()
    model.set_weights(trained.model.get_weights())
    script.compile_model(model, 0.01, 100)
    shown = model.evaluate(trained.dataset(trained.validation, 8), verbose=0, return_dict=True)
    assert float(last["val_loss"]) == pytest.approx(shown["loss"], rel=1e-4)
    assert float(last["val_accuracy"]) == pytest.approx(shown["accuracy"], rel=1e-4)


def test_the_loss_is_smoothed_cross_entropy_over_real_characters():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(5), (3, 4)).astype("float32")
    ids = [[0, 4, 2, -1], [3, -1, -1, -1], [1, 1, 2, 4]]
    losses = []
    for row, characters in zip(np.log(probabilities.astype(np.float64)), ids):
        real = [(logs, id) for logs, id in zip(row, characters) if id >= 0]
        losses += [-0.9 * logs[id] - 0.1 * np.mean(logs) for logs, id in real]
    assert len(losses) == 8
    loss = script.cross_entropy(tf.one_hot(ids, 5), tf.constant(probabilities))
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)


def test_muon_moves_recurrent_kernels_and_adam_the_rest():
    """Muon's step has singular values of about 1, however those of the gradient differ."""
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(n, 8)))[0] for n in (8, 32))
    gradient = tf.constant(left * np.geomspace(1, 0.05, 8) @ right.T, tf.float32)
    start = random.normal(size=(8, 32)).astype("float32")
    names = "recurrent_kernel", "kernel", "kernel"
    recurrent, kernel, plain = (keras.Variable(start, name=name) for name in names)
    script.AdamWithMuon(0.01).apply([gradient, gradient], [recurrent, kernel])
    keras.optimizers.Adam(0.01).apply([gradient], [plain])
    np.testing.assert_allclose(kernel.numpy(), plain.numpy(), rtol=1e-5)
    step = (start - recurrent.numpy()) / (0.01 * 0.2 * 32**0.5)
    # The textbook's order of the products.
    wanted = gradient.numpy() / np.linalg.norm(gradient)
    for _ in range(5):
        gram = wanted @ wanted.T
        wanted = 3.4445 * wanted + (-4.775 * gram + 2.0315 * gram @ gram) @ wanted
    np.testing.assert_allclose(step, wanted, atol=1e-3)
    singular_values = np.linalg.svd(step, compute_uv=False)
    assert singular_values.min() > 0.6 and singular_values.max() < 1.3
    # It goes down the gradient: on the same directions, with the same signs.
    along = np.sum((left.T @ step) * right.T, axis=1)
    assert along.min() > 0.6


@pytest.mark.parametrize("build", [script.build_training_model, script.build_same_length_model])
def test_weights_decay_but_for_those_of_the_context(build):
    model = build(3, 4, 2)
    script.compile_model(model, 1.0, 20)
    optimizer = model.optimizer
    optimizer.iterations.assign(1)  # the end of the warm-up: a step size of 1
    before = model.get_weights()
    optimizer.apply([tf.zeros(weight.shape) for weight in before])
    for weight, old, new in zip(model.weights, before, model.get_weights()):
        is_kept = weight.path.split("/")[0] in ("patterns", "context")
        np.testing.assert_allclose(new, (1 if is_kept else 0.92) * old, rtol=1e-5)


def test_the_learning_rate_warms_up_and_falls_to_zero(trained):
    model = script.build_training_model(3, 4, 2)
    script.compile_model(model, 0.5, 200)
    schedule = model.optimizer._learning_rate
    rates = [float(schedule(step)) for step in range(201)]
    assert rates[0] == 0 and max(rates) == pytest.approx(0.5) and rates[10] == max(rates)
    assert rates[200] == pytest.approx(0, abs=1e-6)


def test_the_decoder_stops_at_the_limit_and_at_the_end_character(trained):
    korean = trained.tables[1]
    ids = tf.constant([script.to_ids(trained.training[0][0], trained.tables[0])])
    for limit in 1, 3:
        decoder = script.make_greedy_decoder(trained.model, korean, limit)
        assert decoder(ids).shape == (1, limit)
    decoder = script.make_greedy_decoder(trained.model, korean, 500)
    row = list(decoder(ids).numpy()[0])
    assert row.index(korean[script.END]) == len(row) - 1 < 499


def test_one_by_one_and_in_any_batch_the_translations_are_the_same(trained):
    sentences = [english for english, _ in trained.pairs]
    together = trained.translate(sentences)
    assert trained.translate(sentences, batch_size=1) == together
    assert trained.translate(sentences[::-1], batch_size=7)[::-1] == together
    assert len(set(together)) > len(sentences) / 2


def test_a_sentence_with_no_known_character_gives_an_empty_line(trained):
    assert trained.translate(["", "☃", "I"])[:2] == ["", ""]
    assert trained.translate([]) == []


def test_integer_ids_are_refused(trained):
    """Integer ids are refused: the model's inputs are one-hot."""
    with pytest.raises(ValueError):
        trained.model([np.zeros((1, 3), "int32"), np.zeros((1, 3), "int32")])
    assert isinstance(trained.model, keras.Model)


@pytest.mark.parametrize("token, width", [("char", 4), ("word", 1)])
def test_the_context_is_of_patterns_anywhere_and_of_no_padding(train_small, token, width):
    """Each score is linear in the strongest match of each pattern, wherever it begins or ends."""
    small = train_small(token, "encoder-decoder")
    kernel = small.model.get_layer("patterns").kernel.numpy()  # (width, English rows, patterns)
    weights, bias = (weight.numpy() for weight in small.model.get_layer("context").weights)
    assert kernel.shape[0] == width
    encoder_model, _ = script.build_inference_models(small.model)
    texts = sorted((english for english, _ in small.training), key=len)
    texts = [script.to_ids(small.split(text), small.tables[0]) for text in (*texts[::20], "I")]
    padded = keras.utils.pad_sequences(texts, padding="post", value=script.PADDING)
    _, _, context = encoder_model(tf.one_hot(padded, kernel.shape[1]))
    for row, ids in zip(context.numpy(), texts):
        matches = np.zeros((len(ids) + width - 1, kernel.shape[2]))
        for place, id in enumerate(ids):
            for offset in range(width):
                matches[place + width - 1 - offset] += kernel[offset, id]
        strongest = np.maximum(matches.max(axis=0), 0)
        np.testing.assert_allclose(row[0], strongest @ weights + bias, atol=1e-4)


def test_the_training_step_is_compiled_once(trained, monkeypatch):
    """Compiling takes seconds; TensorFlow does it twice if the first step makes variables."""
    traces = []
    train_step = keras.Model.train_step

    def counting(model, data):
        traces.append(model)
        return train_step(model, data)

    monkeypatch.setattr(keras.Model, "train_step", counting)
    model = trained.build()
    script.compile_model(model, 0.01, 20)
    model.fit(trained.dataset(trained.training, 8), verbose=0)
    assert len(traces) == 1
