"""A model that answers at once, and the tasks that it is given in tests."""

import pandas as pd
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

    def __init__(self, dies_after=None, says=None, per_word=1):
        self.asked, self.dies_after, self.per_word = [], dies_after, per_word
        self.says = says or (lambda chat: chat[-1]["content"])

    def answers(self, chats, sampling):
        for index, chat in enumerate(chats):
            if len(self.asked) == self.dies_after:
                raise KeyboardInterrupt
            self.asked.append((chat, sampling))
            answer = self.says(chat)
            answer = answer if isinstance(answer, Failure) else Answer(answer, 10, 5, 0.1, "stop")
            yield index, answer

    def count_tokens(self, texts):
        return [self.per_word * len(text.split()) for text in texts]


def task(events, items=ITEMS, style="grounded", strategy="plain", context=4096, model=None):
    model = model or Parrot()
    found = histories(events[events["split"] == "train"], items)
    prompts = prompting.prompts_for("movies", style, context, model.count_tokens)
    return profiles.Task({user: f"u{user}" for user in found}, found, prompts, strategy, "0" * 64)


def tight(model, style):
    """The smallest context in which a style goes with every strategy."""
    room = prompting.prompts_for("movies", style, 100_000, model.count_tokens).budget
    return 100_000 - room + 3 * prompting.SAMPLING[style]["max_tokens"]


def written(given, model, path):
    return profiles.write(given, profiles.asker(lambda: model, Store(path), {}))


def small(style="short", budget=1000):
    return prompting.Prompts("movies", style, budget, Parrot().count_tokens)


def long_history(events=120):
    history = pd.DataFrame({"title": [f"T{number:03}" for number in range(events)], "value": 4.0, "year": float("nan")})
    return history.assign(categories=[["a b c d e f g h i j k l m n o p q r s t"]] * events)
