"""Where the prompt of a pair ends: cases worked by hand, in the shapes in which data sets come."""

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rlhf_helpers.labels import exchange
from rlhf_helpers.labels.exchange import dialogue
from rlhf_helpers.records import Comparison, Label

# both begin with man, joiner, woman, joiner
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
OTHER = "\U0001f468\u200d\U0001f469\u200d\U0001f466"
TO, FRANCE, FINLAND = "To 🇩🇪", "🇫🇷", "🇫🇮"
HALF = TO + FRANCE[0]  # a flag is a pair of letters


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


def parts(record):
    """Read one record; returns prompt, chosen and rejected reply."""
    read = exchange.from_dataset([record], "t")
    (comparison,), (label,) = read.comparisons, read.labels
    chosen = comparison.options[label.choice]
    return comparison.query, chosen, comparison.options[1 - label.choice]


TURNS = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: More"


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("The day was good", "The day was grim", ("The day was", " good", " grim")),
        ("One two  three", "One two  four", ("One two", "  three", "  four")),
        ("One\nfoo", "One\nfab", ("One", "\nfoo", "\nfab")),
        ("The cat sat", "The cat", ("The cat", " sat", "")),
        ("The cats", "The cat", ("The", " cats", " cat")),
        ("你好。我很好", "你好。我不好", ("你好。", "我很好", "我不好")),
        (
            f"We are {FAMILY} two",
            f"We are {OTHER} two",
            ("We are", f" {FAMILY} two", f" {OTHER} two"),
        ),
        ("A cafe\u0301 here", "A cafe here", ("A", " cafe\u0301 here", " cafe here")),
        (
            "\n\nHuman: Hi\n\nAssistant: Yes I do",
            "\n\nHuman: Hi\n\nAssistant: Yes we do",
            ("\n\nHuman: Hi\n\nAssistant:", " Yes I do", " Yes we do"),
        ),
        (
            f"{TURNS}\n\nAssistant: So.",
            f"{TURNS}\n\nAssistant: Soon.",
            (f"{TURNS}\n\nAssistant:", " So.", " Soon."),
        ),
        (
            f"{TURNS}\n\nAssistant: So.",
            f"{TURNS[:-4]}Bye\n\nAssistant: So.",
            (
                "\n\nHuman: Hi\n\nAssistant:",
                " Hello.\n\nHuman: More\n\nAssistant: So.",
                " Hello.\n\nHuman: Bye\n\nAssistant: So.",
            ),
        ),
        (
            "USER: Hi ASSISTANT: Yes I",
            "USER: Hi ASSISTANT: Yes we",
            ("USER: Hi ASSISTANT:", " Yes I", " Yes we"),
        ),
        (
            "Q: Why?\nA: As it is",
            "Q: Why?\nA: As it was",
            ("Q: Why?\nA:", " As it is", " As it was"),
        ),
        (
            "### Instruction: Go\n### Response: I go",
            "### Instruction: Go\n### Response: I stay",
            ("### Instruction: Go\n### Response:", " I go", " I stay"),
        ),
        (
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nI a",
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nI b",
            ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "I a", "I b"),
        ),
        ("[INST] Hi [/INST] I a", "[INST] Hi [/INST] I b", ("[INST] Hi [/INST]", " I a", " I b")),
        (
            "My assistants: one two",
            "My assistants: one ten",
            ("My assistants: one", " two", " ten"),
        ),
    ],
)
def test_a_derived_prompt_ends_after_the_last_role_or_a_whole_word(chosen, rejected, expected):
    """It ended inside words, emoji and accents, after "Yes" in a dialogue, and took the space."""
    assert parts({"chosen": chosen, "rejected": rejected}) == expected
    query, good, bad = expected
    assert parts({"chosen": rejected, "rejected": chosen}) == (query, bad, good)


