"""Sequence-to-sequence learning in Keras: a character-level translator from English to Korean.

The task: turn one sequence of characters into another of a different, unknown length. The method,
after Sutskever et al. (2014, arXiv:1409.3215) and Cho et al. (2014, arXiv:1406.1078):

1. Write every sentence as one-hot rows, one for each character: all 0, but 1 at its number.
2. An encoder LSTM reads the English sentence, forwards and backwards. Its outputs are discarded;
   its final state vectors, h (what it put out last) and c (its longer memory), are kept. They are
   all that the decoder learns of the sentence.
3. A decoder LSTM starts from h and c and learns to predict each Korean character, given the true
   characters before it. That is called teacher forcing.
4. To translate, the decoder is fed a start character, then its own most probable choice, again
   and again, until it chooses the end character.

python seq2seq_char.py                                   train, report and save
python seq2seq_char.py translate "I am busy."            translate with the saved model
python seq2seq_char.py translate --steps "I am busy."    show how the translation comes about
"""

import argparse
import difflib
import functools
import hashlib
import io
import itertools
import json
import math
import os
import random
import re
import signal
import sys
import unicodedata
import zipfile
import zlib
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's keras.json says
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # fewer messages of TensorFlow's

import keras
import numpy as np
import tensorflow as tf
from keras import layers

# Settings: edit them here, or give one for a single run as a flag (EPOCHS is --epochs).
DATA_PATH = "data/eng-kor.tsv"  # sentence pairs: English, tab, Korean; as text or in a .zip
REVERSED = False  # True swaps the columns; in the code, "English" is whatever is translated
MODEL_PATH = "runs/eng-kor.keras"  # the trained model, with all that translating needs
TOKEN = "char"  # what a sentence is a sequence of: "char" or "word"
ARCHITECTURE = "encoder-decoder"  # of the network: "encoder-decoder" or "same-length"
NUM_PAIRS = 0  # pairs to use, from the top of the file; 0 for all
MAX_LENGTH = 64  # the longest sentence used, in characters
VALIDATION_FRACTION = 0.02  # share of the English sentences kept out of training, to test on
BATCH_SIZE = 64  # sentence pairs in one training step
EPOCHS = 20  # passes over the training pairs
LATENT_DIM = 192  # numbers in h and in c, for each reading direction
LEARNING_RATE = 0.01  # the largest step size; it falls to 0 in the course of training
SEED = 1  # of all that is random: split, first weights, order of the pairs
SETTINGS = [name for name in globals() if name.isupper()]  # the names of the constants above

START, END = "\t", "\n"  # stand before and after each Korean sentence, never inside one
UNKNOWN = "\ufffd"  # stands for every word that training never saw, if words are the tokens
PADDING = -1  # fills up the shorter sentences of a batch; tf.one_hot makes an all-zero row of it


# ---------------------------------------- Vectorization ----------------------------------------
# Sentences become ids, which stay in memory; ids become one-hot rows, one batch at a time. A batch
# is as long as its longest sentence: the others end in rows of zeros, called padding. The encoder
# has to skip them, and the loss and the accuracy must not count them.


def normalize_source(sentence):
    """Return `sentence` as the encoder reads it: in lower case, without a closing . or !

    So "I am busy." and "i am busy" are one input. A question mark stays: it changes the meaning.
    """
    straight_quotes = sentence.translate(str.maketrans("‘’“”", "''\"\""))
    return unicodedata.normalize("NFC", straight_quotes.lower()).rstrip(".! ")


def build_table(sentences):
    """Return the character table of `sentences`, {character: id}, in the order of code points."""
    characters = sorted(set().union(*sentences))
    return {character: id for id, character in enumerate(characters)}


def to_ids(sentence, table):
    """Return the ids of `sentence`, a list; what `table` lacks is UNKNOWN, or else left out."""
    if UNKNOWN in table:
        return [table.get(character, table[UNKNOWN]) for character in sentence]
    return [table[character] for character in sentence if character in table]


def to_text(ids, table):
    """Return the text of `ids` up to the end character, without spaces at its ends."""
    characters = list(table)
    return "".join(characters[id] for id in ids).partition(END)[0].strip()


def one_hot_arrays(english_ids, korean_ids, num_english_characters, num_korean_characters):
    """Return ((encoder_input_data, decoder_input_data), decoder_target_data), float32.

    The ids, padded with -1, are (batch, max_english_length) and, from start to end character,
    (batch, max_korean_length + 1). The arrays are (batch, max_english_length,
    num_english_characters) and twice (batch, max_korean_length, num_korean_characters).
    """
    encoder_input_data = tf.one_hot(english_ids, num_english_characters)
    # The target is one step ahead: at each step the decoder has to tell what it is fed next. With
    # ^ and $ for start and end, it is fed ^ 네 . and has to tell 네 . $ (In a batch, a shorter
    # sentence is fed its $ too; the target there is padding, which does not count.)
    decoder_input_data = tf.one_hot(korean_ids[:, :-1], num_korean_characters)
    decoder_target_data = tf.one_hot(korean_ids[:, 1:], num_korean_characters)
    return (encoder_input_data, decoder_input_data), decoder_target_data


