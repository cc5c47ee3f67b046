"""With the real libraries: what we save opens in plain transformers and says the same; our
preferences train TRL's own trainers."""

import math

import pytest
import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from rlhf_helpers import labelers, models, ppo, reward, sampling, tasks
from rlhf_helpers.cli import loading
from rlhf_helpers.labels import exchange
from rlhf_helpers.models import Policy, RewardModel
from rlhf_helpers.records import Comparison, Label
from rlhf_helpers.reward import RewardConfig
from rlhf_helpers.runtime.runs import Run

PROMPTS = ["The harbour was quiet.", "Nobody knew where the cat had gone, and it was late."]


def made(family):
    tokenizer = models.load_tokenizer()
    sizes = dict(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=0,
    )
    config = {
        "gpt2": lambda: transformers.GPT2Config(
            vocab_size=len(tokenizer),
            n_embd=32,
            n_layer=2,
            n_head=2,
            n_positions=256,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=0,
        ),
        "llama": lambda: transformers.LlamaConfig(**sizes),
        "qwen2": lambda: transformers.Qwen2Config(**sizes, num_key_value_heads=1),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**sizes),
    }[family]()
    torch.manual_seed(0)
    policy = Policy(AutoModelForCausalLM.from_config(config))
    policy.tokenizer = tokenizer
    return policy, tokenizer


@pytest.fixture
def comparisons():
    """Comparisons with simulated labels, as the notebooks make them."""
    policy, tokenizer = made("gpt2")
    task = tasks.get("sentiment")
    found = labelers.collect(policy, task, tasks.queries(task, tokenizer, 12, split="test"))
    return found, labelers.simulated(task).label(found)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "gpt_neox"])
def test_a_tuned_policy_writes_the_same_greedy_text_in_plain_transformers_and_in_a_pipeline(
    family, tmp_path
):
    policy, tokenizer = made(family)
    task = tasks.get("sentiment")
    config = ppo.PPOConfig(episodes=16, batch=8, minibatches=1, epochs=1, lr=1e-3)
    pool = tasks.queries(task, tokenizer, 8, split="test")
    before = policy.lm.get_input_embeddings().weight.clone()
    ppo.tune(
        policy,
        lambda r: (r.responses % 2 == 0).float().mean(-1),
        pool,
        task,
        config,
        Run(quiet=True, device="cpu"),
    )
    assert not torch.equal(policy.lm.get_input_embeddings().weight, before)
    loading.save(policy, tmp_path)
    folder = str(tmp_path / "model")

    rollout = sampling.sample(policy, tasks.encode(task, PROMPTS, tokenizer), 12, temperature=0)
    ours = tokenizer.batch_decode(rollout.responses)
    assert tokenizer.eos_token not in "".join(ours)  # generate would stop there, we do not

    lm, plain = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    batch = plain(
        PROMPTS, return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False
    )
    theirs = lm.generate(**batch, max_new_tokens=12, do_sample=False)
    assert plain.batch_decode(theirs[:, batch["input_ids"].shape[1] :]) == ours
    write = pipeline("text-generation", model=folder, device="cpu")
    said = [
        write(p, max_new_tokens=12, do_sample=False, return_full_text=False)[0]["generated_text"]
        for p in PROMPTS
    ]
    assert said == [plain.decode(row, skip_special_tokens=True) for row in rollout.responses]


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "gpt_neox"])
@torch.no_grad()
def test_a_reward_model_gives_the_same_order_in_plain_transformers(family, tmp_path):
    policy, tokenizer = made(family)
    model = RewardModel.from_policy(policy, seed=1)
    model.gain.fill_(3.0)
    loading.save(model, tmp_path)
    texts = [
        f"The harbour was {word}."
        for word in ("quiet", "loud and full of gulls", "a ruin", "bright, and glad of it", "gone")
    ]
    encoded = [tokenizer(t)["input_ids"] for t in texts]
    ours = torch.stack(
        [
            model(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))[0]
            for ids in encoded
        ]
    )

    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    plain = AutoTokenizer.from_pretrained(tmp_path / "model", padding_side="right")
    batch = plain(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    theirs = classifier(**batch).logits.squeeze(-1)
    assert torch.equal(ours.argsort(), theirs.argsort()) and torch.allclose(
        ours, 3 * theirs, atol=1e-4
    )
    assert torch.allclose(
        RewardModel.load(tmp_path / "model")(batch["input_ids"], batch["attention_mask"].bool()),
        ours,
        atol=1e-4,
    )


def test_a_fitted_reward_model_keeps_its_order_too(comparisons, tmp_path):
    policy, tokenizer = made("gpt2")
    asked, labels = comparisons
    model = RewardModel.from_policy(policy)
    data = reward.encode(tasks.get("sentiment"), asked, labels, tokenizer)
    reward.fit(model, data, RewardConfig(batch=4, lr=1e-3), Run(quiet=True, device="cpu"))
    ours = reward.predictions(model, data)
    loading.save(model, tmp_path)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    for comparison, scores in zip(asked, ours):
        with torch.no_grad():
            theirs = torch.cat(
                [
                    classifier(
                        torch.tensor(
                            [tokenizer(comparison.query)["input_ids"] + tokenizer(o)["input_ids"]]
                        )
                    ).logits[0]
                    for o in comparison.options
                ]
            )
        assert torch.allclose(theirs, scores, atol=1e-4)


# ---- datasets ------------------------------------------------------------------------------------


def test_preferences_come_back_from_datasets_as_they_went(comparisons, tmp_path):
    datasets = pytest.importorskip("datasets")
    asked, labels = comparisons
    exchange.save_dataset(tmp_path / "mine", asked, labels)
    rows = datasets.load_dataset(
        str(tmp_path / "mine"), "comparisons", split="train", cache_dir=str(tmp_path / "cache")
    ).to_list()
    again = [
        Comparison(r["task"], r["query"], tuple(r["options"]), r["source"], r["round"])
        for r in rows
    ]
    assert (
        again == asked
        and [r["choice"] for r in rows] == [x.choice for x in labels]
        and all(r["simulated"] for r in rows)
    )
    whole = exchange.dataset(asked, labels, pairs=True)
    whole.save_to_disk(str(tmp_path / "disk"))
    assert datasets.load_from_disk(str(tmp_path / "disk")).to_list() == whole.to_list()


# ---- TRL -----------------------------------------------------------------------------------------


@pytest.fixture
def trl():
    return pytest.importorskip(
        "trl",
        reason="TRL is not installed: its trainers are not tested on our preferences",
    )


@pytest.fixture
def pairs(comparisons, tmp_path):
    import datasets

    exchange.write(tmp_path / "pairs.jsonl", "pairs", *comparisons)
    return datasets.load_dataset(
        "json",
        data_files=str(tmp_path / "pairs.jsonl"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )


SETTINGS = dict(
    max_steps=3,
    per_device_train_batch_size=4,
    learning_rate=1e-3,
    logging_steps=1,
    save_strategy="no",
    report_to=[],
    use_cpu=True,
    bf16=False,
    disable_tqdm=True,
    gradient_checkpointing=False,
)


def trained(trainer):
    """Train and return the losses; the weights must have moved."""
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters()))
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(losses) == 3 and all(math.isfinite(loss) for loss in losses)
    return losses


