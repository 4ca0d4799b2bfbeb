"""A user's training history -> facts -> prompt -> profile text, each answer kept under the digest of its question."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from seqdistill.artifacts import BookError, data_dir, digest, disk_full, load_table, save_table, say, shown
from seqdistill.llm import LLM, Answer, Messages, known

SAMPLING = {"temperature": 0.2, "top_p": 0.9, "seed": 0, "max_tokens": 120}
FEW = 4  # ratings below which a category's mean says little
CATEGORY_FACTS = ("frequent", "best", "worst", "rising", "fading")
TREND = 0.05  # change of a category's share between the halves of a history that counts as a trend


@dataclass(frozen=True)
class Question:
    """What an LLM is asked about one user; `key` names the answer wherever it is kept."""

    user_id: str
    messages: Messages
    model_sha256: str
    sampling: dict[str, float]

    @property
    def prompt_sha256(self) -> str:
        """Digest of the messages."""
        return digest(self.messages)

    @property
    def key(self) -> str:
        """Digest of weights, messages and sampling settings."""
        return digest([self.model_sha256, self.messages, self.sampling])


def shares(categories: pd.Series) -> pd.Series:
    """Share of events that carry each category, largest first, ties by name."""
    counts = categories.explode().dropna().value_counts()
    return (counts / max(len(categories), 1)).sort_index().sort_values(ascending=False, kind="stable")


def quoted(titles: pd.Series, most: int) -> str:
    """Write titles in double quotes, cut to 80 characters, without quotes or control characters of their own."""
    clean = [re.sub(r'["\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]', "", title)[:80] for title in titles]
    return ", ".join(f'"{title}"' for title in clean[:most])


def category_means(history: pd.DataFrame) -> pd.Series:
    """Mean rating of each category with at least `FEW` ratings, best first; empty without ratings."""
    by_category = history.explode("categories").groupby("categories")["value"].agg(["mean", "count"])
    return by_category[by_category["count"] >= FEW]["mean"].sort_values(ascending=False, kind="stable")


def facts(history: pd.DataFrame) -> dict[str, str]:
    """Compute what a small model cannot count itself from one user's training events.

    Args:
        history: events in time order; columns title, categories (list), value (NaN without ratings), year.

    Returns:
        Fact -> statement, empty where the history does not say.
    """
    rated = history["value"].notna().all()
    half = len(history) // 2
    before, now = shares(history["categories"].iloc[:half]), shares(history["categories"].iloc[half:])
    trend = now.sub(before, fill_value=0).round(6).sort_values(kind="stable")
    rising, fading = trend[trend >= TREND].index[-1:], trend[trend <= -TREND].index[:1]
    found = {"frequent": ", ".join(shares(history["categories"]).index[:3])}
    if rated:
        mean = history["value"].mean()
        found["rater"] = "generous" if mean >= 3.9 else "strict" if mean <= 3.2 else "balanced"
        means = category_means(history)
        latest_first = history.iloc[::-1].sort_values("value", ascending=False, kind="stable")
        found["best"] = ", ".join(means[means >= mean].index[:2])
        found["worst"] = "".join(means[means < mean].index[-1:])
        found["loved"] = quoted(latest_first["title"][latest_first["value"] > mean], 3)
        found["disliked"] = quoted(latest_first["title"][latest_first["value"] <= 2.5].iloc[::-1], 1)
    else:
        found["latest"] = quoted(history["title"].iloc[::-1], 3)
    if history["year"].notna().any():
        found["decade"] = f"{(history['year'].dropna() // 10 * 10).astype(int).mode().iloc[0]}s"
    return found | {"rising": "".join(rising), "fading": "".join(fading)}


LABELS = {
    "rater": "Rater",
    "frequent": "Most frequent",
    "best": "Rated best",
    "worst": "Rated worst",
    "loved": "Loved",
    "disliked": "Disliked",
    "latest": "Latest",
    "decade": "Decade",
    "rising": "More lately",
    "fading": "Less lately",
}
WORDING = {"movies": {"frequent": "Watched most"}, "generic": {}}


def template(domain: str, style: str) -> Messages:
    """Read a prompt template: blocks that open with [system], [user] or [assistant] on a line of its own."""
    text = resources.files("seqdistill").joinpath("prompts", f"{domain}-{style}.txt").read_text("utf-8")
    parts = re.split(r"^\[(system|user|assistant)\]\n", text, flags=re.M)[1:]
    return [{"role": role, "content": body.strip()} for role, body in zip(parts[::2], parts[1::2], strict=True)]


def histories(events: pd.DataFrame, items: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Join training events with item texts, one frame per user.

    Args:
        events: training events only; columns user, item, value, in time order.
        items: columns item, title and, where the data has them, categories ("a|b") and year.

    Raises:
        BookError: an event does not belong to the training split.
    """
    if (events["split"] != "train").any():
        raise BookError("profiles: an event outside the training split was given; a profile may only see training.")
    texts = pd.DataFrame({"item": items["item"], "title": items["title"]})
    raw = items["categories"] if "categories" in items else pd.Series("", index=items.index)
    texts["categories"] = [
        [part for part in str(value).split("|") if part and part != "(no genres listed)"] for value in raw.fillna("")
    ]
    texts["year"] = pd.to_numeric(items["year"], errors="coerce") if "year" in items else float("nan")
    joined = events.merge(texts, on="item", how="left", validate="many_to_one")
    return {int(user): frame.reset_index(drop=True) for user, frame in joined.groupby("user", sort=True)}