def ragged_ids(sentences, table):
    """Return the ids of all `sentences`, an int32 tf.RaggedTensor: (number of sentences, None)."""
    rows = [to_ids(sentence, table) for sentence in sentences]
    ids = np.fromiter((id for row in rows for id in row), np.int32)
    return tf.RaggedTensor.from_row_lengths(ids, [len(row) for row in rows])


def make_dataset(pairs, tables, batch_size, shuffle_seed=None, make_arrays=one_hot_arrays):
    """Return a tf.data.Dataset of batches of `make_arrays`, for the (English, Korean) `tables`.

    Sentences of like length share a batch, so that little of it is padding. With a `shuffle_seed`
    the pairs come in another order in each epoch.
    """
    english_ids = ragged_ids((english for english, _ in pairs), tables[0])
    korean_ids = ragged_ids(([START, *korean, END] for _, korean in pairs), tables[1])
    # Pairs whose lengths fall in the same band of 4 characters are in one group, and a batch is of
    # one group. Korean takes about half as many characters as English: a rough guess will do.
    groups = tf.maximum(english_ids.row_lengths(), 2 * korean_ids.row_lengths()) // 4

    def arrays_of(numbers):
        english = tf.gather(english_ids, numbers).to_tensor(PADDING)
        korean = tf.gather(korean_ids, numbers).to_tensor(PADDING)
        return make_arrays(english, korean, len(tables[0]), len(tables[1]))

    numbers = tf.data.Dataset.range(len(pairs))
    if shuffle_seed is not None:
        numbers = numbers.shuffle(len(pairs), seed=shuffle_seed)
    # Collects the numbers of pairs of one group until there are `batch_size` of them.
    batches = numbers.group_by_window(
        lambda number: groups[number], lambda _, group: group.batch(batch_size), batch_size
    )
    num_batches = sum(math.ceil(size / batch_size) for size in np.bincount(groups))
    # Told the number of batches, `fit` need not count them.
    batches = batches.apply(tf.data.experimental.assert_cardinality(num_batches))
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread can hold up the end of an epoch for seconds
    return batches.map(arrays_of).prefetch(2).with_options(options)


# ---------------------------------------- Training model ----------------------------------------


def one_hot_lstm(units, **options):
    """Return an LSTM layer that reads one-hot rows.

    A one-hot row times the kernel, the matrix of the layer's input weights, is one row of that
    matrix. Keras's default (Glorot) makes these rows too small to notice beside the state.
    """
    normal = keras.initializers.RandomNormal(stddev=2.0)
    return layers.LSTM(units, kernel_initializer=normal, **options)


def build_training_model(num_english_characters, num_korean_characters, latent_dim):
    """Return the model that `fit` trains, from the inputs of `one_hot_arrays` to probabilities.

    Its output is (batch, max_korean_length, num_korean_characters).
    """
    encoder_inputs = keras.Input((None, num_english_characters), name="encoder_inputs")
    # Masking skips the rows of padding, which would go on changing the final states.
    encoder_rows = layers.Masking(name="encoder_masking")(encoder_inputs)
    encoder_lstm = one_hot_lstm(latent_dim, return_state=True, name="lstm")
    both_ways = layers.Bidirectional(encoder_lstm, name="encoder_lstm")
    # The encoder's outputs are discarded: only the final states of both directions go on, h and c
    # of the LSTM that reads forwards, then of the one that reads backwards.
    _, forward_h, forward_c, backward_h, backward_c = both_ways(encoder_rows)
    state_h = layers.Concatenate(name="state_h")([forward_h, backward_h])
    state_c = layers.Concatenate(name="state_c")([forward_c, backward_c])

    # No mask here: no state is read after the padding, and the loss leaves it out.
    decoder_inputs = keras.Input((None, num_korean_characters), name="decoder_inputs")
    decoder_lstm = one_hot_lstm(
        2 * latent_dim, return_sequences=True, return_state=True, name="decoder_lstm"
    )
    # The decoder starts from the encoder's states. Its own states are for translating only.
    decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=[state_h, state_c])
    decoder_dense = layers.Dense(num_korean_characters, activation="softmax", name="decoder_dense")
    probabilities = decoder_dense(decoder_outputs)
    return keras.Model((encoder_inputs, decoder_inputs), probabilities, name="training_model")


