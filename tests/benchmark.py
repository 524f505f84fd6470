"""Side-by-side measurements: the usual recipe of the tutorials against this project's script.

    python tests/benchmark.py --output FOLDER            all stages; 48 minutes and patience
    python tests/benchmark.py --quick --output FOLDER    all, on less data, in a quarter hour
    python tests/benchmark.py --only systems,pictures --output FOLDER    some stages once more
    python tests/benchmark.py --model runs/eng-kor.keras --data data/eng-kor.tsv

The last form trains nothing: it decodes the two splits that a saved model was trained and tested
on, and prints exact match, character error rate, chrF and the speed of decoding.

compare   OURS, seq2seq_char.py with its default settings, against THE USUAL RECIPE, written anew
          here from the published description of the Keras tutorial: one-hot characters, the whole
          corpus as float32 arrays padded with spaces to its longest sentence, no masking, 256
          units, Glorot initialisation, RMSprop at 1e-3, batches of 64, and decoding by one
          `predict` call after another. Both get the same pairs of at most 64 characters and the
          same split; each has a process and all cores for itself. Ours runs its default epochs,
          the usual recipe, on the first corpus alone, until it has used as many seconds (it
          finishes the epoch in which they are over). Only time from the first batch of an epoch to
          its last counts, not the looks on the way at the translations of the validation split and
          of 300 training sentences.
growth    Ours on 1, 4 and 16 times the pairs.
systems   The four combinations of TOKEN and ARCHITECTURE, two at a time, on one core each, for the
          default epochs, or for as many as fit into ten minutes.
patience  The usual recipe once more, on the first corpus, for 20 times the seconds that ours took
          until 90 % of the training sentences were exact.
pictures  Exact training sentences and validation chrF against seconds of training.

FOLDER receives benchmark.json and benchmark.md, anew after each measurement, and the pictures
learning-light.png and learning-dark.png; nothing else is written but temporary files. What fails
leaves an "error" in its place. benchmark.json has at top level, from kor-eng if that corpus is
there, else from the bundled one:

epoch_seconds_ratio   seconds per epoch, usual / ours (median of the epochs after the first)
time_to_90_ratio      seconds of training until 90 % of the 300 training sentences are decoded
                      exactly, usual / ours; if the usual recipe never gets there, all its seconds
                      (of its long run, if there is one) stand in, and time_to_90_is_lower_bound
                      is true
decode_ratio          greedily decoded sentences a second, ours / usual
chrf_ratio            chrF on the validation split at equal training time, ours / usual (or 0.1, if
                      that is less)
exact_usual, exact_ours      share of the 300 training sentences decoded exactly, at equal time
peak_mb_usual, peak_mb_ours  peak resident memory of the process, MiB, at the end of its last epoch:
                      with the looks before it, without the measurements after it
floor_ratio           our seconds per epoch / the seconds that the matrix products of one epoch over
                      real characters take (forward, and twice as much backward) at the speed of
                      products of (batch x units) by (units x 4 units) in the same run
floor_ratio_strict    the same without gradients of the one-hot rows, which nobody needs
growth_time_16x       (seconds per epoch on 16 x the pairs / on 1 x) / 16
growth_memory_16x     peak memory on 16 x the pairs / on 1 x
seconds_to_99_kor_eng, validation_chrf_kor_eng   ours, on kor-eng

Larger is better for us, but for exact_usual, the peaks, the floors, the growths and the seconds.
"""

import argparse
import concurrent.futures
import contextlib
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import seq2seq_char as script  # before the others: it quiets TensorFlow

# isort: split
import keras
import numpy as np
import sacrebleu
import tensorflow as tf

CORPORA = {
    "kor-eng": ROOT.parent / "shared" / "data" / "kor-eng" / "kor.txt",
    "bundled": ROOT / "data" / "eng-kor.tsv",
}
MAX_LENGTH = 64  # characters: with longer sentences, the usual recipe's arrays do not fit in memory
SAMPLE = 300  # training sentences that are decoded at each look
TARGETS = {
    "epoch_seconds_ratio": (">=", 4),
    "time_to_90_ratio": (">=", 20),
    "decode_ratio": (">=", 500),
    "chrf_ratio": (">=", 1.5),
    "floor_ratio": ("<=", 2),
    "seconds_to_99_kor_eng": ("<=", 240),
    "validation_chrf_kor_eng": (">=", 15),
}


def log(text):
    """Print a line of progress, with the time, on standard error."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def thin(items, count):
    """Return `count` of the `items`, evenly spaced, or all if there are no more than that."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def peak_mb():
    """Return the peak resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


# --------------------------------------- The usual recipe ---------------------------------------


def usual_shape(pairs):
    """Return the characters and the longest sentence of each side, a dict."""
    english, korean = zip(*pairs)
    return {
        "english": "".join(sorted(set(" ".join(english)))),
        "korean": "".join(sorted({"\t", "\n", " "}.union(*korean))),
        "max_english": max(map(len, english)),
        "max_korean": max(map(len, korean)) + 2,
    }


def usual_arrays_gb(pairs):
    """Return the GB of the usual recipe's three float32 arrays for `pairs`."""
    shape = usual_shape(pairs)
    english = shape["max_english"] * len(shape["english"])
    korean = shape["max_korean"] * len(shape["korean"])
    return 4 * len(pairs) * (english + 2 * korean) / 1e9


