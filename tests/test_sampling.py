"""`sample` against transformers' generate and exact probabilities; `replay` against transformers'
forward."""

import dataclasses

import pytest
import torch
from torch.distributions import Categorical

from rlhf_helpers import sampling
from rlhf_helpers.records import Queries


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def equal(first, second, atol=1e-5):
    return torch.allclose(first, second, atol=atol)


def exact_rows(policy, rollout, temperature):
    """Yield transformers' own tempered distribution and hidden states for every unpadded row: (R,
    V), (R, d)."""
    count = rollout.responses.shape[1]
    for tokens, keep, response in zip(
        rollout.queries.tokens, rollout.queries.mask, rollout.responses
    ):
        out = policy.lm(torch.cat([tokens[keep], response])[None], output_hidden_states=True)
        window = slice(int(keep.sum()) - 1, int(keep.sum()) - 1 + count)
        yield (
            Categorical(logits=out.logits[0, window].double() / temperature),
            out.hidden_states[-1][0, window],
        )


@pytest.mark.parametrize("temperature", [0.5, 0.7, 1.0, 1.6])
@torch.no_grad()
def test_sample_and_replay_agree_with_each_other_and_with_transformers(policy, ragged, temperature):
    rollout = sampling.sample(policy, ragged, 5, temperature, generator())
    replay = sampling.replay(policy, rollout, temperature)
    assert equal(replay.logprobs, rollout.logprobs) and equal(replay.values, rollout.values)
    for i, (exact, hidden) in enumerate(exact_rows(policy, rollout, temperature)):
        assert equal(rollout.logprobs[i].double(), exact.log_prob(rollout.responses[i]))
        assert equal(rollout.values[i], policy.value_head(hidden).squeeze(-1))


@torch.no_grad()
def test_a_rollout_carries_its_queries_and_counts_every_token(policy, ragged):
    rollout = sampling.sample(policy, ragged, 5, 0.7, generator())
    assert torch.equal(rollout.queries.tokens, ragged.tokens) and torch.equal(
        rollout.queries.mask, ragged.mask
    )
    assert rollout.responses.shape == (4, 5) and rollout.mask.all()
    assert (
        not rollout.logprobs.requires_grad
        and rollout.logprobs.dtype == rollout.values.dtype == torch.float32
    )


@torch.no_grad()
def test_chunks_change_no_number_of_replay_and_no_greedy_token(policy, ragged):
    rollout = sampling.sample(policy, ragged, 5, 0, micro_batch=3)
    assert torch.equal(rollout.responses, sampling.sample(policy, ragged, 5, 0).responses)
    whole = sampling.replay(policy, rollout, 0.7)
    for chunk in (1, 3, 4, 50):
        assert all(
            equal(a, b)
            for a, b in zip(whole, sampling.replay(policy, rollout, 0.7, micro_batch=chunk))
        )


@torch.no_grad()
@pytest.mark.parametrize("answers", [1, 3])
def test_rows_of_similar_length_are_computed_together_without_their_pads(policy, ragged, answers):
    """The pads of a prompt were computed in every part: a fifth of the bundled prompts."""
    widths = []
    policy.lm.transformer.wte.register_forward_hook(
        lambda m, args, out: widths.append(args[0].shape[1]) if args[0].shape[1] > 1 else None
    )
    whole = sampling.sample(policy, ragged, 5, 0.7, generator(), None, answers=answers)
    assert widths == [ragged.tokens.shape[1]]
    parts = sampling.sample(policy, ragged, 5, 0.7, generator(), answers, answers=answers)
    lengths = ragged.mask.sum(-1)
    assert sorted(widths[1:]) == sorted(x for x in lengths.tolist() if x > 1)
    assert torch.equal(parts.responses, whole.responses)
    assert torch.equal(parts.queries.tokens, whole.queries.tokens)
    assert equal(parts.logprobs, whole.logprobs) and equal(parts.values, whole.values)
    widths.clear()
    again = sampling.replay(policy, whole, 0.7, micro_batch=answers)
    assert equal(again.logprobs, whole.logprobs) and equal(again.values, whole.values)
    assert sorted(widths) == sorted(x + answers * 4 for x in lengths.tolist())


def test_chunked_samples_are_scored_in_their_own_rows(policy, ragged):
    rollout = sampling.sample(policy, ragged.repeat(3), 5, 0.7, generator(), micro_batch=5)
    with torch.no_grad():
        replay = sampling.replay(policy, rollout, 0.7)
    assert (
        len(rollout) == 12
        and equal(replay.logprobs, rollout.logprobs)
        and equal(replay.values, rollout.values)
    )


@pytest.mark.parametrize("seed", range(3))
def test_greedy_equals_generate_on_unpadded_rows(make_policy, ragged, seed):
    policy = make_policy(seed, layers=2)
    rollout = sampling.sample(policy, ragged, 8, temperature=0)
    policy.lm.generation_config.eos_token_id = None
    for tokens, keep, response in zip(ragged.tokens, ragged.mask, rollout.responses):
        prompt = tokens[keep][None]
        theirs = policy.lm.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=8,
            do_sample=False,
            pad_token_id=0,
        )
        assert torch.equal(theirs[0, keep.sum() :], response)


