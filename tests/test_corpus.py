"""The rules of data/README.md that a program can check, on the bundled corpus."""

import re
import unicodedata
from collections import Counter

from conftest import ROOT, bundled_pairs

import seq2seq_char as script

PAIRS = bundled_pairs()
# Set phrases of greeting and thanks that Korean says in the formal style.
SET_PHRASES = (
    "감사합니다",
    "죄송합니다",
    "반갑습니다",
    "처음 뵙겠습니다",
    "축하합니다",
    "실례합니다",
)


def words(english):
    return re.findall(r"[a-z]+(?:'[a-z]+)?", english.lower())


def failing(is_right):
    return [pair for pair in PAIRS if not is_right(*pair)]


def test_the_file_is_plain_utf8_in_nfc_with_one_tab_a_line():
    data = (ROOT / "data" / "eng-kor.tsv").read_bytes()
    text = data.decode("utf-8")
    assert b"\r" not in data and data.endswith(b"\n") and not data.startswith(b"\xef\xbb\xbf")
    assert text == unicodedata.normalize("NFC", text)
    assert all(line.count("\t") == 1 for line in text.splitlines())


def test_there_are_at_least_3000_pairs_each_english_sentence_once_and_in_order():
    english = [english for english, _ in PAIRS]
    assert len(PAIRS) >= 3000 and len(set(english)) == len(PAIRS)
    assert english == sorted(english, key=lambda sentence: (len(sentence), sentence))


def test_lengths():
    assert not failing(lambda english, korean: len(english) <= 50 and len(korean) <= 30)


def test_characters():
    assert not failing(lambda english, _: re.fullmatch(r"[A-Za-z',.?! -]+", english))
    assert not failing(lambda _, korean: re.fullmatch(r"[가-힣 ,.?!]+", korean))


def test_spaces_and_closing_marks():
    single = re.compile(r"\S+( \S+)*[.?!]")
    assert not failing(lambda english, korean: single.fullmatch(english))
    assert not failing(lambda english, korean: single.fullmatch(korean))
    assert not failing(lambda *pair: sum("?" in side for side in pair) in (0, 2))


def test_every_sentence_is_in_the_polite_informal_style():
    def is_polite(_, korean):
        sentence = korean.rstrip(".?!")
        return sentence.endswith("요") or sentence.endswith(SET_PHRASES)

    assert not failing(is_polite)
    assert sum(korean.rstrip(".?!").endswith(SET_PHRASES) for _, korean in PAIRS) <= 40


def test_common_misspellings_are_absent():
    wrong = "되요|됬|할께|갈께|을께요|어떻해|몇일|안되요|이예요|해주세요|것같아요|수있어|수없어"
    assert not failing(lambda _, korean: not re.search(wrong, korean))


def test_the_vocabulary_is_small_and_recurs():
    counts = Counter(word for english, _ in PAIRS for word in words(english))
    assert 600 <= len(counts) <= 900
    training, validation = script.split_pairs(PAIRS, script.VALIDATION_FRACTION, script.SEED)
    # How many training sentences each word occurs in.
    recurrence = Counter(word for english, _ in training for word in set(words(english)))
    running = [word for english, _ in validation for word in words(english)]
    assert sum(recurrence[word] >= 5 for word in running) >= 0.95 * len(running)


def test_the_script_uses_every_line():
    kept, dropped = script.parse_pairs(
        (ROOT / "data" / "eng-kor.tsv").read_text(encoding="utf-8"), 0, script.MAX_LENGTH
    )
    assert kept == PAIRS and not dropped


def test_the_statistics_in_the_readme_are_true():
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    english, korean = zip(*PAIRS)
    figures = {
        "Pairs": len(PAIRS),
        "Different English words": len({word for side in english for word in words(side)}),
        "Running English words": sum(len(words(side)) for side in english),
        "Different English characters": len(set("".join(english))),
        "Different Korean characters": len(set("".join(korean))),
        "Longest English sentence, characters": max(map(len, english)),
        "Longest Korean sentence, characters": max(map(len, korean)),
        "Mean English sentence, characters": round(sum(map(len, english)) / len(PAIRS), 1),
        "Mean Korean sentence, characters": round(sum(map(len, korean)) / len(PAIRS), 1),
    }
    for name, value in figures.items():
        assert f"| {name} | {value:,} |" in text
