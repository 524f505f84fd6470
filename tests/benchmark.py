"""Side-by-side measurements: the usual recipe of the tutorials against this project's script.

    python tests/benchmark.py --quick --output FOLDER
    python tests/benchmark.py --model runs/eng-kor.keras --data data/eng-kor.tsv

The second form trains nothing: it decodes the two splits that a saved model was trained and tested
on, and prints exact match, character error rate, chrF and the speed of decoding.

THE USUAL RECIPE is written anew here from the published description of the Keras tutorial: one-hot
characters, the whole corpus as float32 arrays padded with spaces to its longest sentence, no
masking, 256 units, Glorot initialisation, RMSprop at 1e-3, batches of 64, and decoding by one
`predict` call after another. OURS is seq2seq_char.py with its default settings. Both get the same
pairs and the same split, and each runs in a process of its own, one after the other.

FOLDER receives benchmark.json and, if matplotlib is there, learning-light.png and
learning-dark.png; nothing is written elsewhere. benchmark.json has at top level (larger is better
but for the last five):

epoch_seconds_ratio   seconds per epoch, usual / ours (median of the epochs after the first)
decode_ratio          greedily decoded sentences a second, ours / usual
chrf_ratio            chrF on the validation split at equal training time, ours / usual
exact_usual, exact_ours   training sentences decoded exactly, of a fixed sample, at equal time
peak_mb_usual, peak_mb_ours   peak resident memory of the process, MiB
floor_ratio           our seconds per epoch / the seconds that its floating-point operations take
                      at the speed of matrix products of the model's own shapes in this run
growth_time_16x       (seconds per epoch on 16 x the pairs / on 1 x) / 16
growth_memory_16x     peak memory on 16 x the pairs / on 1 x
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
KOR_ENG = ROOT.parent / "shared" / "data" / "kor-eng" / "kor.txt"
USUAL_UNITS, USUAL_BATCH = 256, 64
SAMPLE = 300  # training sentences that are decoded at each look


# ------------------------------ The usual recipe, in its own process ------------------------------


def usual_recipe(job):
    """Train and decode as the tutorials do; return the measurements as a dict."""
    import keras
    import numpy as np

    training, validation = job["training"], job["validation"]
    pairs = training + validation
    english_index = {c: i for i, c in enumerate(sorted(set(" ".join(e for e, _ in pairs))))}
    korean_index = {c: i for i, c in enumerate(sorted(set("\t\n " + "".join(k for _, k in pairs))))}
    max_english = max(len(e) for e, _ in pairs)
    max_korean = max(len(k) for _, k in pairs) + 2

    def one_hot(texts, index, length):
        array = np.zeros((len(texts), length, len(index)), "float32")
        for row, text in enumerate(texts):
            for step, character in enumerate(text.ljust(length)):
                array[row, step, index[character]] = 1.0
        return array

    encoder_input = one_hot([e for e, _ in training], english_index, max_english)
    decoder_input = one_hot([f"\t{k}\n" for _, k in training], korean_index, max_korean)
    decoder_target = one_hot([f"{k}\n" for _, k in training], korean_index, max_korean)

    keras.utils.set_random_seed(1)
    encoder_inputs = keras.Input((None, len(english_index)))
    _, h, c = keras.layers.LSTM(USUAL_UNITS, return_state=True)(encoder_inputs)
    decoder_inputs = keras.Input((None, len(korean_index)))
    decoder_lstm = keras.layers.LSTM(USUAL_UNITS, return_sequences=True, return_state=True)
    outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=[h, c])
    dense = keras.layers.Dense(len(korean_index), activation="softmax")
    model = keras.Model([encoder_inputs, decoder_inputs], dense(outputs))
    model.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy"])
    encoder_model = keras.Model(encoder_inputs, [h, c])
    states = [keras.Input((USUAL_UNITS,)), keras.Input((USUAL_UNITS,))]
    one_step, new_h, new_c = decoder_lstm(decoder_inputs, initial_state=states)
    decoder_model = keras.Model([decoder_inputs, *states], [dense(one_step), new_h, new_c])
    characters = list(korean_index)

    def decode(sentences):
        """The tutorial's loop of predict calls, for a whole list at once."""
        h, c = encoder_model.predict(one_hot(sentences, english_index, max_english), verbose=0)
        last = np.zeros((len(sentences), 1, len(characters)), "float32")
        last[:, 0, korean_index["\t"]] = 1.0
        texts = [""] * len(sentences)
        for _ in range(max_korean):
            probabilities, h, c = decoder_model.predict([last, h, c], verbose=0)
            chosen = probabilities[:, -1].argmax(-1)
            last[:] = 0.0
            last[np.arange(len(sentences)), 0, chosen] = 1.0
            texts = [text + characters[id] for text, id in zip(texts, chosen)]
            if all("\n" in text for text in texts):
                break
        return [text.partition("\n")[0].strip() for text in texts]

    def train_epoch():
        model.fit([encoder_input, decoder_input], decoder_target, batch_size=USUAL_BATCH, verbose=0)

    def decode_rate():
        few = [english for english, _ in validation[:5]]
        decode(few[:1])
        started = time.perf_counter()
        for sentence in few:
            decode([sentence])
        return len(few) / (time.perf_counter() - started)

    real = sum(len(k) + 1 for _, k in training) + sum(len(e) for e, _ in training)
    padded = len(training) * (max_english + max_korean)
    result = watch(job, train_epoch, decode)
    return {**result, "sentences_a_second": decode_rate(), "positions_per_character": padded / real}


