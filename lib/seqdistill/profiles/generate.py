"""Every user's plan -> questions, round by round -> profiles, or the reason why there is none."""

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from seqdistill.io import UserError, announce, data_dir, load_table
from seqdistill.profiles.answers import Question, Shipped, Store, read_shipped, shipped
from seqdistill.profiles.audit import fault
from seqdistill.profiles.chat import LLM, Answer, Failure, Messages, Sampling
from seqdistill.profiles.facts import histories
from seqdistill.profiles.llm import model_sha256, open_llm
from seqdistill.profiles.prompts import SAMPLING, Prompts, TooLong, prompts_for, sampling_of
from seqdistill.profiles.strategies import STRATEGIES, Plan, plans

HOPELESS = 50  # failures in a row after which the model itself must be out of order
TOO_LONG = Failure("text too long for the context", final=True)
NOT_SHIPPED = Failure("not among the shipped answers", final=True)


@dataclass(frozen=True)
class Profile:
    """A user's profile; `part` counts the profiles of a user (several aspects), tokens and seconds add up its steps."""

    user: int
    part: int
    text: str
    prompt_tokens: int
    output_tokens: int
    seconds: float
    finish: str


Owner = tuple[int, int]  # user, part
Ask = Callable[[list[Question]], dict[str, Answer | Failure]]


def generate(llm: LLM, questions: list[Question], store: Store) -> Iterator[tuple[Question, Answer | Failure]]:
    """Ask questions of equal sampling settings; an answer is stored the moment it is there, a failure never.

    Raises:
        UserError: so many requests failed in a row that going on makes no sense. Chats that are refused for what they
            say tell nothing about the model and do not count.
    """
    todo = list({asked.key: asked for asked in questions}.values())
    chats, row = [asked.messages for asked in todo], 0
    answers = llm.answers(chats, todo[0].sampling) if todo else iter(())
    for number, (index, answer) in enumerate(tqdm(answers, total=len(todo), desc="profiles"), 1):
        if isinstance(answer, Answer):
            row = 0
        elif not answer.final:
            row += 1
        if row == HOPELESS:
            says = f"{llm.name}: {row} requests in a row failed ({answer.reason}); finished answers are kept."
            for late, given in handed_over(answers, UserError(says)):
                if isinstance(given, Answer):
                    store.put(todo[late].key, given)
        if isinstance(answer, Answer):
            store.put(todo[index].key, answer)
        if number % 20 == 0:
            announce(f"answer {number} of {len(todo)}")
        yield todo[index], answer


def handed_over(answers: Generator, error: Exception) -> Iterator:
    """End a back end's answers with an error; yield what is still under way before the error is raised."""
    yield answers.throw(error)
    yield from answers


def asker(llm: Callable[[], LLM], store: Store, known: Shipped) -> Ask:
    """Answer questions from the shipped table, else from the store, else by the model, opened when it is needed."""

    def ask(questions: list[Question]) -> dict[str, Answer | Failure]:
        have = shipped(known, questions)
        have |= store.get(asked.key for asked in questions if asked.key not in have)
        missing = [asked for asked in questions if asked.key not in have]
        fresh = {asked.key: answer for asked, answer in generate(llm(), missing, store)} if missing else {}
        return have | fresh

    return ask


@dataclass(frozen=True)
class Task:
    """Profiles to be written: for whom, by which model, in which style, by which strategy, within which context."""

    ids: dict[int, str]
    histories: dict[int, pd.DataFrame]
    prompts: Prompts
    strategy: str
    model_sha256: str

    def started(self, owners: set[Owner] | None = None) -> dict[Owner, Plan]:
        """Start the plans of all users, or of some."""
        found = {}
        for user, history in self.histories.items():
            for part, plan in enumerate(plans(self.strategy, self.prompts, history)):
                if owners is None or (user, part) in owners:
                    found[user, part] = plan
        return found

    def question(self, user: int, messages: Messages, sampling: Sampling) -> Question:
        """Name what is asked about a user."""
        return Question(self.ids[user], messages, self.model_sha256, sampling)

    def first_questions(self) -> list[Question]:
        """What is asked in the first round: all there is with `plain`."""
        sampling = sampling_of(self.prompts.style)
        chats, _ = openings(self.started())
        return [self.question(owner[0], chat, sampling) for owner, wanted in chats.items() for chat in wanted]


