"""What profiles will take, estimated before the first request: requests, tokens, hours, cost."""

from collections.abc import Callable, Iterable

import pandas as pd
from seqdistill.profiles.answers import Question
from seqdistill.profiles.chat import Answer
from seqdistill.profiles.generate import Task, rounds
from seqdistill.profiles.llm import FACTS, model_sha256
from seqdistill.profiles.prompts import sampling_of

SAMPLE = 200  # prompts whose tokens are counted for an estimate


def dry_run(
    task: Task, known: Callable[[list[Question]], dict[str, Answer]], earlier: Iterable[Answer], parallel: int,
    price: tuple[float, float] | None,
) -> pd.Series:  # fmt: skip
    """Run all plans with placeholder answers: users, requests, tokens, hours and cost ahead, NaN if unknown.

    `known` finds the answers that need no request. Length and speed are those of `earlier` answers, `parallel` at a
    time; without any, answers take two thirds of their limit. `price`: per million prompt and output tokens.
    """
    costs = pd.DataFrame([vars(answer) for answer in earlier], columns=[*Answer.__dataclass_fields__])
    limit = sampling_of(task.prompts.style)["max_tokens"]
    expected = round(costs["output_tokens"].mean() if len(costs) else limit * 2 / 3)
    missing: dict[str, Question] = {}

    def pretend(questions: list[Question]) -> dict[str, Answer]:
        answers = known(questions)
        new = {question.key: question for question in questions if question.key not in answers}
        missing.update(new)
        # Placeholders must differ, as answers do: equal ones would make all merges the same question.
        texts = {key: f"{'word ' * (expected - 1)}{key[:8]}" for key in new}
        return answers | {key: Answer(text, 0, 0, 0.0, "stop") for key, text in texts.items()}

    rounds(task, pretend)
    asked = [] if task.model_sha256 == model_sha256(FACTS) else list(missing.values())  # facts are computed
    sample = asked[:: max(1, len(asked) // SAMPLE)]
    counts = task.prompts.count(["\n".join(message["content"] for message in chat.messages) for chat in sample])
    prompt, output = round(sum(counts) * len(asked) / max(1, len(sample))), len(asked) * expected
    tokens = costs["prompt_tokens"].sum() + costs["output_tokens"].sum()
    per_token = costs["seconds"].sum() / parallel / (tokens or float("nan"))
    ahead = {
        "users": len({question.user_id for question in asked}),
        "requests": len(asked),
        "prompt_tokens": prompt,
        "output_tokens": output,
        "hours": (prompt + output) * per_token / 3600,
        "cost": (prompt * price[0] + output * price[1]) / 1e6 if price else float("nan"),
    }
    return pd.Series(ahead, dtype=object)
