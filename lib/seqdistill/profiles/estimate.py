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
                placeholders[question.key], missing[question.key] = Answer(text, 0, 0, 0.0, "stop"), question
        return placeholders | answers

    rounds(task, pretend)
    asked = list(missing.values())
    sample = asked[:: max(1, len(asked) // SAMPLE)]
    texts = ["\n".join(message["content"] for message in question.messages) for question in sample]
    prompt = round(sum(task.prompts.count(texts)) * len(asked) / max(1, len(sample)))
    plan = {"users": len({question.user_id for question in asked}), "requests": len(asked), "prompt_tokens": prompt}
    return pd.Series(plan | {"output_tokens": len(asked) * expected})


def dry_run_sentence(plan: pd.Series, tokens_per_second: float, price: tuple[float, float] | None) -> str:
    """Say what a run will cost; `price`: of a million prompt tokens and a million output tokens."""
    if not plan["requests"]:
        return "nothing: every answer is there"
    prompt, output = plan["prompt_tokens"], plan["output_tokens"]
    hours = (prompt + output) / tokens_per_second / 3600 if tokens_per_second else 0
    time = f"about {hours:.2g} h" if hours else "time unknown (none measured)"
    paid = f"cost about {(prompt * price[0] + output * price[1]) / 1e6:,.2f}" if price else "no price given"
    asked = f"{plan['users']:,} users, {plan['requests']:,} requests"
    return f"{asked}, {prompt:,} prompt tokens, about {output:,} output tokens; {time}; {paid}"


def measured(answers: Iterable[Answer], style: str, parallel: int) -> tuple[int, float]:
    """Output tokens of an answer (without earlier ones two thirds of the limit) and tokens per second in and out (0).

    `parallel` chats were answered together.
    """
    table = pd.DataFrame([vars(answer) for answer in answers])
    if table.empty:
        return round(sampling_of(style)["max_tokens"] * 2 / 3), 0.0
    tokens = (table["prompt_tokens"] + table["output_tokens"]).sum()
    return round(table["output_tokens"].mean()), float(tokens * parallel / table["seconds"].sum())