def usual_one_hot(texts, characters, length):
    """Return `texts`, padded with spaces, as float32 (texts, length, characters)."""
    ids = {character: id for id, character in enumerate(characters)}
    array = np.zeros((len(texts), length, len(characters)), "float32")
    for row, text in enumerate(texts):
        array[row, range(length), [ids[character] for character in text.ljust(length)]] = 1.0
    return array


def usual_decoder(model, shape):
    """Return decode(sentences): the tutorials' inference models and their loop of predict calls."""
    lstm, dense = model.get_layer("decoder_lstm"), model.get_layer("decoder_dense")
    encoder_model = keras.Model(model.inputs[0], model.get_layer("encoder_lstm").output[1:])
    states = [keras.Input((lstm.units,)), keras.Input((lstm.units,))]
    outputs, *new_states = lstm(model.inputs[1], initial_state=states)
    decoder_model = keras.Model([model.inputs[1], *states], [dense(outputs), *new_states])

    def decode(sentences):
        rows = usual_one_hot(sentences, shape["english"], shape["max_english"])
        options = {"batch_size": len(sentences), "verbose": 0}
        h, c = encoder_model.predict(rows, **options)
        last = usual_one_hot(["\t"] * len(sentences), shape["korean"], 1)
        texts = [""] * len(sentences)
        for _ in range(shape["max_korean"]):
            probabilities, h, c = decoder_model.predict([last, h, c], **options)
            chosen = [shape["korean"][id] for id in np.argmax(probabilities[:, -1], axis=-1)]
            texts = [text + character for text, character in zip(texts, chosen)]
            last = usual_one_hot(chosen, shape["korean"], 1)
            if all("\n" in text for text in texts):
                break
        return [text.partition("\n")[0].strip() for text in texts]

    return decode


def usual(job):
    """Train and decode as the tutorials do; return the measurements."""
    del os.environ["TF_NUM_INTEROP_THREADS"]  # of ours; TensorFlow looks when it computes first
    base_mb = peak_mb()
    training, validation = job["training"], job["validation"]
    shape = usual_shape(training + validation)
    english, korean = zip(*training)
    arrays = [usual_one_hot(english, shape["english"], shape["max_english"])]
    for prefix in "\t", "":
        texts = [f"{prefix}{side}\n" for side in korean]
        arrays.append(usual_one_hot(texts, shape["korean"], shape["max_korean"]))

    keras.utils.set_random_seed(1)
    names = "encoder_inputs", "decoder_inputs"
    inputs = [keras.Input((None, a.shape[-1]), name=name) for a, name in zip(arrays, names)]
    _, *states = keras.layers.LSTM(256, return_state=True, name="encoder_lstm")(inputs[0])
    lstm = keras.layers.LSTM(256, return_sequences=True, return_state=True, name="decoder_lstm")
    outputs, _, _ = lstm(inputs[1], initial_state=states)
    dense = keras.layers.Dense(len(shape["korean"]), activation="softmax", name="decoder_dense")
    model = keras.Model(inputs, dense(outputs))
    model.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy"])
    decode = usual_decoder(model, shape)

    result = watch(job, model, decode, arrays[:2], arrays[2], epochs=10**6, batch_size=64)
    positions = len(training) * (shape["max_english"] + shape["max_korean"])
    real = len("".join(english + korean)) + len(training)
    result["positions_per_character"] = positions / real
    result["base_mb"] = base_mb
    result["arrays_gb"] = sum(array.nbytes for array in arrays) / 1e9
    few = [english for english, _ in thin(validation, 5)]
    started = time.perf_counter()
    for sentence in few:
        decode([sentence])
    result["sentences_a_second"] = len(few) / (time.perf_counter() - started)
    return result | start_up(job, model.save, {"usual_shape": shape, "sentence": few[0]})


# --------------------------------------------- Ours ---------------------------------------------


