"""What every family promises, and the keys of each, worked out again from the texts alone."""

import re
from collections import Counter

import pytest

from evals import vocabulary
from evals.families import FAMILIES, code, contracts, glosses
from evals.families.facts import facts_of
from evals.grading import grade
from evals.halves import QUESTIONS_PER_FAMILY, seeds
from evals.questions import MissingTextsError, half_of

OFFLINE = sorted(FAMILIES.keys() - {"glosses"})
SEEDS = range(12)

# Lines in the format of WordNet's data.noun.
WORDNET = """\
  1 This line is a comment of the licence.
00000001 05 n 01 wolf 0 001 @ 00000009 n 0000 | a wild hunter that lives in packs in the north; "it howled"
00000002 05 n 01 hare 0 001 @ 00000009 n 0000 | a fast runner with long ears that lives in fields
00000003 05 n 01 toad 0 001 @ 00000009 n 0000 | this toad is left out, as its name is in the text
00000004 05 n 01 newt 0 001 @ 00000009 n 0000 | a small animal that is left out, too
00000005 13 n 01 bread 0 001 @ 00000009 n 0000 | dough that was baked in an oven until brown
00000006 13 n 01 soup 0 001 @ 00000009 n 0000 | a hot liquid that is eaten with a spoon
00000007 18 n 01 baker 0 001 @ 00000009 n 0000 | someone who works with dough and ovens
00000008 18 n 01 nurse 0 001 @ 00000009 n 0000 | someone who cares for the sick in a ward
00000010 20 n 01 fern 0 001 @ 00000009 n 0000 | it has green fronds and grows in shade
00000011 20 n 01 moss 0 001 @ 00000009 n 0000 | it grows soft and green on wet stones
00000012 08 n 01 knee 0 001 @ 00000009 n 0000 | the joint in the middle of the leg
00000013 08 n 01 chin 0 001 @ 00000009 n 0000 | the lowest part of a human face
00000014 06 n 01 saw 0 001 @ 00000009 n 0000 | a toothed blade for cutting wood
00000015 06 n 01 jar 0 001 @ 00000009 n 0000 | a wide vessel of glass with a lid
"""


def _part(pattern, text):
    match = re.search(pattern, text)
    assert match, (pattern, text)
    return match[1]


@pytest.fixture
def wordnet(tmp_path, monkeypatch):
    (tmp_path / "data.noun").write_text(WORDNET)
    monkeypatch.setenv("EVALS_WORDNET", str(tmp_path))
    return tmp_path


def test_each_family_has_at_least_forty_questions_in_two_equal_halves():
    assert QUESTIONS_PER_FAMILY >= 40
    assert len(seeds("tuning")) == len(seeds("unseen")) == QUESTIONS_PER_FAMILY // 2
    assert not set(seeds("tuning")) & set(seeds("unseen"))


@pytest.mark.parametrize("family", OFFLINE)
def test_the_same_seed_and_size_make_the_same_question(family):
    assert FAMILIES[family](4, 10_000) == FAMILIES[family](4, 10_000)


@pytest.mark.parametrize("family", OFFLINE)
def test_the_questions_of_a_family_differ(family):
    questions = [FAMILIES[family](seed, 10_000) for seed in range(6)]
    assert len({(question.text, *question.texts.values()) for question in questions}) == 6


@pytest.mark.parametrize("family", OFFLINE)
@pytest.mark.parametrize("size", [10_000, 100_000])
def test_the_texts_have_about_the_size_that_was_chosen(family, size):
    for seed in (2, 3, 4):
        question = FAMILIES[family](seed, size)
        length = sum(len(text.encode()) for text in question.texts.values())
        assert 0.85 * size <= length <= 1.1 * size, question.id


@pytest.mark.parametrize("family", ["needles", "conversations", "multihop", "contracts", "traps"])
def test_a_larger_size_changes_the_texts_and_neither_question_nor_key(family):
    for seed in SEEDS:
        small, large = (FAMILIES[family](seed, size) for size in (10_000, 30_000))
        assert (small.text, small.key) == (large.text, large.key)


@pytest.mark.parametrize("family", OFFLINE)
def test_a_key_grades_its_own_answer_as_right_and_its_rivals_as_wrong(family):
    for seed in SEEDS:
        key = FAMILIES[family](seed, 10_000).key
        if key.kind == "absent":
            continue
        quotes = "".join(f"\n> file.txt:1: {quote}" for quote in key.quotes)
        right = ", ".join(key.accepted) if key.kind == "list" else key.accepted[0]
        assert grade(right + quotes, key).is_right, key
        for rival in key.rivals:
            assert not grade(rival + quotes, key).is_right


@pytest.mark.parametrize("family", ["needles", "traps", "multihop", "conversations"])
def test_the_halves_share_no_place_and_no_name(family):
    def words(parity):
        text = " ".join(FAMILIES[family](seed, 10_000).text for seed in range(parity, 24, 2))
        return set(re.findall(r"\w+", text)) & {
            *vocabulary.PLACES,
            *vocabulary.FIRST_NAMES,
            *vocabulary.LAST_NAMES,
        }

    assert words(0)
    assert not words(0) & words(1)


