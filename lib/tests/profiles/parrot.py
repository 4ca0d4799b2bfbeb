"""A model that answers at once, and the tasks that it is given in tests."""

import pandas as pd
import written as writing
from seqdistill.profiles import generate as profiles
from seqdistill.profiles import prompts as prompting
from seqdistill.profiles.answers import Store
from seqdistill.profiles.chat import Answer, Failure
from seqdistill.profiles.facts import histories

ITEMS = pd.DataFrame({"item": range(1, 31), "title": [f"Film {i}" for i in range(1, 31)], "year": range(1971, 2001)})
ITEMS["categories"] = ["Drama|Crime", "Comedy", "Horror"] * 10
GOOD = "This is a viewer of the films that are in the history and of others."
STRATEGIES = [("grounded", "plain"), ("insight", "plain"), ("short", "plain"), ("short", "agg_after")]
STRATEGIES += [("long", "agg_with"), ("short", "several")]


class Parrot:
    """A model that repeats what it is told, has `per_word` tokens for a word, and counts what it was asked."""

    name = "parrot"

    def __init__(self, says=lambda chat: chat[-1]["content"], per_word=1):
        self.asked, self.says, self.per_word = [], says, per_word

    def answers(self, chats, sampling):
        for index, chat in enumerate(chats):
            self.asked.append((chat, sampling))
            answer = self.says(chat)
            yield index, answer if isinstance(answer, Failure) else Answer(answer, 10, 5, 0.1, "stop")

    def count_tokens(self, texts):
        return [self.per_word * len(text.split()) for text in texts]


def good(per_word=1):
    return Parrot(lambda chat: GOOD, per_word)


def task(events, items=ITEMS, style="grounded", strategy="plain", context=4096, model=None):
    found = histories(events[events["split"] == "train"], items)
    prompts = prompting.prompts_for("movies", style, context, (model or Parrot()).count_tokens)
    return profiles.Task({user: f"u{user}" for user in found}, found, prompts, strategy, "0" * 64)


def tight(events, style, strategy, model, items=ITEMS):
    """A task in the smallest context in which a style goes with every strategy."""
    room = prompting.prompts_for("movies", style, 100_000, model.count_tokens).budget
    least = 100_000 - room + 3 * prompting.SAMPLING[style]["max_tokens"]
    return task(events, items, style, strategy, least, model)


def ask(model, path, known=()):
    return profiles.asker(lambda: model, Store(path), dict(known))


def written(given, model, path):
    return profiles.write(given, ask(model, path))


def make_profiles(monkeypatch, home, path, given, model, fresh=False):
    """What `make profiles` does, for a preset that wants this task, its answers shipped to `path`."""
    monkeypatch.setenv("SEQDISTILL_DATA", str(home))
    monkeypatch.setattr(writing, "values_of", lambda *_: {"llm": "openai:x", "context": 1, "parallel": 1})
    monkeypatch.setattr(writing, "profile_task", lambda *_: (path, given))
    monkeypatch.setattr(writing, "open_llm", lambda *_: model)
    writing.write_profiles("mine", fresh)


def small(style="short", budget=1000):
    return prompting.Prompts("movies", style, budget, Parrot().count_tokens)


def long_history(events=120):
    history = pd.DataFrame({"title": [f"T{number:03}" for number in range(events)], "value": 4.0, "year": float("nan")})
    return history.assign(categories=[["a b c d e f g h i j k l m n o p q r s t"]] * events)