def test_exported_preferences_train_trls_reward_trainer_from_our_reward_model(trl, pairs, tmp_path):
    policy, tokenizer = made("gpt2")
    loading.save(RewardModel.from_policy(policy), tmp_path)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    config = trl.RewardConfig(output_dir=str(tmp_path / "out"), max_length=128, **SETTINGS)
    trained(trl.RewardTrainer(classifier, config, train_dataset=pairs, processing_class=tokenizer))


def test_exported_preferences_train_trls_dpo_trainer_from_our_policy(trl, pairs, tmp_path):
    policy, tokenizer = made("gpt2")
    loading.save(policy, tmp_path)
    lm = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    config = trl.DPOConfig(output_dir=str(tmp_path / "out"), max_length=128, **SETTINGS)
    losses = trained(
        trl.DPOTrainer(lm, args=config, train_dataset=pairs, processing_class=tokenizer)
    )
    # before the first update both models are the same
    assert losses[0] == pytest.approx(math.log(2), abs=0.05)


def test_labels_of_people_and_simulated_ones_stay_told_apart_on_the_way_out(tmp_path):
    asked = [Comparison("sentiment", "q", ("a", "b"))]
    labels = [Label(asked[0].id, "ada", 0), Label(asked[0].id, "simulated", 1, simulated=True)]
    assert [row["simulated"] for row in exchange.dataset(asked, labels, pairs=True)] == [
        False,
        True,
    ]


def test_a_saved_reward_model_rewards_a_padded_batch_alike_in_plain_transformers(
    comparisons, tmp_path
):
    """Its tokenizer padded on the left, so plain transformers counted positions from the pads."""
    asked, labels = comparisons
    policy, tokenizer = made("gpt2")
    model = RewardModel.from_policy(policy, seed=1)
    data = reward.encode(tasks.get("sentiment"), asked, labels, tokenizer)
    ours = reward.predictions(model, data)  # gain 1, bias 0: as plain transformers has it
    loading.save(model, tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert reader.padding_side == "right" and tokenizer.padding_side == "left"
    for comparison, scores in zip(asked, ours):
        texts = [comparison.query + option for option in comparison.options]
        batch = reader(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        assert len({len(reader(text)["input_ids"]) for text in texts}) > 1 or len(texts) < 2
        with torch.no_grad():
            theirs = plain(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        assert torch.allclose(theirs.squeeze(-1), scores, atol=1e-4)
