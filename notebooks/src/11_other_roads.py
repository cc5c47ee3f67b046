# %% [markdown]
# # 11 · Other roads
#
# PPO keeps three models in memory, predicts a value before every token, clips two losses, and is watched on nine curves. In recent papers you
# will meet shorter recipes: **DPO**, which needs no reward model and draws no samples; **RLOO**, PPO without values; **GRPO**, which
# compares each answer with its group. Each paper has a table in which its own recipe wins. Are these other algorithms, or PPO with parts
# left out? And what did those parts do?
#
# This notebook derives each road from notebooks 03, 04 and 05, rebuilds its one essential line, tests it where the right answer is known, and
# lets the roads run against each other, with a verdict whose words are fixed beforehand.
#
# **After this notebook you can**
#
# - turn the optimum of notebook 04 round, and get DPO out of the choice loss of notebook 03;
# - say what DPO does not see, and measure what that does to *both* options of a pair;
# - compute the advantages of RLOO and GRPO, and say what dividing by the deviation does to easy and hard prompts;
# - translate the price $\beta$ from one road to another;
# - compare training methods at an equal budget, and say "inconclusive" when it is.
#
# | active | machine (one laptop core) | you need |
# |---|---|---|
# | about 60 minutes | about 8 minutes | notebooks 03, 04 and 05 |

# %%
import math
import time
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch.nn.functional import logsigmoid

from rlhf_helpers import (
    alternatives,
    dpo,
    labelers,
    models,
    ppo,
    presets,
    reward,
    sampling,
    tasks,
    tensors,
)
from rlhf_helpers.course import checks, machine, plots, show
from rlhf_helpers.course.profile import artifact, profile
from rlhf_helpers.runtime import seeds
from rlhf_helpers.runtime.runs import Run, default_device

size, device, task = profile(), default_device(), tasks.SENTIMENT
quick = size.name == "quick"
# %matplotlib inline
show.setup()

# %%
plots.pipeline("reward+ppo");
# %%
reference = models.Policy.load().to(device).frozen_copy()
tokenizer = reference.tokenizer
reward_model = models.RewardModel.load(artifact("reward_sentiment")).to(device)
score = reward.scorer(reward_model, task)
comparisons, labels = labelers.recorded(task)

# %% [markdown]
# Here is what all the roads start from: one recorded comparison, and the click on it. (The labels of this notebook are **simulated**: a counter
# of happy and sad words chose, with as much noise as people have.)

# %%
opening = show.clear_case(comparisons, labelers.simulated(task))
asked, click = comparisons[opening], labels[opening]
show.wrapped("... " + asked.query[-150:])
marks = ["clicked" if k == click.choice else "" for k in range(len(asked.options))]
pd.DataFrame({"option": asked.options, "": marks})

# %% [markdown]
# (The click is one of the noisy ones: its labeler does not love a lump in the throat.)
#
# PPO needs a model of many such clicks, draws answers of its own, and asks that model about them. Must it be so? The options *are* answers,
# and the click says which is best. Why not simply raise the probability of that one?
#
# ## 1. DPO: the optimum, turned round
#
# Section 6 of notebook 04 ended with the policy that is best at $\mathbb{E}[r] - \beta\,\mathrm{KL}$. It keeps the reference $\rho$ and multiplies each answer's
# probability: $\pi^* = \rho\,e^{r/\beta} / Z$. There the reward was given and the policy looked for. Now read the line from the other end.
# Take logarithms and solve for the reward:
#
# $$r(x, y) = \beta \log\frac{\pi^*(y)}{\rho(y)} + \beta \log Z(x).$$
#
# So a policy that is best for *some* reward gives that reward away. Only the last term is unknown, and it is the same for all answers to a
# prompt. Does that matter? Recall the loss of the reward model in notebook 03: $-\log \mathrm{softmax}(r)$ at the option that was clicked.
# Add the same number to all options, and nothing changes. *The choice loss cannot see $Z$.* So put $\beta \log(\pi_\theta / \rho)$ in
# the place of the reward, and train the policy itself on the clicks:
#
# $$\mathrm{loss} = -\log \mathrm{softmax}\Bigl(\beta \log\frac{\pi_\theta}{\rho}\Bigr)_b \qquad\text{for two options:}\qquad -\log \sigma\Bigl(\beta \log\frac{\pi_\theta(y_c)}{\rho(y_c)} - \beta \log\frac{\pi_\theta(y_r)}{\rho(y_r)}\Bigr),$$
#
# where $b$ is the click, $y_c$ the chosen and $y_r$ the rejected answer of a pair. That is **DPO** (Rafailov et al. 2023), and it works for K options as
# well as for two.
#
# ### Exercise 1: the loss of DPO
# Difficulty ●●○○○ · importance ●●●●● · 8 minutes
#
# Given the log-probabilities of whole options, return the mean loss. On paper first: what does a policy score that has not moved, with K options?

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The reward of an option is `beta * (logprobs - reference_logprobs)`. The rest is the choice loss of notebook 03: `log_softmax(-1)`, and
# of each row the entry that was clicked.
# </details>


# %% tags=["exercise"]
def dpo_loss(logprobs, reference_logprobs, choices, beta):  # (B, K) (B, K) (B,) float -> scalar
    return ...


# %% tags=["solution"]
def dpo_loss(logprobs, reference_logprobs, choices, beta):  # (B, K) (B, K) (B,) float -> scalar
    rewards = beta * (logprobs - reference_logprobs)
    chosen = rewards.log_softmax(-1).gather(1, choices[:, None])
    return -chosen.mean()


# %% tags=["check"]
solved = checks.nb11_dpo_loss(dpo_loss)

# %% tags=["catch-up"]
if not solved:
    dpo_loss = dpo.dpo_loss