# ----------------------------------- Ours, in its own process -----------------------------------


def ours(job):
    """Train and decode with the script's own functions and defaults; return measurements."""
    import numpy as np

    import seq2seq_char as script

    training = [tuple(pair) for pair in job["training"]]
    script.keras.utils.set_random_seed(script.SEED)
    english_table = script.build_table(english for english, _ in training)
    korean_table = script.build_table([script.START, script.END, *(k for _, k in training)])
    tables = english_table, korean_table
    data = script.make_dataset(training, *tables, script.BATCH_SIZE, script.SEED)
    model = script.build_training_model(*map(len, tables), script.LATENT_DIM)
    script.compile_model(model, script.LEARNING_RATE, job["epochs"] * len(data))
    limit = max(len(korean) for _, korean in training) + 1
    decoder = script.make_greedy_decoder(model, korean_table, limit)

    def decode(sentences):
        return script.translate(sentences, decoder, *tables)

    def decode_rate():
        sentences = [english for english, _ in training]
        decode(sentences[:300])
        started = time.perf_counter()
        decode(sentences)
        return len(sentences) / (time.perf_counter() - started)

    real = padded = 0
    shapes = {}
    for (encoder_input, _), target in data:
        batch, steps = target.shape[:2]
        real += float(np.sum(encoder_input) + np.sum(target))
        padded += batch * (steps + encoder_input.shape[1])
        shapes[batch] = shapes.get(batch, 0) + 1
    result = watch(job, lambda: model.fit(data, verbose=0, shuffle=False), decode)
    steps_english = sum(len(english) for english, _ in training)
    steps_korean = sum(len(korean) + 1 for _, korean in training)
    units, ends = script.LATENT_DIM, 2 * script.LATENT_DIM
    # Multiply-adds of one position: input and recurrent kernel, and the softmax layer; forward,
    # and twice as many backward.
    encoder = 2 * 4 * units * (len(english_table) + units)
    decoder_work = 4 * ends * (len(korean_table) + ends) + ends * len(korean_table)
    operations = 3 * 2 * (steps_english * encoder + steps_korean * decoder_work)
    speed = matmul_speed(script.BATCH_SIZE, ends)
    return {
        **result,
        "sentences_a_second": decode_rate(),
        "positions_per_character": padded / real,
        "floor_seconds": operations / speed,
        "matmul_gflops": speed / 1e9,
    }


