"""The playground for samples, without a browser: its numbers against the sampler's own and against
a softmax written out."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from rlhf_helpers import sampling, tasks
from rlhf_helpers.course import playground
from rlhf_helpers.models import Policy


@pytest.fixture
def letters(letters):
    """The tokenizer of letters, which can decode one row as well."""
    type(letters).decode = lambda self, ids: self.batch_decode([ids])[0]
    return letters


@pytest.fixture
def shown(policy: Policy, letters, task, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    return playground.show(policy, task, prompt="abc")


def test_it_draws_what_the_sampler_draws(shown, policy: Policy, letters, task) -> None:
    found = shown.sample("abc", seed=5, samples=4)
    queries = tasks.encode(task, ["abc"], letters).repeat(4)
    rollout = sampling.sample(
        policy, queries, task.response_length, task.temperature, torch.Generator().manual_seed(5)
    )
    assert ["".join(t.text for t in s.tokens) for s in found] == letters.batch_decode(
        rollout.responses.tolist()
    )
    told = torch.tensor([[t.p for t in s.tokens] for s in found])
    assert torch.allclose(told.log(), rollout.logprobs, atol=1e-4)
    kept, finished = tasks.truncate(task, rollout.responses, letters)
    assert [[t.kept for t in s.tokens] for s in found] == kept.tolist() and [
        s.finished for s in found
    ] == finished.tolist()
    assert shown.sample("abc", seed=5, samples=4) == found != shown.sample("abc", seed=6, samples=4)


def test_ranks_and_rivals_are_those_of_a_softmax_written_out(
    shown, policy: Policy, letters, task
) -> None:
    (sample,) = shown.sample("abc", temperature=1.3, seed=1, samples=1)
    ids = letters("abc")["input_ids"]
    for token in sample.tokens:
        with torch.no_grad():
            tokens = torch.tensor([ids])
            logits = policy.logits(
                policy.hidden(tokens, torch.ones_like(tokens, dtype=torch.bool))[0, -1]
            )
        weights = [math.exp(x / 1.3) for x in logits.tolist()]
        shares = sorted(((w / sum(weights), k) for k, w in enumerate(weights)), reverse=True)
        mine = letters(token.text)["input_ids"][0]
        assert shares[token.rank - 1][1] == mine and token.p == pytest.approx(
            shares[token.rank - 1][0], rel=1e-4
        )
        assert [text for text, _ in token.others] == [
            letters.batch_decode([[k]])[0] for _, k in shares[:5]
        ]
        assert [p for _, p in token.others] == pytest.approx([p for p, _ in shares[:5]], rel=1e-4)
        ids.append(mine)


def test_top_k_draws_from_the_k_likeliest_and_tells_the_whole_vocabularys_probability(
    shown, policy: Policy
) -> None:
    assert any(
        t.rank > 2 for s in shown.sample("abc", temperature=3.0, samples=8) for t in s.tokens
    )
    cut = [t for s in shown.sample("abc", temperature=3.0, top_k=2, samples=8) for t in s.tokens]
    # not renormalised over the two
    assert {t.rank for t in cut} == {1, 2} and all(t.p < 0.9 for t in cut)
    one, two = shown.sample("abc", temperature=0, samples=2)
    (cold,) = shown.sample("abc", temperature=3.0, top_k=1, samples=1)
    assert (
        one == two
        and one.text == cold.text
        and {t.rank for t in (*one.tokens, *cold.tokens)} == {1}
    )


def test_wrong_wishes_are_turned_away_in_words(shown) -> None:
    for change, words in (
        ({"temperature": 9}, "choose something from 0 to 3"),
        ({"samples": 0}, "from 1 to 8"),
        ({"top_k": -1}, "top-k is -1"),
        ({"seed": -3}, "the seed is -3"),
    ):
        with pytest.raises(ValueError, match=words):
            shown.sample("abc", **change)
    for blank in ("", "   ", "\n"):  # blanks passed as a prompt
        with pytest.raises(ValueError, match="a prompt is empty or blank"):
            shown.sample(blank)
    with pytest.raises(ValueError, match="allows 6: shorten it"):
        shown.sample("abcdefghij")


def test_messages_of_the_browser_are_not_trusted(shown) -> None:
    before = shown.scene["results"]
    assert len(before) == 3 and shown.scene["error"] == ""
    wrong = [
        {"temperature": "hot"},
        {"temperature": float("nan")},
        {"samples": True},
        {"top_k": None},
        {"prompt": ""},
        {"prompt": " \n "},
        {"seed": 1e300},
    ]
    for change in wrong:
        shown.handle({"number": 7} | change)
        # an error used to wipe the samples
        assert shown.scene["error"] and shown.scene["results"] == before, change
        assert shown.scene["heard"] == 7
        assert shown.scene["prompt"] == "abc"  # what was asked last and could be done
    shown.handle({"prompt": "cb", "samples": 2, "seed": 3, "number": 8})
    assert (
        shown.scene["error"] == ""
        and len(shown.scene["results"]) == 2
        and shown.scene["prompt"] == "cb"
    )
    assert shown.scene["results"] == [
        dataclasses.asdict(s) for s in shown.sample("cb", seed=3, samples=2)
    ]


def test_again_takes_the_next_seed(shown) -> None:
    """Sample pressed twice gave the same samples, and there was no other button."""
    asked = {"prompt": "abc", "seed": 4, "samples": 2}
    shown.handle(asked)
    first = shown.scene["results"]
    shown.handle(asked | {"again": True})
    assert shown.scene["seed"] == 5 and shown.scene["results"] != first
    assert shown.scene["results"] == [
        dataclasses.asdict(s) for s in shown.sample("abc", seed=5, samples=2)
    ]
    shown.handle({"seed": 2**31, "again": True})
    assert "the seed is" in shown.scene["error"] and shown.scene["seed"] == 5


def test_the_limit_of_tokens_is_known_before_it_is_hit(shown, task) -> None:
    assert shown.scene["limit"] == task.query_length == 6 and shown.scene["used"] == 3
    shown.handle({"prompt": "abcd"})
    assert shown.scene["used"] == 4


def test_the_live_one_speaks_with_the_browser(
    policy: Policy, letters, task, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("anywidget")
    monkeypatch.delenv("RLHF_HEADLESS", raising=False)
    made = playground.show(policy, task, prompt="abc")
    first = made.view["results"]
    made._handle_custom_msg(
        {"prompt": "abc", "temperature": 0.7, "top_k": 0, "seed": 1, "samples": 3, "number": 5}, []
    )
    assert (
        made.view["heard"] == 5 and made.view["results"] != first and len(made.view["results"]) == 3
    )
    made._handle_custom_msg("nonsense", [])
    data, _ = made._repr_mimebundle_()
    assert (
        "application/vnd.jupyter.widget-view+json" in data and data["text/html"].count("<li>") == 3
    )


def test_the_picture_obeys_no_markup(shown) -> None:
    shown.scene = {**shown.scene, "prompt": "<script>alert(1)</script>\u202e", "error": "<b>no</b>"}
    token = {"text": "<img src=x>", "p": 0.5, "rank": 1, "kept": True, "others": []}
    shown.scene["results"] = [{"tokens": [token], "finished": False}]
    page = shown._repr_html_()
    assert (
        "<script" not in page
        and "<img" not in page
        and "<b>" not in page
        and "\u202e" not in page
        and "[U+202E]" in page
    )


def test_prompts_of_the_task_are_sampled_as_they_stand_in_a_text(policy, task, monkeypatch):
    """Without its space the first token was another one, which the model had never seen there."""
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    seen = []

    def encode(task, texts, tokenizer):
        seen.extend(texts)
        return tasks.pad_queries(task, [[2, 3]], tokenizer)

    monkeypatch.setattr(tasks, "encode", encode)
    made = playground.show(policy, task, prompt=" abc")
    assert made.scene["prompt"] == "abc" and seen == [" abc"]
    made.sample("cb ")
    assert seen[-1] == " cb"