def task_of(
    artifacts: Path, llm: str, style: str, strategy: str, context: int, sample: int | None, opened: Callable[[], LLM]
) -> tuple[str, Task]:
    """Set up the profiles of the users in the tables that 01-data left; return them with the data set's name.

    Args:
        sample: only so many users, drawn at random but always alike, a larger sample containing the smaller; None: all.
        opened: gives the model; called only where tokens must be counted.
    """
    events, items, users = (load_table(artifacts / f"{name}.parquet") for name in ("events", "items", "users"))
    dataset = users["dataset"].iloc[0]
    prompts = prompts_for(users["domain"].iloc[0], style, context, lambda texts: opened().count_tokens(texts))
    found = histories(events[events["split"] == "train"], items)
    drawn = set(np.random.default_rng(0).permutation(list(found))[:sample])
    found = {user: history for user, history in found.items() if user in drawn}
    return dataset, Task(users["user_id"].to_dict(), found, prompts, strategy, model_sha256(llm))


def openings(started: dict[Owner, Plan]) -> tuple[dict[Owner, list[Messages]], dict[Owner, Failure]]:
    """What plans ask first, and the owners of whom a text does not fit the context."""
    chats, lost = {}, {}
    for owner, plan in started.items():
        try:
            chats[owner] = next(plan)
        except TooLong:
            lost[owner] = TOO_LONG
    return chats, lost


def rounds(task: Task, waiting: dict[Owner, Plan], ask: Ask, seed: int) -> dict[Owner, Profile | Failure]:
    """Run plans side by side: each round asks what all of them want next."""
    sampling = sampling_of(task.prompts.style, seed)
    chats, outcomes = openings(waiting)
    spent: dict[Owner, list[Answer]] = {owner: [] for owner in waiting}
    while chats:
        asked = {owner: [task.question(owner[0], chat, sampling) for chat in wanted] for owner, wanted in chats.items()}
        answers = ask([question for questions in asked.values() for question in questions])
        chats = {}
        for owner, questions in asked.items():
            given = [answers[question.key] for question in questions]
            failed = next((answer for answer in given if isinstance(answer, Failure)), None)
            if failed:
                outcomes[owner] = failed
                continue
            spent[owner] += given
            try:
                chats[owner] = waiting[owner].send([answer.text for answer in given])
            except StopIteration as end:
                outcomes[owner] = profile_of(owner, end.value, spent[owner])
            except TooLong:
                outcomes[owner] = TOO_LONG
    return outcomes


def profile_of(owner: Owner, text: str, answers: list[Answer]) -> Profile:
    """Add up what a profile took."""
    prompt, output = (sum(getattr(answer, name) for answer in answers) for name in ("prompt_tokens", "output_tokens"))
    seconds = round(sum(answer.seconds for answer in answers), 3)
    return Profile(*owner, text, prompt, output, seconds, answers[-1].finish)


def write(task: Task, ask: Ask) -> dict[Owner, Profile | Failure]:
    """Write every profile; one that fails a hard check is asked once more with another seed, then counts as failed."""
    outcomes = rounds(task, task.started(), ask, 0)
    again = {owner for owner, made in outcomes.items() if isinstance(made, Profile) and fault(made.text)}
    if again:
        outcomes |= rounds(task, task.started(again), ask, 1)
    for owner in again:
        made = outcomes[owner]
        if isinstance(made, Profile) and (reason := fault(made.text)):
            outcomes[owner] = Failure(reason, 2, final=True)  # both answers are stored: they would be read again
    return outcomes


