"""Exercise checks: for each an oracle, and a table of common slips with what to say about them.

A check prints a verdict and returns whether the answer was right. It never raises, so an unsolved
exercise blocks nothing.
"""

from rlhf_helpers.course.checks.clinic import nb05_clinic, nb05_same, nb05_shuffle
from rlhf_helpers.course.checks.nb00 import nb00_machine, nb00_one_knob, nb00_predictions
from rlhf_helpers.course.checks.nb01 import (
    nb01_ends_at,
    nb01_entropy,
    nb01_logprob,
    nb01_perplexity,
    nb01_response_logits,
)
from rlhf_helpers.course.checks.nb02 import (
    nb02_agreement,
    nb02_expected_agreement,
    nb02_kappa,
    nb02_length_bias,
)
from rlhf_helpers.course.checks.nb03 import (
    nb03_ceiling,
    nb03_choice_loss,
    nb03_last_real_token,
    nb03_normalise,
    nb03_pairwise,
    nb03_uphill,
)
from rlhf_helpers.course.checks.nb04 import (
    nb04_best_of_n,
    nb04_equal,
    nb04_k3,
    nb04_leave_one_out,
    nb04_optimum,
    nb04_policy_gradient_loss,
    nb04_reweighted_mean,
)
from rlhf_helpers.course.checks.nb05 import (
    nb05_gae,
    nb05_kl_penalty,
    nb05_next_beta,
    nb05_place_score,
    nb05_policy_loss,
    nb05_rescale,
)
from rlhf_helpers.course.checks.nb06 import nb06_bill, nb06_whole_loss
from rlhf_helpers.course.checks.nb07 import nb07_pairs_needed, nb07_uncover, nb07_wilson
from rlhf_helpers.course.checks.nb09 import (
    nb09_believed,
    nb09_density,
    nb09_evidence,
    nb09_impression,
    nb09_novel,
)
from rlhf_helpers.course.checks.nb10 import (
    nb10_bits_in_label,
    nb10_bits_paid,
    nb10_labels_at,
    nb10_labels_to_see,
    nb10_told,
)
from rlhf_helpers.course.checks.nb11 import (
    nb11_dpo_loss,
    nb11_grpo_advantages,
    nb11_grpo_loss,
    nb11_rloo_advantages,
    nb11_verdict,
)
from rlhf_helpers.course.checks.plans import nb06_checkpoint, nb06_plan

__all__ = [
    "nb00_machine", "nb00_predictions", "nb00_one_knob", "nb01_logprob", "nb01_entropy",
    "nb01_response_logits", "nb01_ends_at", "nb01_perplexity", "nb02_agreement", "nb02_kappa",
    "nb02_expected_agreement", "nb02_length_bias", "nb03_choice_loss", "nb03_pairwise",
    "nb03_uphill", "nb03_last_real_token", "nb03_ceiling", "nb03_normalise", "nb04_best_of_n",
    "nb04_policy_gradient_loss", "nb04_leave_one_out", "nb04_reweighted_mean", "nb04_optimum",
    "nb04_k3", "nb04_equal", "nb05_same", "nb05_kl_penalty",
    "nb05_place_score", "nb05_rescale", "nb05_gae", "nb05_policy_loss", "nb05_next_beta",
    "nb05_shuffle", "nb05_clinic", "nb06_bill", "nb06_whole_loss",
    "nb06_plan", "nb06_checkpoint", "nb07_uncover", "nb07_wilson", "nb07_pairs_needed",
    "nb09_believed", "nb09_impression", "nb09_novel", "nb09_density", "nb09_evidence",
    "nb10_bits_in_label", "nb10_labels_to_see", "nb10_labels_at", "nb10_bits_paid", "nb10_told",
    "nb11_dpo_loss", "nb11_rloo_advantages", "nb11_grpo_advantages", "nb11_grpo_loss",
    "nb11_verdict",
]  # fmt: skip
