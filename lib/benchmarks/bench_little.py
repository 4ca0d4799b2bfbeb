"""Does a teacher help where data is little? `make bench-little`: Beauty 5-core, trained on n users, tested on all.

A user who was not trained on is served from the history alone. Every teacher has the same users, encoder, width and loss,
and a shuffled control of its own; the n users are drawn once, since the LLM's profiles exist for those, and the five
seeds vary initial weights and batches. A student's settings are chosen without a teacher, on the validation items of the
n users. "Extended" teachers cost fewer LLM calls: some users have their profile's vector, the others one that a ridge
regression predicts from facts and items. Runs are recorded in outputs/amazon-beauty-5core, so a killed search goes on.
"""

import sys
from collections import defaultdict
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import torch
from seqdistill import data as datasets
from seqdistill.config import Distillation, ModelConfig, TrainConfig
from seqdistill.data import Dataset
from seqdistill.data.splits import leave_last_k
from seqdistill.embeddings.encoders import encode
from seqdistill.embeddings.reducers import fit
from seqdistill.embeddings.teachers import item_texts, source_vectors
from seqdistill.evaluation.significance import compare, holm, paired
from seqdistill.evaluation.zero_shot import similarity_ranks
from seqdistill.io import UserError, data_dir, digest, outputs_dir, save_csv
from seqdistill.profiles.answers import Store, read_shipped, ship
from seqdistill.profiles.facts import histories
from seqdistill.profiles.generate import Task, asker, shipped_path, table_of, write
from seqdistill.profiles.llm import model_sha256, open_llm
from seqdistill.profiles.prompts import prompts_for, template
from seqdistill.training.ablation import taught_with
from seqdistill.training.sweep import Job, Jobs, missing, plan, ranks, results, sweep
from seqdistill.training.train import TrainingData, training_data
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

OUT, RUNS = outputs_dir("bench"), outputs_dir("amazon-beauty-5core") / "runs"
STUDIES = [("SASRec", 1_500), ("SASRec", 500), ("BERT4Rec", 1_500)]  # student, training users
SEEDS, WIDTH, LATEST, ENCODER = [0, 1, 2, 3, 4], 64, 30, "minilm"
CALLS = [150, 500]  # profiles that a teacher of 1,500 users is extended from
LLM, STYLE, LEAST = "qwen2.5-coder-0.5b", "grounded", 0.95  # least share of users with a profile
INSIGHT_USERS = 150  # of the first size; their profiles by the prompt `insight` are ranked, not trained with
SOURCES = ["profile", "facts", "raw-history", "item-text"]
ALONE = TrainConfig(
    model=ModelConfig(dim=128, blocks=1, dropout=0.4, temperature=0.07, item_dropout=0.15), epochs=40, batch=128,
    schedule="cosine", validate_on="excluded",
)  # fmt: skip
MASKED = replace(
    ALONE, model=ModelConfig(causal=False, dim=128, blocks=1, dropout=0.4, temperature=0.07), epochs=80,
    mask_prob=0.3, mask_last_prob=0.3,
)  # fmt: skip
CANDIDATES = {  # of each student; the mean of SEARCHED seeds on validation chooses
    "SASRec": {"40 epochs": ALONE, "80 epochs": replace(ALONE, epochs=80), "batch 32": replace(ALONE, batch=32)},
    "BERT4Rec": {
        "masked .3": MASKED,
        "masked .5": replace(MASKED, mask_prob=0.5),
        "160 epochs": replace(MASKED, epochs=160),
        "dropout .2": replace(MASKED, model=replace(MASKED.model, dropout=0.2)),
    },
}
SEARCHED = [0, 1, 2]
TAUGHT = Distillation(alpha=0.2, beta=False, projection="student", loss="infonce", phase1_fraction=0.6)
SHOWN = ["variant", "seen", "baseline", "ndcg@10", "delta_ndcg@10", "ci_low", "ci_high", "p_holm", "verdict"]