def test_every_other_pair_belongs_to_the_other_half():
    assert (half_of("abcdefg", 2), half_of("abcdefg", 3)) == (["a", "b", "e", "f"], ["c", "d", "g"])


def test_a_needle_has_one_line_with_the_condition_of_the_question():
    for seed in SEEDS:
        question = FAMILIES["needles"](seed, 10_000)
        subject = question.text.removeprefix("What is ").rpartition(", in ")[0]
        lines = [
            line
            for line in question.texts["records.txt"].splitlines()
            if subject.casefold() in line.casefold()
        ]
        assert len(lines) == 1
        assert f" is {question.key.accepted[0]} " in lines[0]
        assert len([line for line in question.texts["records.txt"].splitlines() if " K-" in line]) == 12


def test_counts_and_sums_are_those_of_the_lines():
    checked = set()
    for seed in range(12):
        question = FAMILIES["counts"](seed, 20_000)
        rows = re.findall(
            r"^2026-(\d\d)-\d\d ticket \d+ \| label: (\w+) \| region: (\w+) \| minutes: (\d+)$",
            question.texts["tickets.txt"],
            re.MULTILINE,
        )
        label = re.search(r"label (\w+)", question.text)
        region = re.search(r"region (\w+)", question.text)
        kept = [row for row in rows if not label or row[1] == label[1]]
        if region:
            outside = "outside" in question.text
            kept = [row for row in kept if (row[2] == region[1]) != outside]
        kept = [row for row in kept if "30 minutes" not in question.text or int(row[3]) >= 30]
        kept = [row for row in kept if "May" not in question.text or row[0] == "05"]
        value = sum(int(row[3]) for row in kept) if "sum" in question.text else len(kept)
        assert question.key.accepted == (str(value),), question.text
        checked.add(seed // 2 % 6)
    assert checked == set(range(6))


def test_the_last_statement_of_the_person_is_the_key_of_a_conversation():
    for seed in SEEDS:
        question = FAMILIES["conversations"](seed, 30_000)
        person = _part(r"([A-Z]\w+ [A-Z]\w+)(?= want| be|\s)", question.text.split(maxsplit=2)[2])
        talks = "".join(question.texts.values()).split("\n\n")
        talks_of_person = sorted(talk for talk in talks if f"Customer: {person}\n" in talk)
        assert len(talks_of_person) == 3
        assert question.key.accepted[0] in talks_of_person[-1]
        assert question.key.accepted[0] not in talks_of_person[0]


def test_a_chain_of_three_lines_leads_to_the_key():
    for seed in SEEDS:
        question = FAMILIES["multihop"](seed, 20_000)
        assert len(question.texts) == len(question.key.quotes) == 3
        for quote, text in zip(question.key.quotes, question.texts.values(), strict=True):
            assert text.splitlines().count(quote) == 1
        assert question.key.accepted[0] in question.key.quotes[2]


def test_a_conflict_is_an_agreement_with_another_value_of_the_same_matter():
    for seed in SEEDS:
        question = FAMILIES["contracts"](seed, 20_000)
        conflicts = {}
        for line in question.texts["contract.txt"].splitlines():
            number, title, clause = line.split(". ", 2)
            term = next(term for term in contracts.TERMS if term.title == title)
            contract = next(value for value in term.values if value[0] in clause)
            place, text = next(
                (name, text)
                for name, text in question.texts.items()
                if f"\n{title}. " in text and name != "contract.txt"
            )
            if term.agreement.format(contract[1]) not in text:
                conflicts[number] = _part(r"/(\w+)\.txt", place).capitalize()
        assert len(conflicts) == 3
        match question.key.kind:
            case "list":
                assert set(question.key.accepted) == set(conflicts)
            case "name":
                number = _part(r"clause (\d)", question.text)
                assert question.key.accepted == (conflicts[number],)
            case "yes_no":
                number = _part(r"clause (\d)", question.text)
                assert question.key.accepted == (("yes" if number in conflicts else "no"),)


def test_the_line_that_would_answer_an_unanswerable_question_is_missing():
    for seed in SEEDS:
        question = FAMILIES["unanswerable"](seed, 10_000)
        text = "\n".join(question.texts.values())
        subject = re.search(r"value of (\w+)|clause (\d+)|([A-Z]\w+ [A-Z]\w+)(?! \w+ K-)", question.text)
        if question.text.startswith("What is the ") and " K-" in question.text:
            assert question.text.removeprefix("What is ").rpartition(", in ")[0] not in text
        elif subject and (subject[1] or subject[2]):
            assert not re.search(rf"^{subject[1] or subject[2]}\b", text, re.MULTILINE)
        elif "Quote" in question.text:
            assert FAMILIES["multihop"](seed, 10_000).key.quotes[1] not in text
        else:
            assert subject
            assert f"Customer: {subject[3]}\n" not in text


def test_a_trap_offers_a_wrong_answer_and_has_the_right_one_once():
    for seed in SEEDS:
        question = FAMILIES["traps"](seed, 10_000)
        text = "\n".join(question.texts.values())
        assert all(rival in text for rival in question.key.rivals)
        assert question.key.rivals
        assert question.key.accepted[0] in question.texts["records.txt"]


SOURCE = """
PORT = 993
MODE = "fast"
TWICE = 1
TWICE = 2
if PORT:
    SOMETIMES = 3
def spread(width, height=70, *, mark="--x"):
    raise ValueError(width)
def area(width, height, depth=2.5): ...
def quiet():
    try: ...
    except OSError: raise
def both():
    raise KeyError or raise_it()
class Reader(Base):
    def read(self, size=-1): ...
    def close(self): ...
    @property
    def name(self): ...
class Plain(object): ...
def again(): ...
def again(): ...
"""


def test_the_facts_of_a_file_are_those_with_one_answer():
    facts = facts_of("pkg/io.py", SOURCE)
    keys = {(fact.kind, fact.subject): fact.key.accepted for fact in facts}
    assert keys[("constant", "PORT")] == ("993",)
    assert keys[("constant", "MODE")] == ("fast",)
    assert not {("constant", "TWICE"), ("constant", "SOMETIMES")} & keys.keys()
    assert keys[("default", "height")] == ("70",)
    assert keys[("default", "depth")] == ("2.5",)
    assert keys[("raised", "ValueError")] == ("ValueError",)
    assert not any(fact.kind == "raised" and "quiet" in fact.question for fact in facts)
    assert keys[("base", "Base")] == ("Base",)
    assert ("base", "object") not in keys
    assert keys[("count", "Reader")] == ("3",)
    assert keys[("signature", "pkg.io.area")] == ("width", "height", "depth")
    assert keys[("where", "Reader")] == ("pkg/io.py", "pkg.io")
    assert not any(fact.subject == "again" for fact in facts)


def test_the_answer_to_a_question_about_code_is_in_the_file():
    for seed in range(14):
        question = FAMILIES["code"](seed, 10_000)
        assert len({name for name in question.texts if not name.endswith(".py")}) == 0
        if question.key.kind == "name" and not question.text.startswith("In which file"):
            assert any(question.key.accepted[0] in text for text in question.texts.values())


def test_the_halves_ask_about_other_files_of_the_library():
    assert not set(code.eligible(0, 10**6)) & set(code.eligible(1, 10**6))
    assert len(code.eligible(0, 10_000)) > 20


def test_without_wordnet_the_glosses_are_skipped_with_a_line_that_helps(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALS_WORDNET", str(tmp_path))
    with pytest.raises(MissingTextsError, match="apt-get install wordnet-base"):
        FAMILIES["glosses"](0, 10_000)


def test_the_glosses_leave_out_lines_that_name_what_they_define(wordnet):
    pool = glosses.load(wordnet)
    assert len(pool["animal"]) == len(pool["food"]) == 2
    assert not any('"' in gloss for gloss in pool["animal"])


def test_the_key_of_the_glosses_is_counted_over_lines_that_do_not_show_their_kind(wordnet):
    kind_of = {gloss: category for category, items in glosses.load(wordnet).items() for gloss in items}
    for seed in range(10):
        question = FAMILIES["glosses"](seed, 10_000)
        rows = re.findall(
            r"user: (\d+) \| date: 2026-(\d\d)-\d\d \| definition: (.*)", question.texts["definitions.txt"]
        )
        kinds = Counter(kind_of[gloss] for _, _, gloss in rows)
        if question.text.endswith("defined most often?"):
            assert question.key.accepted[0] == kinds.most_common()[0][0]
        elif wanted := re.search(r"How many of the definitions are of an? (.*)\?", question.text):
            assert question.key.accepted == (str(kinds[wanted[1]]),)
        elif wanted := re.search(r"by user (\d+) are of an? (.*)\?", question.text):
            count = sum(user == wanted[1] and kind_of[gloss] == wanted[2] for user, _, gloss in rows)
            assert question.key.accepted == (str(count),)
        elif wanted := re.search(r"of an? (.*) are dated in the (first|second)", question.text):
            early = sum(kind_of[gloss] == wanted[1] and int(month) <= 6 for _, month, gloss in rows)
            count = early if wanted[2] == "first" else kinds[wanted[1]] - early
            assert question.key.accepted == (str(count),)
        else:
            first = _part(r"one definition of an? (.*) and", question.text)
            second = _part(r"and one of an? (.*)\?", question.text)
            users = [{user for user, _, gloss in rows if kind_of[gloss] == kind} for kind in (first, second)]
            assert question.key.accepted == (str(len(users[0] & users[1])),)