@pytest.mark.parametrize(
    "texts", [("good", "grim"), ("Yes", "No"), (FAMILY, OTHER), ("今天好", "今天坏")]
)
def test_texts_that_share_no_whole_word_have_no_prompt(texts):
    """A part of a word was taken for the prompt."""
    with pytest.raises(ValueError, match='there is no "prompt", and chosen and rejected do not'):
        parts({"chosen": texts[0], "rejected": texts[1]})


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "expected"),
    [
        ("The day was", "The day was good", "The day was bad", ("The day was", " good", " bad")),
        ("The day was", " good", " bad", ("The day was", " good", " bad")),
        ("The day was", "The day was good", " bad", ("The day was", "The day was good", " bad")),
        ("It is un", "It is unkind", "It is unfair", ("It is un", "kind", "fair")),
        ("The", "There", "The end", ("The", "There", "The end")),
        ("今天", "今天很好", "今天很坏", ("今天", "很好", "很坏")),
        (
            "I like cafe",
            "I like cafe\u0301s",
            "I like cafe\u0301",
            ("I like cafe", "I like cafe\u0301s", "I like cafe\u0301"),
        ),
        (
            "Us: 👨‍👩",
            f"Us: {FAMILY}",
            f"Us: {OTHER}",
            ("Us: 👨‍👩", f"Us: {FAMILY}", f"Us: {OTHER}"),
        ),
        (HALF, TO + FRANCE, TO + FINLAND, (HALF, TO + FRANCE, TO + FINLAND)),
        (TO, TO + FRANCE, TO + FINLAND, (TO, FRANCE, FINLAND)),
        ("Hi 👍", "Hi 👍🏽", "Hi 👍🏿", ("Hi 👍", "Hi 👍🏽", "Hi 👍🏿")),
        (" ", " a", " b", (" ", " a", " b")),
        ("", "a", "b", ("", "a", "b")),
    ],
)
def test_a_prompt_that_both_replies_repeat_is_taken_out(prompt, chosen, rejected, expected):
    assert parts({"prompt": prompt, "chosen": chosen, "rejected": rejected}) == expected


SYSTEM = {"role": "system", "content": "Be brief."}
THREE = [user("Hi"), said("Hello."), user("More")]
WRITTEN = "user: Hi\nassistant: Hello.\nuser: More\nassistant:"


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "expected"),
    [
        ([user("Hi")], [said("Yes")], [said("No")], ("Hi", "Yes", "No")),
        ([user("Hi")], [user("Hi"), said("Yes")], [user("Hi"), said("No")], ("Hi", "Yes", "No")),
        ("Hi", [user("Hi"), said("Yes")], [user("Hi"), said("No")], ("Hi", "Yes", "No")),
        ("Hi", [said("Yes")], [said("No")], ("Hi", "Yes", "No")),
        ([user("Hi")], "Yes", "No", ("Hi", "Yes", "No")),
        (None, [user("Hi"), said("Yes")], [user("Hi"), said("No")], ("Hi", "Yes", "No")),
        (None, [*THREE, said("Yes")], [*THREE, said("No")], (WRITTEN, " Yes", " No")),
        (THREE, [said("Yes")], [said("No")], (WRITTEN, " Yes", " No")),
        (THREE, [*THREE, said("Yes")], [*THREE, said("No")], (WRITTEN, " Yes", " No")),
        (
            "Hi",
            [SYSTEM, user("Hi"), said("Yes")],
            [SYSTEM, user("Hi"), said("No")],
            ("system: Be brief.\nuser: Hi\nassistant:", " Yes", " No"),
        ),
        (
            None,
            [user("Hi"), said("A"), user("B"), said("C")],
            [user("Hi"), said("A"), user("D"), said("E")],
            ("user: Hi\nassistant:", " A\nuser: B\nassistant: C", " A\nuser: D\nassistant: E"),
        ),
        (
            None,
            [user("Hi"), said("A")],
            [user("Hi"), said("A"), user("B")],
            ("user: Hi\nassistant:", " A", " A\nuser: B"),
        ),
        (
            "Hi",
            [user("Hi"), said("A")],
            [said("B")],
            ("user: Hi", "\nuser: Hi\nassistant: A", "\nassistant: B"),
        ),
    ],
)
def test_messages_of_one_turn_and_of_several(prompt, chosen, rejected, expected):
    record = {"chosen": chosen, "rejected": rejected} | ({"prompt": prompt} if prompt else {})
    assert parts(record) == expected