def is_real(target):
    """Return where a target array has characters, a bool for each row: padding is all zeros."""
    return tf.reduce_any(target > 0, axis=-1)


def cross_entropy(target, probabilities):
    """Return the losses of the real characters of a batch, in nats; `fit` takes their mean.

    Keras takes any function of target and prediction for a loss, and for a metric.
    """
    # Label smoothing: a tenth of each target goes to all characters alike, against overfitting.
    losses = keras.losses.categorical_crossentropy(target, probabilities, label_smoothing=0.1)
    return tf.boolean_mask(losses, is_real(target))


def accuracy(target, probabilities):
    """Return for each real character of a batch whether it is the most probable one, 1 or 0."""
    hits = keras.metrics.categorical_accuracy(target, probabilities)
    return tf.boolean_mask(hits, is_real(target))


def compile_model(model, learning_rate, num_steps):
    """Prepare `model` for `num_steps` training steps, in which the learning rate falls to 0."""
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, num_steps)
    # Weight decay: each step shrinks the weights a little, against overfitting.
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.1)
    optimizer.build(model.trainable_variables)  # now, or `fit` compiles its first step twice
    model.compile(optimizer, loss=cross_entropy, metrics=[accuracy])


# --------------------------------------- Inference models ---------------------------------------
# Inference is translating. The same trained layers, found by name and called again, which shares
# their weights, make up two models: now the decoder feeds on its own choices.


def build_inference_models(model):
    """Return the (encoder model, decoder model) of a trained or re-loaded `model`.

    Encoder: encoder_input_data to h and c, (batch, 2 * latent_dim) each. Decoder: one character,
    (batch, 1, num_korean_characters), h and c to the next one's probabilities, new h and new c.
    """
    encoder_states = [model.get_layer("state_h").output, model.get_layer("state_c").output]
    encoder_model = keras.Model(model.get_layer("encoder_inputs").output, encoder_states)

    decoder_lstm = model.get_layer("decoder_lstm")
    decoder_dense = model.get_layer("decoder_dense")
    character = keras.Input((1, decoder_dense.units))
    states = [keras.Input((decoder_lstm.units,)), keras.Input((decoder_lstm.units,))]
    decoder_outputs, new_h, new_c = decoder_lstm(character, initial_state=states)
    probabilities = decoder_dense(decoder_outputs)
    return encoder_model, keras.Model([character, *states], [probabilities, new_h, new_c])


def make_greedy_decoder(model, korean_table, max_length):
    """Return a function from a batch of English ids to Korean ids: greedy decoding.

    From int32 (batch, max_english_length), padded with -1, to int32 (batch, length), with length
    at most `max_length`; what follows an end character has no meaning.
    """
    encoder_model, decoder_model = build_inference_models(model)
    num_english_characters = encoder_model.input_shape[-1]
    # Compiled they are faster, once and for all sizes of batches.
    encode = tf.function(encoder_model, reduce_retracing=True)
    predict = tf.function(decoder_model, reduce_retracing=True)

    def greedy_decode(english_ids):
        # 1. Encode the sentences into state vectors.
        state_h, state_c = encode(tf.one_hot(english_ids, num_english_characters))
        # 2. Start each translation with the start character.
        character = tf.fill([len(english_ids)], korean_table[START])
        finished = np.zeros(len(english_ids), bool)
        translation = []
        while len(translation) < max_length and not finished.all():
            # 3. Predict the next character from the last one and the states.
            one_row = tf.one_hot(character, len(korean_table))[:, tf.newaxis]
            probabilities, state_h, state_c = predict([one_row, state_h, state_c])
            # 4. Choose the most probable character (argmax).
            character = tf.argmax(probabilities[:, 0], axis=-1, output_type=tf.int32)
            # 5. Append it; the next round feeds it back, with the new states.
            translation.append(character)
            # 6. Repeat until each sentence has its end character, or up to the limit.
            finished |= character.numpy() == korean_table[END]
        return tf.stack(translation, axis=1)

    return greedy_decode


# ================================================================================================
# The lesson ends here. `train`, far below, puts it together, and that is all it comes to:
#
#     dataset = make_dataset(pairs, (english_table, korean_table), BATCH_SIZE, SEED)
#     model = build_training_model(len(english_table), len(korean_table), LATENT_DIM)
#     compile_model(model, LEARNING_RATE, EPOCHS * len(dataset))
#     model.fit(dataset, epochs=EPOCHS)
#     greedy_decode = make_greedy_decoder(model, korean_table, max_length)
#
# Two settings vary the lesson: TOKEN = "word" and ARCHITECTURE = "same-length".
# ================================================================================================