def test_more_padding_and_its_contents_change_no_sample(policy, ragged):
    wide = Queries(
        torch.cat([torch.full((4, 3), 7), torch.where(ragged.mask, ragged.tokens, 11)], 1),
        torch.cat([torch.zeros(4, 3, dtype=torch.bool), ragged.mask], 1),
    )
    for temperature in (0, 0.7):
        plain, padded = (
            sampling.sample(policy, q, 6, temperature, generator(1)) for q in (ragged, wide)
        )
        assert torch.equal(plain.responses, padded.responses)
        assert equal(plain.logprobs, padded.logprobs) and equal(plain.values, padded.values)


def test_frequencies_are_the_exact_tempered_probabilities(make_policy):
    policy, rows = make_policy(vocabulary=5, stir=0.15), 20_000
    query = Queries(torch.tensor([[0, 3, 1]]), torch.tensor([[False, True, True]]))
    rollout = sampling.sample(policy, query.repeat(rows), 2, 0.6, generator(2), micro_batch=7_000)
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    with torch.no_grad():
        logits = policy.lm(
            torch.cat([torch.tensor([[3, 1]]).expand(25, 2), pairs], 1)
        ).logits.double()
    logprobs = (logits / 0.6).log_softmax(-1)
    expected = (
        rows
        * (logprobs[:, 1].gather(1, pairs[:, :1]) + logprobs[:, 2].gather(1, pairs[:, 1:]))
        .squeeze(1)
        .exp()
    )
    counted = torch.bincount(rollout.responses[:, 0] * 5 + rollout.responses[:, 1], minlength=25)
    assert expected.min() > 5  # so that chi-square applies
    # 0.1 % of chi-square with 24 degrees of freedom
    assert ((counted - expected) ** 2 / expected).sum() < 51.18


@pytest.mark.parametrize("chunk", [1, 3, 5, None])
def test_rows_at_a_time_change_no_answer(policy, ragged, chunk):
    """They did while each chunk took its numbers from the generator in turn, so that micro-batches
    changed a run."""
    queries = ragged.repeat(3)
    rollout, whole = (
        sampling.sample(policy, queries, 5, 0.7, generator(6), micro_batch=c) for c in (chunk, 12)
    )
    assert torch.equal(rollout.responses, whole.responses) and equal(
        rollout.logprobs, whole.logprobs
    )
    # equal prompts, other numbers
    assert not torch.equal(rollout.responses[:4], rollout.responses[4:8])


def test_the_generator_alone_decides(policy, ragged):
    queries = ragged.repeat(8)
    torch.manual_seed(1)
    first = sampling.sample(policy, queries, 5, 0.7, generator(3))
    torch.manual_seed(2)
    again, other = (sampling.sample(policy, queries, 5, 0.7, generator(seed)) for seed in (3, 4))
    assert torch.equal(first.responses, again.responses) and not torch.equal(
        first.responses, other.responses
    )


@torch.no_grad()
def test_a_value_stands_before_its_token_and_the_last_token_is_never_read(policy, ragged):
    rollout = sampling.sample(policy, ragged, 5, 0.7, generator())
    for t in range(5):
        responses = rollout.responses.clone()
        responses[:, t] = (responses[:, t] + 1) % 16
        before, after = (
            sampling.replay(policy, rollout),
            sampling.replay(policy, dataclasses.replace(rollout, responses=responses)),
        )
        assert equal(before.values[:, : t + 1], after.values[:, : t + 1])
        assert equal(before.logprobs[:, :t], after.logprobs[:, :t]) and not equal(
            before.logprobs[:, t], after.logprobs[:, t]
        )
        if t < 4:
            assert not equal(before.values[:, t + 1 :], after.values[:, t + 1 :])


@torch.no_grad()
def test_garbage_after_a_response_changes_nothing_before_it(policy, ragged):
    rollout = sampling.sample(policy, ragged, 5, 0.7, generator())
    mask = torch.arange(5) < torch.tensor([[5], [2], [3], [1]])
    short = dataclasses.replace(rollout, mask=mask)
    spoilt = dataclasses.replace(short, responses=torch.where(mask, rollout.responses, 13))
    for plain, other in zip(
        sampling.replay(policy, short, 0.7), sampling.replay(policy, spoilt, 0.7)
    ):
        assert equal(plain[mask], other[mask])
    assert equal(sampling.replay(policy, spoilt, 0.7).logprobs[mask], rollout.logprobs[mask])