def test_turns_with_from_and_value_are_messages_and_printed_ones_are_not_texts():
    turns = [{"from": "human", "value": "Hi"}]
    replies = {name: [{"from": "gpt", "value": name}] for name in ("chosen", "rejected")}
    assert parts({"prompt": turns} | replies) == ("Hi", "chosen", "rejected")
    printed = {name: str(turn) for name, turn in replies.items()}
    with pytest.raises(ValueError, match="lists of messages that were printed as text"):
        parts({"prompt": "Hi"} | printed)
    assert parts({"prompt": "Hi", "repeats_prompt": False} | printed)[1] == printed["chosen"]


def test_replies_that_hold_the_prompt_only_or_begin_differently_are_faults():
    with pytest.raises(ValueError, match="its reply is missing"):
        parts({"prompt": [user("Hi")], "chosen": [user("Hi")], "rejected": [user("Hi"), said("A")]})
    with pytest.raises(ValueError, match="chosen and rejected begin differently"):
        parts({"chosen": [user("Hi"), said("A")], "rejected": [user("Ho"), said("A")]})


@pytest.mark.parametrize("name", ["question", "instruction", "input", "query", "Prompt"])
def test_a_prompt_of_another_name_is_named_instead_of_derived(tmp_path, name):
    """The words that both replies began with were taken for the prompt, the question was lost."""
    record = {name: "How?", "chosen": "It is so", "rejected": "It is not"}
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps(record) + "\n")
    with pytest.raises(ValueError, match=f"no field \"prompt\", but there is '{name}'") as error:
        exchange.read(file, "pairs", "t")
    fix = str(error.value).split("`")[1]
    read = eval(fix, {"exchange": exchange, "path": file, "task": "t"})
    assert read.comparisons[0].query == "How?"
    assert set(read.comparisons[0].options) == {"It is so", "It is not"}


LETTERS = st.text(st.sampled_from("a 'e\u0301\u200d👨🇩🇪\n:é的"), max_size=6)


@settings(max_examples=150, deadline=None)
@given(LETTERS, st.lists(LETTERS, min_size=2, max_size=3, unique=True), st.data())
def test_what_is_written_as_pairs_is_read_back_whatever_it_begins_with(query, options, data):
    """A reply that begins with the prompt by chance lost its beginning."""
    comparison = Comparison("t", query, tuple(options))
    choice = data.draw(st.integers(0, len(options) - 1))
    assume(any(o.strip() != options[choice].strip() for o in options))
    rows = [dict(row) for row in _pairs(comparison, Label(comparison.id, "ada", choice))]
    read = exchange.from_dataset(rows, "t")
    assert {c.query for c in read.comparisons} == {query}
    pairs = {
        (c.options[x.choice], c.options[1 - x.choice])
        for c, x in exchange.labelled(read.comparisons, read.labels)
    }
    different = [o for o in options if o.strip() != options[choice].strip()]
    assert pairs == {(options[choice], o) for o in different}


def test_replies_of_ours_that_begin_with_the_prompt_by_chance_stay_whole(tmp_path):
    asked = [Comparison("t", "Why", ("Why not?", "Why yes."))]
    labels = [Label(asked[0].id, "ada", 1)]
    exchange.write(tmp_path / "p.jsonl", "pairs", asked, labels)
    read = exchange.read(tmp_path / "p.jsonl", "pairs", "t")
    assert set(read.comparisons[0].options) == set(asked[0].options)
    theirs = {"prompt": "Why", "chosen": "Why yes.", "rejected": "Why not?"}
    assert parts(theirs) == ("Why", " yes.", " not?")


def _pairs(comparison, label):
    from rlhf_helpers.labels.exchange import pairs

    return pairs.of_label(comparison, label)


@settings(max_examples=300, deadline=None)
@given(LETTERS, LETTERS, LETTERS)
def test_a_derived_prompt_and_its_replies_are_the_texts(start, a, b):
    try:
        query, chosen, rejected = dialogue.split(None, start + a, start + b)
    except ValueError:
        return
    assert (query + chosen, query + rejected) == (start + a, start + b)
    for reply in (chosen, rejected):
        assert not query or reply == "" or reply[0].isspace() or query[-1] in ":。！？"
