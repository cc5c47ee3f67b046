"""Train the base model on the corpus from nothing (`make base`): a small GPT-2, packed documents, one seed.

Writes transformers' format to `data/base`; the loss shows in the progress bar, the validation perplexity every 250 steps.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm
from train_tokenizer import CONTEXT, DATA, END, documents
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

SEED = 2019
WIDTH, LAYERS, HEADS = 192, 4, 6


def build(vocabulary: int, end: int) -> GPT2LMHeadModel:
    torch.manual_seed(SEED)
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=CONTEXT, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
        activation_function="gelu_pytorch_tanh",  # the same function as "gelu_new", fused
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=end, eos_token_id=end, pad_token_id=end + 1,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def packed(split: str, tokenizer) -> torch.Tensor:
    """Return one long row of tokens: documents in a fixed random order, an end token before each."""
    texts = documents(split)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(SEED))
    end = tokenizer.convert_tokens_to_ids(END)
    encoded = tokenizer([texts[i] for i in order])["input_ids"]
    return torch.tensor([t for ids in encoded for t in [end, *ids]])


def batches(tokens: torch.Tensor, batch: int, epoch: int) -> list[torch.Tensor]:
    """Cut the row into blocks at a shift of its own per epoch, shuffle, and group: (batch, context + 1) each."""
    generator = torch.Generator().manual_seed(SEED + epoch)
    shift = int(torch.randint(CONTEXT, (1,), generator=generator))
    count = (len(tokens) - shift - 1) // CONTEXT
    order = torch.randperm(count, generator=generator) * CONTEXT + shift
    return [torch.stack([tokens[i : i + CONTEXT + 1] for i in rows]) for rows in order.split(batch) if len(rows) == batch]


@torch.no_grad()
def perplexity(model, tokens: torch.Tensor, device: str) -> float:
    blocks = tokens[: (len(tokens) - 1) // CONTEXT * CONTEXT + 1].unfold(0, CONTEXT + 1, CONTEXT)
    losses = [loss_of(model, rows.to(device)) * len(rows) for rows in blocks.split(64)]
    return math.exp(float(sum(losses)) / len(blocks))


def loss_of(model, rows: torch.Tensor) -> torch.Tensor:
    logits = model(rows[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())


def optimizers(model: GPT2LMHeadModel, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks (it needed half the tokens of AdamW here), AdamW for the rest."""
    matrices = [p for name, p in model.named_parameters() if ".h." in name and p.dim() == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.05, adjust_lr_fn="original"),
        torch.optim.AdamW(rest, lr=0.15 * lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3400)
    parser.add_argument("--batch", type=int, default=16, help="blocks of 256 tokens")
    parser.add_argument("--lr", type=float, default=0.02, help="Muon's peak; AdamW's is 0.15 of it")
    parser.add_argument("--out", type=Path, default=DATA / "base")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(DATA / "base")
    train, validation = packed("train", tokenizer), packed("validation", tokenizer)
    model = build(len(tokenizer), tokenizer.eos_token_id).to(device)
    optims = optimizers(model, args.lr)
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda i: min(1, (i + 1) / 50) * (1 - i / args.steps)) for o in optims]
    per_epoch = len(batches(train, args.batch, 0))
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters; {len(train):,} tokens; {args.steps / per_epoch:.2f} epochs", flush=True
    )
    stream = (rows for epoch in range(math.ceil(args.steps / per_epoch)) for rows in batches(train, args.batch, epoch))
    start = time.time()
    for step, rows in zip(bar := tqdm(range(1, args.steps + 1), mininterval=10), stream, strict=False):
        loss = loss_of(model, rows.to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optims, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
        if step % 250 == 0 or step == args.steps:
            measured = perplexity(model, validation, device)
            print(f"step {step}: validation perplexity {measured:.3f}, {time.time() - start:.0f} s", flush=True)
            model.save_pretrained(args.out)
    record = {
        "parameters": sum(p.numel() for p in model.parameters()), "steps": step, "tokens": step * args.batch * CONTEXT,
        "seconds": round(time.time() - start), "device": device, "validation_perplexity": round(measured, 3),
        "command": f"python data/train_base.py --steps {args.steps} --batch {args.batch} --lr {args.lr}",
    }  # fmt: skip
    (args.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
