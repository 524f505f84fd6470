"""Corpora as they really come: encodings, archives, faults; any two columns; the split."""

import io
import random
import unicodedata
import zipfile

import pytest
from conftest import KOR_ENG, TINY, call, needs_tatoeba, refused, write_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

import seq2seq_char as script

PAIRS = [("I am busy.", "바빠요."), ("Don't go.", "가지 마세요.")]
TEXT = "".join(f"{english}\t{korean}\n" for english, korean in PAIRS)


def read(tmp_path, data, name="pairs.tsv", **options):
    path = tmp_path / name
    path.write_bytes(data)
    return script.read_pairs(path, **options)


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        "\ufeff".encode("utf-16-be") + TEXT.encode("utf-16-be"),
        TEXT.encode("cp949"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace("\n", "\r\n").encode("utf-16"),
        unicodedata.normalize("NFD", TEXT).encode(),
        TEXT.rstrip("\n").encode(),
        TEXT.replace("\n", "\n\n  \n").encode(),
        TEXT.replace("\n", "\tCC-BY 2.0\tmore\n").encode(),
        TEXT.replace(" ", "\u00a0 ").replace("\t", " \t\u3000").encode(),
    ],
    ids="""utf-8 utf-8-with-mark utf-16 utf-16-big-endian cp949 crlf cr utf-16-crlf decomposed
    no-last-newline blank-lines extra-columns odd-spaces""".split(),
)
def test_text_as_it_really_comes_is_read_right(tmp_path, data):
    assert read(tmp_path, data) == PAIRS


def test_what_cannot_be_used_is_dropped_counted_and_named(tmp_path, capsys):
    lines = [
        "English\tKorean",
        *TEXT.splitlines(),
        "no tab",
        "\t가요.",
        "Go.\t",
        "a\0b\t가",
        "...\t가",
    ]
    lines += ["Go.\t\x1b[1m가", "x" * 65 + "\t가", TEXT.splitlines()[0], "", "Stop.\t멈추세요."]
    pairs = read(tmp_path, "\n".join(lines).encode())
    assert pairs == [*PAIRS, ("Stop.", "멈추세요.")]
    err = capsys.readouterr().err
    for message in (
        "dropped 1 lines that are a heading: line 1\n",
        "dropped 1 lines without a tab: line 4\n",
        "dropped 3 lines with an empty side: line 5, 6, 8\n",
        "dropped 2 lines with a control character: line 7, 9\n",
        "dropped 1 lines longer than MAX_LENGTH = 64: line 10\n",
        "dropped 1 lines that repeat another: line 11\n",
    ):
        assert message in err
    assert err.count("\n") == 6


def test_only_the_first_few_line_numbers_are_named(tmp_path, capsys):
    read(tmp_path, (TEXT + "no tab\n" * 5000).encode())
    assert "dropped 5,000 lines without a tab: line 3, 4, 5, 6, 7, ...\n" in capsys.readouterr().err


def test_a_first_line_that_is_no_heading_is_used(tmp_path):
    assert read(tmp_path, b"English\t\xec\x98\x81\xea\xb5\xad\xec\x9d\x98\n") == [
        ("English", "영국의")
    ]


def test_num_pairs_keeps_the_first_and_max_length_is_a_bound(tmp_path):
    data = "".join(f"{'a' * n}\t가\n" for n in range(1, 80)).encode()
    assert len(read(tmp_path, data, max_length=30)) == 30
    assert read(tmp_path, data, num_pairs=3) == [("a", "가"), ("aa", "가"), ("aaa", "가")]