MARKS = r'.,:;!?"()'  # words of their own, unless they stand within a word or number, as in 7:30
WORD = re.compile(rf" ?[^\s{MARKS}]+(?:[.,:][^\s{MARKS}]+)*| ?[{MARKS}]")


def split_sentence(sentence, token):
    """Return what `sentence` is a sequence of: its characters, or the list of its words and marks.

    A word keeps the space before it, so that joining them gives " " + `sentence` again.
    """
    return sentence if token == "char" else WORD.findall(" " + sentence)


def same_length_arrays(english_ids, korean_ids, num_english, num_korean, length, end_id):
    """Return ((input_data,), target_data) of the ids of `one_hot_arrays`, float32.

    They are (batch, length, num_english) and (batch, length, num_korean). The input ends in
    all-zero rows, the target in end characters: those are part of what is learned, for only they
    tell where the translation ends.
    """
    input_data = tf.one_hot(pad_ids(english_ids, length, PADDING), num_english)
    target_ids = tf.where(korean_ids == PADDING, end_id, korean_ids)[:, 1:]
    return (input_data,), tf.one_hot(pad_ids(target_ids, length, end_id), num_korean)


def pad_ids(ids, length, value):
    """Return `ids`, (batch, any length), as (batch, length): cut off, or filled up with `value`."""
    ids = ids[:, :length]
    return tf.pad(ids, [[0, 0], [0, length - tf.shape(ids)[1]]], constant_values=value)


def build_same_length_model(num_english_characters, num_korean_characters, latent_dim):
    """Return the model of the trivial case, where both sides have one length, known beforehand.

    It gives each position of the input the probabilities of the Korean character there. In the
    general case a translation is as long as it will be, known only when it ends: hence states
    between two networks, and a loop.
    """
    inputs = keras.Input((None, num_english_characters), name="inputs")
    # All of the input is there from the start: each layer reads it in both directions.
    lstm_1 = one_hot_lstm(latent_dim, return_sequences=True, name="lstm")
    lstm_2 = layers.LSTM(latent_dim, return_sequences=True, name="lstm")
    outputs = layers.Bidirectional(lstm_1, name="lstm_1")(inputs)
    outputs = layers.Bidirectional(lstm_2, name="lstm_2")(outputs)
    dense = layers.Dense(num_korean_characters, activation="softmax", name="dense")
    return keras.Model((inputs,), dense(outputs), name="training_model")


def make_same_length_decoder(model, length):
    """Return a function like that of `make_greedy_decoder`, but without its loop."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def decode(english_ids):
        input_data = tf.one_hot(pad_ids(english_ids, length, PADDING), model.input_shape[-1])
        return tf.argmax(model((input_data,)), axis=-1, output_type=tf.int32)

    return decode


# ================================================================================================
# What follows is the plumbing: files, reports and the command line.
# ================================================================================================

CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ufffd]")  # characters that no text has
HEADINGS = {"english", "korean", "source", "target", "en", "ko", "eng", "kor", "영어", "한국어"}
SCRIPT_FOLDER = Path(__file__).parent  # relative paths in the settings start here
NOTES = "seq2seq_char.json"  # the member of a model file that holds all but the weights
FORMAT = 8  # of these notes: raised by whatever makes older files unreadable


class UserError(Exception):
    """What the user can put right: `main` prints it in one line and returns 2."""


def clean(text):
    """Return `text` in NFC, with single spaces between words and none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def read_text(path):
    """Return the text of the file at `path`, or of the only text file in a .zip.

    It may be UTF-8, UTF-16 with a byte-order mark, or Korean CP949. Raises UserError if not.
    """
    data = Path(path).read_bytes()
    if zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(io.BytesIO(data))
        names = [name for name in archive.namelist() if name.endswith((".txt", ".tsv"))]
        names = [name for name in names if not re.search("^__MACOSX/|_about.txt$", name)]
        if len(names) != 1:
            advice = "it needs one; save an Excel sheet as Unicode Text (*.txt)"
            raise UserError(f"{path}: has {len(names)} files .txt or .tsv, {advice}")
        data = archive.read(names[0])
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
    try:
        return data.decode("cp949")
    except UnicodeDecodeError:
        raise UserError(f"{path}: line {line:,} is not UTF-8; save the file as UTF-8") from None