# %%
few = dpo.encode(task, comparisons[:16], labels[:16], reference)
with torch.no_grad():
    still = dpo.option_logprobs(reference, few, task)  # (16, 4)
start_loss = dpo_loss(still, still, few.choices.to(device), 0.1)
checks.nb04_equal("the loss at the start, and log 4", start_loss, math.log(4), tolerance=1e-5)

# %% [markdown]
# At the start every option has the reward $\beta \log 1 = 0$, so all are equally good and the loss is $\log \mathrm{K}$: worth testing before
# any run. Does the road lead where PPO's leads? Back to the world in which every answer can be listed, the forecaster of notebook 04: three days,
# five words, 125 forecasts, a gloomy base model and a reward that loves sun.

# %%
words = ("sun", "breeze", "cloud", "rain", "storm")
answers = torch.cartesian_prod(*[torch.arange(5)] * 3)  # (125, 3): every forecast there is
day1, day2, _ = answers.T
prefix = torch.stack([0 * day1, 1 + day1, 6 + 5 * day1 + day2], -1)  # (125, 3): row of theta


def token_logprobs(theta):  # (31, 5) -> (125, 3)
    return theta.log_softmax(-1)[prefix, answers]


yesterday = torch.cat([torch.tensor([2.5]), *[torch.arange(5.0)] * 6])  # of each prefix
common = torch.tensor([0.0, 0.4, 0.9, 0.9, 0.0])
base = (common - 0.6 * (torch.arange(5.0) - yesterday[:, None]).abs()).double()  # (31, 5)
token_rho = token_logprobs(base)
log_rho = token_rho.sum(-1)
rho = log_rho.exp()  # (125,)
nice = torch.tensor([2, 1, 0, -1, -2]).double()[answers]  # (125, 3)
raw = nice.sum(-1) + nice[:, -1]
raw = raw - (rho * raw).sum()
r = raw / (rho * raw**2).sum().sqrt()  # mean 0, deviation 1 under the base model


# %%
def mean(log_pi, values=r):
    return (log_pi.exp() * values).sum().item()


def kl(log_p, log_q):
    return mean(log_p, log_p - log_q)


def climb(loss, steps=1_500):
    """Follow a loss of theta from the base model down; the log-probabilities at every step."""
    theta, path = base.clone().requires_grad_(), []
    optimizer = torch.optim.Adam([theta], lr=0.05)
    for _ in range(steps):
        path.append(token_logprobs(theta).sum(-1).detach())
        optimizer.zero_grad()
        loss(token_logprobs(theta)).backward()
        optimizer.step()
    return path


beta = 0.5
best = alternatives.optimal_logprobs(log_rho, r, beta)

# %% [markdown]
# First with endless labels: every pair of forecasts as often as the base model writes it, and each option clicked as often as a labeler with
# this reward would, $\sigma(r_c - r_r)$. The sum over all pairs is exact.

# %%
shares = rho[:, None] * rho * torch.sigmoid(r[:, None] - r)  # (125, 125): y_c, y_r


def endless_labels(tokens):
    reward_of = beta * (tokens.sum(-1) - log_rho)
    return -(shares * logsigmoid(reward_of[:, None] - reward_of)).sum()


ends = {"DPO": climb(endless_labels)[-1]}
checks.nb04_equal("DPO and the optimum", ends["DPO"].exp(), best.exp(), tolerance=1e-4)

# %% [markdown]
# Without a reward model and without a sample of its own, DPO has found $\pi^*$, at the same $\beta$. The derivation holds. With endless labels.
#
# ## 2. What DPO never sees
#
# Now with forty labels. The same loss, the same world, forty pairs that the base model wrote, each clicked once. **Write down first**: what happens to
# the probability of the chosen forecasts, and to that of the rejected ones?

# %%
dice = torch.Generator().manual_seed(1)
pairs = torch.multinomial(rho, 80, replacement=True, generator=dice).view(40, 2)
second_wins = torch.sigmoid(r[pairs[:, 1]] - r[pairs[:, 0]])
clicks = torch.bernoulli(second_wins, generator=dice).long()
chosen, rejected = (pairs.gather(1, k[:, None])[:, 0] for k in (clicks, 1 - clicks))


def forty_labels(tokens):
    return dpo_loss(tokens.sum(-1)[pairs], log_rho[pairs], clicks, beta)


path = climb(forty_labels)
losses = [dpo_loss(p[pairs], log_rho[pairs], clicks, beta).item() for p in path]
objective = [mean(p) - beta * kl(p, log_rho) for p in path]
moved = torch.stack([p - log_rho for p in path])  # (steps, 125)

# %%
_, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), sharex=True)
left.semilogx(losses, color=plots.BLUE, label="loss of DPO")
left.semilogx(objective, "--", color=plots.RED, label="reward minus price, exact")
left.axhline(beta * (log_rho + r / beta).logsumexp(-1), color=plots.GREY, linestyle=":")
left.set(title="What falls, and what we want", xlabel="step", ylim=(-1.3, 1.3))
left.legend(loc="lower left")
right.semilogx(moved[:, chosen].mean(1), color=plots.BLUE, label="chosen")
right.semilogx(moved[:, rejected].mean(1), "--", color=plots.RED, label="rejected")
right.set(title="Mean log ratio of the labelled", xlabel="step", ylabel="nats")
right.legend(loc="lower left");
# %% [markdown]
# *How to read it:* on the left the loss (solid) falls to the end, while what we want (dashed; the dotted line is the most that is possible) rises for a
# few steps and then falls below where it started. On the right, how much likelier than under the base model the forecasts of the
# forty pairs have become: the rejected ones fall, and after a short rise the chosen ones fall with them, only more slowly.

