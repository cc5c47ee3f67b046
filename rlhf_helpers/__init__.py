"""RLHF on language models, small enough to read and real enough to use.

Modules in reading order; each imports only from lower floors:

    0  tensors      pure maths: masked means, whitening, log-probabilities, KL, GAE
       records      what flows: Queries, Rollout, Comparison, Label
       database     tables of the label store
       pretrained   models from a folder or the Hub, LoRA
       files        files that are whole or not there
       ranks        several processes train one model; a batch in parts
    1  tasks        the four tasks: prompts, lengths, truncation, penalty
       models       policy with value head, reward model, reference; load and save
       runs         profile, seed, device, metrics file, checkpoint
       store        the label store
    2  sampling     sample, and its twin replay
       sessions     one labelling session
       memory       how much memory PPO takes, part by part
    3  labelers     simulated labelers, collecting comparisons, agreement
       reward       fit on choices, normalise, score
       hub          the paper's texts and labels
    4  ppo          losses, step, tune
       evaluation   win rate with interval, KL, reward against KL
    5  widgets      the labelling card
       plots        one function per figure
       checks       exercise checks
    6  commands     the same steps as commands: python -m rlhf_helpers
"""

__version__ = "0.1.0"
