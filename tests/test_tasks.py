"""Tasks: the prompt cut, the truncation rule, padding. Oracle: the rules of the released code,
worked by hand on word-level tokens."""

from dataclasses import replace

import pytest
import torch

from rlhf_helpers import models, tasks


class Words:
    """A fake tokenizer with one token per word; `.` and `TL;DR:` are words too."""

    pad_token_id = 0

    def __init__(self):
        self.words = ["<pad>"]

    def __call__(self, text, add_special_tokens=False, verbose=True):
        if isinstance(text, list):
            return {"input_ids": [self(t)["input_ids"] for t in text]}
        for word in text.split():
            if word not in self.words:
                self.words.append(word)
        return {"input_ids": [self.words.index(word) for word in text.split()]}

    def batch_decode(self, rows, skip_special_tokens=False):
        return [
            " ".join(self.words[i] for i in row if i or not skip_special_tokens) for row in rows
        ]

    def __len__(self):
        return len(self.words)


STYLE = tasks.Task("sentiment", "stories", 6, 5, ".", 2, start_text=".", end_text=".")


def cut(task, text):
    tokenizer = Words()
    ids = tasks.prompt_ids(task, text, tokenizer)
    return None if ids is None else tokenizer.batch_decode([ids])[0]


def test_a_prompt_starts_after_the_first_stop_and_ends_with_the_last_one_inside_the_length():
    assert cut(STYLE, "one two . three . four five . six") == "three . four five ."
    # six tokens: a b c . d e, cut back to the last stop
    assert cut(STYLE, "one . a b c . d e f .") == "a b c ."


def test_a_text_without_a_start_or_an_end_is_skipped():
    assert cut(STYLE, "no stop at all") is None
    assert cut(STYLE, "one . a b c d e f g .") is None  # the second stop is past the length
    assert cut(STYLE, "only one .") is None


def test_a_task_without_start_and_end_keeps_the_beginning():
    assert cut(replace(STYLE, start_text=None, end_text=None), "a b c d e f g h") == "a b c d e f"


@pytest.mark.parametrize(
    ("response", "kept", "finished"),
    [
        ("a . b . c", "a . b .", True),  # the stop at index 1 is too early (truncate_after is 2)
        ("a b . . c", "a b .", True),
        (". . a b c", ". . a b c", False),
        ("a b c d .", "a b c d .", True),
        ("a b c d e", "a b c d e", False),
    ],
)
def test_truncation_keeps_the_first_stop_at_or_after_the_index(response, kept, finished):
    tokenizer = Words()
    tokenizer(". a b c d e")
    ids = torch.tensor([tokenizer(response)["input_ids"]])
    mask, ends = tasks.truncate(STYLE, ids, tokenizer)
    assert tokenizer.batch_decode([ids[0][mask[0]].tolist()]) == [kept]
    assert ends.tolist() == [finished]
    assert tasks.texts(STYLE, ids, tokenizer) == [kept]


def test_prompts_are_padded_on_the_left_with_prefix_and_suffix_and_read_back_without():
    tokenizer = Words()
    task = replace(STYLE, prefix="Article:", suffix="TL;DR:")
    batch = tasks.encode(task, ["a b c", "a"], tokenizer)
    assert batch.mask.tolist() == [[True] * 5, [False, False, True, True, True]]
    assert tokenizer.batch_decode(batch.tokens.tolist()) == [
        "Article: a b c TL;DR:",
        "<pad> <pad> Article: a TL;DR:",
    ]
    assert [t.strip() for t in tasks.query_texts(batch, tokenizer)] == ["a b c", "a"]


def test_a_prompt_that_is_empty_or_too_long_is_refused_with_its_length():
    with pytest.raises(ValueError, match="empty"):
        tasks.encode(STYLE, [""], Words())
    with pytest.raises(ValueError, match="7 tokens but sentiment allows 6"):
        tasks.encode(STYLE, ["a b c d e f g"], Words())


def test_no_prompt_at_all_is_refused():
    """It stopped with "max() arg is an empty sequence"."""
    with pytest.raises(ValueError, match="give at least one text"):
        tasks.encode(STYLE, [], Words())