# %%
both = ((moved[-1, chosen] < 0) & (moved[-1, rejected] < 0)).float().mean().item()
assert losses[-1] < 0.25 * losses[0] and max(objective) > 0.05 > 0 > objective[-1] + 0.3
assert moved[-1, rejected].mean() < moved[-1, chosen].mean() < -2 and both >= 0.5
show.note(
    f"In **{both:.0%}** of the pairs both forecasts became less likely, the chosen one too. The "
    f"KL is {kl(path[-1], log_rho):.1f} nats; at the optimum it is {kl(best, log_rho):.1f}."
)

# %% [markdown]
# How can a loss that prefers the chosen forecast make it rarer? It only asks for a *difference*. If $\log\pi$ of both options falls by the same amount,
# the loss does not notice, just as it did not notice $Z$. Where the probability goes instead is nobody's business: the loss speaks of the
# forecasts in the labels and of no others. PPO meets such forecasts as soon as it draws them, scores them, and pays for the distance. **DPO
# draws nothing**, so it never sees what it writes; and its $\beta$ holds the policy back only as long as labels contradict each
# other. A forecast that always lost may become rarer for ever: the loss still gains.
#
# Two remedies: stop early (we make one pass over the labels), and have many labels that disagree. A third is to let the policy write new options and
# have them labelled: then it sees what it writes.
#
# ## 3. RLOO: the policy gradient, with rivals as baseline
#
# Now the roads that do draw samples. Strip PPO down: no value head; one pass over each batch, so that the ratio is 1 and the clip has
# nothing to do. What remains is REINFORCE for $\mathbb{E}[r] - \beta\,\mathrm{KL}$ and needs a baseline. Draw G answers to each prompt, and let the
# baseline of an answer be the mean of what its **rivals** earned: exercise 3 of notebook 04, with the price in the reward, where $k_1$ is
# exact. This is **RLOO** (Ahmadian et al. 2024).
#
# ### Exercise 2: the advantages of RLOO
# Difficulty ●●○○○ · importance ●●●●○ · 8 minutes
#
# For P prompts with G answers of R tokens each: first what each answer earned (its score, minus $\beta$ times the log ratio of the *whole* answer),
# then the comparison with the others of the same prompt.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `(logprobs - reference_logprobs).sum(-1)` has shape (P, G). The mean of the others is the sum of all minus one's own, divided by G - 1.
# </details>


# %% tags=["exercise"]
def rloo_advantages(scores, logprobs, reference_logprobs, beta):
    # (P, G) (P, G, R) (P, G, R) float -> (P, G)
    return ...


# %% tags=["solution"]
def rloo_advantages(scores, logprobs, reference_logprobs, beta):
    # (P, G) (P, G, R) (P, G, R) float -> (P, G)
    earned = scores - beta * (logprobs - reference_logprobs).sum(-1)
    others = (earned.sum(-1, keepdim=True) - earned) / (earned.shape[-1] - 1)
    return earned - others


# %% tags=["check"]
solved = checks.nb11_rloo_advantages(rloo_advantages)

# %% tags=["catch-up"]
if not solved:

    def rloo_advantages(scores, logprobs, reference_logprobs, beta):
        earned = scores - beta * (logprobs - reference_logprobs).sum(-1)
        found = alternatives.leave_one_out(earned.flatten(), earned.shape[-1])
        return found.view_as(earned)


# %% [markdown]
# What does it cost to do without values? The mean of G - 1 rivals is itself noisy, so the advantages spread more than with a perfect baseline, whose
# advantages would have the variance of the reward. The two noises add: the variance should be $1 + 1/(\mathrm{G}-1)$ times that. We count it on
# 40,000 groups of forecasts, at the base model, where no price is due.

# %%
rows = []
for count in (2, 4, 8, 16):
    y = torch.multinomial(rho, 40_000 * count, replacement=True, generator=dice).view(-1, count)
    nothing = torch.zeros(*y.shape, 1)
    spread = rloo_advantages(r[y], nothing, nothing, beta).var().item()
    rows.append((count, spread, 1 + 1 / (count - 1)))
assert all(abs(found - expected) < 0.05 for _, found, expected in rows)
pd.DataFrame(rows, columns=["G", "variance of the advantages", "1 + 1/(G-1)"]).round(2)

# %% [markdown]
# With eight answers little is lost. But a rival knows only whole scores. Nothing says which *token* earned them, and an answer is used once: these
# are the two things that PPO's values and its ratio are for.
#
# ## 4. GRPO: divided by the deviation
#
# **GRPO** (Shao et al. 2024) starts from the same groups and makes two changes. The first: it subtracts the mean of *all* answers to the
# prompt, which is RLOO's advantage times $(\mathrm{G}-1)/\mathrm{G}$, and then divides by their standard deviation $s$:
#
# $$A = \frac{r - \mathrm{mean}(r)}{s}.$$
#
# ### Exercise 3: the advantages of GRPO
# Difficulty ●●○○○ · importance ●●●●○ · 6 minutes
#
# If all answers to a prompt score the same, nothing can be learned from it: return zeros there, and not 0/0. ($s$ divides by G - 1, as `std` does.)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `std(-1, keepdim=True)`. `torch.where(s > 1e-6, a, 0)` chooses, and `s.clamp(min=1e-6)` keeps the division harmless.
# </details>


# %% tags=["exercise"]
def grpo_advantages(scores):  # (P, G) -> (P, G)
    return ...


# %% tags=["solution"]
def grpo_advantages(scores):  # (P, G) -> (P, G)
    s = scores.std(-1, keepdim=True)
    centred = scores - scores.mean(-1, keepdim=True)
    return torch.where(s > 1e-6, centred / s.clamp(min=1e-6), 0)


# %% tags=["check"]
solved = checks.nb11_grpo_advantages(grpo_advantages)

