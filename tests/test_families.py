"""Any causal language model: families of transformers, made small and random, read as transformers
itself reads them."""

import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as parts
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from rlhf_helpers import models, ppo, reward, sampling, tasks
from rlhf_helpers.cli import loading
from rlhf_helpers.models import Policy, RewardModel
from rlhf_helpers.ppo import PPOConfig
from rlhf_helpers.records import Comparison, Label
from rlhf_helpers.runtime import families
from rlhf_helpers.runtime.ranks import Ranks
from rlhf_helpers.runtime.runs import Run

SIZES = dict(
    vocab_size=16,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=32,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=16,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=32,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "llama": lambda: transformers.LlamaConfig(**SIZES, num_key_value_heads=1),
    "qwen2": lambda: transformers.Qwen2Config(
        **SIZES, num_key_value_heads=1, tie_word_embeddings=True
    ),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, num_key_value_heads=1, head_dim=8),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(
        **SIZES, rotary_pct=0.25, use_parallel_residual=True
    ),
    "mistral": lambda: transformers.MistralConfig(
        **SIZES, num_key_value_heads=1, sliding_window=None
    ),
    "opt": lambda: transformers.OPTConfig(
        vocab_size=16,
        hidden_size=16,
        ffn_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        word_embed_proj_dim=8,
        max_position_embeddings=32,
        pad_token_id=1,
    ),
    "bloom": lambda: transformers.BloomConfig(vocab_size=16, hidden_size=16, n_layer=2, n_head=2),
}


def made(family, seed=0, **options):
    torch.manual_seed(seed)
    lm = AutoModelForCausalLM.from_config(CONFIGS[family]())
    with torch.no_grad():
        for weight in lm.parameters():
            weight += 0.2 * torch.randn(weight.shape)
    return Policy(lm.float(), **options)


EASY = PPOConfig(episodes=32 * 10, batch=32, minibatches=1, lr=1e-2, kl_coef=0.02, kl_target=None)


def even_tokens(rollout):
    return (rollout.responses % 2 == 0).float().mean(-1)


def assert_it_learns(lines):
    """Demand that half of what was missing to the highest score is gained."""
    first, last = lines[0]["score"], sum(line["score"] for line in lines[-3:]) / 3
    assert last > first + 0.5 * (1 - first), (first, last)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_logits_with_left_padding_are_those_of_transformers_without(family, ragged):
    policy = made(family)
    families.check(policy)
    policy.lm.eval()
    logits = policy.logits(policy.hidden(torch.where(ragged.mask, ragged.tokens, 7), ragged.mask))
    for row, keep, ours in zip(ragged.tokens, ragged.mask, logits):
        assert torch.allclose(ours[keep], policy.lm(row[keep][None]).logits[0], atol=1e-4)


@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_sample_and_replay_are_twins_in_every_family(family, ragged):
    policy = made(family)
    rollout = sampling.sample(policy, ragged.repeat(2), 6, 0.7, generator())
    replay = sampling.replay(policy, rollout, 0.7)
    assert torch.allclose(replay.logprobs, rollout.logprobs, atol=1e-4) and torch.allclose(
        replay.values, rollout.values, atol=1e-4
    )


@pytest.mark.parametrize("family", CONFIGS)
def test_ppo_improves_a_trivial_reward_in_every_family(family, ragged, task):
    policy = made(family)
    assert_it_learns(
        ppo.tune(policy, even_tokens, ragged.repeat(8), task, EASY, Run(quiet=True, device="cpu"))
    )


