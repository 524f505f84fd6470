"""Sequence-to-sequence learning in Keras: a character-level translator from English to Korean.

The task: turn one sequence of characters into another of a different, unknown length. The method,
after Sutskever et al. (2014, arXiv:1409.3215) and Cho et al. (2014, arXiv:1406.1078):

1. Write every sentence as one-hot rows, one row for each character.
2. An encoder LSTM reads the English sentence, forwards and backwards. Its outputs are discarded;
   its final state vectors, h and c, are kept. So is what a convolution finds, the context vector.
3. A decoder LSTM, which knows no more of the sentence, starts from h and c and learns to predict
   each Korean character, given the true characters before it. That is called teacher forcing.
4. To translate, the decoder is fed a start character, then its own most probable choice, again
   and again, until it chooses the end character.

python seq2seq_char.py                           train, report and save (--help lists the settings)
python seq2seq_char.py translate "I am busy."    translate with the saved model
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's keras.json says
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(2 * (os.cpu_count() or 1)))  # two a core
standard_error = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # TensorFlow's greeting heeds no setting
try:
    import keras
    import tensorflow as tf
    from keras import layers
finally:
    os.dup2(standard_error, 2)

# Hyperparameters: edit them here, or give one for a run (EPOCHS is --epochs). Ranges are checked.
DATA_PATH = "data/eng-kor.tsv"  # sentence pairs: English, tab, Korean; as text or in a .zip
MODEL_PATH = "runs/eng-kor.keras"  # the trained model, with all that translating needs
TOKEN = "char"  # what a sentence is a sequence of; char or word
ARCHITECTURE = "encoder-decoder"  # of the network; encoder-decoder or same-length
NUM_PAIRS = 0  # pairs to use, from the top of the file, 0 for all; 0 to 10000000
MAX_LENGTH = 64  # the longest sentence used, in characters; 1 to 1000
VALIDATION_FRACTION = 0.1  # English sentences kept out of training, to test on; 0.001 to 0.9
BATCH_SIZE = 128  # sentence pairs in one training step; 1 to 4096
EPOCHS = 50  # passes over the training pairs; 1 to 10000
LATENT_DIM = 56  # numbers in h and in c, for each reading direction; 1 to 4096
LEARNING_RATE = 0.02  # the largest step size of the schedule; 0.000001 to 1.0
SEED = 1  # of all that is random; 0 to 2147483647

START, END = "\t", "\n"  # stand before and after each Korean sentence, and in none
UNKNOWN = "\ufffd"  # stands for every word that training never saw
PADDING = -1  # the id that tf.one_hot turns into an all-zero row


# ---------------------------------------- Vectorization ----------------------------------------
# Sentences become ids, which stay in memory; ids become one-hot rows, one batch at a time.


def build_table(sentences):
    """Return the character table of `sentences`, {character: id}, in the order of code points."""
    return {character: id for id, character in enumerate(sorted(set().union(*sentences)))}


def to_ids(sentence, table):
    """Return the ids of `sentence`, a list; what `table` lacks becomes UNKNOWN if that is in it."""
    ids = (table.get(character, table.get(UNKNOWN)) for character in sentence)
    return [id for id in ids if id is not None]


def to_characters(ids, table):
    """Return the list of characters of `ids` up to the end character, the inverse of `to_ids`."""
    all_characters = list(table)
    characters = [all_characters[id] for id in ids]
    return characters[: characters.index(END)] if END in characters else characters


def one_hot_arrays(english_ids, korean_ids, num_english_characters, num_korean_characters):
    """Return ((encoder_input_data, decoder_input_data), decoder_target_data), float32.

    The ids, padded with -1, are (batch, max_english_length) and, from start to end character,
    (batch, max_korean_length + 1). The arrays are (batch, max_english_length,
    num_english_characters) and twice (batch, max_korean_length, num_korean_characters).
    """
    encoder_input_data = tf.one_hot(english_ids, num_english_characters)
    korean_ids = tf.convert_to_tensor(korean_ids)
    # The target is one step ahead: at each step the decoder has to tell what it is fed next.
    decoder_input_data = tf.one_hot(korean_ids[:, :-1], num_korean_characters)
    decoder_target_data = tf.one_hot(korean_ids[:, 1:], num_korean_characters)
    return (encoder_input_data, decoder_input_data), decoder_target_data


def make_dataset(pairs, english_table, korean_table, batch_size, shuffle_seed=None):
    """Return a tf.data.Dataset of the batches of `one_hot_arrays`, shuffled anew in each epoch.

    Sentences of like length share a batch, so that little of it is padding.
    """
    english = tf.ragged.constant([to_ids(side, english_table) for side, _ in pairs], tf.int32)
    korean = [to_ids([START, *side, END], korean_table) for _, side in pairs]
    dataset = tf.data.Dataset.from_tensor_slices((english, tf.ragged.constant(korean, tf.int32)))
    dataset = dataset.map(lambda *ids: ids)  # from ragged to plain tensors
    if shuffle_seed is not None:
        dataset = dataset.shuffle(len(pairs), seed=shuffle_seed)
    dataset = dataset.bucket_by_sequence_length(
        # Korean takes about half as many characters as English.
        lambda english, korean: tf.maximum(tf.size(english), 2 * tf.size(korean)),
        bucket_boundaries=list(range(4, 2000, 4)),
        bucket_batch_sizes=[batch_size] * 500,  # one more than boundaries
        padding_values=PADDING,
    )
    sizes = len(english_table), len(korean_table)
    return prefetched(dataset.map(lambda *ids: one_hot_arrays(*ids, *sizes)))


# ---------------------------------------- Training model ----------------------------------------


def one_hot_lstm(units, return_state=True, **options):
    """Return an LSTM layer that reads one-hot rows, each of which picks one row of its kernel.

    Keras's default (Glorot) makes that too small to notice; at about size 2 it is quickly learned.
    """
    normal = keras.initializers.RandomNormal(stddev=2.4)
    return layers.LSTM(units, kernel_initializer=normal, return_state=return_state, **options)


def build_training_model(num_english_characters, num_korean_characters, latent_dim, width=4):
    """Return the model that `fit` trains, from the inputs of `one_hot_arrays` to probabilities."""
    encoder_inputs = keras.Input((None, num_english_characters), name="encoder_inputs")
    encoder_rows = layers.Masking(name="encoder_masking")(encoder_inputs)  # skips all-zero rows
    # The encoder's outputs are discarded: only the final states of both directions go on.
    both_ways = layers.Bidirectional(one_hot_lstm(latent_dim), name="encoder_lstm")
    _, forward_h, forward_c, backward_h, backward_c = both_ways(encoder_rows)
    state_h = layers.Concatenate(name="state_h")([forward_h, backward_h])
    state_c = layers.Concatenate(name="state_c")([forward_c, backward_c])

    decoder_inputs = keras.Input((None, num_korean_characters), name="decoder_inputs")
    decoder_lstm = one_hot_lstm(2 * latent_dim, return_sequences=True, name="decoder_lstm")
    # The decoder starts from the encoder's states. Its own states are for inference only.
    decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=[state_h, state_c])
    scores = layers.Dense(num_korean_characters, name="decoder_dense")(decoder_outputs)
    # What the decoder forgets, the context tells each prediction anew: a second score for each
    # character, by which patterns of `width` characters the English has (Kim, arXiv:1408.5882).
    options = {"use_bias": False, "kernel_initializer": keras.initializers.RandomNormal(stddev=0.5)}
    patterns = layers.Conv1D(9 * latent_dim, width, activation="relu", name="patterns", **options)
    found = patterns(layers.ZeroPadding1D(width - 1)(encoder_inputs))  # no bias: padding is 0
    strongest = layers.GlobalMaxPooling1D(keepdims=True)(found)
    context = layers.Dense(num_korean_characters, name="context")(strongest)
    return keras.Model([encoder_inputs, decoder_inputs], keras.ops.softmax(scores + context))


def cross_entropy(target, probabilities):
    """Return the loss of a batch, a scalar in nats per character, from two arrays of one shape."""
    # A tenth of each target goes to all characters alike: new sentences come out better.
    losses = keras.losses.categorical_crossentropy(target, probabilities, label_smoothing=0.1)
    is_real = tf.reduce_sum(target, axis=-1)  # 1 for a character, 0 for padding: it does not count
    return tf.reduce_sum(losses * is_real) / tf.reduce_sum(is_real)


def compile_model(model, learning_rate, num_steps):
    """Prepare `model` for `num_steps` training steps. Weights decay: new sentences gain from it."""
    warmup = num_steps // 20  # the rate climbs to learning_rate, then falls along a cosine to 0
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, num_steps - warmup, warmup_target=learning_rate, warmup_steps=warmup
    )
    optimizer = AdamWithMuon(schedule, global_clipnorm=1.0, weight_decay=0.08)
    optimizer.build(model.trainable_variables)  # now, or `fit` compiles its first step twice
    model.compile(optimizer, cross_entropy, metrics=exact_metrics())


# --------------------------------------- Inference models ---------------------------------------
# The same trained layers, found by name and wired anew: now the decoder feeds on its own choices.


def build_inference_models(model):
    """Return the (encoder model, decoder model) of a trained or re-loaded `model`.

    Encoder: encoder_input_data to h and c, (batch, 2 * latent_dim) each, and the context, (batch,
    1, num_korean_characters). Decoder: one character (batch, 1, num_korean_characters) and these
    three to the next one's probabilities, new h and c, and the same context.
    """
    encoder_states = [model.get_layer(name).output for name in ("state_h", "state_c", "context")]
    encoder_model = keras.Model(model.get_layer("encoder_inputs").output, encoder_states)

    decoder_lstm, decoder_dense = map(model.get_layer, ("decoder_lstm", "decoder_dense"))
    character = keras.Input((1, decoder_dense.units))
    state_h, state_c, context = states = [keras.Input(state.shape[1:]) for state in encoder_states]
    decoder_outputs, *new_states = decoder_lstm(character, initial_state=[state_h, state_c])
    outputs = [keras.ops.softmax(decoder_dense(decoder_outputs) + context), *new_states, context]
    return encoder_model, keras.Model([character, *states], outputs)


def make_greedy_decoder(model, korean_table, max_korean_length):
    """Return a compiled function from a batch of English ids to Korean ids: greedy decoding.

    From int32 (batch, max_english_length), padded with -1, to int32 (batch, length), with length
    at most `max_korean_length`; what follows an end character has no meaning.
    """
    encoder_model, decoder_model = build_inference_models(model)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def greedy_decode(english_ids):
        # 1. Encode the sentences into state vectors.
        states = encoder_model(tf.one_hot(english_ids, encoder_model.input_shape[-1]))
        # 2. Start each translation with the start character.
        character = tf.fill([tf.shape(english_ids)[0]], korean_table[START])
        unfinished = tf.range(tf.size(character))  # their places in the batch
        translation = tf.TensorArray(tf.int32, 0, dynamic_size=True, element_shape=[None])
        while translation.size() < max_korean_length and tf.size(unfinished) > 0:
            # 3. Predict the next character from the last one and the states.
            one_row = tf.one_hot(character, len(korean_table))[:, tf.newaxis]
            probabilities, *states = decoder_model([one_row, *states])
            # 4. Choose the most probable character (argmax).
            character = tf.argmax(probabilities[:, 0], axis=-1, output_type=tf.int32)
            # 5. Append it; the next round feeds it back, with the new states.
            row = tf.scatter_nd(unfinished[:, tf.newaxis], character, tf.shape(english_ids)[:1])
            translation = translation.write(translation.size(), row)
            # 6. Repeat with those that have no end character yet, up to the limit.
            go_on = character != korean_table[END]
            unfinished, character, *states = [x[go_on] for x in (unfinished, character, *states)]
        return tf.transpose(translation.stack())

    return greedy_decode


# ================================================================================================
# The lesson ends here. Two settings vary it: TOKEN = "word" and ARCHITECTURE = "same-length".
# ================================================================================================
# A sentence is a sequence of characters in the lesson. A list of words will do as well: where a
# name above says "characters", read "words".


def split_words(sentence):
    """Return the list of words and punctuation marks of `sentence`; `join_words` is the inverse.

    Don't, o'clock, 7:30 and a Korean word with its particles are one word each. Spaces around a
    mark are part of it, so that none is lost: 'Yes, "I" do.' has the marks ', ', '"', '" ' and '.'.
    """
    return re.findall(r"\w+(?:(?:['-]|[.:,](?=\d))\w+)*| ?[^\w\s] ?", sentence)


def join_words(words):
    """Return the sentence of a list of `words` and marks; a space stands between two words."""
    return re.sub(r"(?<=\w)\n(?=\w)", " ", "\n".join(words)).replace("\n", "").strip()


# For each TOKEN: from a sentence to its sequence, the inverse, what every table has, the plural,
# and what differs in build_training_model: a single word is a pattern.
TOKENS = {
    "char": (str, "".join, [], "characters", {}),
    "word": (split_words, join_words, [UNKNOWN], "words", {"width": 1}),
}


def make_same_length_dataset(length, pairs, english_table, korean_table, batch_size, seed=None):
    """Return a tf.data.Dataset of batches ((input_data,), target_data), shuffled if `seed` is one.

    The arrays are (batch, length, num_english_characters) and (batch, length,
    num_korean_characters). The input ends in all-zero rows, the target in end characters: those
    are part of what is learned, for only they tell where the translation ends. Here padding counts.
    """
    ids = []
    for side, table, fill in (0, english_table, PADDING), (1, korean_table, korean_table[END]):
        sentences = [to_ids(pair[side], table) for pair in pairs]
        ids.append(keras.utils.pad_sequences(sentences, length, padding="post", value=fill))
    dataset = tf.data.Dataset.from_tensor_slices(tuple(ids))
    if seed is not None:
        dataset = dataset.shuffle(len(pairs), seed=seed)

    def one_hot(english_ids, korean_ids):
        input_data = tf.one_hot(english_ids, len(english_table))
        return (input_data,), tf.one_hot(korean_ids, len(korean_table))

    return prefetched(dataset.batch(batch_size).map(one_hot))


def build_same_length_model(num_english_characters, num_korean_characters, latent_dim):
    """Return the model of the trivial case, where both sides have one length, known beforehand.

    It gives each position of the input the probabilities of the Korean character there: input and
    output need the same length, so both are padded to one. In the general case a translation is as
    long as it will be, known only when it ends: hence states between two networks, and a loop.
    """
    inputs = keras.Input((None, num_english_characters), name="inputs")
    # All of the input is there from the start: each layer reads it in both directions.
    lstm = one_hot_lstm(latent_dim, return_state=False, return_sequences=True)
    outputs = layers.Bidirectional(lstm, name="lstm_1")(inputs)
    lstm = layers.LSTM(latent_dim, return_sequences=True)
    outputs = layers.Bidirectional(lstm, name="lstm_2")(outputs)
    dense = layers.Dense(num_korean_characters, activation="softmax", name="dense")
    return keras.Model([inputs], dense(outputs))


def make_same_length_decoder(model, korean_table, length):
    """Return a compiled function like that of `make_greedy_decoder`, but without its loop.

    It raises tf.errors.InvalidArgumentError for ids of more than `length` positions.
    """
    num_english_characters = model.input_shape[-1]

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def decode(english_ids):
        missing = length - tf.shape(english_ids)[1]
        english_ids = tf.pad(english_ids, [[0, 0], [0, missing]], constant_values=PADDING)
        probabilities = model([tf.one_hot(english_ids, num_english_characters)])
        return tf.argmax(probabilities, axis=-1, output_type=tf.int32)

    return decode


def choose_architecture(notes):
    """Return (make_dataset, build_model, make_decoder) for the TOKEN and ARCHITECTURE of `notes`.

    These are the functions above, the datasets and models with what else they need filled in.
    """
    *_, options = TOKENS[notes["settings"]["token"]]
    make_fixed = functools.partial(make_same_length_dataset, notes["length"])
    build = functools.partial(build_training_model, **options)
    return {
        "encoder-decoder": (make_dataset, build, make_greedy_decoder),
        "same-length": (make_fixed, build_same_length_model, make_same_length_decoder),
    }[notes["settings"]["architecture"]]


# ================================================================================================
# What follows is the plumbing: files, reports and the command line.
# ================================================================================================
import argparse
import codecs
import contextlib
import csv
import difflib
import functools
import hashlib
import itertools
import json
import random
import re
import signal
import sys
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np

FORMAT = 6  # of the saved model: raised by whatever makes older files unreadable
NOTES = "seq2seq_char.json"  # the member of the .keras file that holds all but the weights
SIZE_LIMIT = 256 * 2**20  # bytes: the largest corpus that is read, unpacked
SHOW_EVERY = 5  # epochs from one look at validation sentences to the next
REPORT_LIMIT = 5000  # English sentences of a split that the report decodes
LOOKALIKES = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full-width to ASCII
LOOKALIKES |= str.maketrans("‘’“”", "''\"\"", "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff")
CONTROL = "[\0-\x1f\x7f-\x84\x86-\x9f\ufffd]"  # characters that no text has; \x85 is a line's end


class UserError(Exception):
    """What the user can put right: `main` prints it in one line and returns 2."""


# --------------------------------------------- Data ---------------------------------------------


def clean(text):
    """Return `text` in NFC and with single spaces, without zero-width characters.

    Full-width letters and curly quotes become the ASCII ones that they look like.
    """
    return " ".join(unicodedata.normalize("NFC", text.translate(LOOKALIKES)).split())


def read_bytes(path):
    """Return the content of the file at `path`, or of the only corpus in it if it is a .zip.

    Raises UserError if it cannot be read, or is larger than SIZE_LIMIT.
    """
    try:
        with open(path, "rb") as file:
            if file.peek(4).startswith(b"PK\x03\x04"):
                archive = zipfile.ZipFile(file)
                names = [name for name in archive.namelist() if name.endswith((".txt", ".tsv"))]
                names = [name for name in names if not name.endswith("_about.txt")]
                if len(names) != 1:
                    raise ValueError(f"has {len(names)} text files; it needs exactly one")
                file = archive.open(names[0])
            data = file.read(SIZE_LIMIT + 1)
    except Exception as error:  # damaged archives raise errors of many kinds
        raise UserError(f"{path}: cannot be read ({error}); give another --data-path") from error
    if len(data) > SIZE_LIMIT:
        raise UserError(f"{path}: is larger than {SIZE_LIMIT >> 20} MiB; give a part of it")
    return data


def decode_bytes(data, path):
    """Return the text in `data`: UTF-8, UTF-16 with a byte-order mark, or Korean CP949.

    Raises UserError for any other: a wrong guess would train on nonsense.
    """
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ["utf-16"] if is_utf16 else ["utf-8-sig", "cp949"]:
        with contextlib.suppress(UnicodeDecodeError):
            text = data.decode(encoding)
            # Text in other encodings is often valid CP949, but hardly ever of common syllables,
            # those that CP949 writes with two high bytes.
            hangul = "".join(re.findall("[가-힣]", text)).encode(encoding)
            common = len(re.findall(rb"[\xa1-\xfe]{2}", hangul))
            is_korean = common >= 0.9 * len(re.findall("[^\x00-\x7f]", text))
            if "\0" not in text and (is_korean or encoding != "cp949"):
                return text
    raise UserError(f"{path}: is no text in UTF-8, UTF-16 or CP949; save it as UTF-8")


def parse_pairs(text, num_pairs, max_length):
    """Return (the usable pairs of `text`, cleaned; the dropped lines as {reason: [line number]}).

    A line is English, tab, Korean; what comes after another tab is ignored. `num_pairs` is where
    to stop, if not 0; `max_length` is in characters.
    """
    pairs, dropped = {}, {}
    for number, line in enumerate(re.split("\r\n|\r|\n", text), start=1):
        if num_pairs and len(pairs) == num_pairs:
            break
        fields = line.split("\t")[:2]
        pair = tuple(map(clean, fields))
        has_hangul = [bool(re.search("[가-힣]", side)) for side in pair]
        faults = {
            "without a tab": len(fields) < 2,
            "with a control character": re.search(CONTROL, "".join(fields)),
            "with an empty side": not all(pair),
            "that are not English, tab, Korean": has_hangul != [False, True],
            f"longer than {max_length} characters (MAX_LENGTH)": max(map(len, pair)) > max_length,
            "that repeat another": pair in pairs,
        }
        fault = next((fault for fault, is_there in faults.items() if is_there), None)
        if fault is None:
            pairs[pair] = number
        elif line.strip():
            dropped.setdefault(fault, []).append(number)
    return list(pairs), dropped


def read_pairs(path, num_pairs, max_length):
    """Return the usable pairs of the corpus at `path`; say how many lines were dropped, and why.

    Raises UserError if there is none.
    """
    pairs, dropped = parse_pairs(decode_bytes(read_bytes(path), path), num_pairs, max_length)
    for reason, numbers in dropped.items():
        some = ", ".join(map(str, numbers[:5])) + ", ..." * (len(numbers) > 5)
        print(f"{path}: dropped {len(numbers):,} lines {reason}: line {some}", file=sys.stderr)
    if not pairs:
        raise UserError(f"{path}: has no usable line; a line is English, a tab, Korean")
    return pairs


def split_pairs(pairs, validation_fraction, seed):
    """Return (training pairs, validation pairs); no English sentence stands on both sides.

    Raises UserError if one side has none.
    """
    sentences = sorted({english for english, _ in pairs})
    random.Random(seed).shuffle(sentences)
    held_out = set(sentences[: round(len(sentences) * validation_fraction)])
    training = [pair for pair in pairs if pair[0] not in held_out]
    validation = [pair for pair in pairs if pair[0] in held_out]
    if not training or not validation:
        part = f"{len(held_out)} of {len(sentences)} English sentences"
        raise UserError(f"VALIDATION_FRACTION = {validation_fraction}: holds out {part}")
    return training, validation


def prefetched(dataset):
    """Return `dataset` with its number of batches known, and each made while one is learned."""
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread can hold up the end of an epoch for seconds
    num_batches = tf.data.experimental.assert_cardinality(sum(1 for _ in dataset))
    return dataset.apply(num_batches).prefetch(2).with_options(options)


# -------------------------------------- Saving and loading --------------------------------------


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path beside `path`, renamed over it if all goes well, else removed.

    Raises UserError if the file cannot be written.
    """
    temporary = path.with_name("partial-" + path.name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def save_model(model, notes, path):
    """Write `model` to `path`, a .keras file, with the dict `notes` as JSON inside."""
    with replacing(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(NOTES, json.dumps(notes, ensure_ascii=False))


def load_notes(path):
    """Return the notes in the model file at `path`, after a check of every byte of the file.

    Raises UserError if it is missing, damaged, or not of this version of this script.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if NOTES not in archive.namelist():
                raise UserError(f"{path}: is not a model of this script")
            if archive.testzip() or archive.getinfo(NOTES).file_size > 2**24:
                raise zipfile.BadZipFile("checksum")
            notes = json.loads(archive.read(NOTES))
        if notes["format"] != FORMAT:
            found = f"has format {notes['format']!r}, this script has {FORMAT}"
            raise UserError(f"{path}: {found}; train a new model")
        # No larger model is built than the file has numbers for.
        units, num_rows = notes["settings"]["latent_dim"], sum(map(len, tables_of(notes)))
        if not 0 < units * (units + num_rows) <= os.path.getsize(path):
            raise ValueError("latent_dim")
    except FileNotFoundError:
        raise UserError(f"{path}: no model yet; train one: python seq2seq_char.py") from None
    except UserError:
        raise
    except Exception as error:  # damaged files raise errors of many kinds
        raise UserError(f"{path}: is damaged or not a model of this script ({error!r})") from error
    return notes


def load_model(path):
    """Return (model, notes) from the model file at `path`.

    The model is built here and only numbers are read from the file: nothing that a stranger's
    file names is imported or run. Raises UserError if the file cannot be used.
    """
    notes = load_notes(path)
    try:
        english_table, korean_table = tables_of(notes)
        has_ends = {START, END} <= korean_table.keys()
        "".join([*english_table, *korean_table])  # raises TypeError for what is no text
        if not (notes["settings"]["token"] in TOKENS and has_ends and 0 < notes["length"] < 9999):
            raise ValueError("token, tables or length")
        _, build_model, _ = choose_architecture(notes)
        model = build_model(len(english_table), len(korean_table), notes["settings"]["latent_dim"])
        model.load_weights(path)
    except Exception as error:  # of many kinds, as above
        raise UserError(f"{path}: is not a model of this script ({error!r})") from error
    return model, notes


def tables_of(notes):
    """Return (English table, Korean table) of the notes of a model."""
    names = "english_characters", "korean_characters"
    return tuple({character: id for id, character in enumerate(notes[name])} for name in names)


# -------------------------------------- Figures and reports --------------------------------------


class AdamWithMuon(keras.optimizers.Adam):
    """Adam, but Muon for recurrent kernels: sentences are known by heart in half the epochs.

    Weights decay, but for those of the context and its patterns: for new sentences a little better.

    Muon (K. Jordan et al., 2024, kellerjordan.github.io/posts/muon) makes all singular values of a
    step about 1, by the Newton-Schulz iterations with its numbers, so that all directions of the
    state are learned alike. The step has the size of one of Adam's (Liu et al., 2025,
    arXiv:2502.16982). Keras has a Muon too, which fails in Keras 3.12, the last for Python 3.10.
    """

    def build(self, variables):
        kept = [v for v in variables if v.path.startswith(("patterns", "context"))]
        self.exclude_from_weight_decay(kept)
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        if "recurrent_kernel" not in self._trainable_variables[index].path:
            return super().update_step(gradient, variable, learning_rate)
        momentum = self._momentums[index]
        momentum.assign(0.95 * momentum + gradient)
        step = gradient + 0.95 * momentum
        step /= tf.norm(step) + 1e-7
        # Each iteration multiplies the step by a polynomial of its Gram matrix. These factors are
        # square and small: they are multiplied first, for the same step in half the time.
        gram = tf.matmul(step, step, transpose_b=True)
        product = identity = tf.eye(step.shape[0])
        for _ in range(5):
            factor = 3.4445 * identity - 4.775 * gram + 2.0315 * gram @ gram
            product, gram = factor @ product, factor @ gram @ factor
        step = product @ step
        variable.assign_sub(learning_rate * 0.2 * max(step.shape) ** 0.5 * step)


class MeanPerCharacter(keras.metrics.Mean):
    """The mean of a Keras metric function over all real characters, whatever their batch.

    Keras's own means give each sentence the same weight, and each position of padding its share.
    """

    def __init__(self, function, name):
        super().__init__(name=name)
        self.function = function

    def update_state(self, target, probabilities, sample_weight=None):
        is_real = tf.reduce_sum(target, axis=-1)  # 1 for a character, 0 for padding
        values = self.function(target, probabilities)
        super().update_state(tf.reshape(values, [-1]), tf.reshape(is_real, [-1]))


def exact_metrics():
    """Return the metrics of training; the one named loss takes the place of Keras's own."""
    loss = MeanPerCharacter(keras.losses.categorical_crossentropy, "loss")
    return [loss, MeanPerCharacter(keras.metrics.categorical_accuracy, "accuracy")]


def make_translator(model, notes):
    """Return the function translate(sentences, batch_size=256), from list of English to of Korean.

    A sentence without a known character gives "". What is longer than any sentence of the corpus
    is cut or, by a same-length model, refused: the function raises UserError.
    """
    split, join, _, plural, _ = TOKENS[notes["settings"]["token"]]
    architecture, length = notes["settings"]["architecture"], notes["length"]
    english_table, korean_table = tables_of(notes)
    decode = choose_architecture(notes)[2](model, korean_table, length)

    def translate(sentences, batch_size=256):
        english_ids = [to_ids(split(sentence), english_table) for sentence in sentences]
        translations = [""] * len(sentences)
        # Sentences of like length share a batch: it ends as soon as all of its sentences have.
        order = sorted((len(ids), place) for place, ids in enumerate(english_ids) if ids)
        if architecture == "same-length" and order and order[-1][0] > length:
            what = f"{sentences[order[-1][1]][:40]!r} ...: has {order[-1][0]} {plural}"
            raise UserError(f"{what}; this same-length model was built for {length}; shorten it")
        for start in range(0, len(order), batch_size):
            places = [place for _, place in order[start : start + batch_size]]
            batch = [english_ids[place][:length] for place in places]
            batch = keras.utils.pad_sequences(batch, padding="post", value=PADDING)
            for place, ids in zip(places, decode(batch).numpy()):
                translations[place] = join(to_characters(ids, korean_table))
        return translations

    return translate


def columns(text):
    """Return how many columns of a terminal `text` takes; a Hangul syllable takes two."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


def pad(text, width):
    """Return `text` with spaces up to `width` columns."""
    return text + " " * (width - columns(text))


def show_arrays(dataset, english_table, korean_table):
    """Print the first pair of `dataset` as the model meets it, read back from its arrays."""
    inputs, target = next(iter(dataset))
    names = ["encoder_input_data", "decoder_input_data", "decoder_target_data"]
    if len(inputs) == 1:
        names = ["input_data", "target_data"]
    for name, array in zip(names, (*inputs, target)):
        characters = list(english_table if array is inputs[0] else korean_table)
        cells = [characters[row.argmax()] if row.any() else "0" for row in array[0].numpy()]
        cells = [{START: "^", END: "$"}.get(cell, cell.replace(" ", "_")) for cell in cells]
        print(f"{name:20} {array.shape!s:14} {' '.join(pad(cell, 2) for cell in cells)}")
    print("Each is a one-hot row: _ is a space, ^ the start, $ the end, 0 a row of padding.\n")


def show_translations(rows):
    """Print rows of (English, output, reference) in columns, = where output is reference."""
    widths = [max(columns(row[side]) for row in rows) for side in range(2)]
    for english, output, reference in rows:
        mark = "=" if output == reference else " "
        print(f"  {pad(english, widths[0])}  {pad(output, widths[1])} {mark} {reference}")


def score(outputs, references):
    """Return (exact match, character error rate, the closest references) of `outputs`.

    `references` has a list for each output, of which the closest counts. The error rate is the
    total Levenshtein distance over the total length of the references, in characters.
    """
    sides = zip(*[(output, side) for output, many in zip(outputs, references) for side in many])
    sparse = [tf.strings.unicode_split(side, "UTF-8").to_sparse() for side in sides]
    distances = iter(tf.edit_distance(*sparse, normalize=False).numpy())
    closest = [min((next(distances), reference) for reference in many) for many in references]
    exact = np.mean([distance == 0 for distance, _ in closest])
    error_rate = sum(d for d, _ in closest) / sum(len(reference) for _, reference in closest)
    return exact, error_rate, [reference for _, reference in closest]


def report(name, pairs, translate):
    """Print samples of a split and return its line of the table of figures.

    `translate` takes a list of English sentences and returns their translations.
    """
    references = {}
    for english, korean in pairs:
        references.setdefault(english, []).append(korean)
    sentences = random.Random(0).sample(list(references), min(len(references), REPORT_LIMIT))
    outputs = translate(sentences)
    exact, error_rate, closest = score(outputs, [references[english] for english in sentences])
    print(f"\nSome {name} sentences: English, output, = if exact, reference")
    show_translations(list(zip(sentences, outputs, closest))[:10])
    count = f"{len(sentences):,} of {len(references):,}"
    return f"{name:10} {count:>16} {exact:12.1%} {error_rate:21.1%}"


# ------------------------------------------ Training ------------------------------------------


def vectorize(settings, splits):
    """Return (training pairs, validation pairs, notes): for `make_dataset` and for `save_model`.

    `splits` are the training and validation pairs of text. Prints the sizes of the tables, and how
    much of the validation sentences is in neither.
    """
    split, _, special, plural, _ = TOKENS[settings.token]
    training, validation = [[tuple(map(split, pair)) for pair in pairs] for pairs in splits]
    tables = [build_table([special, *(pair[0] for pair in training)])]
    tables += [build_table([special, [START, END], *(pair[1] for pair in training)])]
    for side, table in enumerate(tables):
        sequence = [character for pair in validation for character in pair[side]]
        unknown = sum(character not in table for character in sequence)
        print(
            f"{('English', 'Korean')[side]}: {len(table):,} different {plural};"
            f" {unknown:,} of {len(sequence):,} in validation sentences are not among them"
        )
    # Sentences of which nothing is known are left out: a mask must not hide a whole sentence.
    validation = [pair for pair in validation if to_ids(pair[0], tables[0])] or validation
    notes = {
        "format": FORMAT,
        "english_characters": list(tables[0]),
        "korean_characters": list(tables[1]),
        "length": max(len(side) for pair in training + validation for side in pair) + 1,
        "settings": {n: getattr(settings, n) for n in hyperparameters() if not n.endswith("_path")},
        "data": hashlib.sha256(repr(splits).encode()).hexdigest(),
        "history": [],
    }
    return training, validation, notes


def train(settings):
    """Train as `settings` say; save the model and its history; print the report."""
    model_path = Path(settings.model_path)
    check_output(model_path)
    checkpoint_path = model_path.with_name("checkpoint-" + model_path.name)
    pairs = read_pairs(settings.data_path, settings.num_pairs, settings.max_length)
    splits = split_pairs(pairs, settings.validation_fraction, settings.seed)
    print("{:,} training and {:,} validation pairs".format(*map(len, splits)))
    training, validation, notes = vectorize(settings, splits)
    tables = tables_of(notes)

    keras.utils.set_random_seed(settings.seed)
    make_dataset, build_model, _ = choose_architecture(notes)
    show_arrays(make_dataset(training[len(training) // 4 :][:1], *tables, 1), *tables)
    training_data = make_dataset(training, *tables, settings.batch_size, settings.seed)
    validation_data = make_dataset(validation, *tables, settings.batch_size)
    model = build_model(*map(len, tables), settings.latent_dim)
    compile_model(model, settings.learning_rate, settings.epochs * len(training_data))
    if checkpoint_path.exists():
        resume(model, notes, checkpoint_path, settings.fresh)
    translate = make_translator(model, notes)

    def after_epoch(epoch, logs):
        notes["history"].append({"epoch": epoch + 1, **logs})
        save_model(model, notes, checkpoint_path)
        if (epoch + 1) % SHOW_EVERY == 0 and epoch + 1 < settings.epochs:
            shown = splits[1][:: len(splits[1]) // 3 + 1]
            outputs = translate([english for english, _ in shown])
            print(f"\nValidation sentences after epoch {epoch + 1}: English, output, reference")
            show_translations([(pair[0], out, pair[1]) for pair, out in zip(shown, outputs)])

    try:
        model.fit(
            training_data,
            validation_data=validation_data,
            initial_epoch=len(notes["history"]),
            epochs=settings.epochs,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)],
            shuffle=False,  # the data set has seen to it
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except KeyboardInterrupt:
        done = f"{len(notes['history'])} of {settings.epochs} epochs are done"
        raise KeyboardInterrupt(f"{done}; the same command goes on from there") from None
    # The last weights, not those of lowest validation loss, epoch 12 on Tatoeba's corpus and 30 on
    # the bundled one: held-out sentences come out better (chrF 15.5 and 12.3, 88.3 and 87.3), and
    # more of the training sentences of Tatoeba are exact (99.3 and 25 %).
    # Measured by tests/benchmark.py. The optimizer's state, larger than the weights, stays behind.
    save_model(keras.Model(model.inputs, model.outputs), notes, model_path)
    with (
        replacing(model_path.with_name("history.csv")) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, notes["history"][0])
        writer.writeheader()
        writer.writerows(notes["history"])
    checkpoint_path.unlink(missing_ok=True)
    lines = [report("validation", splits[1], translate), report("training", splits[0], translate)]
    print("\nsplit      sentences decoded  exact match  character error rate", *lines, sep="\n")
    print(f'\nSaved in {model_path}. Now: python seq2seq_char.py translate "I am busy."')


def check_output(model_path):
    """Make the folder of `model_path`. Raises UserError if no file can be written there."""
    if model_path.suffix != ".keras" or model_path.is_dir():
        raise UserError(f"MODEL_PATH = {model_path}: must be a file name that ends in .keras")
    try:
        model_path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=model_path.parent).close()
    except OSError as error:
        raise UserError(f"MODEL_PATH = {model_path}: cannot be written ({error})") from error


def resume(model, notes, checkpoint_path, fresh):
    """Put the state of an interrupted run into `model` and `notes`, if it was the same run."""
    try:
        saved = load_notes(checkpoint_path)
        new = {**notes["settings"], "the data": notes["data"], "--fresh": fresh}
        old = {**saved["settings"], "the data": saved["data"], "--fresh": False}
        if changed := [name for name in new if new[name] != old.get(name)]:
            raise ValueError("changed: " + ", ".join(changed))
        model.load_weights(checkpoint_path)
        notes["history"] = saved["history"]
        print(f"Going on with an interrupted run, after epoch {len(saved['history'])}.\n")
    except Exception as error:  # not even a damaged checkpoint may stop a new run
        print(f"Not going on with the interrupted run in {checkpoint_path} ({error}).\n")


# ----------------------------------------- Command line -----------------------------------------


def translate_command(settings):
    """Print the translations of the sentences of the command line or of standard input."""
    model, notes = load_model(Path(settings.model_path))
    translate = make_translator(model, notes)
    split, _, special, plural, _ = TOKENS[notes["settings"]["token"]]
    (table, _), length = tables_of(notes), notes["length"]
    # Bytes either way: the locale may have had another idea of the arguments.
    source = map(os.fsencode, settings.sentences) if settings.sentences else sys.stdin.buffer
    lines = (clean(line.decode("utf-8", errors="replace")) for line in source)
    batch_size = 1 if sys.stdin.isatty() else 1024  # at a terminal, each line is answered at once
    unknown, num_cut = set(), 0
    while batch := list(itertools.islice(lines, batch_size)):
        sequences = list(map(split, batch))
        unknown = unknown.union(*sequences) - table.keys()
        num_cut += sum(len(to_ids(sequence, table)) > length for sequence in sequences)
        print(*translate(batch), sep="\n", flush=True)
    if unknown:
        some = " ".join(sorted(unknown)[:40]) + " ..." * (len(unknown) > 40)
        what = f"{len(unknown):,} {plural} that training never saw"
        done = "taken for one unknown word" if special else "left out"
        print(f"warning: {what}, {done}: {some!r}", file=sys.stderr)
    if num_cut:
        what = f"{num_cut:,} sentences to their first {length} {plural}"
        print(f"warning: cut {what}, all that the model takes", file=sys.stderr)


def hyperparameters():
    """Return {name in lower case: comment} of the constants at the top of this file."""
    top = Path(__file__).read_text(encoding="utf-8").partition("\nSTART, END")[0]
    constants = re.findall(r"^([A-Z_]+) = .+?  # (.+)$", top, re.MULTILINE)
    return {name.lower(): comment for name, comment in constants}


def checked(name, value, comment):
    """Return `value` in the type and range that ends `comment`: "; 1 to 10", "; a or b", or any.

    Raises UserError if it is not.
    """
    low, kind, high = re.search(r"(?:; (\S+) (to|or) (\S+))?$", comment).groups()
    if kind is None or (kind == "or" and value in (low, high)):
        return str(value)
    if kind == "or":
        raise UserError(f"{name.upper()} = {value}: must be {low} or {high}")
    number, kind = (float, "a number") if "." in high else (int, "a whole number")
    with contextlib.suppress(ValueError):
        if number(low) <= number(str(value)) <= number(high):
            return number(str(value))
    raise UserError(f"{name.upper()} = {value}: must be {kind} from {low} to {high}")


def read_settings(arguments):
    """Return the settings of a run: the constants at the top, changed by `arguments`.

    Raises UserError for a name, type or value that is not allowed.
    """

    def refuse(message):
        raise UserError(message)

    parser = argparse.ArgumentParser(
        usage="python seq2seq_char.py [translate] [sentence ...] [--setting value ...]",
        description="Learn to translate, or translate the sentences (or standard input).",
        allow_abbrev=False,
    )
    parser.error = refuse
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--fresh", action="store_true", help="start anew, whatever is half done")
    for name, comment in hyperparameters().items():
        value = globals()[name.upper()]
        if name.endswith("_path"):
            value = Path(__file__).parent / value
        help = f"{comment} (now {value})".replace("%", "%%")
        parser.add_argument("--" + name.replace("_", "-"), default=value, metavar="", help=help)
    settings, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        near = difflib.get_close_matches(unknown[0].split("=")[0], parser._option_string_actions)
        hint = f"did you mean {near[0]}?" if near else "see --help"
        raise UserError(f"{unknown[0]}: no such setting; {hint}")
    settings.command, *settings.sentences = settings.words or ["train"]
    if settings.words and settings.command != "translate":
        raise UserError(f"{settings.command}: no such command; the only one is translate")
    for name, comment in hyperparameters().items():
        setattr(settings, name, checked(name, getattr(settings, name), comment))
    return settings


def main(arguments=None):
    """Run the script with a list of `arguments`; return its exit status."""
    try:
        settings = read_settings(arguments)
        train(settings) if settings.command == "train" else translate_command(settings)
    except UserError as error:
        print(f"seq2seq_char.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (MemoryError, tf.errors.ResourceExhaustedError):
        advice = "a smaller BATCH_SIZE, LATENT_DIM or MAX_LENGTH needs less"
        print(f"seq2seq_char.py: error: out of memory; {advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"\n{error or 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # | head has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in sys.stdout, sys.stderr:
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(main())