# %% tags=["catch-up"]
if not solved:

    def grpo_advantages(scores):
        found = alternatives.group_relative(scores.flatten(), scores.shape[-1])
        return found.view_as(scores)


# %% [markdown]
# Why divide? So that every prompt counts alike, whatever the scale of its scores. And what does that do? Take the case GRPO was made for: answers
# are right or wrong, reward 1 or 0, and a prompt is *hard* if the model is seldom right. Let $p$ be how often it is. The push towards being right
# is the slope by the logit of $p$, the mean of $A\,(1 - p)$ over right answers and $-A\,p$ over wrong ones. With G = 8 there are only nine
# outcomes, so we add them up. **Guess** the two curves first.


# %%
def push(advantages_of, p, count=8):
    """Expected slope by the logit of p: all numbers of right answers, with their chances."""
    total = 0.0
    for right_ones in range(count + 1):
        outcome = torch.tensor([[1.0] * right_ones + [0.0] * (count - right_ones)]).double()
        chance = math.comb(count, right_ones) * p**right_ones * (1 - p) ** (count - right_ones)
        total += chance * (advantages_of(outcome) * (outcome - p)).mean().item()
    return total


def no_price(scores):
    nothing = torch.zeros(*scores.shape, 1)
    return rloo_advantages(scores, nothing, nothing, 0.0)


ps = [i / 50 for i in range(1, 50)]
pushes = {"RLOO": [push(no_price, p) for p in ps], "GRPO": [push(grpo_advantages, p) for p in ps]}
_, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), sharex=True)
for (name, line), style, colour in zip(pushes.items(), ("-", "--"), (plots.BLUE, plots.RED)):
    left.plot(ps, line, style, color=colour, label=name)
left.set(title="Push of a prompt", xlabel="share of right answers", ylabel="slope by the logit")
left.legend()
right.plot(ps, [b / a for a, b in zip(*pushes.values())], color=plots.BLACK)
right.set(title="GRPO's over RLOO's", xlabel="share of right answers", ylim=(0, None));
# %% [markdown]
# *How to read it:* on the left, how strongly a prompt pushes, by how often its answers are right. RLOO (solid) gives exactly $p(1-p)$, the true
# gradient. GRPO (dashed) pushes more. On the right the ratio: the more one-sided a prompt, hard *or* easy, the more GRPO raises its
# weight over that of a prompt in the middle.

# %%
assert max(abs(a - p * (1 - p)) for a, p in zip(pushes["RLOO"], ps)) < 1e-9
ratios = [b / a for a, b in zip(*pushes.values())]
assert ratios[0] > 1.3 * ratios[24] and ratios[-1] > 1.3 * ratios[24]

# %% [markdown]
# RLOO's push is that of the expected reward, for which a prompt that is nearly solved or nearly hopeless has little to offer. GRPO lends it
# weight. That may be what you want of arithmetic; it is no longer the gradient of the mean reward. With the scores of a
# reward model there is a second effect: where answers hardly differ, a difference that means nothing becomes one of a whole
# deviation. How unequal are the prompts here?

# %%
budget, trials = (1_024, (0, 1, 2)) if not quick else (64, (0, 1))  # answers, seeds
prompts = 96 if not quick else 16
test = tasks.queries(task, tokenizer, prompts, split="test", seed=5).to(device)


def rolled(seed):  # four answers of the base model to each test prompt
    dice = seeds.generator(seed, "roads", 0, device)
    return sampling.sample(reference, test, task.response_length, task.temperature, dice, answers=4)


# %% tags=["slow"]
drawn = [rolled(seed) for seed in trials]
pool_scores = torch.cat([score(x).view(prompts, 4) for x in drawn], 1).cpu()  # (P, 4 trials)
deviations = pool_scores.std(-1)
s = deviations.mean().item()
low, high = (deviations.quantile(q).item() for q in (0.1, 0.9))
show.note(
    f"The deviation of the scores within a prompt is {s:.2f} on average; for one prompt in ten it "
    f"is below {low:.2f}, for one in ten above {high:.2f}. GRPO gives the former {high / low:.1f} "
    "times the weight of the latter."
)

# %% [markdown]
# ## 5. The price in the loss, and what a nat costs on each road
#
# GRPO's second change: the KL is not part of the reward. It stands in the loss and is differentiated itself, estimated by $k_3$ at each token. In
# section 7 of notebook 04 you saw what these places do. $k_1$ in the reward is exact; $k_1$ in the loss does nothing on average; **$k_3$ in
# the loss follows the KL the other way round**, $\mathrm{KL}(\rho\,|\,\pi)$, because $\mathbb{E}_\pi[\nabla k_3] = \mathbb{E}_\pi[(1 - \rho/\pi)\,\nabla\log\pi] = -\mathbb{E}_\rho[\nabla\log\pi]$.
#
# ### Exercise 4: the loss of GRPO
# Difficulty ●●●○○ · importance ●●●●○ · 8 minutes
#
# The policy gradient plus the price: minus the mean over all B R tokens of the answer's advantage times the token's log-probability, plus $\beta$ times
# the mean over tokens of $k_3$. Only the gradient is checked. (The package has PPO's ratio in the place of the log-probability; on the first pass both have the
# same gradient.)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `tensors.kl_k3(logprobs, reference_logprobs)` gives $k_3$ for each token. `advantages[:, None]` gives every token of an answer the same advantage.
# </details>


# %% tags=["exercise"]
def grpo_loss(logprobs, reference_logprobs, advantages, beta):  # (B, R) (B, R) (B,) -> scalar
    return ...


# %% tags=["solution"]
def grpo_loss(logprobs, reference_logprobs, advantages, beta):  # (B, R) (B, R) (B,) -> scalar
    k1 = logprobs - reference_logprobs
    k3 = torch.exp(-k1) - 1 + k1
    return -(advantages[:, None] * logprobs).mean() + beta * k3.mean()


