"""A rollout: the policy answers prompts, and what is known of the answers before anything is learnt from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from . import prompts, update, value
from .outcome import NotANumber


@dataclass(frozen=True)
class Drawn:
    """Answers to prompts: tensors of as many rows, prompts padded on the left and answers on the right."""

    ids: torch.Tensor  # prompts and answers
    mask: torch.Tensor
    width: int  # of the answers
    lengths: torch.Tensor
    ended: torch.Tensor  # by themselves
    logprobs: torch.Tensor  # as they were drawn with

    @property
    def answers(self) -> torch.Tensor:
        return self.ids[:, -self.width :]

    def completion(self, row: int) -> list[int]:
        """The tokens of one answer."""
        return self.answers[row, : int(self.lengths[row])].tolist()


class Heard(LogitsProcessor):
    """Notes the log-probability of each token that is drawn; else the logits of all tokens would have to be kept until the end.

    Of the whole distribution, whatever generation.top_p leaves of it: what is learnt is compared with just that.
    """

    def __init__(self, temperature: float, beat: Callable[[], None]):
        self._temperature, self._beat = temperature, beat
        self._last, self._noted = None, []

    def __call__(self, input_ids, scores):
        self._note(input_ids)
        self._last = scores / self._temperature
        self._beat()  # a long answer is no stall
        return scores

    def _note(self, ids) -> None:
        if self._last is not None:
            self._noted.append(update.chosen(self._last.unsqueeze(1), ids[:, -1:]))

    def all(self, ids) -> torch.Tensor:
        """Of all tokens that were drawn, when the last is there."""
        self._note(ids)
        return torch.cat(self._noted, dim=1)


class Writer:
    """Lets the policy write."""

    def __init__(self, params: dict, tokenizer, policy, conversational: bool, beat: Callable[[], None]):
        self.temperature = params["generation.temperature"]
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self._stops = prompts.ends(tokenizer, policy, conversational)
        self._beat, self._rows = beat, params["ppo.rollout_batch_size"]
        self._config = GenerationConfig(
            do_sample=True,
            max_new_tokens=params["generation.max_new_tokens"],
            temperature=self.temperature,
            top_p=params["generation.top_p"],
            top_k=params["generation.top_k"],
            pad_token_id=self._pad,
            eos_token_id=self._stops or None,
            use_cache=True,
        )

    @torch.no_grad()
    def write(self, policy, asked: list[list[int]], device) -> Drawn:
        """Answer prompts."""
        longest = max(map(len, asked))
        ids = torch.tensor([[self._pad] * (longest - len(p)) + p for p in asked], device=device)
        mask = torch.tensor([[False] * (longest - len(p)) + [True] * len(p) for p in asked], device=device)
        answers, logprobs = [], []
        for i in range(0, len(ids), self._rows):
            some, known = self._some(policy, ids[i : i + self._rows], mask[i : i + self._rows])
            answers.append(some)
            logprobs.append(known)
        width = max(a.shape[1] for a in answers)
        wide = torch.cat([_pad(a, width, self._pad) for a in answers])
        lengths, ended = self._lengths(wide)
        real, _ = update.masks(lengths, width)
        return Drawn(
            ids=torch.cat([ids, wide], dim=1),
            mask=torch.cat([mask, real], dim=1),
            width=width,
            lengths=lengths,
            ended=ended,
            logprobs=torch.cat([_pad(p, width, 0.0) for p in logprobs]).masked_fill(~real, 0),
        )

    def _some(self, policy, ids, mask):
        heard = Heard(self.temperature, self._beat)
        try:
            all_ids = policy.generate(
                input_ids=ids.masked_fill(~mask, 0),
                attention_mask=mask.long(),
                generation_config=self._config,
                logits_processor=LogitsProcessorList([heard]),
            )
        except RuntimeError as e:
            if "probability tensor" in str(e):
                raise NotANumber("the probabilities of the policy's next token are not finite") from e
            raise
        return all_ids[:, ids.shape[1] :], heard.all(all_ids)

    def _lengths(self, answers):
        """Tokens of each answer with its end, and whether it has one.

        A padding token that is drawn ends an answer too, and is none of it.
        """
        width = answers.shape[1]
        stop = torch.isin(answers, torch.tensor(self._stops, dtype=torch.long, device=answers.device))
        end = _first(stop)
        pad = _first(answers == self._pad) if self._pad not in self._stops else torch.full_like(end, width)
        ended = end < pad
        ended &= end < width
        return torch.where(ended, end + 1, pad), ended


def _first(where):
    """The place of the first true value of each row; the row's width when there is none."""
    return torch.where(where.any(1), where.int().argmax(1), where.shape[1])


def _pad(of, width: int, what):
    return torch.nn.functional.pad(of, (0, width - of.shape[1]), value=what)


@torch.no_grad()
def judged(drawn: Drawn, reference, model, temperature: float, rows: int, beat: Callable[[], None]):
    """Log-probabilities that the reference gives to the answers, and the values of their states."""
    real, known = update.masks(drawn.lengths, drawn.width)
    given, foreseen = [], []
    for i in range(0, len(drawn.ids), rows):
        ids, mask = drawn.ids[i : i + rows], drawn.mask[i : i + rows]
        logits = reference(ids, mask, drawn.width) / temperature
        given.append(update.chosen(logits, drawn.answers[i : i + rows]))
        foreseen.append(value.values(model, ids, mask, drawn.width))
        beat()
    return torch.cat(given).masked_fill(~real, 0), torch.cat(foreseen).masked_fill(~known, 0)
