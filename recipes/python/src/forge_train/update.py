"""The arithmetic of a PPO update: rewards of tokens, advantages, losses.

Rows are answers, columns their tokens; an answer of n tokens has n real ones. The state behind its last token has a value too, so the
values of an answer are n + 1 where there is room.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Settings:
    """The parameters of the arithmetic."""

    kl_coef: float
    kl_estimator: str
    gamma: float
    lam: float
    whiten_rewards: bool
    clip_range: float
    clip_range_value: float
    vf_coef: float

    @classmethod
    def of(cls, params: dict) -> Settings:
        """Those of a run's."""
        return cls(**{name: params[f"ppo.{name}"] for name in cls.__dataclass_fields__})


def mean(of, where):
    """Over what is true; 0 where nothing is."""
    return (of * where).sum() / where.sum().clamp(min=1)


def whiten(of, where, shift: bool = True):
    """To variance 1, and to mean 0 unless shift is false."""
    middle, count = mean(of, where), where.sum()
    spread = mean((of - middle) ** 2, where) * (count / (count - 1).clamp(min=1))
    white = (of - middle) * torch.rsqrt(spread + 1e-8)
    return white if shift else white + middle


def masks(lengths, width: int):
    """Which tokens are real, and which states are known."""
    place = torch.arange(width, device=lengths.device)
    return place < lengths.unsqueeze(1), place <= lengths.unsqueeze(1)


@dataclass(frozen=True)
class Earned:
    """What the answers of an update have earned, token by token."""

    kl: torch.Tensor
    penalty: torch.Tensor  # for it
    advantages: torch.Tensor
    returns: torch.Tensor


def earned(s: Settings, logprobs, reference, values, scores, lengths) -> Earned:
    """The penalty for leaving the reference at each token and the score at the last, discounted backwards (GAE)."""
    width = logprobs.shape[1]
    real, known = masks(lengths, width)
    ratio = (reference - logprobs).masked_fill(~real, 0)
    kl = -ratio if s.kl_estimator == "k1" else (ratio.exp() - 1) - ratio
    penalty = -s.kl_coef * kl
    rewards = penalty.clone()
    # the score is of the whole answer, so it falls due in the state behind its last token
    last = torch.where(lengths < width, lengths, lengths - 1)
    rewards[torch.arange(len(rewards), device=rewards.device), last] += scores
    if s.whiten_rewards:
        rewards = whiten(rewards, known, shift=False).masked_fill(~known, 0)
    ahead, backwards = torch.zeros_like(scores), []
    for t in reversed(range(width)):
        following = values[:, t + 1] if t + 1 < width else 0.0
        surprise = rewards[:, t] + s.gamma * following - values[:, t]
        ahead = surprise + s.gamma * s.lam * ahead
        backwards.append(ahead)
    advantages = torch.stack(backwards[::-1], dim=1)
    returns = advantages + values
    return Earned(kl, penalty, whiten(advantages, real).masked_fill(~real, 0), returns)


def loss(s: Settings, logits, foreseen, answers, before, values, got: tuple, lengths):
    """The loss of some answers, with its parts.

    before are the log-probabilities that they were written with, got is (advantages, returns).
    """
    advantages, returns = got
    real, known = masks(lengths, answers.shape[1])
    moved = (chosen(logits, answers) - before).masked_fill(~real, 0)
    ratio = moved.exp()
    plain, clipped = -advantages * ratio, -advantages * ratio.clamp(1.0 - s.clip_range, 1.0 + s.clip_range)
    of_policy = mean(torch.max(plain, clipped), real)
    foreseen = foreseen.masked_fill(~known, 0)
    near = torch.clamp(foreseen, values - s.clip_range_value, values + s.clip_range_value)
    far_off, near_off = (foreseen - returns) ** 2, (near - returns) ** 2
    of_value = 0.5 * mean(torch.max(far_off, near_off), known)
    total = of_policy + s.vf_coef * of_value
    with torch.no_grad():
        likely = logits.softmax(-1)
        entropy = logits.logsumexp(-1) - (likely * logits).sum(-1)
        parts = {
            "loss": total,
            "loss/policy_avg": of_policy,
            "loss/value_avg": of_value,
            "policy/approxkl_avg": 0.5 * mean(moved**2, real),
            "policy/clipfrac_avg": mean((clipped > plain).float(), real),
            "policy/entropy_avg": mean(entropy, real),
            "val/clipfrac_avg": mean((near_off > far_off).float(), known),
            "val/ratio": mean(ratio, real),
        }
    return total, {name: part.item() for name, part in parts.items()}


def chosen(logits, tokens):
    """Log-probabilities of the tokens, without a second tensor of the logits' size."""
    normal = torch.stack([row.logsumexp(-1) for row in logits])
    return logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - normal