@pytest.mark.parametrize("family", [f for f in CONFIGS if f != "bloom"])
@torch.no_grad()
def test_reward_models_and_saved_policies_of_every_family(family, ragged, tmp_path):
    policy = made(family)
    policy.value_head.weight += 0.3
    policy.save(tmp_path / "policy")
    first, second = (
        p.values(p.hidden(ragged.tokens, ragged.mask))
        for p in (policy, Policy.load(tmp_path / "policy"))
    )
    assert torch.allclose(first, second)
    model = RewardModel.from_policy(policy, seed=1)
    plain = model(ragged.tokens, ragged.mask)
    model.save(tmp_path / "reward")
    again = RewardModel.load(tmp_path / "reward")
    assert torch.allclose(again(ragged.tokens, ragged.mask), plain, atol=1e-5)
    alone = torch.stack(
        [
            model(row[keep][None], keep[keep][None])[0]
            for row, keep in zip(ragged.tokens, ragged.mask)
        ]
    )
    assert torch.allclose(alone, plain, atol=1e-4)


WINDOWED = {
    "mistral": lambda: transformers.MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=4),
    "qwen2": lambda: transformers.Qwen2Config(
        **SIZES,
        num_key_value_heads=1,
        use_sliding_window=True,
        sliding_window=4,
        max_window_layers=1,
    ),
    "falcon": lambda: transformers.FalconConfig(
        vocab_size=16, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, alibi=True
    ),
}


@pytest.mark.parametrize("family", [f for f in CONFIGS if f != "bloom"] + list(WINDOWED))
@torch.no_grad()
def test_options_packed_beside_their_query_get_the_rewards_of_rows_of_their_own(
    family, monkeypatch
):
    """A sliding window was forgotten where options were packed: rewards were learned by one
    function and given by another."""
    monkeypatch.setattr(f"{__name__}.CONFIGS", CONFIGS | WINDOWED)
    model = RewardModel.from_policy(made(family), seed=1)
    tokens, mask = (
        torch.randint(3, 16, (2, 3, 12), generator=generator()),
        torch.ones(2, 3, 12, dtype=torch.bool),
    )
    tokens[:, :, :8], mask[1, :, :3], mask[0, 1, 10:] = tokens[:, :1, :8], False, False
    ours = reward.option_rewards(model, reward.Encoded(tokens, mask, torch.tensor([0, 1]), 8))
    for option, keep, got in zip(tokens.flatten(0, 1), mask.flatten(0, 1), ours.flatten()):
        plain = model.classifier.score(
            model.classifier.base_model(option[keep][None]).last_hidden_state
        )[0, -1, 0]
        assert torch.allclose(got, plain, atol=1e-4)


def test_families_that_read_their_dropout_from_the_config_do_not_drop_either():
    """Falcon's reward model gave the same text another reward each time."""
    config = transformers.FalconConfig(
        vocab_size=16,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_dropout=0.3,
        attention_dropout=0.3,
    )
    model = RewardModel.from_policy(Policy(AutoModelForCausalLM.from_config(config))).train()
    tokens = torch.arange(12)[None]
    assert torch.equal(model(tokens, tokens >= 0), model(tokens, tokens >= 0))


def test_a_reward_model_starts_from_the_weights_of_the_policy_whatever_its_config_was_saved_in():
    """A config that says bfloat16 rounded them."""
    policy = made("llama")
    policy.lm.config.dtype = torch.bfloat16
    trunk = RewardModel.from_policy(policy).classifier.base_model
    assert all(
        torch.equal(a, b)
        for a, b in zip(trunk.parameters(), policy.lm.base_model.parameters(), strict=True)
    )


# ---- what is no causal language model ------------------------------------------------------------