def test_replays_gradient_is_that_of_transformers_forward(policy, ragged):
    rollout = sampling.sample(policy, ragged, 5, 0.7, generator())
    weights = torch.randn(2, 4, 5, generator=generator(5))
    replay = sampling.replay(policy, rollout, 0.7)
    (weights[0] * replay.logprobs + weights[1] * replay.values).sum().backward()
    ours = {name: p.grad.clone() for name, p in policy.named_parameters()}
    policy.zero_grad()
    total = 0
    for i, (exact, hidden) in enumerate(exact_rows(policy, rollout, 0.7)):
        total = total + (weights[0, i] * exact.log_prob(rollout.responses[i])).sum()
        total = total + (weights[1, i] * policy.value_head(hidden).squeeze(-1)).sum()
    total.backward()
    for name, p in policy.named_parameters():
        assert torch.allclose(ours[name], p.grad, atol=1e-4, rtol=1e-4), name


def test_what_does_not_fit_the_context_is_refused(policy, ragged):
    sampling.sample(policy, ragged, 26, 0.7, generator())  # 6 + 26 = 32 fits
    with pytest.raises(ValueError, match="33 tokens but the model's context is 32"):
        sampling.sample(policy, ragged, 27, 0.7, generator())


def test_pads_do_not_count_against_the_context(policy):
    mask = torch.arange(40) >= 36
    queries = Queries(torch.full((1, 40), 3), mask[None])
    assert sampling.sample(policy, queries, 28, 0).responses.shape == (1, 28)


def test_negative_temperatures_are_refused(policy, ragged):
    with pytest.raises(ValueError, match="must not be negative"):
        sampling.sample(policy, ragged, 3, -1.0)


def test_a_rollout_holds_no_gradients_and_a_replay_does(policy, ragged):
    rollout = sampling.sample(policy, ragged.repeat(20), 5, 0.7, generator())
    # what follows a full stop counts too
    assert (rollout.responses == 1).any() and rollout.mask.all()
    assert not rollout.logprobs.requires_grad and not rollout.values.requires_grad
    assert sampling.replay(policy, rollout, 0.7).logprobs.requires_grad


# ---- several answers to one query ----------------------------------------------------------------


def apart(rollout):
    """The same rows, each computed for itself."""
    return dataclasses.replace(rollout, answers=1)


@pytest.mark.parametrize("micro_batch", [None, 3, 8])
@torch.no_grad()
def test_answers_to_one_query_are_those_of_rows_of_their_own(policy, ragged, micro_batch):
    """The query is read once and its cache repeated; every number is that of a row for each."""
    together = sampling.sample(policy, ragged, 5, 0.7, generator(), micro_batch, answers=3)
    alone = sampling.sample(policy, ragged.repeat(3), 5, 0.7, generator(), None)
    assert together.answers == 3 and len(together) == 12 and alone.answers == 1
    assert torch.equal(together.responses, alone.responses)
    assert torch.equal(together.queries.tokens, alone.queries.tokens)
    assert equal(together.logprobs, alone.logprobs) and equal(together.values, alone.values)


@pytest.mark.parametrize("micro_batch", [None, 4, 7])
def test_packed_answers_replay_as_rows_of_their_own_with_the_same_gradient(
    policy, ragged, micro_batch
):
    with torch.no_grad():
        rollout = sampling.sample(policy, ragged, 5, 0.7, generator(), answers=3)
    holes = rollout.mask.clone()
    holes[1, 3:] = holes[5, 2:] = False  # rows whose last tokens do not count
    rollout = dataclasses.replace(rollout, mask=holes)

    def read(rows):
        replay = sampling.replay(policy, rows, 0.7, micro_batch)
        total = (replay.logprobs * holes).sum() + (replay.values * holes).square().sum()
        return replay, torch.autograd.grad(total, list(policy.parameters()))

    (packed, packed_gradient), (rows, gradient) = read(rollout), read(apart(rollout))
    assert equal(packed.logprobs[holes], rows.logprobs[holes])
    assert equal(packed.values[holes], rows.values[holes])
    for a, b in zip(packed_gradient, gradient):
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_model_that_cannot_be_packed_gets_rows(policy, ragged, monkeypatch):
    rollout = sampling.sample(policy, ragged, 5, 0.7, generator(), answers=3)
    expected = sampling.replay(policy, rollout, 0.7)
    monkeypatch.setattr(type(policy), "packs", lambda self, width: False)
    monkeypatch.setattr(sampling, "_hidden_packed", None)  # would fail if it were called
    assert equal(sampling.replay(policy, rollout, 0.7).logprobs, expected.logprobs)


def test_groups_stay_together_or_fall_apart_into_rows(policy, ragged):
    rollout = sampling.sample(policy, ragged, 5, 0.7, generator(), answers=3)
    assert rollout[3:9].answers == rollout[torch.tensor([9, 10, 11, 0, 1, 2])].answers == 3
    for rows in (slice(1, 4), slice(0, 12, 2), torch.tensor([0, 1, 3]), torch.tensor([1, 2, 0]), 4):
        taken = rollout[rows]
        assert taken.answers == 1
        expected = rollout.responses[rows] if not isinstance(rows, int) else rollout.responses[4:5]
        assert torch.equal(taken.responses, expected)
    with pytest.raises(ValueError, match="3 neighbouring rows must share their query"):
        dataclasses.replace(rollout[torch.tensor([0, 3, 6])], answers=3)