def ours(job):
    """Train as the script does, with its own functions and settings; return the measurements."""
    settings = script.read_settings(job["arguments"])
    splits = [[tuple(pair) for pair in job[side]] for side in ("training", "validation")]
    training, validation, notes = script.vectorize(settings, splits)
    tables = script.tables_of(notes)
    make_dataset, build_model, _ = script.choose_architecture(notes)
    keras.utils.set_random_seed(settings.seed)
    data = make_dataset(training, *tables, settings.batch_size, settings.seed)
    model = build_model(*map(len, tables), settings.latent_dim)
    script.compile_model(model, settings.learning_rate, settings.epochs * len(data))
    translate = script.make_translator(model, notes)
    result = {
        "settings": notes["settings"],
        "vocabularies": list(map(len, tables)),
        "parameters": model.count_params(),
        "unknown": [
            np.mean([token not in tables[side] for pair in validation for token in pair[side]])
            for side in range(2)
        ],
        "batches": len(data),
    }
    if "batches" in job:
        data = data.take(job["batches"])
    validation_data = make_dataset(validation, *tables, settings.batch_size)

    def validation_loss():
        return model.evaluate(validation_data, verbose=0, return_dict=True)["loss"]

    options = {"epochs": settings.epochs, "shuffle": False}
    result |= watch(job, model, translate, data, validation_loss=validation_loss, **options)
    if "starts" not in job:
        return result
    positions = real = 0
    for inputs, target in make_dataset(training, *tables, settings.batch_size):
        for array in inputs[0], target:
            positions += array.shape[0] * array.shape[1]
            real += float(tf.reduce_sum(array))
    sentences = list(references_of(splits[0]))
    translate(sentences[:300])  # traces the decoder
    started = time.perf_counter()
    translate(sentences)
    seconds = time.perf_counter() - started
    speed = matmul_speed(settings.batch_size, model.get_layer("decoder_lstm").units)
    steps = [sum(len(pair[side]) + side for pair in training) for side in range(2)]
    most, least = floor_operations(model, *steps)
    result |= {
        "positions_per_character": positions / real,
        "sentences_a_second": len(sentences) / seconds,
        "matmul_gflops": speed / 1e9,
        "floor_seconds": most / speed,
        "floor_seconds_strict": least / speed,
    }

    def save(path):
        script.save_model(keras.Model(model.inputs, model.outputs), notes, path)

    return result | start_up(job, save, {"sentence": splits[1][0][0]})


def floor_operations(model, english_steps, korean_steps):
    """Return the floating-point operations of one epoch over so many real characters, twice:
    with and without the gradients of the one-hot rows.

    Each number of a kernel costs a multiplication and an addition at each step, as many again for
    its own gradient, and for the gradient of what it multiplies.
    """
    # What is between them, and the context, is once a sentence and small.
    steps_of = {"encoder": english_steps, "patterns": english_steps, "decoder": korean_steps}
    one_hot_widths = [tensor.shape[-1] for tensor in model.inputs]
    most = least = 0
    for layer in model.layers:
        steps = steps_of.get(layer.name.partition("_")[0], 0)
        for *width, rows, columns in (w.shape for w in layer.trainable_weights if len(w.shape) > 1):
            operations = 2 * steps * math.prod(width) * rows * columns
            most += 3 * operations
            least += (2 if rows in one_hot_widths else 3) * operations
    return most, least


def matmul_speed(batch, units):
    """Return the operations a second of (batch x units) by (units x 4 units) products."""
    left, right = tf.random.normal((batch, units)), tf.random.normal((units, 4 * units))

    @tf.function
    def products(left):
        for _ in range(100):
            # The next product needs this one, so that none can be left out.
            left = tf.matmul(left, right)[:, :units] * 0.01
        return left

    products(left)
    seconds = []
    for _ in range(25):
        started = time.perf_counter()
        products(left).numpy()
        seconds.append(time.perf_counter() - started)
    return 100 * 2 * batch * units * 4 * units / statistics.median(seconds)


# ---------------------------------- What both have in common ----------------------------------


def watch(job, model, decode, *data, epochs, validation_loss=None, **options):
    """Fit `model` for `epochs`, or until job["seconds"] are over; return the measurements.

    If job["look"] is there, every second epoch is followed by a look at the translations, unless
    the last look is less than job["look"] seconds of training ago. What is known so far goes to
    job["tell"] after each epoch.
    """
    training = references_of(job["training"])
    sides = {
        "training": {english: training[english] for english in thin(list(training), SAMPLE)},
        "validation": references_of(job["validation"]),
    }
    sentences = [english for references in sides.values() for english in references]
    seconds, losses, curve = [], [], []
    result = {"seconds_of_epochs": seconds, "losses": losses, "curve": curve}
    began = last_look = 0.0

    def look():
        nonlocal last_look
        translations = dict(zip(sentences, decode(sentences)))
        point = {side: quality(translations, references) for side, references in sides.items()}
        point["validation"]["loss"] = validation_loss and validation_loss()
        last_look = sum(seconds)
        curve.append({"epoch": len(seconds), "seconds": last_look, **point})
        after = f"{job['name']}, {len(seconds)} epochs, {last_look:.0f} s"
        exact, chrf = point["training"]["exact"], point["validation"]["chrf"]
        log(f"  {after}: {exact:.0%} of training exact, validation chrF {chrf:.1f}")

    def on_train_batch_begin(batch, logs):
        nonlocal began
        if batch == 0:  # an epoch's own begin comes too early: Keras first clears up the last one
            began = time.perf_counter()

    def on_epoch_end(epoch, logs):
        seconds.append(time.perf_counter() - began)
        losses.append(float(logs["loss"]))
        result.update(epochs=len(seconds), training_seconds=sum(seconds), peak_mb=peak_mb())
        result["epoch_seconds"] = statistics.median(seconds[1:] or seconds)
        if sum(seconds) >= job.get("seconds", math.inf) or len(seconds) == epochs:
            model.stop_training = True  # the last look comes after `fit`, which may average weights
        elif len(seconds) % 2 == 0 and sum(seconds) - last_look >= job.get("look", math.inf):
            look()
        job["tell"](result)

    callback = keras.callbacks.LambdaCallback(
        on_train_batch_begin=on_train_batch_begin, on_epoch_end=on_epoch_end
    )
    model.fit(*data, epochs=epochs, callbacks=[callback], verbose=0, **options)
    if "look" in job:
        look()
        result |= {side: curve[-1][side] for side in sides}
    job["tell"](result)
    return result


