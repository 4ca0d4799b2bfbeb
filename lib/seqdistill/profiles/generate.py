"""Every user's plan -> questions, round by round -> profiles, or the reason why there is none."""

import re
from collections import Counter
from collections.abc import Callable, Container
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from seqdistill.io import UserError, data_dir, load_table, progress
from seqdistill.profiles.answers import Question, Shipped, Store, read_shipped, shipped
from seqdistill.profiles.audit import fault
from seqdistill.profiles.chat import COMPUTED, LLM, Answer, Failure
from seqdistill.profiles.facts import histories
from seqdistill.profiles.llm import model_sha256, open_llm
from seqdistill.profiles.prompts import SAMPLING, Prompts, TooLong, prompts_for, sampling_of
from seqdistill.profiles.strategies import STRATEGIES, plans

HOPELESS = 50  # failures in a row after which the fault must be the model's
TOO_LONG = Failure("text too long for the context", final=True)
NOT_SHIPPED = Failure("not among the shipped answers", final=True)
Owner = tuple[int, int]  # user and part (of several aspects)
Outcomes = dict[Owner, Answer | Failure]
Ask = Callable[[list[Question]], dict[str, Answer | Failure]]  # answers by key


@dataclass(frozen=True)
class Task:
    """Profiles to be written: for whom, by which model, in which style, by which strategy, within which context."""

    ids: dict[int, str]
    histories: dict[int, pd.DataFrame]
    prompts: Prompts
    strategy: str
    model_sha256: str

    def first_questions(self) -> list[Question]:
        """Questions of the first round, which are all questions with `plain`."""
        asked: list[Question] = []
        rounds(self, lambda questions: asked.extend(questions) or not_shipped(questions))
        return asked


def not_shipped(questions: list[Question]) -> dict[str, Failure]:
    """Answer every question with `NOT_SHIPPED`."""
    return {question.key: NOT_SHIPPED for question in questions}


def task_of(
    artifacts: Path, llm: str, style: str, strategy: str, context: int, sample: int | None, opened: Callable[[], LLM]
) -> tuple[str, Task]:
    """Set up the profiles of the users in 01-data's tables; return them with the data set's name.

    `sample`: how many users to draw, the same ones every time. `opened` gives the model if tokens must be counted.
    """
    events, items, users = (load_table(artifacts / f"{name}.parquet") for name in ("events", "items", "users"))
    dataset, domain = users[["dataset", "domain"]].iloc[0]
    prompts = prompts_for(domain, style, context, lambda texts: opened().count_tokens(texts))
    of_users = histories(events[events["split"] == "train"], items)
    drawn = np.sort(np.random.default_rng(0).permutation(list(of_users))[:sample]).tolist()
    of_users = {user: of_users[user] for user in drawn}
    return dataset, Task(users["user_id"].to_dict(), of_users, prompts, strategy, model_sha256(llm))


def generate(llm: LLM, questions: list[Question], store: Store) -> dict[str, Answer | Failure]:
    """Ask questions with equal sampling settings; return answers by key. Answers are stored on arrival, failures never.

    UserError after `HOPELESS` failures in a row; prompts that are refused do not count.
    """
    todo = {question.key: question.messages for question in questions}
    keys, outcomes, failures, given_up = [*todo], {}, 0, None
    answers = llm.answers([*todo.values()], questions[0].sampling)
    with closing(answers), progress("profiles", len(todo)) as done:
        arrived = next(answers, None)
        while arrived:
            index, answer = arrived
            done(1)
            outcomes[keys[index]] = answer
            if isinstance(answer, Answer):
                store.put(keys[index], answer)
                failures = 0
            elif (failures := failures + (not answer.final)) == HOPELESS and not given_up:
                why = f"{HOPELESS} requests in a row failed ({answer.reason}{answer.message and ': ' + answer.message})"
                given_up = UserError(f"{llm.name}: {why}; finished answers are kept.")
                arrived = answers.throw(given_up)  # the first of those in flight; the error is raised after the last
                continue
            arrived = next(answers, None)
    return outcomes


def asker(llm: Callable[[], LLM], store: Store, known: Shipped) -> Ask:
    """Answer questions from the shipped table, else from the store, else with the model, opened only if needed."""

    def ask(questions: list[Question]) -> dict[str, Answer | Failure]:
        answers = shipped(known, questions)
        answers |= store.get(question.key for question in questions if question.key not in answers)
        missing = [question for question in questions if question.key not in answers]
        return answers | (generate(llm(), missing, store) if missing else {})

    return ask


