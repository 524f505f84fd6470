"""Stopping and going on, disks, and model files of strangers: no work is lost, nothing is run."""

import csv
import json
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from conftest import EPOCHS, ROOT, SMALL, TINY, call, messages, refused, run
from hypothesis import given, settings
from hypothesis import strategies as st

import seq2seq_char as script


@pytest.fixture
def job(corpus, tmp_path, monkeypatch):
    """The arguments of a tiny training of four epochs, without report, and its model's path."""
    for name in ("show_arrays", "report", "show_steps"):
        monkeypatch.setattr(script, name, lambda *arguments: None)
    path = tmp_path / "runs" / "model.keras"
    return ["--data-path", corpus, "--model-path", path, "--epochs", 4, *TINY], path


def names(path):
    return sorted(file.name for file in path.parent.iterdir())


def history(path):
    with open(path.with_suffix(".csv"), newline="") as file:
        return list(csv.DictReader(file))


def stopped_after(epochs, arguments, monkeypatch, signal_number=signal.SIGINT):
    """Call `main` and send this process a signal once `epochs` epochs are saved."""
    saved = []
    save_model = script.save_model

    def save_and_signal(*arguments):
        save_model(*arguments)
        saved.append(1)
        if len(saved) == epochs:
            signal.raise_signal(signal_number)

    # A process started in the background of a shell ignores SIGINT; this one must not.
    before = signal.signal(signal_number, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(script, "save_model", save_and_signal)
        try:
            return call(*arguments)
        finally:
            signal.signal(signal_number, before)


# ---------------------------------- Stopping and going on ----------------------------------


def test_ctrl_c_says_what_is_done_and_the_same_command_goes_on(job, monkeypatch):
    arguments, path = job
    result = stopped_after(2, arguments, monkeypatch)
    assert result.status == 130
    (message,) = result.err.strip().splitlines()
    assert "2 of 4 epochs are done" in message and "the same command goes on" in message
    assert "translate" in message and str(path) in message
    assert names(path) == ["checkpoint-model.keras", "model.csv"]
    # What is there translates, and says that it is not complete.
    result = call("translate", "I am.", "--model-path", path)
    assert result.status == 0 and result.out.count("\n") == 1
    assert "checkpoint-model.keras" in result.err and "not complete" in result.err
    result = call(*arguments)
    assert result.status == 0 and "Going on with the interrupted run, after epoch 2" in result.out
    assert result.out.count("Epoch ") == 2
    assert [row["epoch"] for row in history(path)] == ["0", "1", "2", "3"]
    assert names(path) == ["model.csv", "model.keras"]


def test_going_on_gives_the_weights_of_a_run_that_was_not_stopped(job, tmp_path, monkeypatch):
    """The optimizer's state, too, goes on. (The order of the pairs is that of a fresh start.)"""
    arguments, path = job
    kept = []
    compile_model = script.compile_model

    def compile_and_keep(model, *arguments):
        compile_model(model, *arguments)
        kept.append(model)

    monkeypatch.setattr(script, "compile_model", compile_and_keep)
    stopped_after(2, arguments, monkeypatch)
    stopped_after(1, arguments, monkeypatch)
    before, after = kept
    steps = int(before.optimizer.iterations.numpy())
    assert int(after.optimizer.iterations.numpy()) == steps * 3 // 2 > steps
    assert path.with_name("checkpoint-model.keras").exists()


@pytest.mark.parametrize("epochs", [3, 6, 1])
def test_another_number_of_epochs_goes_on(job, monkeypatch, epochs):
    arguments, path = job
    stopped_after(2, arguments, monkeypatch)
    result = call(*arguments, "--epochs", epochs)
    assert result.status == 0 and "Going on" in result.out
    assert len(history(path)) == max(2, epochs) and path.exists()


@pytest.mark.parametrize(
    "changed, name",
    [
        (["--seed", 2], "SEED"),
        (["--latent-dim", 5], "LATENT_DIM"),
        (["--batch-size", 9], "BATCH_SIZE"),
        (["--num-pairs", 30], "the data"),
        (["--fresh"], None),
    ],
    ids=["seed", "size", "batch", "data", "fresh"],
)
def test_another_run_starts_anew_and_says_why(job, monkeypatch, changed, name):
    arguments, path = job
    stopped_after(2, arguments, monkeypatch)
    result = call(*arguments, *changed)
    assert result.status == 0 and "Going on" not in result.out
    assert name is None or re.search(f"Starting anew: .*{name}", result.out)
    assert len(history(path)) == 4


@pytest.mark.parametrize("change", ["a layer", "the optimizer"])
def test_another_model_in_the_code_is_not_half_loaded(job, monkeypatch, change):
    """The code is edited under a checkpoint: it is compared first, and nothing is loaded."""
    arguments, path = job
    stopped_after(2, arguments, monkeypatch)
    if change == "a layer":
        lstm = script.one_hot_lstm
        monkeypatch.setattr(
            script, "one_hot_lstm", lambda units, **o: lstm(units, use_bias=False, **o)
        )
    else:
        monkeypatch.setattr(keras.optimizers, "AdamW", keras.optimizers.SGD)
    loaded = []
    monkeypatch.setattr(keras.Model, "load_weights", lambda *arguments: loaded.append(arguments))
    result = call(*arguments)
    assert result.status == 0 and not loaded
    assert re.search("Starting anew: .*the model", result.out) and len(history(path)) == 4


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_a_damaged_checkpoint_starts_anew(job, monkeypatch, damage):
    arguments, path = job
    stopped_after(1, arguments, monkeypatch)
    checkpoint = path.with_name("checkpoint-model.keras")
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 1
    versions = {"truncated": data[: len(data) // 2], "flipped": data, "empty": b"", "foreign": b"x"}
    checkpoint.write_bytes(versions[damage])
    result = call(*arguments)
    assert result.status == 0 and "Starting anew" in result.out and path.exists()


def test_the_model_of_an_earlier_run_is_not_touched_before_the_end(job, monkeypatch):
    arguments, path = job
    path.parent.mkdir()
    path.write_bytes(b"an earlier model")
    stopped_after(3, arguments, monkeypatch)
    assert path.read_bytes() == b"an earlier model"
    call(*arguments)
    assert script.load_model(path)[1]["epochs_done"] == 4


def test_two_models_in_one_folder_keep_both_histories(job):
    arguments, path = job
    other = path.with_name("other.keras")
    call(*arguments, "--epochs", 1)
    call(*arguments, "--epochs", 2, "--model-path", other)
    assert names(path) == ["model.csv", "model.keras", "other.csv", "other.keras"]
    assert len(history(path)) == 1 and len(history(other)) == 2


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_signals_to_a_real_process(job, signal_name):
    arguments, path = job
    process = training(arguments, 1000)
    wait_for(path.with_name("checkpoint-model.keras"), process)
    process.send_signal(getattr(signal, signal_name))
    _, err = process.communicate(timeout=60)
    (message,) = [line for line in messages(err) if line.strip()]
    assert process.returncode == 130 and re.search(r"\d+ of 1000 epochs are done", message)


# A process started in the background of a shell ignores Ctrl-C, and so do its children.
START = """import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_path(sys.argv[0], run_name="__main__")"""


def training(arguments, epochs):
    """Start the script in a process of its own, one in which Ctrl-C is not ignored."""
    start = START.replace("sys.argv[0]", repr(str(ROOT / "seq2seq_char.py")))
    command = [sys.executable, "-c", start, *arguments, "--epochs", epochs]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(path, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(process.communicate())
        time.sleep(0.02)


def test_kill_at_random_moments_never_costs_a_finished_epoch(corpus, tmp_path):
    """Two trainings side by side, each killed five times: each goes on from its last epoch."""

    def killed_five_times(seed):
        moments = random.Random(seed)
        path = tmp_path / str(seed) / "model.keras"
        checkpoint = path.with_name("checkpoint-model.keras")
        arguments = ["--data-path", corpus, "--model-path", path, *TINY]
        done = []
        for _ in range(5):
            process = training(arguments, 10_000)
            wait_for(checkpoint, process)
            changed = checkpoint.stat().st_mtime_ns
            while checkpoint.stat().st_mtime_ns == changed and process.poll() is None:
                time.sleep(0.02)
            time.sleep(moments.uniform(0, 0.3))
            process.kill()
            out = process.communicate()[0].decode()
            if done:
                assert f"Going on with the interrupted run, after epoch {done[-1]}." in out
            _, notes = script.load_model(checkpoint)
            done.append(notes["epochs_done"])
            assert len(history(path)) >= done[-1]
        return done

    with ThreadPoolExecutor() as pool:
        for done in pool.map(killed_five_times, [1, 2]):
            assert done == sorted(set(done)) and len(done) == 5


# -------------------------------------------- Disk --------------------------------------------


@pytest.mark.parametrize("limit", [2_000, 20_000])
def test_a_full_disk_leaves_the_earlier_model_and_no_stray_files(job, limit):
    arguments, path = job
    path.parent.mkdir()
    path.write_bytes(b"an earlier model")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        result = call(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.status == 2
    assert result.err.count("\n") == 1 and "cannot be written" in result.err
    assert path.read_bytes() == b"an earlier model" and names(path) == ["model.csv", "model.keras"]


def test_missing_folders_are_made_and_wrong_ones_refused_before_training(job, tmp_path):
    arguments, _ = job
    blocked = tmp_path / "file"
    blocked.write_text("")
    message = refused(*arguments, "--model-path", blocked / "model.keras")
    assert "MODEL_PATH" in message and "cannot be written" in message


# --------------------------------- The model as a stranger's file ---------------------------------


def refusal(path):
    message = refused("translate", "Hello.", "--model-path", path)
    assert str(path) in message
    return message


@pytest.mark.parametrize("length", [0, 1, 100, 0.5, -1])
def test_a_truncated_model_is_refused(trained, tmp_path, length):
    data = trained.path.read_bytes()
    path = tmp_path / "model.keras"
    path.write_bytes(data[: int(length * len(data)) if 0 < length < 1 else length])
    assert "damaged" in refusal(path)


def test_flipped_bits_are_found(trained, tmp_path):
    """A flipped bit is refused or, in a place that means nothing, changes no translation."""
    data = trained.path.read_bytes()
    path = tmp_path / "model.keras"
    refusals = 0
    for place in random.Random(1).sample(range(len(data)), 30):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            model, _ = script.load_model(path)
        except script.UserError:
            refusals += 1
        else:
            for weight, expected in zip(model.get_weights(), trained.model.get_weights()):
                np.testing.assert_array_equal(weight, expected)
    assert refusals >= 28


def with_notes(trained, path, change):
    """Write the trained model to `path` with its notes changed."""
    with zipfile.ZipFile(trained.path) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == script.NOTES:
                data = json.dumps(change(json.loads(data))).encode()
            target.writestr(name, data)


@pytest.mark.parametrize(
    "change",
    [
        lambda notes: {**notes, "format": script.FORMAT - 1},
        lambda notes: {**notes, "english_table": {"a": 0}},
        lambda notes: {**notes, "settings": {**notes["settings"], "LATENT_DIM": 7}},
        lambda notes: {**notes, "settings": {**notes["settings"], "ARCHITECTURE": "same-length"}},
        lambda notes: {"format": script.FORMAT},
        lambda notes: [],
    ],
    ids=["older", "other-table", "other-size", "other-architecture", "only-format", "a-list"],
)
def test_notes_that_do_not_fit_are_refused(trained, tmp_path, change):
    path = tmp_path / "model.keras"
    with_notes(trained, path, change)
    assert "model of this version of this script" in refusal(path)


def test_nothing_that_a_model_file_names_is_run(trained, tmp_path):
    """A Lambda layer, a module to import, a pickle: refused, or never looked at."""
    mark = tmp_path / "it-ran"
    path = tmp_path / "lambda.keras"
    inputs = keras.Input((3,))
    keras.Model(inputs, keras.layers.Lambda(lambda tensor: tensor * 2.0)(inputs)).save(path)
    refusal(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(script.NOTES, json.dumps(trained.notes))
    refusal(path)

    evil = {"module": "os", "class_name": "system", "config": {"command": f"touch {mark}"}}
    evil["registered_name"] = None
    path = tmp_path / "module.keras"
    with zipfile.ZipFile(trained.path) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = json.dumps(evil) if name == "config.json" else source.read(name)
            target.writestr(name, data)
    result = call("translate", "I.", "--model-path", path)
    assert result.out.splitlines() == trained.translate(["I."])

    class Evil:
        def __reduce__(self):
            return (exec, (f"open({str(mark)!r}, 'w')",))

    path = tmp_path / "pickle.keras"
    path.write_bytes(pickle.dumps(Evil()))
    refusal(path)
    assert not mark.exists()


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_any_bytes_as_a_model_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.keras"
    path.write_bytes(data)
    with pytest.raises(script.UserError):
        script.load_model(path)


def test_the_model_is_one_file_that_can_be_moved(trained, tmp_path):
    path = tmp_path / "moved.keras"
    shutil.copy(trained.path, path)
    sentences = [english for english, _ in trained.training]
    result = run("translate", "--model-path", path, stdin="\n".join(sentences).encode(), cwd="/")
    assert result.stdout.decode("utf-8").splitlines() == trained.translate(sentences)
    assert messages(result.stderr) == []
    # Without the optimizer's state: four bytes a weight, and a little.
    assert path.stat().st_size < 4.3 * trained.model.count_params() + 100_000
    assert len(history(trained.path)) == EPOCHS and SMALL