def test_a_typed_pad_token_is_refused_and_an_end_token_is_not():
    """It became a token that is never trained, and that the mask called real. Where the end token
    pads, a text may hold it."""
    tokenizer = models.load_tokenizer()
    with pytest.raises(ValueError, match=r"'<\|pad\|>', which fills rows up"):
        tasks.encode(tasks.SENTIMENT, ["The boat <|pad|> left."], tokenizer)
    assert (
        tokenizer.eos_token_id
        in tasks.encode(tasks.SENTIMENT, ["The boat left.<|endoftext|>"], tokenizer).tokens
    )
    words = Words()
    words.eos_token_id = words.pad_token_id
    assert tasks.encode(STYLE, ["<pad> a"], words).mask.all()


def test_a_prompt_is_kept_whole_up_to_the_limit():
    tokenizer = Words()
    assert tokenizer.batch_decode(
        tasks.encode(STYLE, ["a b c d e f"], tokenizer).tokens.tolist()
    ) == ["a b c d e f"]


def test_unknown_names_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match="sentiment, descriptiveness, tldr, cnndm"):
        tasks.get("poetry")
    with pytest.raises(FileNotFoundError, match="make data"):
        tasks.bundled("nothing")


def test_truncation_needs_a_single_token():
    with pytest.raises(ValueError, match="single"):
        tasks.truncate(
            replace(STYLE, truncate_text="a b"), torch.ones((1, 2), dtype=torch.long), Words()
        )


@pytest.mark.parametrize("task", [tasks.TLDR, tasks.CNNDM], ids=lambda t: t.name)
def test_a_summary_that_asks_a_question_ends_there(task):
    """It ended at full stops only, so a question ran on into the next document."""
    tokenizer = models.load_tokenizer()
    said = " How do I deal with a landlord who chased my hen until it ran away from the old house?"
    ids = tokenizer(said + "<|endoftext|>The boat left. It was")["input_ids"]
    assert tasks.texts(task, torch.tensor([ids]), tokenizer) == [said]
    assert tasks.truncate(task, torch.tensor([ids[:-5]]), tokenizer)[1].all()
    assert not tasks.truncate(task, torch.tensor([ids[:20]]), tokenizer)[1].any()


@pytest.mark.parametrize("name", tasks.TASKS)
def test_bundled_prompts_fit_the_model_and_are_the_same_for_the_same_seed(name):
    task, tokenizer = tasks.get(name), models.load_tokenizer()
    first, again, other = (
        tasks.queries(task, tokenizer, 64, split="test", seed=s) for s in (3, 3, 4)
    )
    assert torch.equal(first.tokens, again.tokens) and not torch.equal(first.tokens, other.tokens)
    assert first.tokens.shape[1] + task.response_length <= 256
    if task.end_text:
        assert all(text.endswith(".") for text in tasks.query_texts(first, tokenizer))
        assert int(first.mask.sum(-1).max()) <= task.query_length


def test_queries_do_not_repeat_until_the_set_is_used_up():
    tokenizer = models.load_tokenizer()
    drawn = tasks.queries(tasks.SENTIMENT, tokenizer, 900, split="test")
    texts = tasks.query_texts(drawn, tokenizer)
    assert len(set(texts)) >= 895  # two stories may share a cut prompt


def test_the_papers_tasks_keep_the_papers_numbers():
    numbers = {
        n: (t.query_length, t.response_length, t.truncate_after, t.temperature, t.penalty)
        for n, t in tasks.PAPER.items()
    }
    assert numbers == {
        "sentiment": (64, 24, 16, 0.7, -1.0),
        "descriptiveness": (64, 24, 16, 0.7, -1.0),
        "tldr": (500, 75, 55, 0.7, -1.0),
        "cnndm": (500, 75, 55, 0.5, -1.0),
    }


def test_a_document_longer_than_the_context_raises_no_warning():
    """Notebooks showed a warning of indexing errors for texts that are cut before they are read."""
    tokenizer, text = models.load_tokenizer(), "Nora found the lantern. " * 100
    ids = tasks.plain_ids(tokenizer, text)
    assert len(ids) > tokenizer.model_max_length and not tokenizer.deprecation_warnings
    assert tokenizer(text)["input_ids"] == ids and tokenizer.deprecation_warnings  # it does warn
