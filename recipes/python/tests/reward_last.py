"""The reward of bare_ppo.py as a reward function."""


def last(completion_ids):
    """By the last token alone."""
    return [ids[-1] % 17 / 17 if ids else 0.0 for ids in completion_ids]
