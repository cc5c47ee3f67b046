"""Train the byte-level BPE tokenizer on the training split and save it in transformers' format
(part of `make data`)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

DATA = Path(__file__).resolve().parent
VOCABULARY = 3072
CONTEXT = 256
END, PAD = "<|endoftext|>", "<|pad|>"


def documents(split: str) -> list[str]:
    """Return every document of a split as the base model reads it: stories as they are, posts and
    reports with their summary."""
    corpus = DATA / "corpus"
    stories = pd.read_parquet(corpus / f"stories-{split}.parquet")
    posts = pd.read_parquet(corpus / f"posts-{split}.parquet")
    reports = pd.read_parquet(corpus / f"reports-{split}.parquet")
    return [
        *stories["text"],
        *(
            f"{text}\n\nTL;DR: {summary}"
            for text, summary in zip(posts["text"], posts["summary"], strict=True)
        ),
        *(
            f"Article:\n\n{text}\n\nTL;DR: {summary}"
            for text, summary in zip(reports["text"], reports["summary"], strict=True)
        ),
    ]


def main() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PAD],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents("train"), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        bos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=CONTEXT,
    )
    fast.save_pretrained(DATA / "base")
    sample = documents("validation")[0]
    print(
        f"{len(fast)} tokens; {len(sample.split()) / len(fast(sample)['input_ids']):.2f} words a "
        "token"
    )


if __name__ == "__main__":
    main()