def rounds(task: Task, ask: Ask, seed: int = 0, owners: Container[Owner] | None = None) -> Outcomes:
    """Run the plans of all users, or of some `owners`, together: each round asks the next questions of all plans.

    The outcome of a plan is its text with the costs of all its answers, or its first failure.
    """
    sampling, outcomes = sampling_of(task.prompts.style, seed), {}
    running = {
        (user, part): plan
        for user, history in task.histories.items()
        for part, plan in enumerate(plans(task.strategy, task.prompts, history))
        if owners is None or (user, part) in owners
    }
    spent: dict[Owner, list[Answer]] = {owner: [] for owner in running}
    replies = dict.fromkeys(running)  # None starts a plan
    while replies:
        asked = {}
        for owner, reply in replies.items():
            if failed := next((answer for answer in reply or () if isinstance(answer, Failure)), None):
                outcomes[owner] = failed
                continue
            spent[owner] += reply or ()
            try:
                chats = running[owner].send(reply and [answer.text for answer in reply])
            except TooLong:
                outcomes[owner] = TOO_LONG
            except StopIteration as end:
                _, prompt, output, seconds, finish = zip(*map(astuple, spent[owner]), strict=True)
                last = "length" if "length" in finish else finish[-1]
                outcomes[owner] = Answer(end.value, sum(prompt), sum(output), round(sum(seconds), 3), last)
            else:
                user_id = task.ids[owner[0]]
                asked[owner] = [Question(user_id, chat, task.model_sha256, sampling) for chat in chats]
        answers = ask([question for questions in asked.values() for question in questions])
        replies = {owner: [answers[question.key] for question in questions] for owner, questions in asked.items()}
    return outcomes


def fault_of(outcome: Answer | Failure) -> str:
    """Name the hard check that an answer fails; computed facts, in whatever language, pass."""
    written = isinstance(outcome, Answer) and outcome.finish != COMPUTED
    return fault(outcome.text) if written else ""


def write(task: Task, ask: Ask) -> Outcomes:
    """Write every profile; one that fails a hard check is requested again with another seed, then counts as failed."""
    outcomes = rounds(task, ask)
    faulty = {owner: outcome for owner, outcome in outcomes.items() if fault_of(outcome)}
    for owner, outcome in rounds(task, ask, 1, faulty).items():
        reason = fault_of(outcome)
        # Both answers are stored and would be read again, so a third request would change nothing.
        outcomes[owner] = Failure(reason, 2, final=True) if reason else outcome
    return outcomes


def failures_sentence(outcomes: Outcomes, again: str) -> str:
    """Say how many users have no profile, why, and how many may get one by `again`; empty if all have one."""
    failed = {user: outcome for (user, _), outcome in outcomes.items() if isinstance(outcome, Failure)}
    if not failed:
        return ""
    users, lost, failures = len({user for user, _ in outcomes}), len(failed), failed.values()
    final, tries = sum(outcome.final for outcome in failures), max(outcome.tries for outcome in failures)
    message = next((outcome.message for outcome in failures if outcome.message), "")
    reasons = Counter(outcome.reason for outcome in failures).most_common()
    return (
        f"profiles: {lost:,} of {users:,} users failed after {tries} {'try' if tries == 1 else 'tries'} "
        f"({', '.join(f'{reason}: {count}' for reason, count in reasons)}); the other {users - lost:,} are kept."
        + f" The server's first message: {message}" * bool(message)
        + f" {final:,} would fail again in the same way with this model and these settings." * bool(final)
        + f" To ask for {lost - final:,} again: {again}." * (lost > final)
    )


def table_of(outcomes: Outcomes) -> pd.DataFrame:
    """Tabulate the profiles, one row per user and part; a user with a failed part is left out."""
    lost = {user for (user, _), outcome in outcomes.items() if isinstance(outcome, Failure)}
    rows = [(*owner, *vars(outcome).values()) for owner, outcome in sorted(outcomes.items()) if owner[0] not in lost]
    return pd.DataFrame(rows, columns=["user", "part", *Answer.__dataclass_fields__])


def shipped_path(dataset: str, llm: str, style: str, strategy: str) -> Path:
    """Path of profiles that come with the book; a strategy other than `plain` is part of the name."""
    stem = re.sub(r"[^\w.-]", "-", f"{llm}-{style}-{strategy}").removesuffix("-plain")
    return data_dir() / "profiles" / dataset / f"{stem}.parquet"


def named(stem: str) -> tuple[str, str, str]:
    """Read model, style and strategy from the name of a file of shipped profiles; UserError if it has another form."""
    match = re.fullmatch(f"(.+)-({'|'.join(SAMPLING)})(?:-({'|'.join(STRATEGIES)}))?", stem)
    if not match:
        raise UserError(f"{stem}.parquet: expected <llm>-<style>.parquet or <llm>-<style>-<strategy>.parquet.")
    return match[1], match[2], match[3] or "plain"


def worded(style: str, strategy: str) -> str:
    """Write style and strategy as tables name them."""
    return f"{style}, {strategy}".removesuffix(", plain")


def fitting(path: Path, artifacts: Path, context: int, llm: str) -> pd.DataFrame:
    """Profiles of a shipped file that answer the questions for the present training events: user, part, text.

    Others were written from another split, whose training events may be test events now. Every step of a strategy must
    match: it is replayed with the file's answers. `llm`: the preset's name, as a file name cannot hold every character.
    """
    model, *way = named(path.stem)
    model = llm if path.name == shipped_path("", llm, *way).name else model
    _, task = task_of(artifacts, model, *way, context, None, cache(lambda: open_llm(model, context, 1)))
    known = read_shipped(path)
    covered = {user_id for user_id, *_ in known}
    task = replace(task, histories={user: task.histories[user] for user in task.histories if task.ids[user] in covered})
    return table_of(write(task, lambda asked: not_shipped(asked) | shipped(known, asked)))[["user", "part", "text"]]
