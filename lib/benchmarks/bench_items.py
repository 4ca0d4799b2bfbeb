"""Does it help if an LLM describes the items instead of the users? `make bench-items`: Beauty 5-core, hours.

An LLM writes two lines about each of the most frequent items, what it is for and what is bought next, from its title,
brand and categories. First without training: do items with lines rank a user's validation item higher than items
without? Then as a teacher, as in `bench_little`: the mean vector of a user's items, with lines and without.
"""

from collections import defaultdict
from functools import cache

import numpy as np
import pandas as pd
from bench_little import STUDIES, Study, compared, over_rivals, planned, study
from little_sources import ENCODER, LARGER, SMALL, beauty
from seqdistill.data import Dataset
from seqdistill.embeddings.encoders import encode
from seqdistill.embeddings.teachers import centred, item_texts
from seqdistill.evaluation.significance import holm, paired
from seqdistill.evaluation.zero_shot import similarity_ranks
from seqdistill.io import data_dir, digest, outputs_dir, save_csv
from seqdistill.profiles.answers import Question, Store, read_shipped, ship
from seqdistill.profiles.chat import Answer
from seqdistill.profiles.generate import asker
from seqdistill.profiles.llm import model_sha256, open_llm
from seqdistill.profiles.prompts import SAMPLING, filled, template

OUT = outputs_dir("bench")
TRIED, DESCRIBED = 200, 600  # items that both LLMs describe; items that the better one does
ARMS = {"titles": (1, 0), "titles, a quarter of lines": (1, 0.25), "titles and lines": (1, 1), "lines": (0, 1)}
EVERY = 100  # answers after which the file is written
SETTINGS = {**SAMPLING["insight"], "max_tokens": 80}


def frequent(events: pd.DataFrame, count: int) -> np.ndarray:
    """The items with the most training events, ties by number."""
    counts = events.loc[events["split"] == "train", "item"].value_counts().sort_index()
    return counts.sort_values(ascending=False, kind="stable").index[:count].to_numpy()


def lines_of(dataset: Dataset, chosen: np.ndarray, llm: str) -> pd.Series:
    """What an LLM wrote about the chosen items, by item: shipped texts; what is missing is written and added to them."""
    path = data_dir() / "profiles" / dataset.name / "items" / f"{llm}.parquet"
    items = dataset.items.assign(text=item_texts(dataset.items)).set_index("item")
    parts = template(f"{dataset.domain}-item")
    questions = {}  # as of users: what stands for a user is the item
    for item, (item_id, text) in items.loc[chosen, ["item_id", "text"]].iterrows():
        chat = [{**part, "content": filled(part["content"], {"item": text})} for part in parts]
        questions[item] = Question(str(item_id), chat, model_sha256(llm), SETTINGS)
    known, lines = read_shipped(path), {}
    ask = asker(cache(lambda: open_llm(llm)), Store(data_dir() / "cache" / "answers.sqlite"), known)
    for start in range(0, len(chosen), EVERY):
        asked = [*questions.items()][start : start + EVERY]
        answers = {key: one for key, one in ask([one for _, one in asked]).items() if isinstance(one, Answer)}
        if new := [one for _, one in asked if one.shipped_key not in known]:
            ship(path, new, answers)
        lines |= {item: answers[one.key].text for item, one in asked if one.key in answers}
    print(f"{llm}: {len(lines):,} of {len(chosen):,} items are described")
    return pd.Series(lines)


def zero_shot(dataset: Dataset, events: pd.DataFrame, lines: pd.Series) -> pd.DataFrame:
    """Rank the users' validation items among the described items, by titles, by titles and lines, and by lines alone.

    A user is the mean vector of the described items of the training history. Similarities of titles and of lines are
    added, those of the lines times `weight`. `percentile`: see `little_sources`; `delta` is its difference from titles
    alone, paired by user.
    """
    titles = pd.Series(item_texts(dataset.items), dataset.items["item"]).loc[lines.index]
    parts = [centred(encode(texts.tolist(), ENCODER)[0]) for texts in (titles, lines)]
    place = pd.Series(np.arange(1, len(lines) + 1), lines.index)  # of an item among those described
    own = events.assign(place=events["item"].map(place)).dropna(subset="place").astype({"place": int})
    seen = own[own["split"] == "train"].groupby("user")["place"].agg(np.array)
    target = own[own["split"] == "valid"].groupby("user")["place"].last()
    target = target[target.index.isin(seen.index)]
    target = target[[place not in seen[user] for user, place in target.items()]]
    seen = seen.loc[target.index]
    unseen = len(lines) - seen.map(lambda one: len(np.unique(one))).to_numpy()
    percentile = {}
    for name, weights in ARMS.items():
        vectors = np.concatenate([weight**0.5 * part for weight, part in zip(weights, parts, strict=True)], 1)
        users = np.stack([vectors[one - 1].mean(0) for one in seen])
        rank = similarity_ranks(users, vectors, target.to_numpy(), seen.tolist())
        percentile[name] = pd.Series(1 - (rank - 1) / (unseen - 1))
    rows = []
    for name, values in percentile.items():
        test = {} if name == "titles" else paired([values - percentile["titles"]])
        rows.append({"variant": name, "items": len(lines), "users": len(values), "percentile": values.mean(), **test})
    table = pd.DataFrame(rows)
    table = table.assign(p_holm=holm(table["p"]))
    return table[["variant", "items", "users", "percentile", "delta", "ci_low", "ci_high", "p_holm"]]


def taught(of: Study, catalogue: np.ndarray, lines: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train with the mean vector of the user's items as teacher, with lines and without; and against the other teachers."""
    rows = np.searchsorted(of.data.train.users, of.owners)
    vectors = np.stack([catalogue[of.data.train.row(row) - 1].mean(0) for row in rows])
    described = of.teach(vectors, f"item-lines {digest(lines.to_dict())}")
    teachers = {"item-text": of.taught["item-text"], "item-lines": described}
    found, ranked = compared(planned(of.run, of.data, teachers), [*teachers], of.first)
    share = float(np.isin(of.data.train.items, lines.index).mean())
    rivals = over_rivals(of.ranked | ranked, "item-lines").assign(**of.first)
    return found.assign(described=share), rivals


def main() -> None:
    dataset, events, catalogue = beauty()
    tried = {}
    for llm in (SMALL, LARGER):
        tried[llm] = zero_shot(dataset, events, lines_of(dataset, frequent(events, TRIED), llm)).assign(llm=llm)
    best = max(tried, key=lambda llm: tried[llm].set_index("variant").loc["titles and lines", "delta"])
    lines = lines_of(dataset, frequent(events, DESCRIBED), best)
    parts = [*tried.values(), zero_shot(dataset, events, lines).assign(llm=best)]
    print(save_csv(pd.concat(parts), OUT / "items-zero-shot.csv").to_string())
    titles = pd.Series(item_texts(dataset.items), dataset.items["item"])
    of = study(*STUDIES[0], dataset, events, catalogue, defaultdict(list))
    titles.loc[lines.index] += "\n" + lines
    described, _ = encode(titles.tolist(), ENCODER)
    for name, table in zip(("items", "items-rivals"), taught(of, described, lines), strict=True):
        print(save_csv(table, OUT / f"{name}.csv").to_string())


if __name__ == "__main__":
    main()
