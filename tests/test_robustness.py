"""Interruptions, disks, and model files of strangers: no work is lost, nothing is silent."""

import json
import os
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

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, TINY, call, call_without_training, interrupt, run, write_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

import seq2seq_char as script


@pytest.fixture
def job(trained, tmp_path):
    """The arguments of a short training job, and the path of its model."""
    path = tmp_path / "runs" / "model.keras"
    return ["--data-path", trained.corpus, "--model-path", path, "--epochs", "6", *TINY], path


def history(path):
    return (path.parent / "history.csv").read_text().splitlines()[1:]


def names(path):
    return sorted(file.name for file in path.parent.iterdir())


# -------------------------------------- Interruption --------------------------------------


def test_ctrl_c_ends_in_one_line_and_the_same_command_goes_on(job, monkeypatch, trained):
    arguments, path = job
    result = interrupt(arguments, monkeypatch, after=4)
    assert result.status == 130
    assert result.err.strip() == "4 of 6 epochs are done; the same command goes on from there"
    assert names(path) == ["checkpoint-model.keras"]
    resumed = call(*arguments)
    assert resumed.status == 0
    assert "Going on with an interrupted run, after epoch 4." in resumed.out
    assert "Epoch 5/6" in resumed.out and "Epoch 4/6" not in resumed.out
    assert [row.split(",")[0] for row in history(path)] == list("123456")
    assert names(path) == ["history.csv", "model.keras"]


def test_the_optimizer_goes_on_where_it_was(job, monkeypatch, trained):
    """An interrupted run ends as one that was not, but for the order of the batches."""
    arguments, path = job
    assert call(*arguments).status == 0
    through = float(history(path)[-1].split(",")[2])
    interrupt(arguments, monkeypatch, after=3)
    checkpoint = path.with_name("checkpoint-model.keras")
    model = script.load_model(checkpoint)[0]
    script.compile_model(model, 0.01, 100)
    model.load_weights(checkpoint)
    batches = script.make_dataset(trained.training, *trained.tables, 8)
    assert int(model.optimizer.iterations) == 3 * len(batches)
    assert sum(np.abs(variable).sum() > 0 for variable in model.optimizer.variables) > 15
    assert call(*arguments).status == 0
    assert float(history(path)[-1].split(",")[2]) == pytest.approx(through, rel=0.15)


def test_the_model_of_an_earlier_run_is_not_touched_before_the_end(job, monkeypatch):
    arguments, path = job
    path.parent.mkdir()
    path.write_bytes(b"an earlier model")
    assert interrupt(arguments, monkeypatch, after=3).status == 130
    assert path.read_bytes() == b"an earlier model"
    assert call(*arguments).status == 0
    assert script.load_model(path)


def test_a_run_that_is_not_the_same_starts_anew_and_says_why(job, monkeypatch, trained):
    arguments, path = job
    corpus = write_pairs(path.parent.parent / "own.tsv", trained.pairs)
    arguments[1] = corpus
    assert interrupt(arguments, monkeypatch, after=2).status == 130
    checkpoint = path.with_name("checkpoint-model.keras")
    data = checkpoint.read_bytes()
    for more, reason in [
        (["--epochs", "7"], "changed: epochs"),
        (["--seed", "2", "--latent-dim", "32"], "changed: latent_dim, seed, the data"),
        (["--fresh"], "changed: --fresh"),
    ]:
        result = call_without_training([*arguments, *more], monkeypatch)
        assert reason in result.out and "Going on" not in result.out
        assert result.err.startswith("\n0 of ")
    for pairs, size, reason in [
        (trained.pairs, -1000, "is damaged or not a model of this script"),
        (trained.pairs[1:], len(data), "changed: the data"),
    ]:
        write_pairs(corpus, pairs)
        checkpoint.write_bytes(data[:size])
        result = call(*arguments)
        assert result.status == 0 and reason in result.out
        assert "Epoch 1/" in result.out and "Going on" not in result.out


@pytest.mark.parametrize("kind", [MemoryError, tf.errors.ResourceExhaustedError])
def test_out_of_memory_is_one_line(job, monkeypatch, kind):
    arguments, path = job
    error = MemoryError() if kind is MemoryError else kind(None, None, "OOM when allocating")

    def exhausted(*arguments, **options):
        raise error

    monkeypatch.setattr(script, "build_training_model", exhausted)
    result = call(*arguments)
    assert result.status == 2 and not path.exists()
    assert result.err.count("\n") == 1 and "out of memory; a smaller BATCH_SIZE" in result.err