def references_of(pairs):
    """Return {English: [Korean, ...]} of `pairs`."""
    references = {}
    for english, korean in pairs:
        references.setdefault(english, []).append(korean)
    return references


def quality(translations, references):
    """Return exact match, character error rate and chrF (sacrebleu, all references) of the
    `translations`, {English: Korean}, of the sentences of `references`, {English: [Korean, ...]}.
    """
    outputs, many = [translations[english] for english in references], list(references.values())
    # Sacrebleu takes the references in columns: where there are fewer, the last one stands again.
    columns = [[side[min(i, len(side) - 1)] for side in many] for i in range(max(map(len, many)))]
    exact, error_rate, _ = script.score(outputs, many)
    chrf = sacrebleu.corpus_chrf(outputs, columns).score
    return {"exact": float(exact), "error_rate": float(error_rate), "chrf": chrf}


def start_up(job, save, start_job):
    """Return the size of the file that save(path) writes, and the seconds from the start of a fresh
    process to its first translation: the median of job["starts"] processes.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        save(path)
        starts = []
        for _ in range(job["starts"]):
            start = {**start_job, "name": job["name"], "path": str(path), "started": time.time()}
            starts.append(in_own_process("first_translation", start, 300))
        seconds = [start["seconds"] for start in starts if "seconds" in start]
        size = {"file_mb": path.stat().st_size / 2**20}
        return size | ({"start_seconds": statistics.median(seconds)} if seconds else {})


def first_translation(job):
    """Load the model at job["path"] and translate one sentence; return the time that it took."""
    if "usual_shape" in job:
        translate = usual_decoder(keras.models.load_model(job["path"]), job["usual_shape"])
    else:
        translate = script.make_translator(*script.load_model(Path(job["path"])))
    translate([job["sentence"]])
    return {"seconds": time.time() - job["started"]}


# ------------------------------------------- Processes -------------------------------------------


def in_own_process(worker, job, timeout):
    """Run the function named `worker` on `job` in a fresh process; return what it measured.

    If it fails, is killed or takes more than `timeout` seconds, that is what it told until then,
    and an "error".
    """
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", worker]
    text = json.dumps(job).encode()
    try:
        done = subprocess.run(command, input=text, stdout=subprocess.PIPE, timeout=timeout)
        output, fault = done.stdout, f"ended with status {done.returncode}" * bool(done.returncode)
    except subprocess.TimeoutExpired as late:
        output, fault = late.stdout or b"", f"stopped after {timeout:.0f} s"
    result = {"name": job["name"]}
    for line in output.splitlines():
        # Of a killed process, the last line may be half there.
        with contextlib.suppress(ValueError):
            result |= json.loads(line)
    if fault:
        result.setdefault("error", fault)
        log(f"  {result['name']}: {result['error']}")
    return result


def work(worker):
    """Run `worker` on the job in standard input; write what it tells, a JSON line each time."""
    job = json.load(sys.stdin)
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the script prints is no result

    def tell(result):
        print(json.dumps(result), file=results, flush=True)

    functions = {"usual": usual, "ours": ours, "first_translation": first_translation}
    try:
        tell(functions[worker]({**job, "tell": tell}))
    except Exception as error:
        tell({"error": f"{type(error).__name__}: {error}"[:500]})
        raise


# -------------------------------------------- Stages --------------------------------------------
# Each puts its figures into the dict `report`, and calls store() whenever there are new ones.


def read_corpora(quick_pairs):
    """Yield (name, pairs) of the corpora that are there, evenly thinned to `quick_pairs` if any."""
    for name, path in CORPORA.items():
        if path.exists():
            pairs = script.read_pairs(path, 0, MAX_LENGTH)
            yield name, thin(pairs, quick_pairs) if quick_pairs else pairs
        else:
            log(f"{name}: skipped, for there is no {path}")


def split(pairs):
    """Return {"training": pairs, "validation": pairs}, as the script splits them."""
    settings = script.read_settings([])
    sides = script.split_pairs(pairs, settings.validation_fraction, settings.seed)
    return dict(zip(("training", "validation"), sides))


def compare(report, store):
    """Measure both recipes on each corpus, one after the other, on all cores."""
    quick = report["quick"]
    for name, pairs in read_corpora(1000 if quick else 0):
        everything = script.read_pairs(CORPORA[name], 0, 10**6)
        entry = {"pairs": len(pairs), "all_pairs": len(everything), "ours": {}, "usual": {}}
        entry["all_arrays_gb"] = usual_arrays_gb(everything)
        report["results"][name] = entry
        job = {**split(pairs), "starts": 1 if quick else 3}
        arguments = ["--epochs", "12"] if quick else []
        log(f"{name}: ours")
        mine = {**job, "name": f"{name}, ours", "arguments": arguments, "look": 0}
        entry["ours"] = in_own_process("ours", mine, 2400)
        store()
        if name != next(iter(report["results"])):
            continue
        limit = entry["ours"].get("training_seconds", 40 if quick else 240)
        log(f"{name}: the usual recipe, for {limit:.0f} s of training")
        its = {
            **job,
            "name": f"{name}, usual",
            "seconds": limit,
            "look": limit / (4 if quick else 8),
        }
        entry["usual"] = in_own_process("usual", its, 3 * limit + 900)
        store()


def grown(pairs, times):
    """Return `times` (at most 16) as many pairs: copies whose English ends in another letter.

    All differ, but have the same length and, as far as these letters occur, the same characters.
    """
    letters = "adehilmnorstuwy"[: times - 1]
    return pairs + [(english[:-1] + last, korean) for last in letters for english, korean in pairs]


def growth(report, store):
    """Measure ours on more and more of the bundled pairs."""
    base = split(dict(read_corpora(300 if report["quick"] else 1000))["bundled"])
    for times in 1, 4, 16:
        pairs = grown(base["training"], times)
        log(f"growth: {times} x {len(base['training'])} pairs")
        job = {**base, "training": pairs, "name": f"{times} x", "arguments": ["--epochs", "4"]}
        result = in_own_process("ours", job, 1200)
        report["growth"][str(times)] = {"pairs": len(pairs), **result}
        store()


def measure_system(name, pairs, token, architecture, limit):
    """Return the measurements of one combination, trained for at most `limit` seconds."""
    job = {**split(pairs), "name": f"{name}, {token}, {architecture}"}
    arguments = ["--token", token, "--architecture", architecture]
    # Two short epochs tell how many whole ones fit into the limit.
    probe = {**job, "arguments": [*arguments, "--epochs", "2"], "batches": 40}
    probe = in_own_process("ours", probe, limit + 300)
    if "error" in probe:
        return probe
    seconds = probe["epoch_seconds"] * probe["batches"] / min(40, probe["batches"])
    default = script.read_settings([]).epochs
    epochs = max(1, min(default, int(limit / seconds)))
    log(f"  {job['name']}: {epochs} epochs of {seconds:.1f} s")
    job |= {"arguments": [*arguments, "--epochs", str(epochs)], "look": limit / 6}
    result = in_own_process("ours", job, 3 * limit + 300)
    return result if "error" in result else {**result, "ended": ended(result, default)}


def ended(result, default):
    """Return when training ended and whether it had converged: at least 99 % of the training sample
    exact, or the last epoch's loss less than 1 % below the one before.

    `default` is how many epochs it would have had without a limit.
    """
    before, last = ([math.inf] + result["losses"])[-2:]
    state = "converged (loss flat)" if last > 0.99 * before else "not converged"
    state = "converged" if result["training"]["exact"] >= 0.99 else state
    minutes = result["training_seconds"] / 60
    return f"{result['epochs']} of {default} epochs in {minutes:.1f} min, {state}"


def systems(report, store):
    """Measure the four combinations of TOKEN and ARCHITECTURE on each corpus, on a core each."""
    can_pin = hasattr(os, "sched_setaffinity")
    cores = sorted(os.sched_getaffinity(0))[:2] if can_pin else [None]
    quick, running = report["quick"], {}

    def pin():
        # What a thread starts inherits its core, and TensorFlow takes as many threads as cores.
        if can_pin:
            os.sched_setaffinity(0, {cores.pop()})

    with concurrent.futures.ThreadPoolExecutor(len(cores), initializer=pin) as pool:
        for name, pairs in read_corpora(1000 if quick else 0):
            for token in "char", "word":
                for architecture in "encoder-decoder", "same-length":
                    task = name, pairs, token, architecture, 30 if quick else 600
                    running[pool.submit(measure_system, *task)] = task
        for future in concurrent.futures.as_completed(running):
            name, _, token, architecture, _ = running[future]
            error = future.exception()
            system = f"{name}, {token}, {architecture}"
            result = {"name": system, "error": repr(error)} if error else future.result()
            report["systems"][system] = result
            log(f"{system}: {result.get('error', 'done')}")
            store()


def patience(report, store):
    """Train the usual recipe 20 times as long as ours needed to know 90 % of the sample."""
    corpus, entry = next(iter(report["results"].items()))
    seconds = seconds_to(entry["ours"]["curve"], 0.9)
    if seconds is None:
        return log("patience: skipped, for ours did not reach 90 %")
    limit = 20 * seconds
    log(f"{corpus}: the usual recipe, for {limit:.0f} s of training")
    pairs = dict(read_corpora(1000 if report["quick"] else 0))[corpus]
    job = {**split(pairs), "name": f"{corpus}, usual, long", "seconds": limit, "starts": 0}
    report["patience"] = in_own_process("usual", {**job, "look": limit / 20}, 3 * limit)
    store()


def draw(report, folder):
    """Draw exact training sentences and validation chrF against seconds, for light and dark."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    corpus = summarize(report)["corpus"]
    panels = [
        ("training", "exact", 100, "Training sentences decoded exactly, %"),
        ("validation", "chrf", 1, "chrF of sentences never seen"),
    ]
    for mode, ink, faint, paper, *colors in (
        ("light", "#1f2328", "#d8dee4", "#ffffff", "#0a6e5c", "#c2410c"),
        ("dark", "#e6edf3", "#30363d", "#0d1117", "#3fd0b0", "#ff9a62"),
    ):
        figure, all_axes = plt.subplots(1, 2, figsize=(9, 3.6), facecolor=paper)
        for axes, (side, key, scale, title) in zip(all_axes, panels):
            for kind, color, line in zip(("ours", "usual"), colors, ("o-", "s--")):
                curve = report["results"][corpus][kind].get("curve", [])
                x = [point["seconds"] for point in curve]
                y = [scale * point[side][key] for point in curve]
                label = {"ours": "seq2seq_char.py", "usual": "the usual recipe"}[kind]
                axes.plot(x, y, line, color=color, label=label, linewidth=2, markersize=4)
            axes.set_title(title, color=ink, fontsize=11)
            axes.set_xlabel(f"seconds of training, {corpus}", color=ink)
            axes.set_facecolor(paper)
            axes.tick_params(colors=ink)
            axes.grid(color=faint, linewidth=0.7)
            axes.spines[:].set_color(faint)
            axes.set_xlim(left=0)
            axes.set_ylim(*((-3, 103) if key == "exact" else (0, None)))
        handles = all_axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="upper center", ncols=2, frameon=False, labelcolor=ink)
        figure.tight_layout(rect=(0, 0, 1, 0.93))
        figure.savefig(folder / f"learning-{mode}.png", dpi=110)
        plt.close(figure)