def read_pairs(path, num_pairs=0, max_length=64):
    """Return the usable pairs (first column, second column) of the corpus at `path`, each once.

    `num_pairs` is where to stop, if not 0; `max_length` is in characters. Says how many lines were
    dropped, and why. Raises UserError if the file cannot be read, or is no corpus.
    """
    try:
        lines = io.StringIO(read_text(path), newline=None)
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); give another DATA_PATH") from error
    pairs, dropped = {}, {}
    for number, line in enumerate(lines, start=1):
        if num_pairs and len(pairs) == num_pairs:
            break
        if number % 100_000 == 0:
            print(f"{path}: {number:,} lines read", flush=True)
        pair = tuple(clean(side) for side in line.split("\t")[:2])
        faults = {
            "without a tab": len(pair) < 2,
            "with a control character": CONTROL.search(line),
            "with an empty side": not all(map(normalize_source, pair)),
            "that are a heading": number == 1 and HEADINGS.issuperset(line.lower().split()),
            f"longer than MAX_LENGTH = {max_length}": max(map(len, pair)) > max_length,
            "that repeat another": pair in pairs,
        }
        fault = next((fault for fault, is_there in faults.items() if is_there), None)
        if fault is None:
            pairs[pair] = number
        elif line.strip():
            dropped.setdefault(fault, []).append(number)
    for fault, numbers in dropped.items():
        some = ", ".join(map(str, numbers[:5])) + ", ..." * (len(numbers) > 5)
        print(f"{path}: dropped {len(numbers):,} lines {fault}: line {some}", file=sys.stderr)
    if not pairs:
        raise UserError(f"{path}: has no usable line; a line is English, a tab, Korean")
    if sum(any(map(str.isalpha, first)) for first, _ in pairs) < len(pairs) / 2:
        what = "has no letters in most lines, as if it were row numbers"
        raise UserError(f"{path}: the first column {what}; delete that column")
    return list(pairs)


def split_pairs(pairs, validation_fraction, seed):
    """Return (training pairs, validation pairs); no English sentence stands on both sides.

    Raises UserError if one side has none.
    """
    sentences = sorted({english for english, _ in pairs})
    random.Random(seed).shuffle(sentences)
    held_out = set(sentences[: round(len(sentences) * validation_fraction)])
    if not 0 < len(held_out) < len(sentences):
        part = f"{len(held_out)} of {len(sentences)} English sentences"
        raise UserError(f"VALIDATION_FRACTION = {validation_fraction}: holds out {part}")
    training = [pair for pair in pairs if pair[0] not in held_out]
    return training, [pair for pair in pairs if pair[0] in held_out]


def read_split(settings):
    """Return (training pairs, validation pairs) of text, as the model reads it."""
    pairs = read_pairs(settings.DATA_PATH, settings.NUM_PAIRS, settings.MAX_LENGTH)
    if settings.REVERSED:
        pairs = [(second, first) for first, second in pairs]
    pairs = [(normalize_source(english), korean) for english, korean in pairs]
    return split_pairs(pairs, settings.VALIDATION_FRACTION, settings.SEED)


def make_notes(settings, training, validation):
    """Return what a model file holds beside the weights, a dict for JSON, from pairs of text."""
    english, korean = zip(*training)
    words = set()
    if sum(" " in sentence for sentence in english) > len(english) / 2:  # a language with spaces
        words.update(word for line in english for word in split_sentence(line, "word"))
    english = [split_sentence(sentence, settings.TOKEN) for sentence in english]
    korean = [split_sentence(sentence, settings.TOKEN) for sentence in korean]
    special = [UNKNOWN] if settings.TOKEN == "word" else []
    return {
        "format": FORMAT,
        "english_table": build_table([special, *english]),
        "korean_table": build_table([special, [START, END], *korean]),
        "english_words": sorted(words),
        "length": 1 + max(map(len, [*english, *korean])),
        "settings": {name: getattr(settings, name) for name in SETTINGS if "PATH" not in name},
        "data": hashlib.sha256(repr([training, validation]).encode()).hexdigest(),
        "epochs_done": 0,
    }


def build_model(notes):
    """Return a model, not yet trained, of the kind and sizes that `notes` say."""
    settings = notes["settings"]
    is_general = settings["ARCHITECTURE"] == "encoder-decoder"
    build = build_training_model if is_general else build_same_length_model
    return build(len(notes["english_table"]), len(notes["korean_table"]), settings["LATENT_DIM"])


