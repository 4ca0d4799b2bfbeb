"""Who teaches in `bench_little`: users, profiles and vectors; and how each source ranks before any training."""

from functools import cache

import numpy as np
import pandas as pd
from seqbook.zero_shot import similarity_ranks
from seqdistill import data as datasets
from seqdistill.data import Dataset
from seqdistill.data.splits import leave_last_k
from seqdistill.embeddings.encoders import encode
from seqdistill.embeddings.teachers import item_texts, source_vectors
from seqdistill.evaluation import baselines
from seqdistill.evaluation.ranking import rank
from seqdistill.evaluation.significance import compare, holm, paired
from seqdistill.io import UserError, data_dir
from seqdistill.profiles.answers import Store, read_shipped, ship
from seqdistill.profiles.facts import histories
from seqdistill.profiles.generate import Task, asker, shipped_path, table_of, write
from seqdistill.profiles.llm import model_sha256, open_llm
from seqdistill.profiles.prompts import prompts_for, template
from seqdistill.training.train import TrainingData
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

LATEST, ENCODER = 30, "minilm"
SMALL, LARGER = "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"
LEAST = 0.95  # least share of users with a profile
TEACHING = {"profile": (SMALL, "grounded")}  # source -> LLM and prompt of the profiles that it stands for
TRIED = {"insight": (SMALL, "insight"), "profile-1.5b": (LARGER, "grounded"), "insight-1.5b": (LARGER, "insight")}
TRIED_USERS = 150  # of the first study; for these, TRIED is ranked, not trained with
SOURCES = ["profile", "facts", "raw-history", "item-text"]


def beauty() -> tuple[Dataset, pd.DataFrame, np.ndarray]:
    """Beauty 5-core, its events split by leave-one-out, and its items' text vectors [V, e]."""
    dataset = datasets.load("amazon-beauty-5core", 5)
    events = dataset.events.assign(split=leave_last_k(dataset.events, 1))
    return dataset, events, encode(item_texts(dataset.items), ENCODER)[0]


def few(events: pd.DataFrame, users: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Leave the training and validation events of some drawn users, the first of any larger draw; all are tested."""
    drawn = np.sort(np.random.default_rng(0).permutation(events["user"].unique())[:users])
    known = events["user"].isin(drawn) | (events["split"] == "test")
    return events.assign(split=events["split"].where(known, "input")), drawn


def profiles(dataset: Dataset, read: dict[int, pd.DataFrame], llm: str, style: str) -> pd.Series:
    """The LLM's profiles of these histories, by user: the shipped ones; what is missing is written and added to them."""
    path, store = shipped_path(dataset.name, llm, style, "plain"), Store(data_dir() / "cache" / "answers.sqlite")
    known, prompts = read_shipped(path), prompts_for(dataset.domain, style, 1024, lambda texts: [*map(len, texts)])
    task = Task(dataset.users["user_id"].to_dict(), read, prompts, "plain", model_sha256(llm))
    ask, asked = asker(cache(lambda: open_llm(llm)), store, known), []
    outcomes = write(task, lambda questions: asked.extend(questions) or ask(questions))
    written = table_of(outcomes).set_index("user")["text"]
    if new := [question for question in asked if question.shipped_key not in known]:
        ship(path, new, store.get(question.key for question in new))
    print(f"{llm}, {style}: {len(written):,} of {len(read):,} users have a profile")
    if len(written) < LEAST * len(read):
        raise UserError(
            f"{path.name}: {len(written):,} profiles; at least {LEAST:.0%} of {len(read):,} users are expected."
        )
    return written


def copied(texts: pd.Series, domain: str, style: str) -> float:
    """Share of profiles that hold a sentence of the prompt's worked examples."""
    examples = " ".join(
        message["content"] for message in template(f"{domain}-{style}") if message["role"] == "assistant"
    )
    sentences = [part.strip() for part in examples.split(". ") if len(part.split()) > 4]
    return float(texts.map(lambda text: any(sentence in text for sentence in sentences)).mean())


def teachers(
    dataset: Dataset, events: pd.DataFrame, drawn: np.ndarray, catalogue: np.ndarray, styles: dict[str, tuple[str, str]]
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, pd.Series]]:
    """The drawn users with all profiles, their vectors by source, and their profiles by source.

    styles: source -> LLM and prompt of the profiles that it stands for.
    """
    read = histories(events[events["user"].isin(drawn) & (events["split"] == "train")], dataset.items)
    texts = {source: profiles(dataset, read, *style) for source, style in styles.items()}
    owners = sorted(set.intersection(*(set(each.index) for each in texts.values())))
    vectors = {}
    for source in dict.fromkeys([*SOURCES, *styles]):
        profile = texts.get(source, texts["profile"]).loc[owners]
        kind = "profile" if source in styles else source
        vectors[source] = source_vectors(
            kind, profile, read, catalogue, lambda lines: encode(lines, ENCODER)[0], LATEST, 0
        )
    return np.array(owners), vectors, {source: each.loc[owners] for source, each in texts.items()}


