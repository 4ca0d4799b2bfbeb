"""What profiles will take, said before anything is asked: requests, tokens, hours, cost."""

from collections.abc import Callable, Iterable

import pandas as pd

from seqdistill.profiles.answers import Question
from seqdistill.profiles.chat import Answer, Failure
from seqdistill.profiles.generate import Task, rounds
from seqdistill.profiles.prompts import sampling_of

PER_MILLION = 1_000_000
SAMPLE = 200  # prompts whose tokens are counted for an estimate


def dry_run(task: Task, known: Callable[[list[Question]], dict[str, Answer]], expected: int) -> pd.Series:
    """Play all plans with placeholders of `expected` tokens, asking nothing.

    Args:
        known: finds the answers that need not be asked for.
        expected: tokens that an answer is expected to have.

    Returns:
        users, requests (to be asked), prompt_tokens (counted on a sample of the prompts where there are many) and
        output_tokens.
    """
    numbered: dict[str, tuple[int, Question]] = {}

    def pretend(questions: list[Question]) -> dict[str, Answer | Failure]:
        have = known(questions)
        missing = {asked.key: asked for asked in questions if asked.key not in have}
        for key, asked in missing.items():
            numbered.setdefault(key, (len(numbered), asked))
        # Answers differ, and so must placeholders: equal ones would make one question of all merges.
        texts = {key: "word " * (expected - 1) + str(numbered[key][0]) for key in missing}
        return have | {key: Answer(text, 0, 0, 0.0, "stop") for key, text in texts.items()}

    rounds(task, task.started(), pretend, 0)
    wanted = [asked for _, asked in numbered.values()]
    sample = wanted[:: max(1, len(wanted) // SAMPLE)]
    texts = ["\n".join(message["content"] for message in asked.messages) for asked in sample]
    tokens = sum(task.prompts.count(texts)) * len(wanted) / len(sample) if sample else 0
    return pd.Series(
        {
            "users": len({asked.user_id for asked in wanted}),
            "requests": len(wanted),
            "prompt_tokens": round(tokens),
            "output_tokens": len(wanted) * expected,
        }
    )


def dry_run_sentence(plan: pd.Series, tokens_per_second: float, price: tuple[float, float] | None) -> str:
    """Say what a run will cost.

    Args:
        tokens_per_second: prompt and output tokens together, as measured on earlier answers; 0 if there is none.
        price: of a million prompt tokens and a million output tokens, in one currency; None if nothing is paid.
    """
    if not plan["requests"]:
        return "nothing: every answer is there"
    total = plan["prompt_tokens"] + plan["output_tokens"]
    hours = f"about {total / tokens_per_second / 3600:.2g} h" if tokens_per_second else "time unknown (none measured)"
    cost = (plan["prompt_tokens"] * price[0] + plan["output_tokens"] * price[1]) / PER_MILLION if price else None
    paid = f"cost about {cost:,.2f}" if price else "no price given"
    return (
        f"{plan['users']:,} users, {plan['requests']:,} requests, {plan['prompt_tokens']:,} prompt tokens, "
        f"about {plan['output_tokens']:,} output tokens; {hours}; {paid}"
    )


def measured(answers: Iterable[Answer], style: str, parallel: int) -> tuple[int, float]:
    """What earlier answers of a model tell about later ones.

    Args:
        parallel: chats that were answered together.

    Returns:
        Tokens that an answer is expected to have (two thirds of the most allowed without earlier ones), and tokens per
        second, prompt and output together (0 without earlier ones).
    """
    table = pd.DataFrame([vars(answer) for answer in answers])
    if table.empty:
        return round(sampling_of(style)["max_tokens"] * 2 / 3), 0.0
    tokens = (table["prompt_tokens"] + table["output_tokens"]).sum()
    return round(table["output_tokens"].mean()), float(tokens * parallel / table["seconds"].sum())