def test_a_model_that_sees_the_future_is_refused():
    config = transformers.BertConfig(
        vocab_size=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    with pytest.raises(
        ValueError, match="bert is no causal language model: its early tokens see later ones"
    ):
        families.check(Policy(transformers.BertLMHeadModel(config)))


def test_an_encoder_decoder_is_refused_by_name(tmp_path):
    transformers.T5Config(
        vocab_size=16, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds no causal language model"):
        Policy.load(tmp_path)


def test_a_family_that_changes_its_logits_after_the_head_is_refused():
    config = transformers.Gemma2Config(
        **SIZES, num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.5
    )
    torch.manual_seed(0)
    policy = Policy(AutoModelForCausalLM.from_config(config))
    with pytest.raises(
        ValueError, match="family 'gemma2' are not supported: logits come out otherwise"
    ):
        families.check(policy)


def test_a_family_without_keys_and_values_is_refused():
    """It ended in a traceback about sizes of tensors."""
    config = transformers.MambaConfig(
        vocab_size=16, hidden_size=16, num_hidden_layers=1, state_size=4
    )
    torch.manual_seed(0)
    policy = Policy(AutoModelForCausalLM.from_config(config))
    with pytest.raises(ValueError, match="family 'mamba' are not supported"):
        families.check(policy)


def test_a_family_without_a_sequence_classifier_says_so():
    config = transformers.CodeGenConfig(
        vocab_size=16, n_embd=16, n_layer=1, n_head=4, n_positions=32, rotary_dim=4
    )
    with pytest.raises(
        ValueError, match="no sequence classifier, which a reward model is, of the family 'codegen'"
    ):
        RewardModel.from_policy(Policy(AutoModelForCausalLM.from_config(config)))


def test_a_model_that_is_neither_here_nor_reachable_says_how_to_bring_it(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="hf download nobody/no-model --local-dir"):
        Policy.load("nobody/no-model")
    with pytest.raises(FileNotFoundError, match="hf download nobody/no-model --local-dir"):
        models.load_tokenizer("nobody/no-model")


def test_unknown_precisions_are_refused():
    with pytest.raises(ValueError, match="choose fp32"):
        made("gpt2", precision="fp8")
    with pytest.raises(ValueError, match="lora is -1: it is a rank"):
        made("gpt2", lora=-1)


# ---- tokenizers ----------------------------------------------------------------------------------

WORDS = ["<s>", "</s>", "TL;DR:", "good", "bad", "day", ".", "a", "Article:"]


@pytest.fixture
def with_begin(tmp_path):
    """A tokenizer as Llama's: a begin token before every text, and no pad token."""
    raw = Tokenizer(parts.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="a"))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(".", "isolated")]
    )
    raw.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(tmp_path)
    return models.load_tokenizer(tmp_path)


@torch.no_grad()
def test_a_saved_reward_model_knows_the_pad_of_its_tokenizer_where_the_end_is_a_list(
    with_begin, tmp_path
):
    """Llama 3's config has several ends and no pad: plain transformers has to know which token the
    tokenizer pads with."""
    policy = made("llama")
    policy.lm.config.eos_token_id, policy.lm.config.pad_token_id = [1, 2], None
    model = RewardModel.from_policy(policy, seed=1)
    model.tokenizer = with_begin
    loading.save(model, tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    texts = ["good day .", "bad", "day day good bad ."]
    batch = with_begin(
        texts, return_tensors="pt", padding=True, padding_side="right", return_token_type_ids=False
    )
    alone = [with_begin(text)["input_ids"] for text in texts]
    ours = torch.cat(
        [model(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool)) for ids in alone]
    )
    assert torch.allclose(plain(**batch).logits.squeeze(-1), ours, atol=1e-5)


FRAMED = tasks.Task("toy", "none", 8, 4, ".", 1, prefix="Article: ", suffix=" TL;DR:")


def test_a_begin_token_stands_once_at_the_front_and_never_inside(with_begin):
    batch = tasks.encode(FRAMED, ["good day .", "bad"], with_begin)
    rows = [[WORDS[i] for i in row[keep]] for row, keep in zip(batch.tokens, batch.mask)]
    assert rows == [
        ["<s>", "Article:", "good", "day", ".", "TL;DR:"],
        ["<s>", "Article:", "bad", "TL;DR:"],
    ]
    assert with_begin.pad_token_id == 1 and batch.tokens[1, 0] == 1 and not batch.mask[1, 0]
    assert tasks.prompt_ids(
        tasks.Task("t", "none", 8, 4, ".", 1, start_text="."), "bad . good day", with_begin
    ) == [3, 5]


