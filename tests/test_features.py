"""Features of answers, against transformers' own hidden states and against counts by hand."""

import random

import pytest
import torch
from test_families import CONFIGS, made

from rlhf_helpers import features, sampling, tasks
from rlhf_helpers.features import Contexts, Features
from rlhf_helpers.records import Comparison, Queries


def asked(count=12, options=3, seed=0):
    """Comparisons of the toy task: letters, of options of unequal length."""
    draw = random.Random(seed)

    def text(most):
        return "".join(draw.choice("abcdefgh") for _ in range(draw.randint(2, most)))

    return [
        Comparison("toy", text(5), tuple(text(5) + "." for _ in range(options)))
        for _ in range(count)
    ]


@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_states_are_means_of_transformers_hidden_states(family, letters, task):
    policy = made(family)
    policy.tokenizer = letters
    comparisons = asked(4)
    found = Features(policy, task, comparisons)
    size, t = found.sizes["states"], found.tensors
    states = found(comparisons)[..., :size] / t["states_scale"] + t["states_mean"]
    states = states * t["deviation"] + t["mean"]
    policy.lm.eval()
    for comparison, rows in zip(comparisons, states, strict=True):
        query = letters(comparison.query)["input_ids"]
        for option, ours in zip(comparison.options, rows, strict=True):
            ids = torch.tensor([query + letters(option)["input_ids"]])
            every = policy.lm(ids, output_hidden_states=True).hidden_states
            layers = sorted({0, (len(every) - 1) // 2, len(every) - 1})
            theirs = [every[i][0, len(query) :].mean(0) for i in layers]
            assert torch.allclose(ours, torch.cat(theirs), atol=1e-3)


def test_blocks_are_centred_and_of_one_size_within_comparisons(policy, task):
    comparisons = asked(20)
    made = Features(policy, task, comparisons)
    x = made(comparisons)
    assert torch.allclose(x.flatten(0, 1).mean(0), torch.zeros(x.shape[-1]), atol=1e-4)
    for block in x.split(list(made.sizes.values()), -1):
        within = (block - block.mean(1, keepdim=True)).square().sum(-1).mean()
        assert within.item() == pytest.approx(1, abs=1e-3)


def test_words_are_counted_wherever_they_stand(policy, task):
    comparisons = [*asked(20), Comparison("toy", "ab", ("aab.", "baa.", "cab."))]
    made = Features(policy, task, comparisons)
    size = made.sizes["words"]
    first, turned, other = made(comparisons)[-1, :, -size:]
    assert torch.allclose(first, turned, atol=1e-5)
    known, rows = made.words()
    by_token = dict(zip(known.tolist(), rows, strict=True))
    a, c = (policy.tokenizer(letter)["input_ids"][0] for letter in "ac")
    assert torch.allclose(other - first, by_token[c] - by_token[a], atol=1e-4)


def test_the_length_is_the_number_of_tokens(policy, task):
    comparisons = [*asked(20), Comparison("toy", "ab", ("aab.", "a.", "cabab."))]
    made = Features(policy, task, comparisons)
    place = made.sizes["states"]
    lengths = made(comparisons)[-1, :, place] / made.tensors["length_scale"]
    assert torch.allclose(lengths - lengths[0], torch.tensor([0.0, -2.0, 2.0]), atol=1e-4)


def test_contexts_are_means_before_the_token_and_rare_words_count_more():
    contexts = Contexts(6)
    tokens = torch.tensor([[[1, 2], [3, 1]], [[1, 1], [3, 5]]])  # (2, 2, 2)
    mask = torch.tensor([[[True, True], [True, True]], [[True, True], [True, False]]])
    before = torch.arange(16.0).view(2, 2, 2, 2)
    contexts.add(tokens, mask, before)
    assert contexts.counts.tolist() == [0, 4, 1, 2, 0, 0]
    expected = before[0, 0, 0] + before[0, 1, 1] + before[1, 0, 0] + before[1, 0, 1]
    assert torch.equal(contexts.sums[1], expected)
    # token 1 stands in three of the four answers (twice in one), 2 in one, 3 in two
    log = torch.log(torch.tensor([1.0, 4 / 4, 4 / 2, 4 / 3, 1.0, 1.0]))
    assert torch.allclose(contexts.rarity(), log)


def test_words_of_like_contexts_are_alike():
    contexts = Contexts(5)
    tokens = torch.arange(1, 5).repeat(20).view(1, 1, -1)
    places = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.5], [-1.0, -0.5]])
    contexts.add(
        tokens, torch.ones_like(tokens, dtype=torch.bool), places.repeat(20, 1)[None, None]
    )
    inner = contexts.vectors() @ contexts.vectors().T
    assert inner[0].abs().max() == 0  # never seen
    assert torch.allclose(inner.diagonal()[1:], torch.ones(4), atol=1e-4)
    assert inner[1, 2] > 0.9 > 0.1 > inner[1, 3]
    cosine = torch.nn.functional.cosine_similarity(places[0], places[1], dim=0)
    assert inner[1, 2].item() == pytest.approx(((cosine - 1) / 0.3).exp().item(), abs=1e-3)