# %% tags=["check"]
solved = checks.nb11_grpo_loss(grpo_loss)

# %% tags=["catch-up"]
if not solved:

    def grpo_loss(logprobs, reference_logprobs, advantages, beta):
        k3 = tensors.kl_k3(logprobs, reference_logprobs)
        push_all = alternatives.reinforce_loss(logprobs.mean(1, keepdim=True), advantages)
        return push_all + beta * k3.mean()


# %% [markdown]
# Now all roads in the world of forecasts, at several prices, each with its *average* gradient: no noise, so where it stops is where the road leads.
# For GRPO that means a group of very many answers. Each forecast's loss counts as often as it is drawn; averaging over tokens only makes
# every step a third as long, so sums will do.


# %%
def rloo_road(price):
    def loss(tokens):
        log_pi = tokens.sum(-1)
        pi = log_pi.detach().exp()
        earned = r - price * (log_pi.detach() - log_rho)
        return -(pi * (earned - (pi * earned).sum()) * log_pi).sum()

    return loss


def grpo_road(price):
    def loss(tokens):
        log_pi = tokens.sum(-1)
        pi = log_pi.detach().exp()
        centred = r - (pi * r).sum()
        advantages = centred / (pi * centred**2).sum().sqrt()
        k3 = tensors.kl_k3(tokens, token_rho).sum(-1)
        return (pi * (-advantages * log_pi + price * k3)).sum()

    return loss


prices = (2, 1, 0.7, 0.5, 0.35)
ended = {
    name: [climb(road(price), 800)[-1] for price in prices]
    for name, road in (("RLOO", rloo_road), ("GRPO", grpo_road))
}

# %%
line = [alternatives.optimal_logprobs(log_rho, r, 8 * 0.9**i) for i in range(40)]
_, ax = plt.subplots(figsize=(6.8, 3.6))
ax.plot([kl(p, log_rho) for p in line], [mean(p) for p in line], color=plots.BLACK, label="optimum")
ended["DPO, endless labels"] = [ends["DPO"]]
ended["DPO, 40 labels"] = path[10::10][:40]
ended["best of n"] = [alternatives.best_of_logprobs(log_rho, r, n) for n in (1, 2, 4, 8, 16)]
looks = ("o", "D", "*", "--", "s")
for (name, policies), look, colour in zip(ended.items(), looks, plots.COLOURS):
    x, y = [kl(p, log_rho) for p in policies], [mean(p) for p in policies]
    ax.plot(x, y, look, color=colour, label=name, markersize=11 if look == "*" else 6)
ax.set(xlabel="KL from the reference, nats", ylabel="expected reward", xlim=(-0.1, 4))
ax.set_title("Where each road leads")
ax.legend(fontsize=8.5);
# %% [markdown]
# *How to read it:* as in notebook 04, no policy lies above the black line. Circles: RLOO at prices 2, 1, 0.7, 0.5 and 0.35, from left to right,
# and the star, DPO with endless labels at a price of 0.5, lie on it. Diamonds: GRPO at the same prices, below it, and at low prices far to the
# right of the circle of its price. Squares: best of n for n from 1 to 16, almost on it. Dashed: DPO on forty labels as training goes on, far below.


# %%
def shortfall(log_pi):
    """How far a policy lies below the optimum at its own KL (at some price, to the nearest)."""
    here = kl(log_pi, log_rho)
    costs = [8 * 0.97**i for i in range(140)]
    tops = [c * (log_rho + r / c).logsumexp(-1).item() + c * here for c in costs]
    return min(tops) - mean(log_pi)


for price, log_pi in zip(prices[1:4], ended["RLOO"][1:4]):
    right_end = alternatives.optimal_logprobs(log_rho, r, price)
    checks.nb04_equal(f"RLOO, price {price}", log_pi.exp(), right_end.exp(), tolerance=0.01)
assert all(shortfall(p) < 0.01 for p in [*ended["RLOO"], ends["DPO"]])
assert all(0.005 < shortfall(p) < 0.3 for p in ended["GRPO"])
assert kl(ended["GRPO"][-1], log_rho) > kl(ended["RLOO"][-1], log_rho) + 0.3
assert max(shortfall(p) for p in ended["best of n"]) < 0.1 < shortfall(path[400])

# %% [markdown]
# **Two roads reach the same optimum, and two do not.** RLOO maximises $\mathbb{E}[r] - \beta\,\mathrm{KL}$ itself, as PPO does, and DPO on endless labels finds
# the same policy. GRPO ends elsewhere, for two reasons: the other KL puts it below the line, and the division moves it along. With
# $r/s$ in the reward's place, the price of a nat in units of reward is not $\beta$ but $\beta s$, and where $s$ shrinks because the policy
# becomes sure of itself, the price falls. (Elsewhere a mean over tokens may stand where others sum. Here both losses average over the same
# tokens, so only the deviation is left.)
#
# To compare the roads fairly on texts, one price has to be translated three times. Say a nat may cost 0.15 units of score. (In notebook 05 a
# long run at this price fell for one sentence; ours are too short for that.) Then beta is:
#
# - **PPO, RLOO**: 0.15, as it is.
# - **GRPO**: $0.15 / s$, with the mean deviation that you measured above.
# - **DPO**: labels know nothing of our unit of score. Their reward is the *raw* one, which the reward model multiplies by its gain. So 0.15 divided
#   by the gain.

# %%
price = 0.15
gain = reward_model.gain.item()
betas = {"PPO": price, "RLOO": price, "GRPO": price / s, "DPO": price / gain}
pd.Series(betas, name="beta").to_frame().round(3)