def unlearned(
    data: TrainingData, events: pd.DataFrame, catalogue: np.ndarray, plain: list[pd.DataFrame]
) -> pd.DataFrame:
    """Recommenders of counts and texts, made from the few users' training events, against the plain student's ranks."""
    train = events[events["split"] == "train"]
    knn, _ = baselines.chosen("item-kNN", train, data.items, data.valid)
    scores = {"popularity": baselines.popularity(train, data.items), "Markov": baselines.markov(train, data.items)}
    scores |= {"item-kNN": knn, "text-kNN": baselines.text_knn(catalogue)}
    systems = {"plain": plain} | {name: [rank(data.test, score)] for name, score in scores.items()}
    against = dict.fromkeys(scores, "plain")
    return pd.concat(compare(systems, against, seen, False, fixed=[*scores]) for seen in ("excluded", "included"))


def untrained(dataset: Dataset, events: pd.DataFrame, drawn: np.ndarray, catalogue: np.ndarray) -> pd.DataFrame:
    """Rank by each source before any training: all drawn users, and those who have profiles by other LLMs and prompts."""
    some = np.random.default_rng(1).permutation(drawn)[:TRIED_USERS]
    tables = []
    for users, styles in ((drawn, TEACHING), (some, TEACHING | TRIED)):
        owners, vectors, texts = teachers(dataset, events, users, catalogue, styles)
        copies = {source: copied(each, dataset.domain, styles[source][1]) for source, each in texts.items()}
        table = zero_shot(events, owners, vectors, catalogue)
        tables.append(table.assign(copied=table["variant"].map(copies)))
    return pd.concat(tables)


def zero_shot(
    events: pd.DataFrame, owners: np.ndarray, vectors: dict[str, np.ndarray], catalogue: np.ndarray
) -> pd.DataFrame:
    """How each source's vectors rank the owners' validation items, untrained; and against `facts`, paired by user."""
    own = events[events["user"].isin(owners)]
    target = own[own["split"] == "valid"].groupby("user")["item"].last().loc[owners].to_numpy()
    seen = [one.to_numpy() for _, one in own[own["split"] == "train"].groupby("user")["item"]]
    rank = {source: similarity_ranks(rows, catalogue, target, seen) for source, rows in vectors.items()}
    unseen = len(catalogue) - np.array([len(np.unique(one)) for one in seen])
    table = placed(rank, unseen, "facts")
    columns = ["variant", "users", "zero_shot_ndcg@10", "percentile", "delta", "ci_low", "ci_high", "p_holm"]
    return table.assign(p_holm=holm(table["p"]))[columns]


def placed(rank: dict[str, np.ndarray], unseen: np.ndarray, against: str) -> pd.DataFrame:
    """How variants rank users' targets among their `unseen` items [n]; differences from one, paired by user.

    percentile: 1 is the top, 0 the end or a seen target. delta: difference of the percentiles.
    """
    percentile = {name: pd.Series((1 - (one - 1) / (unseen - 1)).clip(0)) for name, one in rank.items()}
    rows = []
    for name, one in rank.items():
        row = {"variant": name, "users": len(one), "zero_shot_ndcg@10": ((one <= 10) / np.log2(one + 1)).mean()}
        test = {} if name == against else paired([percentile[name] - percentile[against]])
        rows.append(row | {"percentile": percentile[name].mean(), **test})
    return pd.DataFrame(rows)


def extended(vectors: np.ndarray, features: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, float]:
    """Keep the vectors [n, e] of the `known` users, a mask [n], and predict the others' by ridge from features [n, f].

    Returns all vectors, and R² on fifths of the known users that the ridge was not fitted on.
    """
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(1, 6, 11)))
    folds = KFold(5, shuffle=True, random_state=0)
    tried = cross_val_predict(ridge, features[known], vectors[known], cv=folds)
    predicted = ridge.fit(features[known], vectors[known]).predict(features)
    fit_of = r2_score(vectors[known], tried, multioutput="variance_weighted")
    return np.where(known[:, None], vectors, predicted).astype(np.float32), float(fit_of)


def exchanged(vectors: np.ndarray, share: float) -> np.ndarray:
    """Exchange the vectors [n, e] of a share of the users among them; a larger share contains a smaller one."""
    rows = np.random.default_rng(0).permutation(len(vectors))[: round(share * len(vectors))]
    noisy = vectors.copy()
    noisy[rows] = vectors[np.roll(rows, 1)]
    return noisy
