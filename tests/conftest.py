"""What the tests share: the script as a module, and one small model that is trained once."""

import contextlib
import functools
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import seq2seq_char

KOR_ENG = ROOT.parent / "shared" / "data" / "kor-eng" / "kor.txt"
EPOCHS = 30  # enough to know a few dozen pairs by heart
TINY = ["--latent-dim", "64", "--batch-size", "8", "--learning-rate", "0.01"]


def run(*arguments, stdin=b"", env=None, **options):
    """Run the script in a fresh process, as a user does."""
    return subprocess.run(
        [sys.executable, str(ROOT / "seq2seq_char.py"), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env={**os.environ, **(env or {})},
        **options,
    )


def call(*arguments):
    """Run `main` in this process; return its exit status and what it wrote."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = seq2seq_char.main([str(argument) for argument in arguments])
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


def interrupt(arguments, monkeypatch, after, signal_number=signal.SIGINT):
    """Call `main` and send the signal to this process once `after` epochs are saved."""
    saved = []
    save_model = seq2seq_char.save_model

    def save_and_interrupt(*arguments):
        save_model(*arguments)
        saved.append(1)
        if len(saved) == after:
            signal.raise_signal(signal_number)

    # A process started in the background of a shell ignores SIGINT; this one must not.
    before = signal.signal(signal_number, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(seq2seq_char, "save_model", save_and_interrupt)
        try:
            return call(*arguments)
        finally:
            signal.signal(signal_number, before)


def call_without_training(arguments, monkeypatch):
    """Call `main` as if Ctrl-C came before the first batch; return what `call` does."""

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(seq2seq_char.keras.Model, "fit", interrupted)
        return call(*arguments)


def bundled_pairs():
    """Return the pairs of the bundled corpus, in the order of the file."""
    lines = (ROOT / "data" / "eng-kor.tsv").read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines]


def write_pairs(path, pairs):
    """Write `pairs` to `path` as a corpus; return the path."""
    path.write_text("".join(f"{e}\t{k}\n" for e, k in pairs), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def train_small(tmp_path_factory):
    """A function: `main` trains a model of TOKEN and ARCHITECTURE on a few dozen pairs, once."""
    pairs = bundled_pairs()[:2400:40]
    corpus = write_pairs(tmp_path_factory.mktemp("corpus") / "pairs.tsv", pairs)
    training, validation = seq2seq_char.split_pairs(pairs, seq2seq_char.VALIDATION_FRACTION, 1)

    @functools.cache
    def train_small(token, architecture):
        folder = tmp_path_factory.mktemp(f"{token}-{architecture}")
        path = folder / "runs" / "model.keras"
        arguments = ["--data-path", corpus, "--model-path", path, "--epochs", EPOCHS, *TINY]
        arguments += ["--token", token, "--architecture", architecture]
        result = call(*arguments)
        assert result.status == 0, result.err
        model, notes = seq2seq_char.load_model(path)
        make_dataset, build_model, _ = seq2seq_char.choose_architecture(notes)
        tables = seq2seq_char.tables_of(notes)
        split = seq2seq_char.TOKENS[token][0]

        def dataset(pairs, batch_size):
            return make_dataset([tuple(map(split, pair)) for pair in pairs], *tables, batch_size)

        return SimpleNamespace(
            token=token,
            architecture=architecture,
            arguments=arguments,
            folder=folder,
            corpus=corpus,
            path=path,
            out=result.out,
            pairs=pairs,
            training=training,
            validation=validation,
            model=model,
            build=lambda: build_model(*map(len, tables), notes["settings"]["latent_dim"]),
            dataset=dataset,
            split=split,
            tables=tables,
            notes=notes,
            translate=seq2seq_char.make_translator(model, notes),
        )

    return train_small


@pytest.fixture(scope="session")
def trained(train_small):
    """The model of the lesson, trained on a few dozen pairs, and all that goes with it."""
    return train_small("char", "encoder-decoder")