# --------------------------------------- Figures and tables ---------------------------------------


def seconds_to(curve, share):
    """Return the seconds of training after which `share` of the sample was exact, or None."""
    reached = (point["seconds"] for point in curve if point["training"]["exact"] >= share)
    return next(reached, None)


def summarize(report):
    """Return the figures at the top level of benchmark.json; None stands for what is missing."""
    results, sizes = report["results"], report["growth"]
    corpus = next((name for name in CORPORA if name in results), None)
    ours, usual = (results.get(corpus, {}).get(kind, {}) for kind in ("ours", "usual"))
    kor_eng = results.get("kor-eng", {}).get("ours", {})
    patient = {**usual, **report["patience"]}
    usual_to_90 = seconds_to(patient.get("curve", []), 0.9)
    figures = {
        "epoch_seconds_ratio": lambda: usual["epoch_seconds"] / ours["epoch_seconds"],
        "time_to_90_ratio": lambda: (
            (usual_to_90 or patient["training_seconds"]) / seconds_to(ours["curve"], 0.9)
        ),
        "time_to_90_is_lower_bound": lambda: usual_to_90 is None,
        "decode_ratio": lambda: ours["sentences_a_second"] / usual["sentences_a_second"],
        "chrf_ratio": lambda: ours["validation"]["chrf"] / max(0.1, usual["validation"]["chrf"]),
        "exact_usual": lambda: usual["training"]["exact"],
        "exact_ours": lambda: ours["training"]["exact"],
        "peak_mb_usual": lambda: usual["peak_mb"],
        "peak_mb_ours": lambda: ours["peak_mb"],
        "floor_ratio": lambda: ours["epoch_seconds"] / ours["floor_seconds"],
        "floor_ratio_strict": lambda: ours["epoch_seconds"] / ours["floor_seconds_strict"],
        "growth_time_16x": lambda: sizes["16"]["epoch_seconds"] / sizes["1"]["epoch_seconds"] / 16,
        "growth_memory_16x": lambda: sizes["16"]["peak_mb"] / sizes["1"]["peak_mb"],
        "seconds_to_99_kor_eng": lambda: seconds_to(kor_eng["curve"], 0.99),
        "validation_chrf_kor_eng": lambda: kor_eng["validation"]["chrf"],
        "settings": lambda: ours["settings"],
    }
    summary = {"corpus": corpus, **dict.fromkeys(figures)}
    for key, figure in figures.items():
        with contextlib.suppress(KeyError, TypeError, ZeroDivisionError):
            summary[key] = figure()
    return summary