# %% [markdown]
# ## 6. All roads, one budget
#
# Before we run anything, we write down what is asked and what will count as an answer.
#
# - **Question.** Does a road with fewer parts do as well as PPO on the same number of sampled tokens?
# - **Budget.** Each training learns from `budget` answers of 32 tokens. PPO, RLOO and GRPO draw them, four to a prompt, and pass over them
#   once. DPO draws none: it reads as many that the base model wrote before, one click for every four of them. The seconds are not equal; the
#   table gives them.
# - **Pairs.** Three seeds. On a seed all roads start at the same model and PPO, RLOO and GRPO get the same prompts in the same order. Test prompts
#   and the dice of the test are the same for all.
# - **Controls.** The base model; the best of four of its answers by the same reward model; and its random twin, one of the four taken blindly.
# - **Measured.** *Wins*: how often a held-out simulated labeler, noise included, would prefer the answer to one of the base model. (We take its
#   probabilities, so no coin is thrown.) Score, KL, and how varied the answers are.
# - **Verdict.** For each seed the road's wins minus PPO's; then a 95 % interval of the mean over seeds. The margin is 5 points. *Better* or *worse*: the
#   whole interval lies on one side of 0. *No difference seen*: it contains 0 and lies within the margin. *Inconclusive*: anything else.
#
# PPO, RLOO and GRPO ask a reward model that was fitted on thousands of clicks, while DPO has only those of its budget. PPO may use what only it
# can: each token is paid for what it adds (section 5 of notebook 05).
#
# ### Exercise 5: the verdict
# Difficulty ●●○○○ · importance ●●●●● · 6 minutes
#
# Write the last rule as a function of the interval's ends. Which two words are confused most often in papers?

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Ask in this order: is `low` above 0? Is `high` below 0? Do both lie within the margin? An interval from -0.3 to 0.3 has excluded nothing.
# </details>


# %% tags=["exercise"]
def verdict(low, high, margin):
    # "better", "worse", "no difference seen" or "inconclusive"
    return ...


# %% tags=["solution"]
def verdict(low, high, margin):
    # "better", "worse", "no difference seen" or "inconclusive"
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "no difference seen" if -margin < low and high < margin else "inconclusive"


# %% tags=["check"]
solved = checks.nb11_verdict(verdict)

# %% tags=["catch-up"]
if not solved:

    def verdict(low, high, margin):
        if low > 0 or high < 0:
            return "better" if low > 0 else "worse"
        return "no difference seen" if max(-low, high) < margin else "inconclusive"


# %% [markdown]
# **Write your own forecast** into this cell: the order of the roads by wins, and one sentence on why.

# %%
forecast = ""

# %%
pool = tasks.queries(task, tokenizer, 2_000, seed=100)
clicked = budget // 4  # comparisons of DPO: four answers each
by_token = reward.scorer(reward_model, task, each_token=True)
plain = replace(
    presets.get(task.name, "bundled").ppo,
    episodes=budget, batch=min(64, budget // 2), answers=4, minibatches=1, epochs=1, lr=2e-4,
)  # fmt: skip
drawing = {
    "PPO": (ppo.step, by_token, replace(plain, kl_coef=betas["PPO"])),
    "RLOO": (alternatives.rloo_step, score, replace(plain, kl_coef=betas["RLOO"])),
    "GRPO": (alternatives.grpo_step, score, replace(plain, kl_coef=betas["GRPO"])),
}


def train(road, seed):
    policy, run = models.Policy.load().to(device), Run(seed=seed, quiet=True)
    start = time.process_time()
    if road == "DPO":
        mine = slice(seed * clicked, (seed + 1) * clicked)  # other clicks for each seed
        data = dpo.encode(task, comparisons[mine], labels[mine], policy)
        config = dpo.DPOConfig(batch=16, lr=2e-4, beta=betas["DPO"])
        lines = dpo.fit(policy, data, task, config, run)
    else:
        step, paid, config = drawing[road]
        options = {"reference": reference, "algorithm": step}
        lines = ppo.tune(policy, paid, pool, task, config, run, **options)
    return policy, lines, time.process_time() - start


# %% [markdown]
# | machine | the next cell takes |
# |---|---|
# | one laptop core | about 6 minutes |
# | `RLHF_PROFILE=quick` | seconds, and nothing is learned |

# %% tags=["slow"]
machine.announce("all roads at one budget")
made = {(road, seed): train(road, seed) for seed in trials for road in ("DPO", *drawing)}

# %% [markdown]
# Now the measurement. All answer the same test prompts; seconds are those of the processor.

# %%
judge = labelers.simulated(task, name="held-out judge", seed=1_000)
others = [*drawn[1:], drawn[0]]  # the answers to beat: of the base model, from another seed
rivals = {seed: tasks.texts(task, x.responses[::4], tokenizer) for seed, x in zip(trials, others)}


def measured(road, seed, rollout, seconds=0.0, tokens=0, nats=None):
    texts = tasks.texts(task, rollout.responses, tokenizer)
    if nats is None:
        theirs = sampling.replay(reference, rollout, task.temperature, 128).logprobs
        nats = (rollout.logprobs - theirs).sum(-1).mean().item()
    wins = [judge.probabilities(pair)[0] for pair in zip(texts, rivals[seed])]
    bigrams = tensors.distinct_bigrams(rollout.responses, rollout.mask).item()
    return {
        "road": road, "seed": seed, "wins": sum(wins) / len(wins),
        "score": score(rollout).mean().item(), "KL per answer": nats,
        "KL per token": nats / task.response_length, "different": len(set(texts)) / len(texts),
        "distinct-2": bigrams, "sampled tokens": tokens, "seconds": seconds, "texts": texts,
    }  # fmt: skip


# %% tags=["slow"]
results = []
with torch.no_grad():
    for seed, base_answers in zip(trials, drawn):
        dice = seeds.generator(seed, "roads", 1, device)
        options = (task.response_length, task.temperature)
        results.append(
            measured("base model", seed, sampling.sample(reference, test, *options, dice))
        )
        best_score = score(base_answers).view(-1, 4)
        at = torch.arange(prompts, device=device) * 4
        for name, column in (("best of 4", best_score.argmax(-1)), ("one of 4, blind", 1)):
            bound = alternatives.best_of_kl_bound(4) if name == "best of 4" else 0.0
            results.append(measured(name, seed, base_answers[at + column], nats=bound))
        for road in ("DPO", *drawing):
            policy, _, seconds = made[road, seed]
            dice = seeds.generator(seed, "roads", 2, device)
            rollout = sampling.sample(policy, test, *options, dice)
            spent = 0 if road == "DPO" else budget * task.response_length
            results.append(measured(road, seed, rollout, seconds, spent))
table = pd.DataFrame(results)
means = table.drop(columns=["seed", "texts"]).groupby("road", sort=False).mean()
means["sampled tokens"] = means["sampled tokens"].astype(int)
digits = {"KL per token": 3, "sampled tokens": 0, "seconds": 0}
means.round({name: digits.get(name, 2) for name in means}) + 0

# %% [markdown]
# These are means over the seeds. The KL of an answer is the **sum** of its 32 tokens' log ratios, and beside it stands the same per token: papers
# print either, and a factor of 32 between two tables is easily taken for a result. That of best of 4 is the bound of notebook 04, and its tokens
# are paid when somebody asks: four answers for one. `different` is the number of different answers over that of all answers; distinct-2 is the same for
# pairs of neighbouring tokens.

# %%
series = table[~table["road"].isin(["base model", "one of 4, blind"])]
points = series.rename(columns={"KL per answer": "kl_nats_per_response", "road": "series"})
ax = plots.reward_against_kl(points[["series", "score", "kl_nats_per_response"]].to_dict("records"))
ax.axhline(means.loc["base model", "score"], color=plots.GREY, linestyle=":");
# %% [markdown]
# *How to read it:* each point is one seed of one road, joined by a line for each road; up is more score, right is further from the base model,
# whose score is the dotted line. A point to the right of another at the same height has paid nats for nothing.

# %%
quantile = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}[len(trials)]  # of t, 97.5 %, seeds - 1
wins = table.pivot(index="seed", columns="road", values="wins")
rows = []
for road in ("RLOO", "GRPO", "DPO", "best of 4", "base model"):
    difference = wins[road] - wins["PPO"]
    half = quantile * difference.std() / len(trials) ** 0.5
    low, middle, high = (difference.mean() + k * half for k in (-1, 0, 1))
    rows.append((road, middle, low, high, verdict(low, high, margin=0.05)))
