"""Which cells of a group are stepped as one, where `train.stacked` asks for it."""

from __future__ import annotations

from sca_bench.study.keys.cell import KEY_LENGTH, CellIdentity
from sca_bench.study.keys.fingerprint import digest_json

_OWN = (
    "train.learning_rate",
    "train.betas",
    "train.weight_decay",
    "train.warmup_steps",
    "train.final_lr_ratio",
    "train.clip_norm",
    "train.order_seed",
    "mixer.init_std",
    "start_from",
    "pretraining",
    "eval",
)
"""In what they may differ: what the optimiser does, how weights begin, and evaluation."""


def stack_key(identity: CellIdentity) -> str:
    """Return a key that cells of a group share which are stepped as one; empty for any other."""
    spec = identity.spec
    if not (identity.settings.train.stacked and spec.stacks and spec.trains == "gradient"):
        return ""
    own = tuple(f"{name}." for name in _OWN)
    alike = {k: v for k, v in identity.key_values.items() if not f"{k}.".startswith(own)}
    return digest_json(["stack", alike])[:KEY_LENGTH]
