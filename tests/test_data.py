"""Reading, cleaning and splitting pairs; every encoding and fault that real files have."""

import codecs
import io
import unicodedata
import zipfile

import pytest
from conftest import KOR_ENG, bundled_pairs, call, write_pairs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import seq2seq_char as script

TEXT = "I am busy.\t바빠요.\nHello.\t안녕하세요.\n"
PAIRS = [("I am busy.", "바빠요."), ("Hello.", "안녕하세요.")]


def read(data, path, **options):
    path.write_bytes(data)
    return script.read_pairs(path, **{"num_pairs": 0, "max_length": 64, **options})


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("cp949"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.rstrip("\n").encode(),
        unicodedata.normalize("NFD", TEXT).encode(),
        TEXT.replace("\n", "\tCC-BY 2.0 (France) #1 & #2\tmore\n").encode(),
        TEXT.replace("\n", "\tanything\x07\n").encode(),
        TEXT.replace("\n", "\n\n  \n").encode(),
        TEXT.replace("\t", " \t\u3000").encode(),
        TEXT.replace(" am", "\u00a0am").encode(),
        TEXT.replace(" am", "\u2028am").encode(),
        TEXT.replace(" am", "\u0085am").encode(),
        TEXT.replace("busy", "bu\u200bsy").encode(),
        TEXT.replace("busy", "ｂｕｓｙ").encode(),
    ],
    ids="""utf8 bom utf16le utf16be cp949 crlf cr no-last-newline nfd columns bell blank-lines
    wide-space nbsp line-separator next-line zero-width full-width""".split(),
)
def test_text_as_it_really_comes_is_read_right(data, tmp_path):
    assert read(data, tmp_path / "pairs.tsv") == PAIRS


def test_curly_quotes_and_decomposed_accents_become_plain():
    assert script.clean(" Don’t  say “cafe\u0301”.\n") == 'Don\'t say "café".'


@pytest.mark.parametrize(
    "line, reason",
    [
        ("no tab here", "without a tab"),
        ("# a comment", "without a tab"),
        ("English only.\t", "with an empty side"),
        ("\t한국어뿐이에요.", "with an empty side"),
        ("English\tKorean", "that are not English, tab, Korean"),
        ("영어\t한국어", "that are not English, tab, Korean"),
        ("바빠요.\tI am busy.", "that are not English, tab, Korean"),
        ("A bell\x07.\t종이에요.", "with a control character"),
        ("A mark\x0b.\t표시예요.", "with a control character"),
        ("A hole\ufffd.\t구멍이에요.", "with a control character"),
        ("Very long" + "!" * 60 + "\t길어요.", "longer than 64 characters (MAX_LENGTH)"),
        ("x" * 300_000 + "\t길어요.", "longer than 64 characters (MAX_LENGTH)"),
        ("Hello.\t안녕하세요.", "that repeat another"),
        ("Hello. \t안녕하세요.\tother column", "that repeat another"),
    ],
)
def test_what_cannot_be_used_is_dropped_counted_and_named(line, reason, tmp_path, capsys):
    assert read((TEXT + line + "\n").encode(), tmp_path / "pairs.tsv") == PAIRS
    warning = f"pairs.tsv: dropped 1 lines {reason}: line 3\n"
    assert capsys.readouterr().err.endswith(warning)


def test_only_the_first_few_line_numbers_are_named(tmp_path, capsys):
    read((TEXT + "no tab\n" * 1234).encode(), tmp_path / "pairs.tsv")
    assert "dropped 1,234 lines without a tab: line 3, 4, 5, 6, 7, ..." in capsys.readouterr().err


def test_num_pairs_keeps_the_first_and_max_length_is_a_bound(tmp_path):
    path = tmp_path / "pairs.tsv"
    assert read(TEXT.encode(), path, num_pairs=1) == PAIRS[:1]
    assert read(TEXT.encode(), path, max_length=10) == PAIRS
    assert read(TEXT.encode(), path, max_length=9) == PAIRS[1:]


