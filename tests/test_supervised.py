"""Supervised fine-tuning against transformers' own loss, by hand, and on texts with a rule."""

import pytest
import torch

from rlhf_helpers import models, supervised, tasks
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.supervised import SupervisedConfig

PROMPTS = ["abcd", "b", "cda", "dd"]
ANSWERS = ["ab.", "bca", "d", "aabb."]


def run(folder=None, **more):
    return Run(folder, device="cpu", checkpoint_every=2, quiet=True, **more)


def test_the_loss_is_transformers_own_with_prompts_and_pads_labelled_minus_100(policy, task):
    data = supervised.encode(task, PROMPTS, ANSWERS, policy)
    tokens = torch.cat([data.queries.tokens, data.responses], dim=1)
    mask = torch.cat([data.queries.mask, data.mask], dim=1)
    labels = torch.where(mask, tokens, -100)
    labels[:, : data.queries.tokens.shape[1]] = -100
    theirs = policy.lm(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=(mask.long().cumsum(-1) - 1).clamp(min=0),
        labels=labels,
    ).loss
    assert (labels >= 0).sum() == sum(map(len, ANSWERS))
    torch.testing.assert_close(supervised.text_loss(policy, data), theirs)


def test_an_answer_ends_with_the_end_token_and_a_prompt_has_prefix_and_suffix():
    policy = models.tiny_policy(vocabulary=len(models.load_tokenizer()), context=256)
    policy.tokenizer = tokenizer = models.load_tokenizer()
    data = supervised.encode(
        tasks.CNNDM, ["A tale.", "A long tale."], [" So.", " So it was."], policy
    )
    rows = zip(data.queries.tokens, data.queries.mask, data.responses, data.mask, strict=True)
    read = [tokenizer.decode([*q[a].tolist(), *r[b].tolist()]) for q, a, r, b in rows]
    end = tokenizer.eos_token
    assert read == [
        f"Article:\n\nA tale.\n\nTL;DR: So.{end}",
        f"Article:\n\nA long tale.\n\nTL;DR: So it was.{end}",
    ]


def test_what_does_not_fit_is_left_out_and_said(make_policy, task, capsys):
    policy = make_policy(context=8)
    data = supervised.encode(task, ["abcd", "ab"], ["abcdef", "abcdef"], policy)
    assert len(data) == 1 and "1 of 2 texts are left out" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no text to learn from"):
        supervised.encode(task, ["abcd"], ["abcdef"], policy)
    with pytest.raises(ValueError, match="2 prompts and 1 answers"):
        supervised.encode(task, ["a", "b"], ["c"], policy)


def rule(policy, task, count=256):
    """After any prompt: its last letter, twice, and a stop."""
    drawn = torch.randint(0, 4, (count, 4), generator=torch.Generator().manual_seed(3)).tolist()
    prompts = ["".join("abcd"[i] for i in row) for row in drawn]
    return supervised.encode(task, prompts, [p[-1] * 2 + "." for p in prompts], policy)


def test_a_rule_is_learned(policy, task):
    data = rule(policy, task)
    lines = supervised.fit(policy, data, task, SupervisedConfig(lr=0.03, epochs=12), run())
    assert len(lines) == 12 * 8
    assert lines[0]["loss_nats_per_token"] > 1.5 and lines[-1]["loss_nats_per_token"] < 0.1


def test_micro_batches_give_the_same_and_a_stopped_run_goes_on(make_policy, task, tmp_path):
    config = SupervisedConfig(batch=16, lr=1e-3)

    def fitted(**more):
        policy = make_policy()
        data = rule(policy, task, 80)
        supervised.fit(policy, data, task, config, run(**more))
        return torch.cat([p.detach().flatten() for p in policy.parameters()])

    whole = fitted()
    torch.testing.assert_close(fitted(micro_batch=3), whole, atol=1e-5, rtol=1e-4)

    class Stop(Exception):
        pass

    def stop(line):
        if line["step"] == 3:
            raise Stop

    with pytest.raises(Stop):
        fitted(folder=tmp_path, on_log=stop)
    assert torch.equal(fitted(folder=tmp_path), whole)