def question(user_id: str, history: pd.DataFrame, domain: str, style: str, model_sha256: str) -> Question:
    """Compose what the model is asked about one user from the training history."""
    found, labels = facts(history), LABELS | WORDING[domain]
    lines = "\n".join(f"{labels[name]}: {found[name]}" for name in LABELS if found.get(name))
    messages = [
        {**message, "content": message["content"].replace("{facts}", lines)} for message in template(domain, style)
    ]
    return Question(user_id, messages, model_sha256, SAMPLING)


def questions_of(artifacts: Path, llm: str, style: str) -> tuple[str, list[Question]]:
    """Compose the questions about every user of the tables that 01-data left; return them with the data set's name."""
    events, items, users = (load_table(artifacts / f"{name}.parquet") for name in ("events", "items", "users"))
    dataset, domain, ids, sha = users["dataset"].iloc[0], users["domain"].iloc[0], users["user_id"], known(llm).sha256
    found = histories(events[events["split"] == "train"], items)
    return dataset, [question(ids[user], history, domain, style, sha) for user, history in found.items()]


class Store:
    """Answers on disk by key (SQLite): finished ones survive a kill, and two processes may write at once."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        with closing(self.connect()) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")

    def connect(self) -> sqlite3.Connection:
        """Open a connection that waits for other writers."""
        return sqlite3.connect(self.path, timeout=60)

    def get(self, keys: list[str]) -> dict[str, Answer]:
        """Return the stored answers among `keys`."""
        wanted = set(keys)
        with closing(self.connect()) as connection:
            rows = connection.execute("SELECT key, answer FROM answers").fetchall()
        return {key: Answer(**json.loads(answer)) for key, answer in rows if key in wanted}

    def forget(self, keys: list[str]) -> None:
        """Remove the stored answers among `keys`."""
        with closing(self.connect()) as connection, connection:
            connection.executemany("DELETE FROM answers WHERE key = ?", [(key,) for key in keys])

    def put(self, key: str, answer: Answer) -> None:
        """Store one answer.

        Raises:
            BookError: the disk is full; the answers before are kept.
        """
        try:
            with closing(self.connect()) as connection, connection:
                connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(asdict(answer))))
        except sqlite3.OperationalError as error:
            if not disk_full(error):
                raise
            raise BookError(f"{shown(self.path)}: the disk is full; the answers before this one are kept.") from None


COLUMNS = ["user_id", "text", "model_sha256", "prompt_sha256", "sampling", "prompt_tokens", "output_tokens"]
COLUMNS += ["seconds", "finish"]


def rows_of(questions: list[Question], answers: dict[str, Answer]) -> pd.DataFrame:
    """Tabulate the answered questions with their provenance, one row per user."""
    rows = [
        {
            "user_id": asked.user_id,
            "model_sha256": asked.model_sha256,
            "prompt_sha256": asked.prompt_sha256,
            "sampling": json.dumps(asked.sampling, sort_keys=True),
            **asdict(answers[asked.key]),
        }
        for asked in questions
        if asked.key in answers
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def shipped_path(dataset: str, llm: str, style: str) -> Path:
    """Where the profiles that come with the book stand."""
    return data_dir() / "profiles" / dataset / f"{llm}-{style}.parquet"


def shipped(path: Path, questions: list[Question]) -> dict[str, Answer]:
    """Read the shipped answers whose weights, prompt and sampling settings are those that would be asked now."""
    if not path.exists():
        return {}
    table = load_table(path)
    known = {
        (row.user_id, row.model_sha256, row.prompt_sha256, row.sampling): Answer(
            row.text, row.prompt_tokens, row.output_tokens, row.seconds, row.finish
        )
        for row in table.itertuples()
    }
    wanted = {
        asked.key: (asked.user_id, asked.model_sha256, asked.prompt_sha256, json.dumps(asked.sampling, sort_keys=True))
        for asked in questions
    }
    return {key: known[row] for key, row in wanted.items() if row in known}


def generate(llm: LLM, questions: list[Question], store: Store) -> Iterator[Answer]:
    """Ask the questions that the store does not answer; every answer is stored the moment it is there."""
    have = store.get([asked.key for asked in questions])
    todo = list({asked.key: asked for asked in questions if asked.key not in have}.values())
    chats = [asked.messages for asked in todo]
    for number, (index, answer) in enumerate(tqdm(llm.answers(chats, SAMPLING), total=len(todo), desc="profiles"), 1):
        store.put(todo[index].key, answer)
        if number % 20 == 0:
            say(f"profile {number} of {len(todo)}")
        yield answer


def ask_now(llm: LLM, questions: list[Question]) -> list[str]:
    """Ask without looking into any store; the texts, in the order of the questions."""
    answers = sorted(llm.answers([asked.messages for asked in questions], SAMPLING), key=lambda pair: pair[0])
    return [answer.text for _, answer in answers]


def ship(path: Path, questions: list[Question], answers: dict[str, Answer]) -> pd.DataFrame:
    """Write the answered questions as the shipped table and return it."""
    table = rows_of(questions, answers)
    save_table(table, path, digest([asked.key for asked in questions]))
    return table


def named_categories(text: str, vocabulary: list[str]) -> set[str]:
    """Categories that a text names: whole words, any case, plural forgiven."""
    return {name for name in vocabulary if re.search(rf"(?<![\w-]){re.escape(name)}s?(?![\w-])", text, re.I)}


def fidelity(text: str, history: pd.DataFrame, vocabulary: list[str]) -> dict[str, int]:
    """Compare what a profile names with the history it was written from.

    Returns:
        Counts: categories named; of those, categories liked (among the user's five most frequent or three best rated)
        and categories supported (named by any fact of the prompt); titles in quotes; of those, titles in the history.
    """
    found = facts(history)
    facts_named = named_categories(", ".join(found[name] for name in CATEGORY_FACTS if name in found), vocabulary)
    liked = {*shares(history["categories"]).index[:5], *category_means(history).index[:3]}
    named = named_categories(re.sub(r'"[^"]*"', "", text), vocabulary)
    titles = {part.strip(" .,;:!").lower() for part in re.findall(r'"([^"]{2,90})"', text)}
    seen = {title.strip('" .,;:!').lower() for title in quoted(history["title"], len(history)).split('", "')}
    return {
        "categories_named": len(named),
        "categories_liked": len(named & liked),
        "categories_supported": len(named & facts_named),
        "titles_named": len(titles),
        "titles_seen": len(titles & seen),
    }
