"""What profiles will take, said before anything is asked: requests, tokens, hours, cost."""

from collections.abc import Callable, Iterable

import pandas as pd

from seqdistill.profiles.answers import Question
from seqdistill.profiles.chat import Answer
from seqdistill.profiles.generate import Task, rounds
from seqdistill.profiles.prompts import sampling_of

SAMPLE = 200  # prompts whose tokens are counted for an estimate


def dry_run(task: Task, known: Callable[[list[Question]], dict[str, Answer]], expected: int) -> pd.Series:
    """Play all plans with placeholders of `expected` tokens: users, requests, prompt_tokens and output_tokens ahead.

    `known` finds the answers that need not be asked for; prompt tokens are counted on a sample where there are many.
    """
    missing: dict[str, Question] = {}
    placeholders: dict[str, Answer] = {}

    def pretend(questions: list[Question]) -> dict[str, Answer]:
        answers = known(questions)
        for question in questions:
            if question.key not in answers and question.key not in missing:
                # Answers differ, and so must placeholders: equal ones would make one question of all merges.
                text = "word " * (expected - 1) + str(len(missing))
                placeholders[question.key] = Answer(text, 0, 0, 0.0, "stop")
                missing[question.key] = question
        return placeholders | answers

    rounds(task, pretend)
    asked = list(missing.values())
    sample = asked[:: max(1, len(asked) // SAMPLE)]
    counts = task.prompts.count(["\n".join(message["content"] for message in question.messages) for question in sample])
    users = len({question.user_id for question in asked})
    prompt = round(sum(counts) * len(asked) / max(1, len(sample)))
    names = ["users", "requests", "prompt_tokens", "output_tokens"]
    return pd.Series([users, len(asked), prompt, len(asked) * expected], names)


def dry_run_sentence(plan: pd.Series, tokens_per_second: float, price: tuple[float, float] | None) -> str:
    """Say what a run will cost; `price`: of a million prompt tokens and a million output tokens."""
    if not plan["requests"]:
        return "nothing: every answer is there"
    tokens = plan[["prompt_tokens", "output_tokens"]]
    seconds = tokens.sum() / tokens_per_second if tokens_per_second else 0
    took = f"about {seconds / 3600:.2g} h" if seconds else "time unknown (none measured)"
    paid = f"cost about {(tokens / 1e6) @ price:,.2f}" if price else "no price given"
    return (
        f"{plan['users']:,} users, {plan['requests']:,} requests, {tokens.iloc[0]:,} prompt tokens, "
        f"about {tokens.iloc[1]:,} output tokens; {took}; {paid}"
    )


def measured(answers: Iterable[Answer], style: str, parallel: int) -> tuple[int, float]:
    """Output tokens of an answer (two thirds of the most allowed without earlier ones), and tokens per second (or 0).

    `parallel` counts the chats that were answered together; prompt and output tokens are added up.
    """
    table = pd.DataFrame([vars(answer) for answer in answers])
    if table.empty:
        return round(sampling_of(style)["max_tokens"] * 2 / 3), 0.0
    tokens = (table["prompt_tokens"] + table["output_tokens"]).sum()
    return round(table["output_tokens"].mean()), float(tokens * parallel / table["seconds"].sum())
