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


@pytest.fixture(scope="session")
def stopped_run(corpus, tmp_path_factory):
    """The folder of such a training, stopped by Ctrl-C after two epochs, and what it said."""
    path = tmp_path_factory.mktemp("stopped") / "runs" / "model.keras"
    arguments = ["--data-path", corpus, "--model-path", path, "--epochs", 4, *TINY]
    saved = []
    save_model = script.save_model

    def save_or_stop(*arguments):
        if len(saved) == 2:  # the third epoch is trained, but not yet saved
            signal.raise_signal(signal.SIGINT)
        saved.append(save_model(*arguments))

    # A process started in the background of a shell ignores SIGINT; this one must not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    script.save_model = save_or_stop
    try:
        return path.parent, call(*arguments)
    finally:
        script.save_model = save_model
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def stopped_job(job, stopped_run):
    """The same as `job`, with the checkpoint of the stopped training in its place."""
    arguments, path = job
    shutil.copytree(stopped_run[0], path.parent)
    return arguments, path


def start_only(arguments, monkeypatch):
    """Call `main` as if Ctrl-C came before the first batch; return what it did."""

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", interrupted)
        result = call(*arguments)
    assert result.status == 130
    return result


def names(path):
    return sorted(file.name for file in path.parent.iterdir())


def history(path):
    with open(path.with_suffix(".csv"), newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------- Stopping and going on ----------------------------------


def test_ctrl_c_says_what_is_done_and_what_to_do(stopped_run):
    folder, result = stopped_run
    assert result.status == 130
    (message,) = result.err.strip().splitlines()
    assert "2 of 4 epochs are done" in message and "the same command goes on" in message
    assert "translate" in message and str(folder / "checkpoint-model.keras") in message
    assert names(folder / "model.keras") == ["checkpoint-model.keras", "model.csv"]


def test_what_is_there_translates_and_says_that_it_is_not_complete(stopped_job):
    _, path = stopped_job
    result = call("translate", "I am.", "--model-path", path)
    assert result.status == 0 and result.out.count("\n") == 1
    assert "checkpoint-model.keras" in result.err and "only 2 of 4 epochs" in result.err


def test_the_same_command_goes_on(stopped_job):
    arguments, path = stopped_job
    result = call(*arguments)
    assert result.status == 0 and "Going on with the interrupted run, after epoch 2" in result.out
    assert result.out.count("Epoch ") == 2
    assert [row["epoch"] for row in history(path)] == ["0", "1", "2", "3"]
    assert names(path) == ["model.csv", "model.keras"]
    assert script.load_model(path)[1]["epochs_done"] == 4


def test_weights_and_the_optimizer_go_on_where_they_were(stopped_job, monkeypatch):
    arguments, path = stopped_job
    models = []
    resume = script.resume

    def resume_and_keep(model, *arguments):
        resume(model, *arguments)
        models.append(model)

    monkeypatch.setattr(script, "resume", resume_and_keep)
    start_only(arguments, monkeypatch)
    (model,) = models
    saved, notes = script.load_model(path.with_name("checkpoint-model.keras"))
    for weight, expected in zip(model.get_weights(), saved.get_weights()):
        np.testing.assert_array_equal(weight, expected)
    assert int(model.optimizer.iterations.numpy()) > 2 and notes["epochs_done"] == 2
    moments = [v.numpy() for v in model.optimizer.variables if "momentum" in v.name]
    assert moments and any(np.abs(moment).max() > 0 for moment in moments)


@pytest.mark.parametrize("epochs", [3, 6, 1])
def test_another_number_of_epochs_goes_on(stopped_job, monkeypatch, epochs):
    arguments, _ = stopped_job
    result = start_only([*arguments, "--epochs", epochs], monkeypatch)
    assert "Going on with the interrupted run, after epoch 2" in result.out


def test_fewer_epochs_than_are_done_is_the_end(stopped_job):
    arguments, path = stopped_job
    assert call(*arguments, "--epochs", 1).status == 0
    assert names(path) == ["model.csv", "model.keras"] and len(history(path)) == 2


@pytest.mark.parametrize(
    "changed, name",
    [
        (["--seed", 2], "SEED"),
        (["--latent-dim", 5], "LATENT_DIM"),
        (["--batch-size", 9], "BATCH_SIZE"),
        (["--num-pairs", 30], "the data"),
    ],
    ids=["seed", "size", "batch", "data"],
)
def test_another_run_starts_anew_and_says_why(stopped_job, monkeypatch, changed, name):
    arguments, _ = stopped_job
    result = start_only([*arguments, *changed], monkeypatch)
    assert "Going on" not in result.out and result.err == "\n0 of 4 epochs are done\n"
    assert re.search(f"Starting anew: .*{name}", result.out)


@pytest.mark.parametrize("change", ["a layer", "the optimizer"])
def test_another_model_in_the_code_is_not_half_loaded(stopped_job, monkeypatch, change):
    """The code is edited under a checkpoint: it is compared first, and nothing is loaded."""
    arguments, _ = stopped_job
    if change == "a layer":
        lstm = script.one_hot_lstm
        other = lambda units, **options: lstm(units, use_bias=False, **options)  # noqa: E731
        monkeypatch.setattr(script, "one_hot_lstm", other)
    else:
        monkeypatch.setattr(keras.optimizers, "AdamW", keras.optimizers.SGD)
    loaded = []
    monkeypatch.setattr(keras.Model, "load_weights", lambda *arguments: loaded.append(arguments))
    result = start_only(arguments, monkeypatch)
    assert not loaded and re.search("Starting anew: .*the model", result.out)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_a_damaged_checkpoint_starts_anew(stopped_job, monkeypatch, damage):
    arguments, path = stopped_job
    checkpoint = path.with_name("checkpoint-model.keras")
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 1
    versions = {"truncated": data[: len(data) // 2], "flipped": data, "empty": b"", "foreign": b"x"}
    checkpoint.write_bytes(versions[damage])
    assert "Starting anew" in start_only(arguments, monkeypatch).out


def test_models_of_earlier_runs_stay_and_histories_do_not_mix(job):
    """The old model is there until the new one is complete; each has a history of its own."""
    arguments, path = job
    path.parent.mkdir()
    path.write_bytes(b"an earlier model")
    other = path.with_name("other.keras")
    seen = []
    save_model = script.save_model

    def look_and_save(model, notes, target):
        seen.append(path.read_bytes())
        save_model(model, notes, target)

    script.save_model = look_and_save
    try:
        call(*arguments, "--epochs", 2)
    finally:
        script.save_model = save_model
    assert seen == [b"an earlier model"] * 3
    call(*arguments, "--epochs", 1, "--model-path", other)
    assert names(path) == ["model.csv", "model.keras", "other.csv", "other.keras"]
    assert len(history(path)) == 2 and len(history(other)) == 1


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
            epochs = [int(row["epoch"]) for row in history(path)]
            assert epochs == sorted(set(epochs))  # no row twice; the last may be still to come
            assert len(epochs) >= done[-1] - 1
        return done

    with ThreadPoolExecutor() as pool:
        for done in pool.map(killed_five_times, [1, 2]):
            assert done == sorted(set(done)) and len(done) == 5


# -------------------------------------------- Disk --------------------------------------------


@pytest.mark.parametrize("limit", [10_000, 30_000])
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