def cell(template, result):
    """Return `template`, filled from `result`, or a dash where a figure is missing."""
    try:
        return template.format(**result)
    except (KeyError, IndexError, TypeError):
        return "–"


def table(templates, results, transposed=False):
    """Return a Markdown table of `results`, a row (or column) each; below it, what went wrong.

    `templates` is {title: how to write that figure of a result}.
    """
    rows = [list(templates), *([cell(t, r) for t in templates.values()] for r in results)]
    rows = list(zip(*rows)) if transposed else rows
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    faults = [f"\n{result['name']}: {result['error']}" for result in results if "error" in result]
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + faults)


def usual_memory(run):
    """Return the GB that the usual recipe takes besides its arrays, and for each GB of them."""
    peak, base = (run[key] * 2**20 / 1e9 for key in ("peak_mb", "base_mb"))
    return base, (peak - base) / run["arrays_gb"]


def comparison_table(report):
    """Return the table of the usual recipe and ours in Markdown, with what has to be said on it."""
    templates = {
        "": "{name}, {pairs:,} pairs",
        "seconds per epoch": "{epoch_seconds:.1f}",
        "epochs": "{epochs}",
        "seconds of training": "{training_seconds:.0f}",
        "peak memory, MiB": "{peak_mb:,.0f}",
        "memory that all pairs, of any length, need": "{needs}",
        "positions computed per real character": "{positions_per_character:.2f}",
        "seconds until 50 % of 300 training sentences are exact": "{to[50]}",
        "seconds until 90 %": "{to[90]}",
        "seconds until 99 %": "{to[99]}",
        "training sentences exact": "{training[exact]:.1%}",
        "training character error rate": "{training[error_rate]:.1%}",
        "training chrF": "{training[chrf]:.1f}",
        "validation sentences exact": "{validation[exact]:.1%}",
        "validation character error rate": "{validation[error_rate]:.1%}",
        "validation chrF": "{validation[chrf]:.1f}",
        "sentences decoded a second": "{sentences_a_second:,.2f}",
        "model file, MiB": "{file_mb:.1f}",
        "seconds from start to first translation": "{start_seconds:.1f}",
    }
    results, notes = [], []
    base, factor = 0, 1  # at the least
    for name, entry in report["results"].items():
        if "arrays_gb" in entry["usual"]:
            base, factor = usual_memory(entry["usual"])
        needed = base + factor * entry["all_arrays_gb"]
        cannot = needed > report["memory_gb"]
        needs = f"{needed:.1f} GB" + ": cannot run" * cannot
        for kind, need in ("usual", needs), ("ours", "that of one batch"):
            if kind == "usual" and not entry["usual"]:
                continue
            result = {"pairs": entry["pairs"], "needs": need, **entry[kind]}
            reached = {n: seconds_to(result.get("curve", []), n / 100) for n in (50, 90, 99)}
            result["to"] = {n: f"{s:.0f}" if s else "not reached" for n, s in reached.items()}
            results.append(result)
        if cannot:
            notes.append(
                f"\n\nOn all {entry['all_pairs']:,} pairs of {name} the usual recipe cannot run in "
                f"the {report['memory_gb']:.0f} GB of this machine: its three arrays take "
                f"{entry['all_arrays_gb']:.1f} GB, and its memory grows by {factor:.1f} times "
                "that, as its run in this table shows, for `fit` copies them. So both are run on "
                f"the {entry['pairs']:,} pairs of at most {MAX_LENGTH} characters."
            )
    for name, entry in report["results"].items():
        if curve := entry["ours"].get("curve"):
            weights = {"lowest": min(curve, key=lambda at: at["validation"]["loss"])}
            weights["last"] = curve[-1]
            told = [
                f"{which} (epoch {at['epoch']}): loss {at['validation']['loss']:.2f}, chrF "
                f"{at['validation']['chrf']:.1f}, exact {at['validation']['exact']:.1%}"
                for which, at in weights.items()
            ]
            notes.append(f"\n\nWeights by validation loss, {name}: {'; '.join(told)}.")
    if "training" in report["patience"]:
        told = (
            "\n\nThe usual recipe after {epochs} epochs, {training_seconds:,.0f} s of training: "
            "{training[exact]:.1%} of the training sentences exact, validation chrF "
            "{validation[chrf]:.1f}."
        )
        notes.append(told.format(**report["patience"]))
    return table(templates, results, transposed=True) + "".join(notes)


