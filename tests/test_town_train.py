"""Training on the endless stream: the optimizer, the schedule, the rows, a run that is resumed."""

import math
import random
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data"))

from town import stream, train  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    stream.make_tokenizer(folder, size=150)
    return train.AutoTokenizer.from_pretrained(folder)


def test_muon_moves_as_torchs_does():
    """torch's own multiplies in bfloat16, so the two agree to its two or three digits."""
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(24, n)) for n in (24, 72, 8)]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    start = [p.detach().clone() for p in ours]
    steps = (
        train.Muon(ours, lr=0.02),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.05, adjust_lr_fn="original"),
    )
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in steps:
            optimizer.step()
    for a, b, before in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.02 * (b - before).norm()


def test_orthogonal_keeps_the_directions_and_levels_the_singular_values():
    torch.manual_seed(1)
    matrix = torch.randn(12, 30)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    levelled = u.T @ train.orthogonal(matrix) @ v.T
    assert (levelled - levelled.diag().diag()).abs().max() < 1e-4
    assert 0.6 < levelled.diag().min() and levelled.diag().max() < 1.3


def test_schedule_by_hand():
    warm, batch = train.WARMUP_TOKENS, stream.BATCH_TOKENS
    assert train.schedule(0, 10**7, 10**6) == pytest.approx(batch / warm)
    assert train.schedule(5 * 10**6, 10**7, 10**6) == 1
    assert train.schedule(9_750_000, 10**7, 10**6) == pytest.approx(0.25)
    assert train.schedule(10**7 + 5, 10**7, 10**6) == 0


def test_drills_only_repeat():
    rng = random.Random(0)
    rows = [stream.drill(range(500), range(500, 540), rng) for _ in range(200)]
    assert {len(row) for row in rows} == {stream.DRILL_LENGTH}
    assert all(len(set(row)) <= stream.DRILL_LENGTH // 2 for row in rows)


def test_a_row_that_begins_as_a_prompt_is_the_rest_of_its_document(tokenizer):
    row = stream.encoded(tokenizer, "stories", "train", [3])[0]
    full_stop = tokenizer("It ends.")["input_ids"][-1]
    for seed in range(20):
        cut = stream.as_prompt(row, full_stop, random.Random(seed))
        assert cut == row[-len(cut) :] and len(cut) < len(row)
        assert row[-len(cut) - 1] in (full_stop, tokenizer.eos_token_id)


def test_losses_are_those_of_transformers_and_pads_count_for_nothing(tokenizer):
    model = train.build(tokenizer)
    rows = [row[:40] for row in stream.encoded(tokenizer, "posts", "train", range(3))]
    rows[1] = rows[1][:25]
    ours = train.token_losses(model, stream.pad(rows))
    parts = [
        model(torch.tensor([row]), labels=torch.tensor([row])).loss * (len(row) - 1) for row in rows
    ]
    assert len(ours) == sum(len(row) - 1 for row in rows)
    torch.testing.assert_close(ours.sum(), sum(parts), rtol=1e-5, atol=1e-4)


def test_an_untrained_model_says_again_what_followed_before(tokenizer):
    """Head 0 looks one place back, and the second time a token is a hundred times as likely."""
    model, size = train.build(tokenizer), len(tokenizer)
    phrase = torch.stack([torch.randperm(size)[:12] for _ in range(20)])
    rows = phrase.repeat(1, 3)
    losses = train.token_losses(model, rows).view(20, -1)
    assert losses[:, :11].mean() - losses[:, 12:].mean() > math.log(100)
    model.set_attn_implementation("eager")
    seen = model(rows, output_attentions=True).attentions[0][:, 0]  # (20, T, T)
    assert seen.diagonal(-1, 1, 2)[:, 1:].min() > 0.9


def test_an_untrained_model_begins_at_the_frequencies_of_tokens(tokenizer):
    """So training does not begin by learning them, which tears down whatever else stands."""
    shares = stream.frequencies(tokenizer)
    rows = [row[:60] for row in stream.encoded(tokenizer, "stories", "validation", range(20))]
    loss = train.token_losses(train.build(tokenizer), stream.pad(rows)).mean()
    plain = -shares[torch.cat([torch.tensor(row[1:]) for row in rows])].log().mean()
    assert abs(loss - plain) < 0.5 and plain < 7.5 < torch.tensor(len(tokenizer)).log()


def test_heads_that_copy_need_the_width_they_are_written_for(tokenizer, monkeypatch):
    monkeypatch.setattr(train, "WIDTH", 96)
    with pytest.raises(ValueError, match="written for a width of 192"):
        train.build(tokenizer)


def test_a_block_holds_fresh_documents_of_its_own(tokenizer, monkeypatch):
    monkeypatch.setattr(stream, "BLOCK", {"stories": 5, "posts": 6, "reports": 6})
    first, second = (stream.block(tokenizer, n, random.Random(n)) for n in (0, 1))
    first, second = ({tuple(r) for rows in b for r in rows.tolist()} for b in (first, second))
    assert not first & second
    assert max(len(row) for row in first | second) <= stream.CONTEXT


def test_stopped_and_resumed_equals_straight_through(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "LAYERS", 3)
    monkeypatch.setattr(stream, "DRILLS_ONLY", 1)
    monkeypatch.setattr(stream, "BLOCK", {"stories": 6, "posts": 6, "reports": 6})
    monkeypatch.setattr(train, "perplexity", lambda *_: 1.0)
    monkeypatch.setattr(train, "copying", lambda *_: 1.0)
    whole = stream.blocks

    def two_blocks_only(tokenizer, first):
        for number, batches in enumerate(whole(tokenizer, first), first):
            if number == 2:
                raise KeyboardInterrupt
            yield batches

    def run(folder):
        tokenizer.save_pretrained(folder)
        words = ["train.py", "--out", str(folder), "--tokens", "9000", "--decay", "5000"]
        monkeypatch.setattr(sys, "argv", words)
        train.main()
        return load_file(folder / "model.safetensors")

    straight = run(tmp_path / "straight")
    monkeypatch.setattr(stream, "blocks", two_blocks_only)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped")
    monkeypatch.setattr(stream, "blocks", whole)
    resumed = run(tmp_path / "stopped")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
