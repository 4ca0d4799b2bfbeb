"""Domain, style and history -> chat messages; a history that does not fit is cut into chunks."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from seqdistill.io import UserError
from seqdistill.profiles.chat import Messages, Sampling

ASPECTS = {
    "preferences": "what this person likes and dislikes.",
    "behaviour": "how this person chooses and judges.",
    "trends": "how the choices have changed from the earlier to the later ones.",
}
SAMPLING: dict[str, Sampling] = {  # a low temperature for copying facts; the paper's for free text
    "grounded": {"temperature": 0.2, "top_p": 0.9, "seed": 0, "max_tokens": 120},
    # Small models repeat themselves when they list what comes next.
    "insight": {"temperature": 0.2, "top_p": 0.9, "seed": 0, "max_tokens": 120, "frequency_penalty": 0.4},
    "short": {"temperature": 0.7, "top_p": 0.9, "seed": 0, "max_tokens": 300},
    "long": {"temperature": 0.7, "top_p": 0.9, "seed": 0, "max_tokens": 700},
}
FROM_FACTS = ("grounded", "insight")  # styles that read computed facts, which always fit a prompt
CHAT_TOKENS = 16  # per message, for the marks that a chat template puts around it
LEAST = 128  # tokens that a history must have room for


class TooLong(UserError):
    """One user's text does not fit the context; the texts of other users may."""


def sampling_of(style: str, seed: int = 0) -> Sampling:
    """Sampling settings of a style; UserError if there is no such style."""
    if style not in SAMPLING:
        raise UserError(f'profiles: "{style}" is not a style; choose one of {", ".join(SAMPLING)}.')
    return SAMPLING[style] | {"seed": seed}


@cache
def prompt_file(name: str) -> str:
    """Text of a file in templates/."""
    return resources.files("seqdistill.profiles").joinpath("templates", f"{name}.txt").read_text("utf-8")


def template(name: str) -> Messages:
    """Read a prompt template: blocks that open with [system], [user] or [assistant] on a line of its own."""
    parts = re.split(r"^\[(system|user|assistant)\]\n", prompt_file(name), flags=re.M)[1:]
    return [{"role": role, "content": body.strip()} for role, body in zip(parts[::2], parts[1::2], strict=True)]


def filled(text: str, values: dict[str, str]) -> str:
    """Put values into {places}, all in one pass: a {place} inside a value stays as it is."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), text)


@dataclass(frozen=True)
class Prompts:
    """Prompts of one domain and style; `budget`: most tokens of the history; `count`: texts -> tokens of each."""

    domain: str
    style: str
    budget: int
    count: Callable[[Sequence[str]], list[int]]

    def ask(self, task: str, **values: str) -> Messages:
        """Compose one chat: the style's system message, and the user message of a task (its file in templates/)."""
        system, *rest = template(f"{self.domain}-{self.style}")
        if task != "history":
            rest = [{"role": "user", "content": prompt_file(task).strip()}]
        return [{**message, "content": filled(message["content"], values)} for message in [system, *rest]]

    def chunks(self, texts: list[str], budget: int | None = None) -> list[list[str]]:
        """Group texts, in order, into as few chunks as fit the budget; TooLong if a single text does not fit."""
        room, runs, used = self.budget if budget is None else budget, [], 0
        for text, tokens in zip(texts, self.count([f"{text}\n" for text in texts]), strict=True):
            if tokens > room:
                raise TooLong(f"profiles: a text of {tokens} tokens does not fit the {room} that the context leaves.")
            if not runs or used + tokens > room:
                runs.append([])
                used = 0
            runs[-1].append(text)
            used += tokens
        return runs


def prompts_for(domain: str, style: str, context: int, count: Callable[[Sequence[str]], list[int]]) -> Prompts:
    """Prompts of a domain and style for a model with `context` tokens; `count` (texts -> tokens) gets a text once."""
    sampling, known = sampling_of(style), {}

    def counted(texts: Sequence[str]) -> list[int]:
        new = list(dict.fromkeys(text for text in texts if text not in known))
        known.update(zip(new, count(new), strict=True) if new else ())
        return [known[text] for text in texts]

    if style in FROM_FACTS:
        return Prompts(domain, style, context, counted)
    parts = [message["content"] for message in template(f"{domain}-{style}")]
    parts.append(max((prompt_file(name) for name in ("merge", "update", "aspect")), key=len))
    budget = context - int(sampling["max_tokens"]) - sum(count(parts)) - CHAT_TOKENS * len(parts)
    if budget < LEAST:
        least = f"at least {context - budget + LEAST} are needed"
        raise UserError(f'profiles: {context} tokens of context leave {budget} for the history in "{style}"; {least}.')
    return Prompts(domain, style, budget, counted)
