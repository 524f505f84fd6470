"""What the tests share: the script as a module, and one small model that is trained once."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import seq2seq_char

KOR_ENG = ROOT.parent / "shared" / "data" / "kor-eng" / "kor.txt"
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


def bundled_pairs():
    """Return the pairs of the bundled corpus, in the order of the file."""
    lines = (ROOT / "data" / "eng-kor.tsv").read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines]


def write_pairs(path, pairs):
    """Write `pairs` to `path` as a corpus; return the path."""
    path.write_text("".join(f"{e}\t{k}\n" for e, k in pairs), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A model trained by `main` on a few dozen pairs, and all that goes with it."""
    folder = tmp_path_factory.mktemp("trained")
    pairs = bundled_pairs()[:2400:40]
    corpus = write_pairs(folder / "pairs.tsv", pairs)
    path = folder / "runs" / "model.keras"
    arguments = ["--data-path", corpus, "--model-path", path, "--epochs", "60", *TINY]
    result = call(*arguments)
    assert result.status == 0, result.err
    training, validation = seq2seq_char.split_pairs(pairs, seq2seq_char.VALIDATION_FRACTION, 1)
    model, english_table, korean_table, notes = seq2seq_char.load_model(path)
    decoder = seq2seq_char.make_greedy_decoder(model, korean_table, notes["max_korean_length"])

    def translate(sentences, **options):
        return seq2seq_char.translate(sentences, decoder, english_table, korean_table, **options)

    return SimpleNamespace(
        arguments=arguments,
        folder=folder,
        corpus=corpus,
        path=path,
        out=result.out,
        pairs=pairs,
        training=training,
        validation=validation,
        model=model,
        tables=(english_table, korean_table),
        notes=notes,
        translate=translate,
    )