def zipped(**members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_txt", ".txt"), content)
    return data.getvalue()


def test_a_zip_as_anki_ships_it_is_read(tmp_path):
    data = zipped(kor_txt=TEXT, _about_txt="About this file.\tno")
    assert read(data, tmp_path / "kor-eng.zip") == PAIRS


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "has no usable line"),
        (b"\n\n", "has no usable line"),
        (b"just text\n", "has no usable line"),
        (bytes(range(256)) * 4, "is no text in UTF-8, UTF-16 or CP949"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "is no text in UTF-8, UTF-16 or CP949"),
        (TEXT.encode("utf-16-le"), "is no text in UTF-8, UTF-16 or CP949"),
        ("I'm home.\tただいま帰りました。\n".encode("shift-jis"), "is no text"),
        ("I'm home.\tただいま帰りました。\n".encode("euc-jp"), "is no text"),
        ("Hello.\t你好，我们是学生，他说再见。\n".encode("gbk"), "is no text"),
        ("Café crème.\tà bientôt déjà vu\n".encode("latin-1"), "is no text"),
        (zipped(a_txt=TEXT, b_txt=TEXT), "has 2 text files; it needs exactly one"),
        (zipped(_about_txt="x"), "has 0 text files"),
        (zipped(kor_txt=TEXT)[:80], "cannot be read"),
        (zipped(kor_txt=TEXT).replace(b"kor.txt", b"kor.tzt", 1), "cannot be read"),
    ],
)
def test_a_file_that_is_no_corpus_is_refused_in_one_line(data, message, tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(data)
    result = call("--data-path", path, "--model-path", tmp_path / "model.keras")
    assert result.status == 2
    line = result.err.splitlines()[-1]
    assert line.startswith(f"seq2seq_char.py: error: {path}: ") and message in line
    assert list(tmp_path.iterdir()) == [path]


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in tmp_path / "missing.tsv", tmp_path:
        result = call("--data-path", path, "--model-path", tmp_path / "model.keras")
        assert result.status == 2 and f"{path}: cannot be read" in result.err


def test_reading_stops_at_the_size_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(script, "SIZE_LIMIT", 1000)
    for name, data in ("a.tsv", TEXT.encode() * 100), ("a.zip", zipped(kor_txt=TEXT * 10000)):
        with pytest.raises(script.UserError, match="is larger than"):
            read(data, tmp_path / name)


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    """Ten gigabytes of zeros in a zip of ten megabytes: refused after SIZE_LIMIT bytes."""
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("kor.txt", "w", force_zip64=True) as member,
    ):
        for _ in range(300):
            member.write(bytes(2**20))
    with pytest.raises(script.UserError, match="is larger than 256 MiB"):
        script.read_bytes(path)
    assert [file.name for file in tmp_path.iterdir()] == ["bomb.zip"]


def test_no_english_sentence_is_on_both_sides_of_the_split():
    pairs = [(english, korean + end) for english, korean in bundled_pairs()[:300] for end in "12"]
    training, validation = script.split_pairs(pairs, 0.1, seed=3)
    assert not {english for english, _ in training} & {english for english, _ in validation}
    assert sorted(training + validation) == sorted(pairs)
    assert len(validation) == 60
    assert script.split_pairs(pairs, 0.1, seed=3) == (training, validation)
    assert script.split_pairs(pairs[::-1], 0.1, seed=3)[1] == validation[::-1]
    assert script.split_pairs(pairs, 0.1, seed=4)[1] != validation


def test_a_split_that_leaves_a_side_empty_is_refused(tmp_path):
    path = write_pairs(tmp_path / "pairs.tsv", PAIRS)
    for fraction in "0.01", "0.9":
        arguments = ["--data-path", path, "--validation-fraction", fraction]
        result = call(*arguments, "--model-path", tmp_path / "model.keras")
        assert result.status == 2 and "VALIDATION_FRACTION" in result.err


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_give_pairs_or_a_clean_refusal(tmp_path, data):
    try:
        pairs = read(data, tmp_path / "pairs.tsv")
    except script.UserError:
        return
    for english, korean in pairs:
        assert english == script.clean(english) and korean == script.clean(korean)
        assert english and korean and len(english) <= 64 and len(korean) <= 64


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_parse_pairs_accounts_for_every_line(pairs):
    text = "\n".join(f"{english}\t{korean}" for english, korean in pairs)
    kept, dropped = script.parse_pairs(text, 0, 64)
    lines = [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    used = sum(bool(line.strip()) for line in lines)
    assert len(kept) + sum(map(len, dropped.values())) == used


@pytest.mark.skipif(not KOR_ENG.exists(), reason="the Tatoeba corpus is not part of the project")
def test_the_real_corpus_is_read():
    pairs = script.read_pairs(KOR_ENG, num_pairs=0, max_length=64)
    assert len(pairs) > 5000
    assert all(len(english) <= 64 and len(korean) <= 64 for english, korean in pairs)