verdicts = pd.DataFrame(rows, columns=["against PPO", "difference", "low", "high", "verdict"])
assert set(verdicts["verdict"]) <= {"better", "worse", "no difference seen", "inconclusive"}
verdicts.round(3)

# %%
_, ax = plt.subplots(figsize=(6.8, 2.8))
ax.axvspan(-0.05, 0.05, color=plots.PALE)
for i, (road, middle, low, high, _) in enumerate(rows):
    ax.plot([low, high], [i, i], color=plots.BLACK, linewidth=1.5)
    ax.plot(wins[road] - wins["PPO"], [i] * len(trials), "o", color=plots.BLUE, markersize=5)
    ax.plot([middle], [i], "|", color=plots.RED, markersize=14)
ax.axvline(0, color=plots.GREY, linestyle=":")
ax.set_yticks(range(len(rows)), [f"{road}: {word}" for road, *_, word in rows])
ax.set(xlabel="wins, minus PPO's of the same seed", title="Five verdicts, words fixed before")
ax.invert_yaxis();
# %% [markdown]
# *How to read it:* dots are seeds, the mark is their mean, the black line the 95 % interval; the grey band is the margin. A line that lies on one
# side of 0 earns better or worse, one that crosses 0 and leaves the band is inconclusive, whatever the mark suggests.
#
# The verdict speaks of wins alone. What they cost, in nats and seconds, stands in the table: two roads with *no difference seen* may lie far
# apart there. Three seeds give wide intervals, in papers too, whether they print them or not. Compare the words with your forecast.
#
# Begin with the last row. If not even the untrained base model can be told from PPO in wins, this experiment cannot rank the roads. Then
# *inconclusive* is about it, not about them, and *no difference seen* means little more: all of them still stand so near the base model that there
# is hardly anything to differ in. (The score tells PPO from the base model, by a seventh of a deviation; but it is what PPO was paid, and so no judge.)
# Only best of four is *better*, and it needed no training.
#
# After *inconclusive* the honest next step is a new run with more seeds or a larger budget, fixed before it starts. And what was tested is
# narrow: one size, one reward, one learning rate for all.
#
# Now read. Two prompts, one answer of each road, seed 0:

# %%
first = table[table["seed"] == trials[0]].set_index("road")["texts"]
for i in (0, 1):
    show.wrapped("... " + tasks.query_texts(test, tokenizer)[i][-120:])
pd.DataFrame({f"prompt {i + 1}": [texts[i] for texts in first] for i in (0, 1)}, index=first.index)

# %%
if size.name != "quick":  # too few answers there to tell
    assert means.loc["best of 4", "score"] > means.loc["one of 4, blind", "score"] + 0.4
    assert means.loc["best of 4", "wins"] > means.loc["one of 4, blind", "wins"]
assert all(abs(made["DPO", seed][1][0]["loss"] - math.log(4)) < 1e-3 for seed in trials)
gains = means["score"] - means.loc["base model", "score"]
show.note(
    "Gain in score over the base model: "
    + "; ".join(f"{road} {gains[road]:+.2f}" for road in ("best of 4", *drawing, "DPO"))
    + "."
)

