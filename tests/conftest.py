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

import seq2seq_char as script

KOR_ENG = ROOT.parent / "shared" / "data" / "kor-eng" / "kor.txt"
needs_tatoeba = pytest.mark.skipif(
    not KOR_ENG.exists(), reason="the Tatoeba corpus is not part of the project"
)
EPOCHS = 24  # enough to know a few dozen pairs by heart
SMALL = "--latent-dim 48 --batch-size 8 --learning-rate 0.02 --validation-fraction 0.1".split()
TINY = (
    "--latent-dim 4 --num-pairs 40 --validation-fraction 0.1".split()
)  # where learning is not the point


def run(*arguments, stdin=b"", env=None, **options):
    """Run the script in a fresh process, as a user does."""
    return subprocess.run(
        [sys.executable, str(ROOT / "seq2seq_char.py"), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env={**os.environ, **(env or {})},
        **options,
    )


def messages(stderr):
    """Return the lines of standard error that are the script's, not TensorFlow's greeting."""
    lines = stderr.decode("utf-8").splitlines()
    return [line for line in lines if not line.startswith(("WARNING: All log", "I0000", "E0000"))]


def call(*arguments):
    """Run `main` in this process; return its exit status and what it wrote."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = script.main([str(argument) for argument in arguments])
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


def refused(*arguments):
    """Run `main`, which has to refuse `arguments` in one line; return that line."""
    result = call(*arguments)
    assert result.status == 2 and result.out == "" and result.err.count("\n") == 1, result
    assert result.err.startswith("seq2seq_char.py: error: ")
    return result.err


def bundled_pairs():
    """Return the pairs of the bundled corpus, in the order of the file."""
    lines = (ROOT / "data" / "eng-kor.tsv").read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines]


def write_pairs(path, pairs):
    """Write `pairs` to `path` as a corpus; return the path."""
    path.write_text("".join(f"{e}\t{k}\n" for e, k in pairs), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """The path of a corpus of 60 pairs, taken from all lengths of the bundled one."""
    pairs = bundled_pairs()
    pairs = pairs[: len(pairs) // 2 : len(pairs) // 120][:60]
    return write_pairs(tmp_path_factory.mktemp("corpus") / "pairs.tsv", pairs)


def train_small(corpus, folder, *arguments):
    """Train a model on `corpus` with `main`; return it, loaded again, and what goes with it."""
    path = folder / "model.keras"
    arguments = ["--data-path", corpus, "--model-path", path, *arguments]
    result = call(*arguments)
    assert result.status == 0, result.err
    model, notes = script.load_model(path)
    settings = script.read_settings([str(argument) for argument in arguments])
    training, validation = script.read_split(settings)
    return SimpleNamespace(
        path=path,
        out=result.out,
        arguments=arguments,
        training=training,
        validation=validation,
        model=model,
        notes=notes,
        tables=(notes["english_table"], notes["korean_table"]),
        translate=script.make_translator(model, notes),
    )


@pytest.fixture(scope="session")
def trained(corpus, tmp_path_factory):
    """The model of the lesson, trained on a few dozen pairs, and all that goes with it."""
    folder = tmp_path_factory.mktemp("trained")
    return train_small(corpus, folder, "--epochs", EPOCHS, *SMALL)