def few(events: pd.DataFrame, users: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Leave the training and validation events of some drawn users, the first of any larger draw; all are tested."""
    drawn = np.sort(np.random.default_rng(0).permutation(events["user"].unique())[:users])
    known = events["user"].isin(drawn) | (events["split"] == "test")
    return events.assign(split=events["split"].where(known, "input")), drawn


def profiles(dataset: Dataset, read: dict[int, pd.DataFrame], style: str) -> pd.Series:
    """The LLM's profiles of these histories, by user: the shipped ones; what is missing is written and added to them."""
    path, store = shipped_path(dataset.name, LLM, style, "plain"), Store(data_dir() / "cache" / "answers.sqlite")
    known, prompts = read_shipped(path), prompts_for(dataset.domain, style, 1024, lambda texts: [*map(len, texts)])
    task = Task(dataset.users["user_id"].to_dict(), read, prompts, "plain", model_sha256(LLM))
    ask, asked = asker(cache(lambda: open_llm(LLM)), store, known), []
    outcomes = write(task, lambda questions: asked.extend(questions) or ask(questions))
    written = table_of(outcomes).set_index("user")["text"]
    if new := [question for question in asked if question.shipped_key not in known]:
        ship(path, new, store.get(question.key for question in new))
    print(f"{style}: {len(written):,} of {len(read):,} users have a profile")
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
    dataset: Dataset, events: pd.DataFrame, drawn: np.ndarray, catalogue: np.ndarray, styles: dict[str, str]
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, pd.Series]]:
    """The drawn users with all profiles, their vectors by source, and their profiles by source.

    styles: source -> prompt of the profiles that it stands for.
    """
    read = histories(events[events["user"].isin(drawn) & (events["split"] == "train")], dataset.items)
    texts = {source: profiles(dataset, read, style) for source, style in styles.items()}
    owners = sorted(set.intersection(*(set(each.index) for each in texts.values())))
    vectors = {}
    for source in dict.fromkeys([*SOURCES, *styles]):
        profile = texts.get(source, texts["profile"]).loc[owners]
        kind = "profile" if source in styles else source
        vectors[source] = source_vectors(
            kind, profile, read, catalogue, lambda lines: encode(lines, ENCODER)[0], LATEST, 0
        )
    return np.array(owners), vectors, {source: each.loc[owners] for source, each in texts.items()}


def second_prompt(dataset: Dataset, events: pd.DataFrame, drawn: np.ndarray, catalogue: np.ndarray) -> pd.DataFrame:
    """Rank by both prompts, and by all other sources, for the users that have profiles by both."""
    some = np.random.default_rng(1).permutation(drawn)[:INSIGHT_USERS]
    styles = {"profile": STYLE, "insight": "insight"}
    owners, vectors, texts = teachers(dataset, events, some, catalogue, styles)
    copies = {source: copied(each, dataset.domain, styles[source]) for source, each in texts.items()}
    table = zero_shot(events, owners, vectors, catalogue)
    return table.assign(copied=table["variant"].map(copies))


def zero_shot(
    events: pd.DataFrame, owners: np.ndarray, vectors: dict[str, np.ndarray], catalogue: np.ndarray
) -> pd.DataFrame:
    """How each source's vectors rank the owners' validation items, untrained; and against `facts`, paired by user."""
    own = events[events["user"].isin(owners)]
    target = own[own["split"] == "valid"].groupby("user")["item"].last().loc[owners].to_numpy()
    seen = [one.to_numpy() for _, one in own[own["split"] == "train"].groupby("user")["item"]]
    rank = {source: similarity_ranks(rows, catalogue, target, seen) for source, rows in vectors.items()}
    unseen = len(catalogue) - np.array([len(np.unique(one)) for one in seen])
    percentile = {source: pd.Series((1 - (one - 1) / (unseen - 1)).clip(0)) for source, one in rank.items()}
    rows = []
    for source, one in rank.items():
        row = {"variant": source, "users": len(owners), "zero_shot_ndcg@10": ((one <= 10) / np.log2(one + 1)).mean()}
        test = {} if source == "facts" else paired([percentile[source] - percentile["facts"]])
        rows.append(row | {"percentile": percentile[source].mean(), **test})
    table = pd.DataFrame(rows)
    columns = ["variant", "users", "zero_shot_ndcg@10", "percentile", "delta", "ci_low", "ci_high", "p_holm"]
    return table.assign(p_holm=holm(table["p"]))[columns]


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


def teaching(data: TrainingData, vectors: np.ndarray, owners: np.ndarray, made_from: list) -> TrainingData:
    """Give the users a teacher, reduced; runs are named after what it is made from, as processors differ in last bits."""
    taught = taught_with(data, fit(vectors, "pca", WIDTH)[0], owners)
    vars(taught)["digests"] = {"teacher": digest([ENCODER, WIDTH, *made_from])}
    return taught


def chosen(model: str, data: TrainingData) -> tuple[TrainConfig, pd.DataFrame]:
    """The candidate with the best mean NDCG@10 on the validation items, trained without a teacher; and all of them."""
    jobs = plan(CANDIDATES[model], SEARCHED, data)
    sweep(missing(jobs, RUNS), RUNS)
    runs = pd.Series({name: run["valid_ndcg@10"] for name, run in results(jobs, RUNS).items()})
    table = runs.groupby(level=0, sort=False).agg(["mean", "sem"]).set_axis(["valid_ndcg@10", "standard_error"], axis=1)
    best = table["valid_ndcg@10"].idxmax()
    table["chosen"] = table.index == best
    return CANDIDATES[model][best], table.rename_axis("settings").reset_index()