def matmul_speed(batch, units):
    """Return the operations a second of (batch x units) by (units x 4 units) products."""
    import tensorflow as tf

    left, right = tf.random.normal((batch, units)), tf.random.normal((units, 4 * units))

    @tf.function
    def products(left):
        for _ in range(100):
            left = tf.matmul(left, right)[:, :units] * 0.01
        return left

    products(left)
    seconds = []
    for _ in range(15):
        started = time.perf_counter()
        products(left).numpy()
        seconds.append(time.perf_counter() - started)
    return 100 * 2 * batch * units * 4 * units / sorted(seconds)[len(seconds) // 2]


# ---------------------------------- What both have in common ----------------------------------


def watch(job, train_epoch, decode):
    """Call `train_epoch` for `job["epochs"]` times or `job["seconds"]`; look at the translations
    on the way. Only time inside `train_epoch` counts as training.
    """
    sample = job["training"][:: max(1, len(job["training"]) // SAMPLE)][:SAMPLE]
    seconds, curve, trained = [], [], 0.0
    for epoch in range(1, job["epochs"] + 1):
        started = time.perf_counter()
        train_epoch()
        seconds.append(time.perf_counter() - started)
        trained += seconds[-1]
        is_last = epoch == job["epochs"] or trained >= job["seconds"]
        if is_last or (job["looks"] and epoch % job["looks"] == 0):
            curve.append({"epoch": epoch, "seconds": trained, "exact": exact(decode, sample)})
            curve[-1]["chrf"] = quality(decode, job["validation"])["chrf"]
        if is_last:
            break
    later = sorted(seconds[1:] or seconds)
    result = {
        "epoch_seconds": later[len(later) // 2],
        "first_epoch_seconds": seconds[0],
        "epochs": len(seconds),
        "training_seconds": trained,
        "curve": curve,
    }
    if job["looks"]:
        result["training"] = quality(decode, sample)
        result["validation"] = quality(decode, job["validation"])
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def references_of(pairs):
    """Return {English: [Korean, ...]} of `pairs`."""
    references = {}
    for english, korean in pairs:
        references.setdefault(english, []).append(korean)
    return references


def exact(decode, pairs):
    """Return the share of the English sentences of `pairs` that are decoded exactly."""
    references = references_of(pairs)
    outputs = decode(list(references))
    return sum(out in refs for out, refs in zip(outputs, references.values())) / len(outputs)


def quality(decode, pairs):
    """Return exact match, character error rate and chrF (sacrebleu, all references) of `pairs`."""
    import sacrebleu

    import seq2seq_char as script

    references = references_of(pairs)
    outputs = decode(list(references))
    many = max(map(len, references.values()))
    columns = [[refs[min(i, len(refs) - 1)] for refs in references.values()] for i in range(many)]
    share, error_rate, _ = script.score(outputs, list(references.values()))
    chrf = sacrebleu.corpus_chrf(outputs, columns).score
    return {"exact": float(share), "error_rate": float(error_rate), "chrf": chrf}


def in_own_process(worker, job):
    """Run `worker` on `job` in a fresh process and return its result; None if it was killed."""
    command = [sys.executable, __file__, "--worker", worker]
    done = subprocess.run(command, input=json.dumps(job), stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def split_of(path, max_length, count=None):
    """Return {"training": pairs, "validation": pairs} of a corpus, as the script splits it."""
    import seq2seq_char as script

    pairs, _ = script.parse_pairs(Path(path).read_text(encoding="utf-8"), 0, max_length)
    if count:
        pairs = pairs[:: max(1, len(pairs) // count)][:count]
    sides = script.split_pairs(pairs, script.VALIDATION_FRACTION, script.SEED)
    return dict(zip(("training", "validation"), sides))


def grown(pairs, times):
    """Return `times` as many pairs, the copies told apart by a letter, at the same length."""
    copies = [chr(ord("a") + i) for i in range(times)]
    return [(letter + e[1:], k) for letter in copies for e, k in pairs]


def usual_memory_gb(path):
    """Return the GB that the usual recipe's three float32 arrays need for a whole corpus."""
    split = split_of(path, 10**6)
    pairs = split["training"] + split["validation"]
    english, korean = zip(*pairs)
    rows = max(map(len, english)) * len(set("".join(english)))
    rows += 2 * (max(map(len, korean)) + 2) * len(set("\t\n " + "".join(korean)))
    return 4 * len(pairs) * rows / 1e9


def seconds_to(curve, share):
    """Return the seconds of training after which `share` of the sample was decoded exactly."""
    return next((point["seconds"] for point in curve if point["exact"] >= share), None)


def compare(name, path, max_length, quick, epochs, run_usual=True):
    """Measure both recipes on one corpus; return the results."""
    split = split_of(path, max_length, 1500 if quick else None)
    job = {**split, "epochs": epochs, "seconds": math.inf, "looks": 1 if quick else 2}
    print(f"{name}: ours ...", file=sys.stderr, flush=True)
    result = {"pairs": len(split["training"]) + len(split["validation"])}
    result["ours"] = in_own_process("ours", job)
    if run_usual:
        print(f"{name}: the usual recipe, for the same time ...", file=sys.stderr, flush=True)
        job |= {"epochs": 10**6, "seconds": result["ours"]["training_seconds"], "looks": 4}
        result["usual"] = in_own_process("usual_recipe", job)
    return result


def measure_saved(model_path, data_path):
    """Print the quality of a saved model on its own splits of the corpus it was trained on."""
    import seq2seq_char as script

    model, english_table, korean_table, notes = script.load_model(model_path)
    names = "num_pairs", "max_length", "validation_fraction", "seed"
    num_pairs, max_length, fraction, seed = (notes["settings"][name] for name in names)
    pairs = script.read_pairs(data_path, num_pairs, max_length)
    splits = script.split_pairs(pairs, fraction, seed)
    decoder = script.make_greedy_decoder(model, korean_table, notes["max_korean_length"])

    def decode(sentences):
        return script.translate(sentences, decoder, english_table, korean_table)

    decode([english for english, _ in splits[0][:300]])  # compiles
    for name, side in zip(("training", "validation"), splits):
        sentences = list(references_of(side))
        started = time.perf_counter()
        decode(sentences)
        rate = len(sentences) / (time.perf_counter() - started)
        figures = quality(decode, side)
        print(
            f"{name:10}  {len(sentences):5} sentences  exact {figures['exact']:6.1%}  "
            f"character error rate {figures['error_rate']:6.1%}  chrF {figures['chrf']:5.1f}  "
            f"{rate:,.0f} sentences a second"
        )


def table(results):
    """Return the results as a Markdown table."""
    rows = [
        ("seconds per epoch", lambda r: f"{r['epoch_seconds']:.1f}"),
        ("peak memory, MiB", lambda r: f"{r['peak_mb']:,.0f}"),
        ("positions computed per real character", lambda r: f"{r['positions_per_character']:.2f}"),
        ("seconds of training", lambda r: f"{r['training_seconds']:.0f}"),
        *(
            (f"seconds to {share:.0%} of training sentences exact", to)
            for share, to in (
                (share, lambda r, share=share: f"{seconds_to(r['curve'], share) or math.nan:.0f}")
                for share in (0.5, 0.9, 0.99)
            )
        ),
        ("training sentences exact", lambda r: f"{r['training']['exact']:.1%}"),
        ("validation sentences exact", lambda r: f"{r['validation']['exact']:.1%}"),
        ("validation character error rate", lambda r: f"{r['validation']['error_rate']:.1%}"),
        ("validation chrF", lambda r: f"{r['validation']['chrf']:.1f}"),
        ("sentences decoded a second", lambda r: f"{r['sentences_a_second']:,.1f}"),
    ]
    columns = [(name, kind) for name in results for kind in ("usual", "ours")]
    columns = [(name, kind) for name, kind in columns if results[name].get(kind)]
    lines = ["| | " + " | ".join(f"{name}, {kind}" for name, kind in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for title, show in rows:
        cells = [show(results[name][kind]).replace("nan", "not reached") for name, kind in columns]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(result, folder):
    """Draw exact training sentences and validation chrF against seconds, for light and dark."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    for mode, ink, paper in ("light", "#222222", "#ffffff"), ("dark", "#dddddd", "#0d1117"):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), facecolor=paper)
        for axis, key, title, scale in (
            (axes[0], "exact", "training sentences exact, %", 100),
            (axes[1], "chrf", "validation chrF", 1),
        ):
            for kind, color, style in ("ours", "#2a9d8f", "-"), ("usual", "#e76f51", "--"):
                curve = [{"seconds": 0, "exact": 0, "chrf": 0}, *result[kind]["curve"]]
                x, y = [p["seconds"] for p in curve], [scale * p[key] for p in curve]
                axis.plot(x, y, style, color=color, label=kind, linewidth=2)
            axis.set_title(title, color=ink)
            axis.set_xlabel("seconds of training", color=ink)
            axis.set_facecolor(paper)
            axis.tick_params(colors=ink)
            axis.set_ylim(0, 103)
            for spine in axis.spines.values():
                spine.set_color(ink)
        axes[0].legend(facecolor=paper, labelcolor=ink, edgecolor=ink)
        figure.tight_layout()
        figure.savefig(folder / f"learning-{mode}.png", dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="less data, fewer epochs")
    parser.add_argument("--output", type=Path, help="folder for benchmark.json and the pictures")
    parser.add_argument("--model", type=Path, help="a saved model to measure, instead of all else")
    parser.add_argument("--data", type=Path, help="the corpus that it was trained on")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.model:
        measure_saved(options.model, options.data or ROOT / "data" / "eng-kor.tsv")
        return
    if options.worker:
        job = json.load(sys.stdin)
        print(json.dumps({"usual_recipe": usual_recipe, "ours": ours}[options.worker](job)))
        return
    import seq2seq_char as script

    results = {}
    epochs = 15 if options.quick else script.EPOCHS
    bundled = ROOT / "data" / "eng-kor.tsv"
    results["bundled"] = compare("bundled", bundled, 64, options.quick, epochs)
    if KOR_ENG.exists():
        results["kor-eng"] = compare("kor-eng", KOR_ENG, 64, options.quick, epochs)
    print("growth ...", file=sys.stderr, flush=True)
    base = split_of(bundled, 64, 300 if options.quick else 1000)
    growth = {}
    for times in (1, 4, 16):
        job = {**base, "training": grown(base["training"], times)}
        job |= {"epochs": 4, "seconds": math.inf, "looks": 0}
        growth[times] = in_own_process("ours", job)
    main_corpus = results.get("kor-eng", results["bundled"])
    us, usual = main_corpus["ours"], main_corpus["usual"]
    summary = {
        "epoch_seconds_ratio": usual["epoch_seconds"] / us["epoch_seconds"],
        "decode_ratio": us["sentences_a_second"] / usual["sentences_a_second"],
        "chrf_ratio": us["validation"]["chrf"] / max(usual["validation"]["chrf"], 1e-9),
        "exact_usual": usual["training"]["exact"],
        "exact_ours": us["training"]["exact"],
        "peak_mb_usual": usual["peak_mb"],
        "peak_mb_ours": us["peak_mb"],
        "floor_ratio": us["epoch_seconds"] / us["floor_seconds"],
        "growth_time_16x": growth[16]["epoch_seconds"] / growth[1]["epoch_seconds"] / 16,
        "growth_memory_16x": growth[16]["peak_mb"] / growth[1]["peak_mb"],
        "quick": options.quick,
        "cores": os.cpu_count(),
        "results": results,
        "growth": growth,
    }
    print(table(results))
    if KOR_ENG.exists():
        summary["usual_memory_gb_kor_eng"] = usual_memory_gb(KOR_ENG)
        print(f"\nThe usual recipe's arrays for all of kor-eng: {usual_memory_gb(KOR_ENG):.0f} GB.")
    print(json.dumps({key: summary[key] for key in list(summary)[:10]}, indent=1))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        text = json.dumps(summary, indent=1)
        (options.output / "benchmark.json").write_text(text, encoding="utf-8")
        draw(main_corpus, options.output)


if __name__ == "__main__":
    main()
