"""The rules of data/README.md that a program can check, on the bundled corpus."""

import re
import unicodedata
from collections import Counter

import pytest
from conftest import KOR_ENG, ROOT, bundled_pairs, needs_tatoeba
from wordfreq import top_n_list

import seq2seq_char as script

PAIRS = bundled_pairs()
FORMAL = tuple("감사합 죄송합 반갑습 뵙겠습 축하합 실례합 알겠습 먹겠습 먹었습 하셨습".split())
EXCLAMATIONS = "세상 우와 아야 택시 어머 건배 드디어 세상에 크리스마스 선생님 불이야 씨".split()
# Words of the thousand most frequent that are names, letters, swear words, or of the web.
LEFT_OUT = """al america american australia british california canada china co damn david de dr
england english etc europe european france french fuck fucking george german germany hell http https
india james john la lol london lord m michael mr paul re s sex shit st t texas u.s uk united
washington website www york""".split()


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


def test_each_input_stands_once_and_in_order(capsys):
    english = [english for english, _ in PAIRS]
    assert 10_000 <= len(PAIRS) <= 12_000
    assert len({script.normalize_source(sentence) for sentence in english}) == len(PAIRS)
    assert english == sorted(english, key=lambda sentence: (len(sentence), sentence))
    assert script.read_pairs(ROOT / "data" / "eng-kor.tsv") == PAIRS
    assert capsys.readouterr().err == ""


def test_lengths_characters_spaces_and_closing_marks():
    assert not failing(lambda english, korean: len(english) <= 50 and len(korean) <= 30)
    assert not failing(lambda english, _: re.fullmatch(r"[A-Za-z0-9',.?!:% -]+", english))
    assert not failing(lambda _, korean: re.fullmatch(r"[가-힣0-9 ,.?!:%]+", korean))
    single = re.compile(r"\S+( \S+)*[.?!]")
    assert not failing(lambda *pair: all(single.fullmatch(side) for side in pair))
    assert not failing(lambda english, korean: english[-1] == korean[-1])


def test_every_sentence_is_in_the_polite_informal_style():
    def is_polite(_, korean):
        last = re.split("[ .?!,]+", korean.rstrip(".?!"))[-1]
        return last.removesuffix("니다").endswith(("요", "네", *FORMAL)) or last in EXCLAMATIONS

    assert not failing(is_polite)


@pytest.mark.parametrize(
    "wrong",
    [
        "되요|됬|할께|갈께|을께요|어떻해|몇일|예여|왠만|금새|오랫만",
        "해주세요|것같|수있|수없|안되요|할수|갈수",
    ],
    ids=["spelling", "spaces"],
)
def test_the_commonest_slips_are_absent(wrong):
    assert not failing(lambda _, korean: not re.search(wrong, korean))


def final(syllable):
    """Return the number of a syllable's final consonant: 0 for none, 8 for ㄹ."""
    return (ord(syllable) - ord("가")) % 28


KOREAN_WORDS = [word for _, korean in PAIRS for word in re.split("[ .?!,]+", korean)]
# What stands before 를, or before 을 and is no form of a verb: enough nouns to judge particles by.
NOUNS = {word[:-1] for word in KOREAN_WORDS if word.endswith("를")}
NOUNS |= {word[:-1] for word in KOREAN_WORDS if re.search(".[^있없같않좋]을$", word)}
NOUNS |= {word[:-1] for word in KOREAN_WORDS if re.search("[^지]을$", word) and not final(word[-2])}
PARTICLES = ["을를", "은는", "이가", "과와", ("으로", "로"), ("이에요", "예요"), ("이라고", "라고")]


def test_particles_agree_with_the_last_sound():
    checked, wrong = 0, []
    for word in KOREAN_WORDS:
        for after_consonant, after_vowel in PARTICLES:
            for particle in (after_consonant, after_vowel):
                noun = word.removesuffix(particle)
                if noun == word or noun not in NOUNS or not "가" <= noun[-1] <= "힣":
                    continue
                takes_first = final(noun[-1]) > 0
                if particle.endswith("로") and final(noun[-1]) == 8:
                    takes_first = False
                checked += 1
                if takes_first != (particle == after_consonant):
                    wrong.append(word)
    assert checked > 5000 and not wrong


def test_common_words_are_covered():
    counts = Counter(word for english, _ in PAIRS for word in set(words(english)))
    frequent = [w for w in top_n_list("en", 1000) if len(w) > 1 or w in "ai"]
    frequent = [word for word in frequent if word not in LEFT_OUT and not word.isdigit()]
    assert len(frequent) > 850
    covered = [word for word in frequent if counts[word] >= 5]
    assert len(covered) >= 0.85 * len(frequent)


def test_most_of_what_is_said_recurs():
    """How many of the running words of new sentences stand in five training sentences or more."""
    pairs = [(script.normalize_source(english), korean) for english, korean in PAIRS]
    training, validation = script.split_pairs(pairs, script.VALIDATION_FRACTION, script.SEED)
    recurrence = Counter(word for english, _ in training for word in set(words(english)))
    running = [word for english, _ in validation for word in words(english)]
    assert sum(recurrence[word] >= 5 for word in running) >= 0.95 * len(running)


@needs_tatoeba
def test_few_pairs_stand_in_tatoebas_file():
    """What everyone would write ("Thank you.") may; no more than one pair in twenty does."""
    known = set(script.read_pairs(KOR_ENG))
    assert sum(pair in known for pair in PAIRS) <= 0.05 * len(PAIRS)


def test_the_statistics_in_the_readme_are_true():
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    english, korean = zip(*PAIRS)
    figures = {
        "Pairs": len(PAIRS),
        "Different English words": len({word for side in english for word in words(side)}),
        "Running English words": sum(len(words(side)) for side in english),
        "Different Korean characters": len(set("".join(korean))),
        "Mean English sentence, characters": round(sum(map(len, english)) / len(PAIRS), 1),
        "Mean Korean sentence, characters": round(sum(map(len, korean)) / len(PAIRS), 1),
    }
    for name, value in figures.items():
        assert f"| {name} | {value:,} |" in text