def start(arguments):
    command = [sys.executable, str(ROOT / "seq2seq_char.py"), *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(path, process, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    assert path.exists(), process.communicate()


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_a_real_process(job, signal_number):
    arguments, path = job
    arguments[arguments.index("--epochs") + 1] = "500"
    process = start(arguments)
    wait_for(path.with_name("checkpoint-model.keras"), process)
    process.send_signal(signal_number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(rb"\n?\d+ of 500 epochs are done; the same command goes on.*\n", err)


def test_kill_at_random_moments_never_costs_a_finished_epoch(job):
    """kill -9, ten times: each run goes on from the last epoch that was finished."""
    arguments, path = job
    arguments[arguments.index("--epochs") + 1] = "300"
    checkpoint = path.with_name("checkpoint-model.keras")
    moments = random.Random(0)
    done = []
    for _ in range(10):
        process = start(arguments)
        wait_for(checkpoint, process)
        last = checkpoint.stat().st_mtime_ns
        while checkpoint.stat().st_mtime_ns == last and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.4))
        process.kill()
        out = process.communicate()[0].decode()
        if done:
            resumed = int(re.search(r"Going on with an interrupted run, after epoch (\d+)", out)[1])
            assert resumed == done[-1]
        notes = script.load_notes(checkpoint)
        done.append(len(notes["history"]))
        assert [row["epoch"] for row in notes["history"]] == list(range(1, done[-1] + 1))
    assert done == sorted(set(done)) and len(done) == 10
    assert not path.exists()


# ------------------------------------------ Disk ------------------------------------------


@pytest.mark.parametrize("limit", [10_000, 300_000])
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
    assert path.read_bytes() == b"an earlier model" and names(path) == ["model.keras"]


def test_missing_folders_are_made_and_wrong_ones_refused_before_training(job, tmp_path):
    arguments, _ = job
    blocked = tmp_path / "file"
    blocked.write_text("")
    (tmp_path / "folder.keras").mkdir()
    for path in blocked / "model.keras", tmp_path / "folder.keras":
        arguments[3] = path
        result = call(*arguments)
        assert result.status == 2 and "Epoch" not in result.out
        assert result.err.count("\n") == 1 and str(path) in result.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused_before_training(job, tmp_path):
    arguments, _ = job
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    arguments[3] = folder / "model.keras"
    result = call(*arguments)
    assert result.status == 2 and "cannot be written" in result.err and "Epoch" not in result.out


# ------------------------------------ The model as a stranger's file ------------------------------


def refusal(path):
    result = call("translate", "Hello.", "--model-path", path)
    assert result.status == 2 and result.out == ""
    assert result.err.count("\n") == 1 and str(path) in result.err
    return result.err


@pytest.mark.parametrize("length", [0, 1, 100, 0.5, -1])
def test_a_truncated_model_is_refused(trained, tmp_path, length):
    data = trained.path.read_bytes()
    path = tmp_path / "model.keras"
    path.write_bytes(data[: int(length * len(data)) if 0 < length < 1 else length])
    assert "damaged" in refusal(path)


def test_flipped_bits_are_found(trained, tmp_path):
    """A flipped bit is refused or, in a place that means nothing, changes no translation."""
    data = trained.path.read_bytes()
    places = random.Random(1).sample(range(len(data)), 40)
    path = tmp_path / "model.keras"
    refused = 0
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            model = script.load_model(path)[0]
        except script.UserError:
            refused += 1
        else:
            for weight, expected in zip(model.get_weights(), trained.model.get_weights()):
                np.testing.assert_array_equal(weight, expected)
    assert refused >= 38


def with_notes(trained, path, change):
    """Write the trained model to `path` with its notes changed."""
    with zipfile.ZipFile(trained.path) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == script.NOTES:
                data = json.dumps(change(json.loads(data))).encode()
            target.writestr(name, data)


def without(mark):
    """Return a function that puts another character in the place of START or END."""
    return lambda notes: {
        **notes,
        "korean_characters": ["x" if c == mark else c for c in notes["korean_characters"]],
    }


def setting(name, value):
    """Return a function that changes one setting in the notes of a model."""
    return lambda notes: {**notes, "settings": {**notes["settings"], name: value}}


TRAIN_ANEW = f"this script has {script.FORMAT}; train a new"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda notes: {**notes, "format": 99}, f"has format 99, {TRAIN_ANEW}"),
        (lambda notes: {**notes, "format": 1}, f"has format 1, {TRAIN_ANEW}"),
        (lambda notes: {**notes, "format": None}, "has format None"),
        (setting("latent_dim", 10**6), "damaged or not"),
        (setting("latent_dim", -5), "damaged or not"),
        (setting("latent_dim", "64"), "damaged or not"),
        (setting("latent_dim", 63), "is not a model"),
        (lambda notes: {**notes, "korean_characters": "ab"}, "is not a model"),
        (lambda notes: {**notes, "english_characters": None}, "damaged or not"),
        (lambda notes: {**notes, "settings": None}, "damaged or not"),
        (lambda notes: {"format": script.FORMAT}, "damaged or not"),
        (lambda notes: [], "damaged or not"),
        (setting("architecture", "wrong"), "is not a model"),
        (setting("architecture", "same-length"), "is not a model"),
        (setting("token", "wrong"), "not a model of this script"),
        (setting("token", None), "not a model of this script"),
        (lambda notes: {**notes, "korean_characters": list(range(99))}, "is not a model"),
        (without(script.START), "not a model of this script"),
        (without(script.END), "not a model of this script"),
        (lambda notes: {**notes, "length": "25"}, "not a model of this script"),
        (lambda notes: {**notes, "length": -5}, "not a model of this script"),
        (lambda notes: {**notes, "length": 10**12}, "not a model of this script"),
    ],
    ids="""format-99 format-1 no-format huge-size negative-size size-as-text other-size too-few
    no-characters no-settings only-format a-list other-architecture known-architecture other-token
    no-token numbers-as-characters no-start no-end length-as-text negative-length huge-length
    """.split(),
)
def test_notes_that_do_not_fit_are_refused(trained, tmp_path, change, message):
    path = tmp_path / "model.keras"
    with_notes(trained, path, change)
    assert message in refusal(path)