# %% [markdown]
# One row needs no training: the best of four against its blind twin, the same samples with a choice and without (the code asserts the gain).
# Compare the trained rows with it. Training on a small budget has to beat a few tries, and it pays only if many answers are wanted.
#
# ### What DPO did to the options
#
# Section 2 was a toy. Here are the options of comparisons that DPO was not trained on, after DPO:

# %%
held = dpo.encode(
    task, comparisons[4_000 : 4_000 + prompts], labels[4_000 : 4_000 + prompts], reference
)
with torch.no_grad():
    before = dpo.option_logprobs(reference, held, task).cpu()
    changes = [
        (dpo.option_logprobs(made["DPO", seed][0], held, task).cpu() - before) for seed in trials
    ]
change = torch.stack(changes).mean(0)  # (N, 4), nats
is_clicked = torch.nn.functional.one_hot(held.choices, change.shape[1]).bool()
bins = torch.linspace(change.min(), change.max(), 25)
_, ax = plt.subplots(figsize=(6.6, 3))
ax.hist(change[~is_clicked], bins, density=True, color=plots.SKY, label="not clicked")
look = {"histtype": "step", "linewidth": 2, "color": plots.RED, "linestyle": "--"}
ax.hist(change[is_clicked], bins, density=True, label="clicked", **look)
ax.axvline(0, color=plots.BLACK, linestyle=":")
ax.set(xlabel="change of log-probability, nats", ylabel="density", title="Options after DPO")
ax.legend();
# %% [markdown]
# *How to read it:* left of the dotted line an option has become less likely than it was under the base model. If DPO had learned the taste, the clicked
# ones (dashed outline) would lie to the right of the others (filled). How far the whole heap has moved is the part that the loss never looks at.

# %%
down = (change < 0).float().mean().item()
all_down = (change < 0).all(-1).float().mean().item()
show.note(
    f"On average over the seeds, **{down:.0%}** of the options became less likely, the clicked ones "
    f"by {-change[is_clicked].mean():.2f} nats and the others by "
    f"{-change[~is_clicked].mean():.2f} (minus: likelier); in {all_down:.0%} of the comparisons "
    "all four did."
)

# %% [markdown]
# ## 7. Which road, when?
#
# | road | needs | draws samples | reaches $\pi^*$ | take it when |
# |---|---|---|---|---|
# | best of n | reward model | n for each answer, for ever | nearly, at small KL | you need something today; as the yardstick for everything else |
# | PPO | reward model, values, reference | yes, and can use them several times | aims at it, as RLOO does | samples are dear; tokens can be paid one by one; answers are long |
# | RLOO | reward model, reference | yes, G to a prompt | yes | one score for a whole answer; memory is short; you want to understand what runs |
# | GRPO | any score, reference | yes, G to a prompt | no: another KL, a price that moves | right or wrong, prompts of very different scales |
# | DPO | labels, reference | no | with endless labels | many labels, no way to sample; one pass, then measure |
#
# | change one knob | and look at |
# |---|---|
# | 40 pairs in section 2, to 200 or 1,000 | how far both curves on the right fall |
# | `count=8` in `push`, to 2 or 64 | the ratio of GRPO to RLOO at the ends |
# | `prices` in section 5 | which diamonds lie furthest below the line |
# | `trials`, to five seeds | the length of the black lines |
# | `budget`, fourfold | whether training overtakes best of 4 |
#
# ## Recap
#
# - DPO is the choice loss of the reward model with $\beta\log(\pi/\rho)$ in the reward's place, because $\log Z$ drops out. It starts at $\log \mathrm{K}$.
# - DPO only asks for differences between the options it was shown. Both may become rarer, and nobody looks where the probability goes.
# - RLOO is the policy gradient of notebook 04: price in the reward, rivals as baseline. Its noise is $1 + 1/(\mathrm{G}-1)$ times that of a perfect baseline.
# - GRPO divides by the deviation. That lifts easy and hard prompts and makes the price $\beta s$.
# - $k_3$ in the loss is the other KL. The same $\beta$ on two roads is not the same price.
# - Words before numbers. *Inconclusive* is not *no difference seen*.
#
# ## Questions
#
# 1. A colleague fits DPO and a reward model on the same labels and finds that both losses start at 0.693. Is that a coincidence? How many options has a comparison?
# 2. In DPO's training the log-probability of the chosen answers falls from step to step. The colleague looks for a bug in the sign. What do you tell her?
# 3. With G = 2, what are the advantages of RLOO and of GRPO? What has GRPO thrown away?
# 4. A reward model gives all answers to a prompt scores between 0.50 and 0.51. What does GRPO make of that, and what RLOO?
# 5. Two papers report a KL of 0.3 for GRPO and of 7 for PPO, with answers of 24 tokens. What do you ask before you compare?
# 6. Suppose best of four beats every road at this budget. Name a budget and a use for which it would lose.
#
# ## Further reading
#
# - Rafailov et al. 2023, [Direct Preference Optimization](https://arxiv.org/abs/2305.18290): section 4, the derivation; appendix A for K options (Plackett and Luce).
# - Ahmadian et al. 2024, [Back to Basics](https://arxiv.org/abs/2402.14740): section 3, why PPO's parts may be left out.
# - Shao et al. 2024, [DeepSeekMath](https://arxiv.org/abs/2402.03300): section 4, GRPO, and $k_3$ in its loss.
# - Kool et al. 2019, *Buy 4 REINFORCE Samples, Get a Baseline for Free!*: leaving one out.
#
# **Next:** back to [07](07_did_it_work.ipynb) with any of these policies: `policy.save`, and judge it blind.