def save_model(model, notes, path):
    """Write `model` and `notes` to `path`, a .keras file; after a UserError `path` is as before."""
    temporary = path.with_name("partial-" + path.name)
    try:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(NOTES, json.dumps(notes, ensure_ascii=False))
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def load_model(path, notes_only=False):
    """Return (model, notes) from the model file at `path`. Raises UserError if it cannot be used.

    The model is built here and only numbers are read from the file: nothing that a stranger's
    file names is imported or run. With `notes_only` the model is None.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            notes = json.loads(archive.read(NOTES))
            if archive.testzip() or notes["format"] != FORMAT:
                raise ValueError("wrong checksum or format")
        if notes_only:
            return None, notes
        model = build_model(notes)
        model.load_weights(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no model yet; train one: python seq2seq_char.py") from None
    except Exception as error:  # damaged and foreign files raise errors of many kinds
        what = "is damaged, or no model of this version of this script"
        raise UserError(f"{path}: {what} ({error!r}); train a new one") from error
    return model, notes


# ------------------------------------ Translation and reports ------------------------------------


def source_ids(sentence, notes):
    """Return the ids of an English `sentence` as somebody typed it, a list."""
    sequence = split_sentence(normalize_source(clean(sentence)), notes["settings"]["TOKEN"])
    return to_ids(sequence, notes["english_table"])


def make_translator(model, notes):
    """Return the function translate(sentences, batch_size=256), from list of English to of Korean.

    A sentence without a known character gives "".
    """
    if notes["settings"]["ARCHITECTURE"] == "same-length":
        decode = make_same_length_decoder(model, notes["length"])
    else:
        decode = make_greedy_decoder(model, notes["korean_table"], notes["length"])

    def translate(sentences, batch_size=256):
        english_ids = {sentence: source_ids(sentence, notes) for sentence in sentences}
        translations = dict.fromkeys(sentences, "")
        # Sentences of like length share a batch: it ends as soon as all of its sentences have.
        known = sorted((sentence for sentence, ids in english_ids.items() if ids), key=len)
        for start in range(0, len(known), batch_size):
            batch = known[start : start + batch_size]
            ids = tf.ragged.constant([english_ids[sentence] for sentence in batch], tf.int32)
            for sentence, korean_ids in zip(batch, decode(ids.to_tensor(PADDING)).numpy()):
                translations[sentence] = to_text(korean_ids, notes["korean_table"])
        return [translations[sentence] for sentence in sentences]

    return translate


def visible(character):
    """Return `character` as the reports show it: ^ the start, $ the end, _ a space."""
    return {START: "^", END: "$"}.get(character, character.replace(" ", "_"))


def show_arrays(dataset, tables):
    """Print the first pair of `dataset`, read back from the three arrays of the lesson."""
    (encoder_input_data, decoder_input_data), decoder_target_data = next(iter(dataset))
    for name, data, table in [
        ("encoder_input_data", encoder_input_data, tables[0]),
        ("decoder_input_data", decoder_input_data, tables[1]),
        ("decoder_target_data", decoder_target_data, tables[1]),
    ]:
        characters = [list(table)[id] for id in np.argmax(data[0], axis=-1)]
        print(f"{name:20} {data.shape!s:14}", *map(visible, characters))
    print("Each is a one-hot row: _ is a space, ^ the start, $ the end.")


def show_steps(model, notes, sentence):
    """Print how `sentence` is translated: the lesson's inference models, run one step at a time.

    A line has the character fed and the three most probable next ones; the first is fed next.
    """
    encoder_model, decoder_model = build_inference_models(model)
    ids = source_ids(sentence, notes)
    if not ids:
        print(f"\n{sentence}: nothing in it is known")
        return
    states = encoder_model(tf.one_hot([ids], len(notes["english_table"])))
    table, characters, fed = notes["korean_table"], list(notes["korean_table"]), START
    print(f"\n{sentence}: the inference models run step by step, ^ is the start, $ the end")
    print("  step fed\tthe three most probable next ones; the first is fed next")
    for step in range(1, 1 + notes["length"]):
        one_row = tf.one_hot([[table[fed]]], len(table))
        probabilities, *states = decoder_model([one_row, *states])
        values, best = tf.math.top_k(probabilities[0, 0], 3)
        cells = [f"{step:6} {visible(fed)}"]
        for value, id in zip(values.numpy(), best):
            cells.append(f"{value:6.1%} {visible(characters[id])}")
        print("\t".join(cells))
        fed = characters[best[0]]
        if fed == END:
            break


def report(name, pairs, translate, limit=5000):
    """Print how many of `pairs`, of at most `limit` of them, come out exact, and ten of them.

    A translation is exact if it is any reference of its sentence.
    """
    known = set(pairs)
    sample = random.Random(0).sample(pairs, min(len(pairs), limit))
    outputs = translate([english for english, _ in sample])
    exact = [(english, output) in known for (english, _), output in zip(sample, outputs)]
    print(f"\nOf {len(sample):,} {name} sentences {np.mean(exact):.1%} are exact; ten of them:")
    for (english, korean), output, is_exact in zip(sample[:10], outputs, exact):
        print(f"  {english} -> {output}", "" if is_exact else f"(the corpus: {korean})")


# ------------------------------------------- Training -------------------------------------------


def train(settings):
    """Train as `settings` say; save the model and its history; print the report."""
    keras.utils.set_random_seed(settings.SEED)
    model_path = Path(settings.MODEL_PATH)
    checkpoint_path = checkpoint_of(model_path)
    try:
        model_path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"MODEL_PATH = {model_path}: cannot be written ({error})") from error
    training, validation = read_split(settings)
    notes = make_notes(settings, training, validation)
    tables = notes["english_table"], notes["korean_table"]
    print(f"{len(training):,} training and {len(validation):,} validation pairs", end="; ")
    print(f"{len(tables[0]):,} English and {len(tables[1]):,} Korean {settings.TOKEN}s")

    is_general = settings.ARCHITECTURE == "encoder-decoder"
    make_arrays = one_hot_arrays
    if not is_general:
        ends = {"length": notes["length"], "end_id": tables[1][END]}
        make_arrays = functools.partial(same_length_arrays, **ends)

    def dataset(pairs, batch_size=settings.BATCH_SIZE, shuffle_seed=None):
        pairs = [[split_sentence(side, settings.TOKEN) for side in pair] for pair in pairs]
        return make_dataset(pairs, tables, batch_size, shuffle_seed, make_arrays)

    if is_general:
        show_arrays(dataset(training[len(training) // 4 :][:1], 1), tables)
    training_data = dataset(training, shuffle_seed=settings.SEED)
    # A sentence of which nothing is known is left out: a mask must not hide a whole sentence.
    known = [pair for pair in validation if source_ids(pair[0], notes)]
    validation_data = dataset(known) if known else None
    model = build_model(notes)
    compile_model(model, settings.LEARNING_RATE, settings.EPOCHS * len(training_data))
    resume(model, notes, checkpoint_path)

    def after_epoch(epoch, logs):
        save_model(model, {**notes, "epochs_done": epoch + 1}, checkpoint_path)
        notes["epochs_done"] = epoch + 1

    history_path = model_path.with_suffix(".csv")
    history = keras.callbacks.CSVLogger(history_path, append=notes["epochs_done"] > 0)
    checkpoint = keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)
    try:
        model.fit(
            training_data,
            validation_data=validation_data,
            initial_epoch=notes["epochs_done"],
            epochs=settings.EPOCHS,
            callbacks=[checkpoint, history],
            shuffle=False,  # the data set does it
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except KeyboardInterrupt:
        message = f"{notes['epochs_done']} of {settings.EPOCHS} epochs are done"
        if notes["epochs_done"]:
            message += "; the same command goes on from there; to translate with what is there: "
            message += f'python seq2seq_char.py translate "Hello." --model-path "{checkpoint_path}"'
        raise KeyboardInterrupt(message) from None
    # The last weights, not those of the lowest validation loss: their translations are better.
    # The optimizer's state, larger than the weights, stays behind.
    save_model(keras.Model(model.inputs, model.output), notes, model_path)
    checkpoint_path.unlink()
    translate = make_translator(model, notes)
    report("validation", validation, translate)
    report("training", training, translate)
    if is_general:
        show_steps(model, notes, validation[len(validation) // 3][0])
    print(f"\nSaved in {model_path}. Now translate with it:")
    where = "" if model_path == SCRIPT_FOLDER / MODEL_PATH else f' --model-path "{model_path}"'
    print(f'python seq2seq_char.py translate "I am busy."{where}')


def checkpoint_of(model_path):
    """Return where training keeps what is done so far of the model at `model_path`."""
    return model_path.with_name("checkpoint-" + model_path.name)


def resume(model, notes, checkpoint_path):
    """Load an interrupted run into `model` and `notes`, if it was the same run.

    The number of epochs may change; if anything else did, nothing is loaded. What makes up a run
    is kept in the notes; the shapes of all variables tell whether the code builds another model.
    """
    variables = model.variables + model.optimizer.variables
    shapes = [list(variable.shape) for variable in variables]
    run = {**notes["settings"], "the data": notes["data"], "the model": shapes}
    notes["run"] = run
    if not checkpoint_path.exists():
        return
    try:
        _, saved = load_model(checkpoint_path, notes_only=True)
        changed = [name for name in run if run[name] != saved["run"].get(name)]
        if changed not in ([], ["EPOCHS"]):
            raise UserError(f"changed since {checkpoint_path}: {', '.join(changed)}")
    except UserError as error:
        print(f"Starting anew: {error}")
    else:
        model.load_weights(checkpoint_path)
        notes["epochs_done"] = saved["epochs_done"]
        print(f"Going on with the interrupted run, after epoch {notes['epochs_done']}.")


# ----------------------------------------- Command line -----------------------------------------


def translate_command(settings):
    """Print the translations of the sentences of the command line or of standard input.

    Names on standard error, once, what training never saw.
    """
    path = Path(settings.MODEL_PATH)
    if not path.exists() and checkpoint_of(path).exists():
        path = checkpoint_of(path)
    model, notes = load_model(path)
    done, epochs = notes["epochs_done"], notes["settings"]["EPOCHS"]
    if done < epochs:
        print(f"warning: {path}: only {done} of {epochs} epochs are done", file=sys.stderr)
    if settings.steps and notes["settings"]["ARCHITECTURE"] == "same-length":
        raise UserError("--steps: a same-length model answers all at once, without steps")
    translate = make_translator(model, notes)
    lines, batch_size = iter(settings.sentences or sys.stdin), 1024
    if not settings.sentences and sys.stdin.isatty():
        print("Type a sentence and press Enter.", file=sys.stderr)
        batch_size = 1  # each line is answered at once
    token, known = notes["settings"]["TOKEN"], set(notes["english_table"])
    if notes["english_words"]:  # not so where the language is written without spaces
        token, known = "word", set(notes["english_words"])
    while batch := [clean(line) for line in itertools.islice(lines, batch_size)]:
        if settings.steps:
            for sentence in batch:
                show_steps(model, notes, sentence)
        else:
            print(*translate(batch), sep="\n", flush=True)
        sequences = [split_sentence(normalize_source(sentence), token) for sentence in batch]
        unknown = set().union(*sequences) - known
        if unknown:
            some = " ".join(sorted(piece.strip() for piece in unknown))
            warning = f"warning: training never saw {some}: what stands for it is a guess"
            print(warning, file=sys.stderr)
        known |= unknown  # named once is enough


def read_settings(arguments):
    """Return the settings of a run: the constants at the top, changed by the flags in `arguments`.

    Raises UserError for a name, type or value that is not allowed.
    """

    def refuse(message):
        raise UserError(message)

    parser = argparse.ArgumentParser(
        usage="python seq2seq_char.py [translate] [sentence ...] [--setting value ...]",
        epilog="Without sentences, standard input is translated. The settings are explained at the"
        " top of seq2seq_char.py.",
        allow_abbrev=False,
    )
    parser.error = refuse
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--steps", action="store_true", help="show each step of a translation")
    flags = {name: "--" + name.lower().replace("_", "-") for name in SETTINGS}
    for name, flag in flags.items():
        value = globals()[name]
        options = {"type": type(value), "metavar": ""}
        if isinstance(value, bool):
            options = {"action": argparse.BooleanOptionalAction}
        if name.endswith("_PATH"):
            value = str(SCRIPT_FOLDER / value)
        parser.add_argument(flag, dest=name, default=value, help=f"now {value!r}", **options)
    settings, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        near = difflib.get_close_matches(unknown[0].split("=")[0], flags.values())
        hint = f"did you mean {near[0]}?" if near else "see --help"
        raise UserError(f"{unknown[0]}: no such setting; {hint}")
    settings.command, *settings.sentences = settings.words or ["train"]
    if settings.command == "train" and (settings.sentences or settings.steps):
        raise UserError("only translate takes sentences and --steps")

    whole, positive = range(2**32), range(1, 2**32)
    allowed = {
        "command": ["train", "translate"],
        "REVERSED": [False, True],
        "TOKEN": ["char", "word"],
        "ARCHITECTURE": ["encoder-decoder", "same-length"],
        **dict.fromkeys(["NUM_PAIRS", "SEED"], whole),
        **dict.fromkeys(["MAX_LENGTH", "BATCH_SIZE", "EPOCHS", "LATENT_DIM"], positive),
    }
    for name, values in allowed.items():
        value = getattr(settings, name)
        if type(value) is not type(values[0]) or value not in values:
            what = f"{values[0]} or {values[1]}"
            if isinstance(values, range):
                what = f"a whole number, {values[0]} or more"
            raise UserError(f"{name} = {value!r}: must be {what}")
    for name in ("VALIDATION_FRACTION", "LEARNING_RATE"):
        value = getattr(settings, name)
        if not isinstance(value, (int, float)) or not 0 < value < 1:
            raise UserError(f"{name} = {value!r}: must be a number between 0 and 1")
    if not settings.MODEL_PATH.endswith(".keras"):
        raise UserError(f"MODEL_PATH = {settings.MODEL_PATH}: must end in .keras")
    return settings


def main(arguments=()):
    """Run the script with a list of `arguments`; return its exit status."""
    try:
        settings = read_settings(arguments)
        if settings.command == "train":
            train(settings)
        else:
            translate_command(settings)
    except BrokenPipeError:  # | head has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    except (UserError, OSError) as error:
        print(f"seq2seq_char.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"\n{error or 'interrupted'}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it is closed
            setattr(sys, name, open(os.devnull, "w+"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):  # not so in a notebook
            stream.reconfigure(encoding="utf-8", errors="replace")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
