"""Does an LLM know more about items than their titles say? `make bench-items`: Beauty 5-core, an hour with the LLMs.

Two LLMs write two lines about each of the most frequent items, from title, brand and categories: what it is for, and
what people buy next. Nothing is trained: users' validation items are ranked by titles, by lines, and by both. The LLM is
chosen on users with even numbers; it then describes more items, and the other users test it.
"""

import numpy as np
import pandas as pd
from little_sources import ENCODER, LARGER, LEAST, SMALL, beauty, placed
from seqbook.zero_shot import similarity_ranks
from seqdistill.data import Dataset
from seqdistill.embeddings.encoders import encode
from seqdistill.embeddings.teachers import centred, item_texts
from seqdistill.evaluation.significance import holm
from seqdistill.io import UserError, data_dir, outputs_dir, save_csv
from seqdistill.profiles.answers import Question, Store, read_shipped, ship
from seqdistill.profiles.chat import Answer
from seqdistill.profiles.generate import asker
from seqdistill.profiles.llm import model_sha256, open_llm
from seqdistill.profiles.prompts import SAMPLING, filled, prompt_file, template

OUT = outputs_dir("bench")
TRIED, DESCRIBED = 200, 600  # items that both LLMs describe; items that the better one describes
ARMS = {"titles": (1, 0), "titles + ¼ lines": (1, 0.25), "titles + lines": (1, 1), "lines": (0, 1)}  # weights
SETTINGS = {**SAMPLING["insight"], "max_tokens": 80}
BRANDS = ["China Glaze", "Essie", "Olay", "Neutrogena"]  # in the answers of the prompt's examples


def most_frequent(events: pd.DataFrame, count: int) -> np.ndarray:
    """The items with the most training events, ties by number."""
    counts = events.loc[events["split"] == "train", "item"].value_counts().sort_index()
    return counts.sort_values(ascending=False, kind="stable").index[:count].to_numpy()


def lines_of(dataset: Dataset, items: np.ndarray, llm: str) -> pd.Series:
    """What an LLM wrote about items, by item: shipped texts; what is missing is written and added to them.

    Items whose title, up to its first comma, stands in the prompt's examples are left out. UserError if more than a few
    fail.
    """
    prompt, parts = prompt_file(f"{dataset.domain}-item"), template(f"{dataset.domain}-item")
    known = read_shipped(path := data_dir() / "profiles" / dataset.name / "items" / f"{llm}.parquet")
    texts = dataset.items.assign(text=item_texts(dataset.items)).set_index("item").loc[items]
    questions = {}  # `Question.user_id` holds the item's id
    for item, row in texts[[title.split(",")[0] not in prompt for title in texts["title"]]].iterrows():
        chat = [{**part, "content": filled(part["content"], {"item": row["text"]})} for part in parts]
        questions[item] = Question(str(row["item_id"]), chat, model_sha256(llm), SETTINGS)
    ask = asker(lambda: open_llm(llm), Store(data_dir() / "cache" / "answers.sqlite"), known)
    outcomes = ask([*questions.values()])
    answers = {key: answer for key, answer in outcomes.items() if isinstance(answer, Answer)}
    if new := [question for question in questions.values() if question.shipped_key not in known]:
        ship(path, new, answers)
    lines = {item: answers[question.key].text for item, question in questions.items() if question.key in answers}
    print(f"{llm}: {len(lines):,} of {len(items):,} items are described")
    if len(lines) < LEAST * len(questions):
        raise UserError(f"{path.name}: {len(lines):,} items; at least {LEAST:.0%} of {len(questions):,} are expected.")
    return pd.Series(lines)


def zero_shot(dataset: Dataset, events: pd.DataFrame, lines: pd.Series) -> pd.DataFrame:
    """Rank the users' validation items among the described items by each of `ARMS`.

    An item is its title's and its lines' vector side by side, each centred, of length 1, and times the root of its
    weight; a user is the mean over the described items of the training history. Users need such an item, and another
    described one to be ranked. `delta` is the difference from titles alone.
    """
    titles = pd.Series(item_texts(dataset.items), dataset.items["item"]).loc[lines.index]
    blocks = [centred(encode(texts.tolist(), ENCODER)[0]) for texts in (titles, lines)]
    place = pd.Series(np.arange(1, len(lines) + 1), lines.index)  # of an item among those described
    known = events.assign(place=events["item"].map(place)).dropna(subset="place").astype({"place": int})
    seen = known[known["split"] == "train"].groupby("user")["place"].agg(np.array)
    target = known[known["split"] == "valid"].groupby("user")["place"].last()
    target = target[target.index.isin(seen.index)]
    target = target[[place not in seen[user] for user, place in target.items()]]
    seen = seen.loc[target.index]
    unseen = len(lines) - seen.map(lambda places: len(np.unique(places))).to_numpy()
    rank = {}
    for name, weights in ARMS.items():
        vectors = np.concatenate([weight**0.5 * block for weight, block in zip(weights, blocks, strict=True)], 1)
        users = np.stack([vectors[places - 1].mean(0) for places in seen])
        rank[name] = similarity_ranks(users, vectors, target.to_numpy(), seen.tolist())
    copied = lines.map(lambda text: any(brand in text for brand in BRANDS)).mean()
    return placed(rank, unseen, "titles").assign(items=len(lines), copied=copied)


def main() -> None:
    dataset, events, _ = beauty()
    choosing = events["user"] % 2 == 0
    lines = {llm: lines_of(dataset, most_frequent(events, TRIED), llm) for llm in (SMALL, LARGER)}
    both = lines[SMALL].index.intersection(lines[LARGER].index)
    tables = [zero_shot(dataset, events[choosing], lines[llm].loc[both]).assign(llm=llm, chooses=True) for llm in lines]
    mixed = pd.concat(tables).query("variant not in ('titles', 'lines')")
    best = mixed.loc[mixed["delta"] == mixed["delta"].max(), "llm"].iloc[0]
    more = lines_of(dataset, most_frequent(events, DESCRIBED), best)
    tables.append(zero_shot(dataset, events[~choosing], more).assign(llm=best, chooses=False))
    table = pd.concat(tables, ignore_index=True)
    table["p_holm"] = holm(table["p"])
    columns = ["llm", "variant", "chooses", "items", "users", "percentile", "delta", "ci_low", "ci_high", "p_holm"]
    print(save_csv(table[[*columns, "copied"]], OUT / "items-zero-shot.csv").to_string())


if __name__ == "__main__":
    main()
