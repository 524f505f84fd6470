"""Measures what README.md claims, and draws its pictures.

    python tests/benchmark.py                        everything: within an hour on two cores
    python tests/benchmark.py --quick --output /tmp  the same on less data, in ten minutes
    python tests/benchmark.py --only systems,growth  some stages once more

compare    ours on Tatoeba's pairs (where they are at hand, else on the bundled ones)
seeds      the default run with three seeds; newcomers' first sentences; the encoder's states
usual      the usual recipe of the tutorials, on what `compare` had, as many seconds of training
systems    the other kinds of TOKEN and ARCHITECTURE, and Korean to English, on a quarter of the
           corpus, as are
exercises  the edits of one line that README.md asks for
growth     up to a million pairs: seconds to the first step and for 1,000 pairs, peak memory
pictures   learning curves, and the encoder's states on a plane

Each measurement has a process and one core of its own, two at a time, except in `growth`, which has
all cores. Seconds of training leave out looks at translations and saving. Exact training sentences
are of 300. All goes to tests/results: benchmark.json, benchmark.md and the pictures.
"""

import argparse
import functools
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "seq2seq_char.py"
BUNDLED = ROOT / "data" / "eng-kor.tsv"
TATOEBA = ROOT.parent / "shared" / "data" / "kor-eng" / "kor.txt"
FIRST_SENTENCES = Path(__file__).with_name("first_sentences.tsv")
STAGES = ["compare", "seeds", "usual", "systems", "exercises", "growth", "pictures"]
SYSTEMS = {
    "word, encoder-decoder": ["--token", "word"],
    "char, same-length": ["--architecture", "same-length"],
    "word, same-length": ["--token", "word", "--architecture", "same-length"],
    "Korean to English": ["--reversed"],
}
# Each exercise of README.md: what is asked, and the edit of one line, (old text, new text).
EXERCISES = {
    "no edit": None,
    "Glorot's initialisation": (
        "keras.initializers.RandomNormal(stddev=2.0)",
        '"glorot_uniform"',
    ),
    "no mask": ('layers.Masking(name="encoder_masking")(encoder_inputs)', "encoder_inputs"),
    "an encoder that reads nothing": ("both_ways(encoder_rows)", "both_ways(0 * encoder_rows)"),
    "one direction": (
        "_, forward_h, forward_c, backward_h, backward_c = both_ways(encoder_rows)",
        "forward_h, forward_c, backward_h, backward_c = 2 * both_ways(encoder_rows)[1:3]",
    ),
    "a target that is not one step ahead": (
        "decoder_target_data = tf.one_hot(korean_ids[:, 1:]",
        "decoder_target_data = tf.one_hot(korean_ids[:, :-1]",
    ),
    "no weight decay": ("weight_decay=0.1", "weight_decay=0.0"),
    "no label smoothing": ("label_smoothing=0.1", "label_smoothing=0.0"),
    "no schedule": (
        "schedule = keras.optimizers.schedules.CosineDecay(learning_rate, num_steps)",
        "schedule = learning_rate",
    ),
    "a sixth of the units": ("LATENT_DIM = 192", "LATENT_DIM = 32"),
}
STATE_FAMILIES = [
    ["I know him.", "He knows me.", "I love you.", "You love me."],
    ["I ate bread.", "I eat bread.", "I will eat bread.", "I want to eat bread."],
    ["Are you busy?", "Are you tired?", "Where is the bank?", "Where is the hotel?"],
]


# ------------------------------------ In a process of its own ------------------------------------