def test_the_reward_model_reads_the_begin_token_query_and_answer_and_nothing_else(with_begin):
    asked = Comparison("toy", "good day", ("bad .", "good ."))
    encoded = reward.encode(FRAMED, [asked], [Label(asked.id, "x", 1)], with_begin)
    assert [
        [WORDS[i] for i in row[keep]] for row, keep in zip(encoded.tokens[0], encoded.mask[0])
    ] == [["<s>", "good", "day", "bad", "."], ["<s>", "good", "day", "good", "."]]
    seen = []

    def spy(inner, tokens, mask):
        seen.extend(
            [WORDS[i] if i < len(WORDS) else "?" for i in row[keep]]
            for row, keep in zip(tokens, mask)
        )
        return torch.zeros(*tokens.shape, inner.score.in_features)

    policy = made("llama")
    model = RewardModel.from_policy(policy)
    model.run_trunk = spy
    rollout = sampling.sample(policy, tasks.encode(FRAMED, ["good day", "bad"], with_begin), 2, 0)
    model.tokenizer = with_begin
    reward._read(model, rollout, rollout.mask, None)
    answers = [[WORDS[i] if i < len(WORDS) else "?" for i in row] for row in rollout.responses]
    assert seen == [["<s>", "good", "day", *answers[0]], ["<s>", "bad", *answers[1]]]


def test_a_tokenizer_with_neither_pad_nor_end_pads_with_token_0(tmp_path):
    raw = Tokenizer(parts.WordLevel({"x": 0, "y": 1}, unk_token="x"))
    PreTrainedTokenizerFast(tokenizer_object=raw).save_pretrained(tmp_path)
    tokenizer = models.load_tokenizer(tmp_path)
    assert tokenizer.pad_token_id == 0 and tokenizer.padding_side == "left"


def test_an_ending_token_is_looked_up_as_it_stands_inside_a_text():
    """Llama 2 puts a space before the first piece: "." alone is another token than the one that
    ends a sentence."""

    class Pieces:
        vocabulary = {"\u2581.": 0, ".": 1, "\u2581a": 2}

        def __call__(self, text, add_special_tokens=True, verbose=True):
            return {"input_ids": {".": [0], "a": [2], "a.": [2, 1]}[text]}

    assert tasks._token(".", Pieces()) == 1


@torch.no_grad()
def test_the_fused_gelu_is_the_same_function(ragged):
    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(CONFIGS["gpt2"]()).eval()
    before = lm(ragged.tokens).logits
    assert "NewGELU" in repr(lm) and "NewGELU" not in repr(Policy(lm))
    assert torch.allclose(lm(ragged.tokens).logits, before, atol=1e-5)


# ---- large models on small machines --------------------------------------------------------------


def losses_and_gradients(policy, ragged, task):
    rollout = sampling.sample(made("gpt2"), ragged.repeat(2), 5, 0.7, generator())
    config = PPOConfig(batch=8, minibatches=1, episodes=8)
    learned = ppo.targets(rollout, torch.randn(8, 5, generator=generator(1)), config)
    loss, _ = ppo.losses(policy, rollout, *learned, task, config)
    loss.backward()
    return loss.detach(), {
        name: p.grad for name, p in policy.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "gpt_neox"])
def test_checkpointing_changes_no_number_and_sampling_still_has_its_cache(family, ragged, task):
    plain, frugal = made(family), made(family, checkpointing=True)
    calls = []
    frugal.lm.base_model.register_forward_pre_hook(
        lambda m, a, k: calls.append((m.training, k["use_cache"])), with_kwargs=True
    )
    rollouts = [sampling.sample(p, ragged, 5, 0.7, generator()) for p in (plain, frugal)]
    assert torch.equal(rollouts[0].responses, rollouts[1].responses) and set(calls) == {
        (False, True)
    }
    (loss, grads), (loss2, grads2) = (
        losses_and_gradients(p, ragged, task) for p in (plain, frugal)
    )
    assert calls[-1] == (True, False) and torch.equal(loss, loss2)
    assert (
        all(torch.allclose(grads[name], grads2[name], atol=1e-6) for name in grads)
        and grads.keys() == grads2.keys()
    )


