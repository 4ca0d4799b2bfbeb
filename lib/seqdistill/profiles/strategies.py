"""How a history that may not fit one prompt becomes profiles: each strategy is a plan that asks and is answered.

A plan yields a list of chats and is sent the list of their texts, until it returns the user's profile. So the plans
of all users run side by side: all first chunks of all users are in flight together, then all second ones.
"""

from collections.abc import Generator

import pandas as pd

from seqdistill.io import UserError
from seqdistill.profiles.chat import Messages
from seqdistill.profiles.facts import history_lines
from seqdistill.profiles.prompts import ASPECTS, Prompts, TooLong, sampling_of

Plan = Generator[list[Messages], list[str], str]
STRATEGIES = ("plain", "agg_after", "agg_with", "several")


def numbered(profiles: list[str]) -> str:
    """Write several profiles of one user below one another."""
    return "\n\n".join(f"Profile {number}:\n{text}" for number, text in enumerate(profiles, 1))


def plain(prompts: Prompts, history: pd.DataFrame) -> Plan:
    """Ask once: with the facts (style `grounded`), or with as many of the latest events as fit."""
    if prompts.style == "grounded":
        (text,) = yield [prompts.grounded(history)]
        return text
    latest = prompts.chunks(history_lines(history)[::-1])[0][::-1]
    (text,) = yield [prompts.ask("history", history="\n".join(latest))]
    return text


def agg_after(prompts: Prompts, history: pd.DataFrame, aspect: str = "") -> Plan:
    """Profile every chunk, then merge the profiles; again, if the merge does not fit one prompt."""
    task = "aspect" if aspect else "history"
    chunks = prompts.chunks(history_lines(history))
    texts = yield [prompts.ask(task, history="\n".join(chunk), aspect=aspect) for chunk in chunks]
    about = f"All are about a single aspect: {aspect}" if aspect else ""
    while len(texts) > 1:
        groups = prompts.chunks([f"{text}\n" for text in texts])
        if len(groups) == len(texts):
            raise TooLong("profiles: the context has no room for two profiles to be merged; it must be larger.")
        texts = yield [prompts.ask("merge", profiles=numbered(group), aspect=about) for group in groups]
    return texts[0]


def agg_with(prompts: Prompts, history: pd.DataFrame) -> Plan:
    """Profile the first chunk, then update the profile with one chunk after the other."""
    lines = history_lines(history)
    first = prompts.chunks(lines)[0]
    (profile,) = yield [prompts.ask("history", history="\n".join(first))]
    rest = lines[len(first) :]
    while rest:
        room = prompts.budget - prompts.count([profile])[0]
        chunk = prompts.chunks(rest, room)[0]
        (profile,) = yield [prompts.ask("update", profile=profile, history="\n".join(chunk))]
        rest = rest[len(chunk) :]
    return profile


def plans(strategy: str, prompts: Prompts, history: pd.DataFrame) -> list[Plan]:
    """Plans of one user: one, or with `several` one for each aspect.

    Raises:
        UserError: there is no such strategy, or it does not go with the style.
    """
    if strategy not in STRATEGIES:
        raise UserError(f'profiles: "{strategy}" is not a strategy; choose one of {", ".join(STRATEGIES)}.')
    if prompts.style == "grounded" and strategy != "plain":
        raise UserError(f'profiles: style "grounded" states facts, which always fit; "{strategy}" needs short or long.')
    most = int(sampling_of(prompts.style)["max_tokens"])
    if strategy != "plain" and prompts.budget < 3 * most:
        raise UserError(
            f'profiles: strategy "{strategy}" in style "{prompts.style}" needs {3 * most} tokens for histories and '
            f"profiles; the context leaves {prompts.budget}."
        )
    if strategy == "several":
        return [agg_after(prompts, history, aspect) for aspect in ASPECTS.values()]
    return [{"plain": plain, "agg_after": agg_after, "agg_with": agg_with}[strategy](prompts, history)]