def peak_mb():
    """Return the largest resident memory of this process so far, in MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load_script(edit, folder):
    """Import the script with the text `edit`[0] replaced by `edit`[1], which has to be there."""
    source = SCRIPT.read_text(encoding="utf-8")
    if edit:
        if source.count(edit[0]) != 1:
            raise ValueError(f"stands {source.count(edit[0])} times in the script: {edit[0]}")
        source = source.replace(*edit)
    path = Path(folder) / "seq2seq_char.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("seq2seq_char", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def quality(outputs, pairs):
    """Return exact match in percent and chrF of `outputs` for the (English, Korean) `pairs`."""
    import sacrebleu

    exact = sum((english, output) in set(pairs) for output, (english, _) in zip(outputs, pairs))
    chrf = sacrebleu.corpus_chrf(outputs, [[korean for _, korean in pairs]]).score
    return {"exact": 100 * exact / len(pairs), "chrf": chrf}


def looks(translate, few):
    """Return what a look in the middle of training tells of `few` training and new pairs."""
    known, new = (quality(translate([english for english, _ in pairs]), pairs) for pairs in few)
    return {"training_exact": known["exact"], "chrf": new["chrf"]}


def fit_with_looks(keras, look, seconds=None):
    """Make `fit` measure each epoch, call look(model, epoch, last) after it; return the curve.

    The curve has a dict for each epoch: its seconds of training so far, and what `look` returned.
    Training ends after the epoch in which `seconds` are over.
    """
    curve, epochs, original = [], [], keras.Model.fit

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.started = self.ended = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.ended = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            epochs.append(self.ended - self.started)
            last = epoch + 1 == self.params["epochs"] or (seconds and sum(epochs) >= seconds)
            at = {"seconds": sum(epochs), "epoch": epoch + 1, "peak_mb": peak_mb()}
            curve.append(at | look(self.model, epoch + 1, last))
            self.model.stop_training = bool(last)

    def fit(self, *data, callbacks=(), **options):
        return original(self, *data, callbacks=[Clock(), *callbacks], **options)

    keras.Model.fit = fit
    return curve


def thin(items, count):
    return random.Random(0).sample(items, min(len(items), count))


def measure_ours(job, folder):
    """Train with the script's own `main`; return what was measured."""
    script = load_script(job.get("edit"), folder)
    arguments = ["--model-path", f"{folder}/model.keras", *job["arguments"]]
    training, validation = script.read_split(script.read_settings(arguments))
    few = thin(training, 300), thin(validation, 300)
    notes = script.make_notes(script.read_settings(arguments), training, validation)

    def look(model, epoch, last):
        if not job.get("looks") or (epoch % 2 and not last):
            return {}
        return looks(script.make_translator(model, notes), few)

    curve = fit_with_looks(script.keras, look)
    started = time.perf_counter()
    if script.main(arguments) != 0:
        raise ValueError("the training failed")
    result = {"all_seconds": time.perf_counter() - started, "seconds": curve[-1]["seconds"]}
    result["epoch_seconds"] = result["seconds"] / len(curve)
    result["peak_mb"] = curve[-1]["peak_mb"]
    model, notes = script.load_model(Path(folder) / "model.keras")
    translate = script.make_translator(model, notes)
    translate([training[0][0]])  # compiles the decoder
    for name, pairs in ("training", few[0]), ("validation", validation):
        started = time.perf_counter()
        outputs = translate([english for english, _ in pairs])
        result["decoded_a_second"] = len(pairs) / (time.perf_counter() - started)
        result[name] = quality(outputs, pairs)
    result["parameters"] = model.count_params()
    if job.get("looks"):
        result["curve"] = [at for at in curve if "chrf" in at]
        known = [at["seconds"] for at in result["curve"] if at["training_exact"] >= 99]
        result["seconds_to_99"] = known[0] if known else None
    if job.get("first"):
        result["first"] = first_sentences(script, translate)
        result["states"] = encoder_states(script, model, notes)
    return result


def first_sentences(script, translate):
    """Return the share of newcomers' first sentences that are right: of all, and of those not in
    the corpus, in percent; final marks do not count.
    """
    corpus = {script.normalize_source(english) for english, _ in script.read_pairs(BUNDLED)}
    right, right_of_new = [], []
    for line in FIRST_SENTENCES.read_text(encoding="utf-8").splitlines():
        english, *choices = line.split("\t")
        output = translate([english])[0].rstrip(".?!")
        right.append(output in {choice.rstrip(".?!") for choice in choices})
        if script.normalize_source(english) not in corpus:
            right_of_new.append(right[-1])
    return {
        "sentences": len(right),
        "right": 100 * mean(right),
        "not_in_corpus": len(right_of_new),
        "right_not_in_corpus": 100 * mean(right_of_new),
    }