def systems_table(report):
    """Return the table of the four combinations in Markdown, with its caption."""
    templates = {
        "corpus, TOKEN, ARCHITECTURE": "{name}",
        "vocabulary, English / Korean": "{vocabularies[0]:,} / {vocabularies[1]:,}",
        "parameters": "{parameters:,}",
        "seconds per epoch": "{epoch_seconds:.1f}",
        "peak memory, MiB": "{peak_mb:,.0f}",
        "training exact": "{training[exact]:.1%}",
        "validation exact": "{validation[exact]:.1%}",
        "validation character error rate": "{validation[error_rate]:.1%}",
        "validation chrF": "{validation[chrf]:.1f}",
        "unknown in validation, English / Korean": "{unknown[0]:.1%} / {unknown[1]:.1%}",
        "ended": "{ended}",
    }
    caption = (
        "\n\nSeconds are of one core; another system is at work on the other. Training exact is of "
        "300 sentences. Converged: 99 % of these exact, or (loss flat) a last epoch that lowered "
        "the loss by less than 1 %, with steps that the schedule has brought down to almost 0."
    )
    return table(templates, [r for _, r in sorted(report["systems"].items())]) + caption


def render(report):
    """Return benchmark.md: the tables and the summary, with whether each target is met."""
    templates = {
        "growth": "{name}",
        "pairs": "{pairs:,}",
        "seconds per epoch": "{epoch_seconds:.2f}",
        "peak memory, MiB": "{peak_mb:,.0f}",
    }
    parts = [comparison_table(report), table(templates, report["growth"].values())]
    summary, lines = summarize(report), []
    for key in [key for key in summary if key not in ("settings", "time_to_90_is_lower_bound")]:
        value, verdict = summary[key], ""
        is_bound = key == "time_to_90_ratio" and summary["time_to_90_is_lower_bound"]
        shown = f"{'at least ' * is_bound}{value:,.3f}" if isinstance(value, float) else str(value)
        if key in TARGETS:
            sense, bound = TARGETS[key]
            verdict = "not measured, or not reached"
            if value is not None:
                is_met = value >= bound if sense == ">=" else value <= bound
                verdict = "met" if is_met else "undecided" if is_bound else "NOT met"
            verdict = f"{sense} {bound}: {verdict}"
        lines.append({"name": key, "value": shown, "verdict": verdict})
    target = "target" + " (of the full run; this was a quick one)" * report["quick"]
    parts += [systems_table(report)]
    parts += [table({"summary": "{name}", "": "{value}", target: "{verdict}"}, lines)]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    parts += [f"{report['cores']} cores, {report['memory_gb']:.0f} GB; {versions}."]
    parts += [f"{stage} failed: {error}" for stage, error in report["errors"].items()]
    return "\n\n".join(parts) + "\n"