def failures_sentence(outcomes: dict[Owner, Profile | Failure], again: str) -> str:
    """Say how many users have no profile, why, and who of them may get one; empty if all have one.

    Args:
        again: what to do for a further try.
    """
    failed = {owner: made for owner, made in outcomes.items() if isinstance(made, Failure)}
    if not failed:
        return ""
    users = {user for user, _ in outcomes}
    lost = {user for user, _ in failed}
    reasons = Counter(made.reason for made in failed.values()).most_common()
    named = ", ".join(f"{reason}: {count}" for reason, count in reasons)
    final = {user for (user, _), made in failed.items() if made.final}
    tries = max(made.tries for made in failed.values())
    after = "1 try" if tries == 1 else f"{tries} tries"
    said = f"profiles: {len(lost):,} of {len(users):,} users failed after {after} ({named}); "
    said += f"the other {len(users) - len(lost):,} are kept."
    said += f" {len(final):,} would fail again in the same way with this model and these settings." if final else ""
    return said + (f" To ask for {len(lost - final):,} again: {again}." if lost - final else "")


def table_of(outcomes: dict[Owner, Profile | Failure]) -> pd.DataFrame:
    """Tabulate the profiles, one row per user and part; a user with a failed part is left out."""
    lost = {user for (user, _), made in outcomes.items() if isinstance(made, Failure)}
    rows = [vars(made) for (user, _), made in sorted(outcomes.items()) if user not in lost]
    return pd.DataFrame(rows, columns=list(Profile.__dataclass_fields__))


def file_name(llm: str) -> str:
    """Write an LLM's name as it can stand in the name of a file."""
    return "".join(character if character.isalnum() or character in ".-_" else "-" for character in llm)


def shipped_path(dataset: str, llm: str, style: str, strategy: str) -> Path:
    """Where the profiles that come with the book stand; a strategy other than `plain` is part of the name."""
    parts = [file_name(llm), style] if strategy == "plain" else [file_name(llm), style, strategy]
    return data_dir() / "profiles" / dataset / f"{'-'.join(parts)}.parquet"


def named(stem: str) -> tuple[str, str, str]:
    """Read model, style and strategy from the name of a file of shipped profiles.

    Raises:
        UserError: it has another form.
    """
    found = re.fullmatch(f"(.+)-({'|'.join(SAMPLING)})(?:-({'|'.join(STRATEGIES)}))?", stem)
    if not found:
        raise UserError(f"{stem}.parquet: expected <llm>-<style>.parquet or <llm>-<style>-<strategy>.parquet.")
    return found[1], found[2], found[3] or "plain"


def worded(style: str, strategy: str) -> str:
    """Write style and strategy as tables name them."""
    return style if strategy == "plain" else f"{style}, {strategy}"


def fitting(path: Path, artifacts: Path, context: int, llm: str) -> pd.DataFrame:
    """Shipped profiles of a file that answer what would be asked of the present training events: user, part, text.

    Others were written from another split, whose training events may be test events now. Every step of a strategy must
    fit: it is played again with the answers of the file.

    Args:
        path: its name says which model wrote in which style, by which strategy.
        context: tokens that a style other than `grounded` may use; its prompts need the model's tokenizer.
        llm: the preset's; a file may be its own, in whose name not every character can stand.

    Raises:
        UserError: the file's name has another form, the model is not known, or its tokenizer is not at hand.
    """
    model, style, strategy = named(path.stem)
    model = llm if file_name(llm) == model else model
    _, task = task_of(artifacts, model, style, strategy, context, None, cache(lambda: open_llm(model, context, 1)))
    known = read_shipped(path)
    told = {user_id for user_id, *_ in known}
    task = replace(task, histories={user: task.histories[user] for user in task.histories if task.ids[user] in told})

    def ask(questions: list[Question]) -> dict[str, Answer | Failure]:
        return dict.fromkeys((asked.key for asked in questions), NOT_SHIPPED) | shipped(known, questions)

    return table_of(write(task, ask))[["user", "part", "text"]]


def ask_now(llm: LLM, questions: list[Question]) -> list[str]:
    """Ask without looking into any store; the texts, in the order of the questions, empty where there is none."""
    answers = dict(llm.answers([asked.messages for asked in questions], questions[0].sampling))
    return [getattr(answers[index], "text", "") for index in range(len(questions))]