def encoder_states(script, model, notes):
    """Return the first two principal components of h and c of STATE_FAMILIES' sentences."""
    import numpy as np

    encoder_model, _ = script.build_inference_models(model)
    states = []
    for sentence in (sentence for family in STATE_FAMILIES for sentence in family):
        ids = [script.source_ids(sentence, notes)]
        rows = script.tf.one_hot(ids, len(notes["english_table"]))
        states.append(np.concatenate([state[0] for state in encoder_model(rows)]))
    states = np.array(states) - np.mean(states, axis=0)
    _, _, components = np.linalg.svd(states, full_matrices=False)
    return np.round(states @ components[:2].T, 3).tolist()


def measure_usual(job, folder):
    """Train and decode as the tutorials do, for job["seconds"]; return what was measured.

    One-hot arrays of the whole corpus, padded with spaces to its longest sentence, no masks, 256
    units, Glorot's initialisation, RMSprop, batches of 64, one `predict` call for each character.
    """
    import numpy as np

    script = load_script(None, folder)
    keras, layers = script.keras, script.layers
    training, validation = script.read_split(script.read_settings(job["arguments"]))
    few = thin(training, 300), thin(validation, 300)
    english, korean = zip(*training)
    sizes = [max(map(len, side)) for side in zip(*training, *validation)]
    characters = [sorted(set("".join(side)) | set("\t\n ")) for side in zip(*training, *validation)]

    def one_hot(texts, side, length):
        ids = {character: id for id, character in enumerate(characters[side])}
        array = np.zeros((len(texts), length, len(ids)), "float32")
        for row, text in enumerate(texts):
            padded = text[:length].ljust(length)
            array[row, range(length), [ids[character] for character in padded]] = 1.0
        return array

    inputs = [one_hot(english, 0, sizes[0]), one_hot(["\t" + k for k in korean], 1, sizes[1] + 2)]
    target = one_hot([k + "\n" for k in korean], 1, sizes[1] + 2)
    keras.utils.set_random_seed(1)
    encoder_inputs, decoder_inputs = (keras.Input((None, data.shape[-1])) for data in inputs)
    _, *states = layers.LSTM(256, return_state=True)(encoder_inputs)
    lstm = layers.LSTM(256, return_sequences=True, return_state=True)
    dense = layers.Dense(len(characters[1]), activation="softmax")
    outputs = dense(lstm(decoder_inputs, initial_state=states)[0])
    model = keras.Model([encoder_inputs, decoder_inputs], outputs)
    model.compile("rmsprop", "categorical_crossentropy")
    encoder_model = keras.Model(encoder_inputs, states)
    state_inputs = [keras.Input((256,)), keras.Input((256,))]
    stepped, *new_states = lstm(decoder_inputs, initial_state=state_inputs)
    decoder_model = keras.Model([decoder_inputs, *state_inputs], [dense(stepped), *new_states])

    def translate(sentences):
        state = encoder_model.predict(one_hot(sentences, 0, sizes[0]), verbose=0)
        texts = ["\t"] * len(sentences)
        for _ in range(sizes[1] + 2):
            last = one_hot([text[-1] for text in texts], 1, 1)
            probabilities, *state = decoder_model.predict([last, *state], verbose=0)
            chosen = [characters[1][id] for id in probabilities[:, 0].argmax(-1)]
            texts = [text + character for text, character in zip(texts, chosen)]
            if all("\n" in text for text in texts):
                break
        return [text[1:].partition("\n")[0].strip() for text in texts]

    def look(model, epoch, last):
        if epoch % 2 and not last:
            return {}
        return looks(translate, few)

    curve = fit_with_looks(keras, look, job["seconds"])
    model.fit(inputs, target, batch_size=64, epochs=1000, verbose=0)
    started = time.perf_counter()
    for sentence, _ in few[1][:3]:
        translate([sentence])
    result = {"decoded_a_second": 3 / (time.perf_counter() - started), "epochs": len(curve)}
    result |= {key: curve[-1][key] for key in ("seconds", "peak_mb")}
    result["epoch_seconds"] = result["seconds"] / len(curve)
    for name, pairs in ("training", few[0]), ("validation", few[1]):
        result[name] = quality(translate([english for english, _ in pairs]), pairs)
    return result | {"curve": [at for at in curve if "chrf" in at]}