# ----------------------------------------- Command line -----------------------------------------


def measure_saved(model_path, data_path):
    """Print the quality of a saved model on its own splits of the corpus it was trained on."""
    model, notes = script.load_model(model_path)
    settings = notes["settings"]
    print(f"{model_path}: TOKEN = {settings['token']}, ARCHITECTURE = {settings['architecture']}")
    pairs = script.read_pairs(data_path, settings["num_pairs"], settings["max_length"])
    splits = script.split_pairs(pairs, settings["validation_fraction"], settings["seed"])
    translate = script.make_translator(model, notes)
    translate([english for english, _ in splits[0][:300]])  # traces the decoder
    for name, side in zip(("training", "validation"), splits):
        references = references_of(side)
        started = time.perf_counter()
        translations = dict(zip(references, translate(list(references))))
        rate = len(references) / (time.perf_counter() - started)
        figures = quality(translations, references)
        print(
            f"{name:10}  {len(references):5} sentences  exact {figures['exact']:6.1%}  "
            f"character error rate {figures['error_rate']:6.1%}  chrF {figures['chrf']:5.1f}  "
            f"{rate:,.0f} sentences a second"
        )


def new_report(quick):
    """Return the report of a run that has measured nothing yet."""
    modules = {"TensorFlow": tf, "Keras": keras, "NumPy": np}
    versions = {name: module.__version__ for name, module in modules.items()}
    return {
        "quick": quick,
        "cores": os.cpu_count(),
        "memory_gb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9,
        "versions": {"Python": platform.python_version(), **versions},
        "errors": {},
        "results": {},
        "growth": {},
        "systems": {},
        "patience": {},
    }


def run(stages, report, folder):
    """Run `stages`, with their figures into `report` and, after each measurement, into `folder`."""

    def store():
        text = json.dumps({**summarize(report), **report}, indent=1, ensure_ascii=False) + "\n"
        for name, content in ("benchmark.json", text), ("benchmark.md", render(report)):
            if folder:
                # Renamed into place, so that a crash never leaves half a file.
                (folder / f"partial-{name}").write_text(content, encoding="utf-8")
                os.replace(folder / f"partial-{name}", folder / name)

    for stage in stages:
        log(f"== {stage}")
        report["errors"].pop(stage, None)
        try:
            if stage != "pictures":
                STAGES[stage](report, store)
            elif folder:
                draw(report, folder)
        except Exception as error:  # the other stages are worth having
            report["errors"][stage] = f"{type(error).__name__}: {error}"
            log(f"{stage}: {report['errors'][stage]}")
        store()
    log("== done")
    print(render(report))


STAGES = {
    "compare": compare,
    "growth": growth,
    "systems": systems,
    "patience": patience,
    "pictures": draw,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="less data, fewer epochs")
    parser.add_argument("--output", type=Path, help="folder for the figures and the pictures")
    parser.add_argument("--only", help="stages to run, with commas: " + ", ".join(STAGES))
    parser.add_argument("--model", type=Path, help="a saved model to measure, instead of all else")
    parser.add_argument("--data", type=Path, help="the corpus that it was trained on")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker)
    if options.model:
        return measure_saved(options.model, options.data or CORPORA["bundled"])
    stages = options.only.split(",") if options.only else list(STAGES)
    if unknown := set(stages) - set(STAGES):
        parser.error(f"no such stage: {', '.join(unknown)}")
    folder, report = options.output, new_report(options.quick)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    if folder and options.only and (folder / "benchmark.json").exists():
        old = json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))
        if old["quick"] != options.quick and stages != ["pictures"]:
            parser.error(f"{folder} has the figures of a run with the other --quick")
        report |= {key: old[key] for key in report.keys() & old.keys()}
    run(stages, report, folder)


if __name__ == "__main__":
    main()
