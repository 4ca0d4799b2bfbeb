"""How a history becomes profiles: a plan yields chats and is sent their answers; all users' plans run in rounds."""

from collections.abc import Generator

import pandas as pd

from seqdistill.io import UserError
from seqdistill.profiles.chat import Messages
from seqdistill.profiles.facts import WORDING, facts_text, history_lines
from seqdistill.profiles.prompts import ASPECTS, FROM_FACTS, Prompts, TooLong, sampling_of

Plan = Generator[list[Messages], list[str], str]


def plain(prompts: Prompts, history: pd.DataFrame) -> Plan:
    """Ask once: with the facts (`FROM_FACTS`), or with as many of the latest events as fit."""
    if prompts.style in FROM_FACTS:
        values = {"facts": facts_text(history, WORDING.get(prompts.domain, {}))}
    else:
        values = {"history": "\n".join(prompts.chunks(history_lines(history)[::-1])[0][::-1])}
    (text,) = yield [prompts.ask("history", **values)]
    return text


def agg_after(prompts: Prompts, history: pd.DataFrame, aspect: str = "") -> Plan:
    """Profile every chunk, then merge the profiles, in several rounds if they do not fit one prompt."""
    task, about = ("aspect", f"All are about a single aspect: {aspect}") if aspect else ("history", "")
    chunks = prompts.chunks(history_lines(history))
    texts = yield [prompts.ask(task, history="\n".join(chunk), aspect=aspect) for chunk in chunks]
    while len(texts) > 1:
        groups = prompts.chunks([f"{text}\n" for text in texts])
        if len(groups) == len(texts):
            raise TooLong("profiles: the context has no room for two profiles to be merged; it must be larger.")
        merged = ["\n\n".join(f"Profile {n}:\n{text}" for n, text in enumerate(group, 1)) for group in groups]
        texts = yield [prompts.ask("merge", profiles=profiles, aspect=about) for profiles in merged]
    return texts[0]


def agg_with(prompts: Prompts, history: pd.DataFrame) -> Plan:
    """Profile the first chunk, then update the profile with each further chunk in turn."""
    rest, profile = history_lines(history), None
    while rest:
        room = prompts.budget - (0 if profile is None else prompts.count([profile])[0])
        chunk = prompts.chunks(rest, room)[0]
        task, values = ("history", {}) if profile is None else ("update", {"profile": profile})
        (profile,) = yield [prompts.ask(task, history="\n".join(chunk), **values)]
        rest = rest[len(chunk) :]
    return profile


STRATEGIES = {"plain": plain, "agg_after": agg_after, "agg_with": agg_with, "several": agg_after}


def plans(strategy: str, prompts: Prompts, history: pd.DataFrame) -> list[Plan]:
    """Plans of one user: one, or with `several` one per aspect; UserError if strategy and style do not combine."""
    if strategy not in STRATEGIES:
        raise UserError(f'profiles: "{strategy}" is not a strategy; choose one of {", ".join(STRATEGIES)}.')
    if prompts.style in FROM_FACTS and strategy != "plain":
        raise UserError(
            f'profiles: style "{prompts.style}" reads facts, which always fit; "{strategy}" needs short or long.'
        )
    needed = 3 * int(sampling_of(prompts.style)["max_tokens"])
    if strategy != "plain" and prompts.budget < needed:
        what = f'profiles: strategy "{strategy}" in style "{prompts.style}"'
        raise UserError(f"{what} needs {needed} tokens for histories; the context leaves {prompts.budget}.")
    if strategy == "several":
        return [agg_after(prompts, history, aspect) for aspect in ASPECTS.values()]
    return [STRATEGIES[strategy](prompts, history)]