def measure_growth(job, folder):
    """Return seconds to the first step, seconds for 1,000 pairs (of 150 steps), and peak memory."""
    path = Path(folder) / "many.tsv"
    pairs = [line.split("\t") for line in BUNDLED.read_text(encoding="utf-8").splitlines()]
    pairs = [pair for pair in pairs if len(pair[0]) < 28]
    random.Random(0).shuffle(pairs)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(job["pairs"]):
            first, second = pairs[number % len(pairs)], pairs[7 * number % len(pairs)]
            file.write(f"{first[0]} {second[0]} {number}\t{first[1]} {second[1]} {number}\n")
    started = time.perf_counter()
    script = load_script(None, folder)
    result = {"pairs": job["pairs"], "file_mb": path.stat().st_size / 1e6}
    original = script.keras.Model.fit

    class Ready(script.keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                result["ready_seconds"] = time.perf_counter() - started
                result["ready_mb"] = peak_mb()

        def on_train_batch_end(self, batch, logs=None):
            self.started = time.perf_counter() if batch == 0 else self.started
            if batch:
                seconds = (time.perf_counter() - self.started) / batch
                result["seconds_per_1000"] = 1000 * seconds / script.BATCH_SIZE

    def fit(self, data, callbacks, **options):
        steps = min(len(data), 150)
        original(self, data, steps_per_epoch=steps, epochs=1, verbose=0, callbacks=[Ready()])
        raise KeyboardInterrupt

    script.keras.Model.fit = fit
    script.main(["--data-path", str(path), "--model-path", f"{folder}/model.keras"])
    return result | {"peak_mb": peak_mb()}


# ------------------------------------------ Stages ------------------------------------------


def start(job):
    """Measure `job` in a process of its own, on job["core"] if that is one; return the result."""
    with tempfile.TemporaryDirectory() as folder:
        job_path = Path(folder) / "job.json"
        job_path.write_text(json.dumps(job | {"folder": folder}), encoding="utf-8")
        command = [sys.executable, str(Path(__file__).resolve()), "--job", str(job_path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{job}: {done.stderr[-2000:]}")
        print(f"{time.strftime('%H:%M')} {job['name']}", flush=True)
        return json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))


def work(job_path):
    """Do what `start` asked for."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    if job.get("core") is not None:
        os.sched_setaffinity(0, {job["core"]})
    measure = {"ours": measure_ours, "usual": measure_usual, "growth": measure_growth}[job["kind"]]
    result = measure(job, job["folder"])
    (Path(job["folder"]) / "result.json").write_text(json.dumps(result), encoding="utf-8")


def two_at_a_time(jobs):
    """Yield the results of `jobs`, in their order, each measured on one core."""
    cores = list(os.sched_getaffinity(0))[:2]
    with ThreadPoolExecutor(len(cores)) as pool:

        def on_a_core(job):
            core = cores.pop()
            try:
                return start({"kind": "ours", "arguments": [], **job, "core": core})
            finally:
                cores.append(core)

        yield from pool.map(on_a_core, jobs)


def corpora(folder, quick):
    """Return the paths of the bundled corpus, a quarter of it, and Tatoeba's; less if `quick`."""
    paths = []
    real = TATOEBA if TATOEBA.exists() else BUNDLED
    for path, step in (BUNDLED, 1), (BUNDLED, 4), (real, 1):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        paths.append(Path(folder) / f"{len(paths)}.tsv")
        paths[-1].write_text("".join(lines[:: step * (8 if quick else 1)]), encoding="utf-8")
    return paths


def run_stages(stages, quick, report, save):
    """Run the `stages`, put what they measure into `report`, and call `save` after each."""
    with tempfile.TemporaryDirectory() as folder:
        all_pairs, quarter, real = map(str, corpora(folder, quick))
        less = ["--epochs", "3"] if quick else []
        small = ["--validation-fraction", "0.05", *less]  # else too few pairs are held out

        def measure(jobs):
            for (stage, name), job in jobs.items():
                job["name"] = f"{stage}: {name}"
            for (stage, name), result in zip(jobs, two_at_a_time(jobs.values())):
                report.setdefault(stage, {})[str(name)] = result
                save()

        jobs = {}
        if "compare" in stages:
            jobs["compare", "ours"] = {"arguments": ["--data-path", real, *small], "looks": True}
        if "seeds" in stages:
            for seed in 1, 2, 3:
                arguments = ["--data-path", all_pairs, "--seed", str(seed), *less]
                jobs["seeds", seed] = {"arguments": arguments, "first": True, "looks": True}
        measure(jobs)
        jobs = {}
        if "usual" in stages:
            seconds = report["compare"]["ours"]["seconds"]
            jobs["compare", "usual"] = {
                "kind": "usual",
                "arguments": ["--data-path", real, *small],
                "seconds": seconds,
            }
        quarter = ["--data-path", quarter, *small]
        if "systems" in stages:
            for name, arguments in SYSTEMS.items():
                jobs["systems", name] = {"arguments": [*quarter, *arguments]}
        if "exercises" in stages:
            for name, edit in EXERCISES.items():
                jobs["exercises", name] = {"arguments": quarter, "edit": edit}
        measure(jobs)
        if "growth" in stages:
            report["growth"] = []
            for pairs in (1000, 16_000) if quick else (1000, 10_000, 16_000, 100_000, 1_000_000):
                job = {"kind": "growth", "name": f"growth: {pairs:,}", "pairs": pairs}
                report["growth"].append(start(job))
                save()


def summarize(report):
    """Put the figures that README.md quotes at the top level of `report`."""
    if "usual" in report.get("compare", {}):
        ours, usual = report["compare"]["ours"], report["compare"]["usual"]
        for name, run in ("ours", ours), ("usual", usual):
            report[f"exact_{name}"] = run["training"]["exact"] / 100
            report[f"peak_mb_{name}"] = run["peak_mb"]
        report["chrf_ratio"] = ours["validation"]["chrf"] / max(usual["validation"]["chrf"], 0.1)
        report["decode_ratio"] = ours["decoded_a_second"] / usual["decoded_a_second"]
        report["epoch_seconds_ratio"] = usual["epoch_seconds"] / ours["epoch_seconds"]
    if "seeds" in report:
        runs = list(report["seeds"].values())
        report["first_sentences_right"] = mean(run["first"]["right"] for run in runs) / 100
        to_99 = [run["seconds_to_99"] for run in runs]
        report["seconds_to_99"] = None if None in to_99 else mean(to_99)
    sizes = {entry["pairs"]: entry for entry in report.get("growth", [])}
    if 16_000 in sizes:
        small, large = sizes[1000], sizes[16_000]
        report["growth_time_16x"] = large["seconds_per_1000"] / small["seconds_per_1000"]
        report["growth_memory_16x"] = large["peak_mb"] / small["peak_mb"]
    if 1_000_000 in sizes:
        report["ready_seconds_1m"] = sizes[1_000_000]["ready_seconds"]
        report["ready_mb_1m"] = sizes[1_000_000]["ready_mb"]


# ------------------------------------------ Results ------------------------------------------

RUN = {  # the columns of a table of runs: heading, where the value is, format
    "seconds of training": ("seconds", ".0f"),
    "MiB": ("peak_mb", ",.0f"),
    "training exact, %": ("training.exact", ".1f"),
    "validation exact, %": ("validation.exact", ".1f"),
    "chrF": ("validation.chrf", ".1f"),
}
SEED = {
    "first sentences": ("first.sentences", "d"),
    "right, %": ("first.right", ".1f"),
    "not in the corpus": ("first.not_in_corpus", "d"),
    "of these right, %": ("first.right_not_in_corpus", ".1f"),
    "start to report, s": ("all_seconds", ".0f"),
    "decoded a second": ("decoded_a_second", ",.0f"),
}
GROWTH = {
    "MB": ("file_mb", ".1f"),
    "seconds to the first step": ("ready_seconds", ".1f"),
    "seconds for 1,000 pairs": ("seconds_per_1000", ".2f"),
    "peak MiB": ("peak_mb", ",.0f"),
}


def table(title, runs, columns):
    """Return a Markdown table of `runs`, a dict by name, with a title."""
    lines = [["", *columns], ["---"] * (1 + len(columns))]
    for name, run in runs.items():
        cells = []
        for place, form in columns.values():
            value = functools.reduce(dict.__getitem__, place.split("."), run)
            cells.append(format(value, form))
        lines.append([name, *cells])
    return f"## {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def render(report):
    """Return `report` as Markdown."""
    text = "# What `python tests/benchmark.py` measured\n\n"
    text += f"{report['machine']}. One core for each run but those of the last table.\n\n"
    growth = {f"{entry['pairs']:,} pairs": entry for entry in report.get("growth", [])}
    usual = "Tatoeba's pairs: ours, and the usual recipe for as many seconds"
    for title, runs, columns in (
        ("The default run, by seed", report.get("seeds"), RUN),
        ("Newcomers' first sentences, by seed", report.get("seeds"), SEED),
        (usual, report.get("compare"), RUN),
        ("Other systems, on a quarter of the corpus", report.get("systems"), RUN),
        ("Edits of one line, on a quarter of the corpus", report.get("exercises"), RUN),
        ("Growth", growth, GROWTH),
    ):
        text += table(title, runs, columns) if runs else ""
    return text


def draw(report, folder):
    """Draw the learning curves and the encoder's states, each for light and for dark mode."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for mode, style in ("light", "default"), ("dark", "dark_background"):
        with pyplot.style.context(style):
            if "usual" in report.get("compare", {}):
                draw_curves(report["compare"], pyplot)
                pyplot.savefig(folder / f"learning-{mode}.png", dpi=110, transparent=True)
            if "seeds" in report:
                draw_states(report["seeds"]["1"]["states"], pyplot)
                pyplot.savefig(folder / f"states-{mode}.png", dpi=110, transparent=True)
            pyplot.close("all")


def draw_curves(runs, pyplot):
    """Draw how both recipes learn."""
    _, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axis, key, title in (
        (axes[0], "training_exact", "training sentences exact, %"),
        (axes[1], "chrf", "chrF of new sentences"),
    ):
        for name, color in ("ours", "tab:orange"), ("usual", "tab:blue"):
            points = [[at["seconds"], at[key]] for at in runs[name]["curve"]]
            axis.plot(*zip(*points), color=color, label={"ours": "this script"}.get(name, "usual"))
        axis.set(xlabel="seconds of training, one core", title=title, ylim=(0, None))
    axes[0].legend()


def draw_states(points, pyplot):
    """Draw `points`, one for each sentence of STATE_FAMILIES, with their sentences beside them."""
    from adjustText import adjust_text

    _, axis = pyplot.subplots(figsize=(9, 7), layout="constrained")
    labels = []
    for number, (family, marker) in enumerate(zip(STATE_FAMILIES, "os^")):
        places = points[4 * number :][:4]
        axis.plot(*zip(*places), marker, color="tab:orange")
        labels += [axis.text(x, y, sentence) for (x, y), sentence in zip(places, family)]
    axis.margins(0.15)
    axis.set(xticks=[], yticks=[], title="the encoder's h and c, on a plane")
    adjust_text(labels, *zip(*points), ax=axis, expand=(1.2, 1.5))


def rounded(value):
    """Return `value` with all numbers in it rounded to four significant digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(STAGES), help="stages, with commas between")
    parser.add_argument("--quick", action="store_true", help="on less data")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        work(options.job)
        return
    stages = options.only.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(f"no such stage: {', '.join(unknown)}; there are {', '.join(STAGES)}")
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "benchmark.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def save():
        summarize(report)
        report["machine"] = machine()
        path.write_text(json.dumps(rounded(report), indent=1) + "\n", encoding="utf-8")
        (options.output / "benchmark.md").write_text(render(report), encoding="utf-8")

    run_stages(stages, options.quick, report, save)
    if "pictures" in stages:
        draw(report, options.output)


def machine():
    """Return a line on this machine and its versions."""
    from importlib.metadata import version

    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.*)", text)
    versions = f"TensorFlow {version('tensorflow')}, Keras {version('keras')}"
    python = ".".join(map(str, sys.version_info[:2]))
    cores = len(os.sched_getaffinity(0))
    return f"{name[1] if name else 'a processor'}, {cores} cores, Python {python}, {versions}"


if __name__ == "__main__":
    main()