def saved_for_backward(policy, rollout):
    kept = {}
    own = {p.untyped_storage().data_ptr() for p in policy.parameters()}

    def keep(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        replay = sampling.replay(policy, rollout)
    assert replay.logprobs.requires_grad
    return sum(size for place, size in kept.items() if place not in own)


def test_checkpointing_saves_memory(ragged):
    rollout = sampling.sample(made("gpt2"), ragged.repeat(4), 6, 0.7, generator())
    assert saved_for_backward(made("gpt2", checkpointing=True), rollout) < 0.7 * saved_for_backward(
        made("gpt2"), rollout
    )


def test_bf16_computes_in_bf16_and_learns_in_fp32(ragged, task):
    exact, fast = made("gpt2"), made("gpt2", precision="bf16")
    kinds = []
    fast.lm.base_model.h[0].attn.c_attn.register_forward_hook(
        lambda m, i, out: kinds.append(out.dtype)
    )
    rollout = sampling.sample(fast, ragged, 5, 0.7, generator())
    assert (
        set(kinds) == {torch.bfloat16}
        and rollout.logprobs.dtype == rollout.values.dtype == torch.float32
    )
    with torch.no_grad():
        hidden = fast.hidden(ragged.tokens, ragged.mask)
        # real GPT-2's lie near -100: no place for 8 bits
        assert torch.equal(fast.logits(hidden), fast.lm.lm_head(hidden.float()))
        first, second = (sampling.replay(p, rollout, 0.7).logprobs for p in (exact, fast))
    assert 0 < (first - second).abs().max() < 0.1  # bfloat16 has 8 bits: it is not exact, but near
    assert torch.allclose(second, rollout.logprobs, atol=0.1)
    _, grads = losses_and_gradients(fast, ragged, task)
    assert (
        {g.dtype for g in grads.values()} == {p.dtype for p in fast.parameters()} == {torch.float32}
    )
    assert fast.frozen_copy().precision == RewardModel.from_policy(fast).precision == "bf16"


@pytest.mark.parametrize("checkpointing", [False, True])
def test_on_a_cpu_attention_stays_in_float32(ragged, task, checkpointing):
    """Its gradient in bfloat16 was so slow that bf16 gained nothing; under checkpointing the second
    forward pass must do the same."""
    policy = made("gpt2", precision="bf16", checkpointing=checkpointing)
    rollout = sampling.sample(policy, ragged, 5, 0.7, generator())
    kinds = set()

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch.nn.functional.scaled_dot_product_attention:
                kinds.add(args[0].dtype)
            return func(*args, **(kwargs or {}))

    with Watch():
        sampling.replay(policy, rollout, 0.7).logprobs.sum().backward()
    assert kinds == {torch.float32}


@torch.no_grad()
def test_the_reference_in_bf16_is_the_policy_bit_for_bit_so_that_the_first_kl_is_zero(ragged):
    policy = made("llama", precision="bf16")
    rollout = sampling.sample(policy, ragged, 5, 0.7, generator())
    assert torch.equal(
        sampling.replay(policy, rollout, 0.7).logprobs,
        sampling.replay(policy.frozen_copy(), rollout, 0.7).logprobs,
    )


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "gpt_neox"])
def test_lora_trains_little_learns_and_is_saved_as_an_ordinary_model(
    family, ragged, task, tmp_path
):
    pytest.importorskip("peft")
    policy, before = (
        made(family, lora=4),
        {k: v.clone() for k, v in made(family).lm.state_dict().items()},
    )
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name or name.startswith("value_head") for name in trained)
    reference = policy.frozen_copy()
    shared = {p.data_ptr() for p in policy.parameters()} & {
        p.data_ptr() for p in reference.parameters()
    }
    assert len(shared) >= len(before) - 1  # the large weights exist once (tied ones count once)
    lines = ppo.tune(
        policy,
        even_tokens,
        ragged.repeat(8),
        task,
        EASY,
        Run(quiet=True, device="cpu"),
        reference=reference,
    )
    assert abs(lines[0]["kl_nats_per_response"]) < 1e-4 and lines[-1]["kl_nats_per_response"] > 0.1
    assert_it_learns(lines)
    policy.save(tmp_path)
    assert "lora" not in json.dumps(
        sorted(AutoModelForCausalLM.from_pretrained(tmp_path).state_dict())
    )
    loaded = Policy.load(tmp_path)
    with torch.no_grad():
        ours, theirs = (
            p.logits(p.hidden(ragged.tokens, ragged.mask))[ragged.mask] for p in (policy, loaded)
        )
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_bf16_lora_checkpointing_and_micro_batches_together_give_the_gradient_of_the_whole(
    family, ragged, task
):
    pytest.importorskip("peft")

    def gradient(micro_batch=None, **options):
        policy = made(family, lora=4, **options)
        with torch.no_grad():
            for name, weight in sorted(policy.named_parameters()):
                # as after some steps
                weight += (
                    0.1
                    * ("lora_B" in name)
                    * torch.randn(weight.shape, generator=generator(len(name)))
                )
        rollout = sampling.sample(made(family), ragged.repeat(2), 5, 0.7, generator())
        rewards = torch.randn(8, 5, generator=generator(1))
        # or a rounding could move a token out of the clipped range
        config = PPOConfig(batch=8, minibatches=1, episodes=8, cliprange=1e9)
        advantages, returns = ppo.targets(rollout, rewards, config)
        for part in Ranks(micro_batch=micro_batch).micro_batches(8):
            share = len(range(8)[part]) / 8
            learned = advantages[part], returns[part]
            (share * ppo.losses(policy, rollout[part], *learned, task, config)[0]).backward()
        return torch.cat([p.grad.flatten() for p in policy.parameters() if p.requires_grad])

    whole, parts = (gradient(n, precision="bf16", checkpointing=True) for n in (None, 3))
    exact = gradient()
    assert (parts - whole).norm() < 0.01 * exact.norm() and 0 < (
        whole - exact
    ).norm() < 0.05 * exact.norm()