def test_other_keras_models_are_refused(trained, tmp_path):
    path = tmp_path / "other.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    assert "is not a model of this script" in refusal(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(script.NOTES, json.dumps(trained.notes))
    assert "not a model of this script" in refusal(path)


def test_nothing_that_a_model_file_names_is_run(trained, tmp_path):
    """A Lambda layer, a module to import, a pickle: refused, or never looked at."""
    mark = tmp_path / "it-ran"
    lambda_path = tmp_path / "lambda.keras"
    inputs = keras.Input((3,))
    outputs = keras.layers.Lambda(lambda tensor: tensor * 2.0)(inputs)
    keras.Model(inputs, outputs).save(lambda_path)
    assert "is not a model of this script" in refusal(lambda_path)

    code = f"open({str(mark)!r}, 'w')"
    evil = {"module": "os", "class_name": "system", "config": {"command": f"touch {mark}"}}
    evil["registered_name"] = None
    path = tmp_path / "module.keras"
    with zipfile.ZipFile(trained.path) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = json.dumps(evil) if name == "config.json" else source.read(name)
            target.writestr(name, data)
    assert call("translate", "I.", "--model-path", path).out.splitlines() == trained.translate(
        ["I."]
    )

    class Evil:
        def __reduce__(self):
            return (exec, (code,))

    path = tmp_path / "pickle.keras"
    path.write_bytes(pickle.dumps(Evil()))
    assert "damaged" in refusal(path)
    assert not mark.exists()


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_any_bytes_as_a_model_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.keras"
    path.write_bytes(data)
    with pytest.raises(script.UserError):
        script.load_model(path)


def test_a_damaged_model_in_a_real_process(trained, tmp_path):
    path = tmp_path / "model.keras"
    shutil.copy(trained.path, path)
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\0" * 100)
    result = run("translate", "Hello.", "--model-path", path)
    assert result.returncode == 2 and result.stdout == b""
    assert result.stderr.count(b"\n") == 1 and b"Traceback" not in result.stderr