def zipped(*members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members:
            archive.writestr(name, text)
    return data.getvalue()


@pytest.mark.parametrize("text", [TEXT, TEXT.encode("cp949"), TEXT.encode("utf-16")])
def test_a_zip_as_it_is_shipped_is_read(tmp_path, text):
    data = zipped(("__MACOSX/._kor.txt", "x"), ("_about.txt", "about"), ("kor.txt", text))
    assert read(tmp_path, data, "kor-eng.zip") == PAIRS


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "has no usable line"),
        (b"just text\n", "has no usable line"),
        (b"\x00\x01\x02\xff" * 99, "is not UTF-8"),
        (TEXT.encode() + b"caf\xe9\tx\n", "line 3 is not UTF-8"),
        (b"\xffGo.\t\xea\xb0\x80\n" + TEXT.encode(), "line 1 is not UTF-8"),
        ("Où?\tWo?\nÀ côté\tNeben\n".encode("latin-1"), "line 1 is not UTF-8"),
        ("".join(f"{n}\t한국어\tEnglish {n}\n" for n in range(1, 9)).encode(), "first column"),
        (zipped(("a.csv", "x")), "has 0 files"),
        (zipped(("a.txt", TEXT), ("b.txt", TEXT)), "has 2 files"),
        (zipped(("xl/workbook.xml", "x"), ("[Content_Types].xml", "x")), "Excel"),
        (zipped(("a.txt", TEXT * 99)).replace(b"a.txt", b"b.txt", 1), "cannot be read"),
        (zipped(("a.txt", TEXT * 99))[:-9], "is not UTF-8"),
    ],
    ids="""empty no-tab binary one-bad-byte bad-first-line latin-1 row-numbers zip-without-corpus
    zip-with-two excel damaged-zip truncated-zip""".split(),
)
def test_a_file_that_is_no_corpus_is_refused_in_one_line(tmp_path, data, message):
    path = tmp_path / "corpus"
    path.write_bytes(data)
    arguments = ["--data-path", path, "--model-path", tmp_path / "runs" / "model.keras"]
    result = call(*arguments)
    assert result.status == 2 and message in result.err.splitlines()[-1]
    assert str(path) in result.err and "Traceback" not in result.err
    assert not list((tmp_path / "runs").iterdir())


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in tmp_path / "none.tsv", tmp_path:
        message = refused("--data-path", path, "--model-path", tmp_path / "model.keras")
        assert f"{path}: cannot be read" in message


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_pairs_or_a_clean_refusal(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.tsv"
    path.write_bytes(data)
    try:
        pairs = script.read_pairs(path)
    except script.UserError as error:
        assert str(path) in str(error)
    else:
        for pair in pairs:
            assert all(side and unicodedata.is_normalized("NFC", side) for side in pair)
            assert not script.CONTROL.search("".join(pair))


@pytest.mark.parametrize(
    "pairs",
    [
        [(f"कुत्ता {n} है", f"நாய் {n} உள்ளது") for n in range(20)],
        [(f"何{n}ですか", f"什么{n}吗？") for n in range(20)],
        [(word, word[::-1]) for word in "".join(map(chr, range(97, 123))).replace("a", "ab")],
        [(f"12+{n}", f"twelve and {n}") for n in range(5)] + [(f"eins {n}", "x") for n in range(9)],
    ],
    ids=["Hindi-Tamil", "Japanese-Chinese", "letters", "sums"],
)
def test_any_two_columns_train(tmp_path, pairs):
    path, model = write_pairs(tmp_path / "pairs.tsv", pairs), tmp_path / "m.keras"
    result = call("--data-path", path, "--model-path", model, "--epochs", 1, *TINY)
    assert result.status == 0, result.err
    result = call("translate", pairs[0][0], "--model-path", model)
    assert result.status == 0 and result.out.count("\n") == 1


def test_reversed_swaps_the_columns_and_the_model_knows_it(tmp_path):
    path, model = (
        write_pairs(tmp_path / "pairs.tsv", PAIRS * 1 + [("Go!", "가세요!")]),
        tmp_path / "m.keras",
    )
    arguments = ["--data-path", path, "--validation-fraction", 0.34, "--model-path", model]
    assert call(*arguments, "--epochs", 1, "--latent-dim", 4, "--reversed").status == 0
    _, notes = script.load_model(model)
    assert notes["settings"]["REVERSED"] is True
    assert set("가") <= set(notes["english_table"]) | set(notes["korean_table"])
    assert not set("가바빠") & set(notes["korean_table"])
    result = call("translate", "바빠요.", "--model-path", model)
    assert result.status == 0 and not script.re.search("[가-힣]", result.out)


# ------------------------------------------- The split -------------------------------------------


def test_no_english_sentence_is_on_both_sides_of_the_split():
    pairs = [(f"sentence {n % 50}", f"문장 {n}") for n in range(200)]
    training, validation = script.split_pairs(pairs, 0.1, seed=1)
    assert sorted(training + validation) == sorted(pairs)
    assert not {english for english, _ in training} & {english for english, _ in validation}
    assert len({english for english, _ in validation}) == 5
    assert script.split_pairs(pairs, 0.1, seed=1) == (training, validation)
    assert script.split_pairs(pairs, 0.1, seed=2) != (training, validation)


def test_spellings_of_one_sentence_are_on_one_side(tmp_path):
    pairs = [(f"{word} {n}{mark}", "가") for n in range(30) for word in "Aa" for mark in "!."]
    path = write_pairs(tmp_path / "pairs.tsv", pairs)
    settings = script.read_settings(["--data-path", str(path)])
    training, validation = script.read_split(settings)
    assert not {english for english, _ in training} & {english for english, _ in validation}


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_a_split_that_leaves_a_side_empty_is_refused(fraction):
    with pytest.raises(script.UserError, match="VALIDATION_FRACTION"):
        script.split_pairs([("a", "가"), ("b", "나")], fraction, seed=1)


@needs_tatoeba
def test_the_real_corpus_is_read(capsys):
    pairs = script.read_pairs(KOR_ENG)
    assert 5100 < len(pairs) < 5200 and random.Random(1).choice(pairs)[1]
    assert "longer than MAX_LENGTH = 64" in capsys.readouterr().err