def test_a_factored_kernel_is_the_kernel_and_fewer_columns_come_close():
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    kernel = (-torch.cdist(x, x).square() / 8).exp()
    full = features.pivoted_cholesky(lambda i: kernel[i], 30, 30)
    assert torch.allclose(full @ full.T, kernel, atol=1e-4)
    low = features.pivoted_cholesky(lambda i: kernel[i], 30, 8)
    values = torch.linalg.eigvalsh(kernel)
    off = (kernel - low @ low.T).diagonal().sum()
    assert low.shape == (30, 8) and values[:-8].sum() - 1e-4 <= off <= 4 * values[:-8].sum()


def test_what_was_read_is_not_read_again(policy, task, monkeypatch):
    comparisons = asked(6)
    made = Features(policy, task, comparisons[:4])
    first = made(comparisons)
    monkeypatch.setattr(made, "_read", lambda *a: pytest.fail("read again"))
    assert torch.equal(made(comparisons[::-1]), first.flip(0))


def test_features_stay_those_of_the_model_that_wrote_the_answers(policy, task):
    """PPO trains the policy in place; the features must not move with it."""
    comparisons = asked(6)
    made = Features(policy, task, comparisons[:4])
    before = Features(policy, task, comparisons[:4])(comparisons)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(-1.5)
    assert torch.allclose(made(comparisons), before, atol=1e-5)


@pytest.mark.parametrize("answers", [1, 3])
def test_rollouts_have_the_features_of_their_texts(policy, task, letters, answers):
    comparisons = asked(8)
    made = Features(policy, task, comparisons)
    ids = [letters(c.query)["input_ids"] for c in comparisons[:4]]
    width = max(map(len, ids))
    tokens, mask = torch.zeros(4, width, dtype=torch.long), torch.zeros(4, width).bool()
    for i, row in enumerate(ids):
        tokens[i, width - len(row) :], mask[i, width - len(row) :] = torch.tensor(row), True
    generator = torch.Generator().manual_seed(1)
    queries = Queries(tokens, mask)
    rollout = sampling.sample(policy, queries, 5, 1.0, generator, answers=answers)
    kept, _ = tasks.truncate(task, rollout.responses, letters)
    ours = made.of_rollout(rollout, kept)
    texts = tasks.texts(task, rollout.responses, letters)
    checked = 0
    for i, (row, text) in enumerate(zip(rollout.responses, texts, strict=True)):
        if not (row[kept[i]] == 0).any():  # decoding drops these, and no tokenizer calls them text
            query = comparisons[i // answers].query
            theirs = made([Comparison("toy", query, (text, text + "a"))])[0, 0]
            assert torch.allclose(ours[i], theirs, atol=1e-3)
            checked += 1
    assert checked >= 2


@torch.no_grad()
def test_a_tokens_context_is_the_last_state_before_it(policy, task, letters):
    """Packed as well as in rows of their own; the first token's context is the query's end."""
    comparisons = asked(4)
    contexts = Contexts(16)
    list(Features(policy, task, comparisons)._read_all(comparisons, contexts))
    sums = torch.zeros(16, 16)
    policy.lm.eval()
    for c in comparisons:
        query = letters(c.query)["input_ids"]
        for option in c.options:
            ids = query + letters(option)["input_ids"]
            states = policy.lm(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
            for place in range(len(query), len(ids)):
                sums[ids[place]] += states[place - 1]
    assert torch.allclose(contexts.sums, sums, atol=1e-3)