def planned(run: TrainConfig, data: TrainingData, taught: dict[str, TrainingData]) -> Jobs:
    """The plain student, and each teacher and its shuffled control."""
    variants = {"plain": Job(run, data)}
    for source, one in taught.items():
        for name, shuffled in ((source, False), (f"{source}-shuffled", True)):
            variants[name] = Job(replace(run, distillation=replace(TAUGHT, shuffled=shuffled)), one)
    return plan(variants, SEEDS, data)


def compared(jobs: Jobs, sources: list[str], first: dict) -> tuple[pd.DataFrame, dict[str, list[pd.DataFrame]]]:
    """Train, and test these sources against plain and their controls, as one family, in both readings of seen items."""
    sweep(missing(jobs, RUNS), RUNS)  # recorded runs come without weights, and are not trained again for them
    controls = {source: f"{source}-shuffled" for source in sources}
    against, ranked = dict.fromkeys([*controls, *controls.values()], "plain"), ranks(jobs, RUNS)
    tables = [compare(ranked, against, seen, True, controls) for seen in ("excluded", "included")]
    return pd.concat(tables).assign(**first), ranked


def over_rivals(ranked: dict[str, list[pd.DataFrame]], seen: str) -> pd.DataFrame:
    """The student taught by profiles against those of the other sources, one family of tests."""
    pairs = {f"profile, {rival}": rival for rival in SOURCES[1:]}
    frames = dict.fromkeys(pairs, ranked["profile"]) | {rival: ranked[rival] for rival in SOURCES[1:]}
    table = compare(frames, pairs, seen, True).query("baseline != ''")
    return table.assign(variant="profile")


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)
    dataset = datasets.load("amazon-beauty-5core", 5)
    events = dataset.events.assign(split=leave_last_k(dataset.events, 1))
    catalogue, _ = encode(item_texts(dataset.items), ENCODER)
    tables: dict[str, list[pd.DataFrame]] = defaultdict(list)
    for model, size in STUDIES:
        left, drawn = few(events, size)
        owners, vectors, texts = teachers(dataset, left, drawn, catalogue, {"profile": STYLE})
        first = {"dataset": dataset.name, "model": model, "trained_on": size}
        if (model, size) == STUDIES[0]:
            untrained, copies = (
                zero_shot(left, owners, vectors, catalogue),
                copied(texts["profile"], dataset.domain, STYLE),
            )
            untrained["copied"] = untrained["variant"].map({"profile": copies})
            tables["little-zero-shot"].append(untrained.assign(**first))
            tables["little-zero-shot"].append(second_prompt(dataset, left, drawn, catalogue).assign(**first))
            print(pd.concat(tables["little-zero-shot"]).to_string())
        users = int(left["user"].max()) + 1
        data = training_data(left, len(dataset.items), torch.full((users, WIDTH), torch.nan))
        run, searched = chosen(model, data)
        tables["little-search"].append(searched.assign(**first))
        print(searched.to_string())
        made_from = [owners.tolist(), texts["profile"].tolist(), LATEST]
        taught = {name: teaching(data, vectors[name], owners, [name, *made_from]) for name in SOURCES}
        found, ranked = compared(planned(run, data, taught), SOURCES, first)
        tables["little-data"].append(found)
        for seen in ("excluded", "included"):
            tables["little-rivals"].append(over_rivals(ranked, seen).assign(**first))
        if (model, size) == STUDIES[0]:
            features = np.column_stack([vectors["facts"], vectors["item-text"]])
            calls, kept = {"profile": {"calls": len(owners), "r2": np.nan}}, {"profile": taught["profile"]}
            for count in CALLS:
                some = np.isin(owners, few(events, count)[1])
                more, r2 = extended(vectors["profile"], features, some)
                kept[f"extended-{count}"] = teaching(data, more, owners, [count, *made_from])
                calls[f"extended-{count}"] = {"calls": int(some.sum()), "r2": r2}
            found, _ = compared(planned(run, data, kept), [*kept], first)
            columns = pd.DataFrame.from_dict(calls, orient="index")
            tables["extension"].append(found.merge(columns, "left", left_on="variant", right_index=True))
        for name, parts in tables.items():
            table = pd.concat(parts, ignore_index=True)
            save_csv(table[[*first, *table.columns.difference([*first], sort=False)]], OUT / f"{name}.csv")
            if "verdict" in table:
                print(table.query("baseline != ''")[["trained_on", *SHOWN]].to_string())


if __name__ == "__main__":
    main()