def test_one_seed_decides_where_lora_begins(tmp_path):
    pytest.importorskip("peft")
    made("gpt2").save(tmp_path)

    def begin(state, **options):
        torch.manual_seed(state)  # what a process drew before must not matter
        policy = Policy.load(tmp_path, lora=2, **options)
        return policy.state_dict() | RewardModel.from_policy(policy, lora=2, **options).state_dict()

    first, again, other = begin(1, seed=5), begin(2, seed=5), begin(1, seed=6)
    assert all(torch.equal(w, again[name]) for name, w in first.items())
    drawn = {name for name in first if "lora_A" in name or name == "classifier.score.weight"}
    assert (
        len(drawn) > 2
        and {name for name, w in first.items() if not torch.equal(w, other[name])} == drawn
    )


def test_a_reward_model_with_lora_trains_its_head_and_starts_from_the_merged_policy(ragged):
    pytest.importorskip("peft")
    policy = made("gpt2", lora=2)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    model = RewardModel.from_policy(policy, lora=2)
    assert model.classifier.score.weight.requires_grad
    with torch.no_grad():
        hidden = policy.hidden(ragged.tokens, ragged.mask)[:, -1]
        assert torch.allclose(
            model(ragged.tokens, ragged.mask),
            (hidden @ model.classifier.score.weight[0]),
            atol=1e-4,
        )
