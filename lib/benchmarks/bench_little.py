"""Does a teacher help where data is little? `make bench-little`: Beauty 5-core, trained on n users, tested on all.

A user who was not trained on is served from the history alone. Every teacher has the same users, encoder, width and loss,
and a shuffled control of its own; the n users are drawn once, since the LLM's profiles exist for those, and the five
seeds vary initial weights and batches. Runs are recorded, so a killed search goes on.
"""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
from seqdistill import data as datasets
from seqdistill.config import Distillation, ModelConfig, TrainConfig
from seqdistill.data import Dataset
from seqdistill.data.splits import leave_last_k
from seqdistill.embeddings.encoders import encode
from seqdistill.embeddings.reducers import fit
from seqdistill.embeddings.teachers import item_texts, source_vectors
from seqdistill.evaluation.significance import compare
from seqdistill.evaluation.zero_shot import similarity_ranks
from seqdistill.io import outputs_dir, save_csv
from seqdistill.profiles.answers import read_shipped, shipped
from seqdistill.profiles.facts import histories
from seqdistill.profiles.generate import Task, not_shipped, shipped_path, table_of, write
from seqdistill.profiles.llm import model_sha256
from seqdistill.profiles.prompts import prompts_for
from seqdistill.training.ablation import taught_with
from seqdistill.training.sweep import Job, Jobs, ranks, results, sweep
from seqdistill.training.train import training_data

OUT, RUNS = outputs_dir("bench"), outputs_dir("amazon-beauty-5core") / "runs"
SIZES, SEEDS, WIDTH, LATEST, ENCODER = [1_500, 500], [0, 1, 2, 3, 4], 64, 30, "minilm"
LLM, SECOND = "qwen2.5-coder-0.5b", 500  # the second prompt, `insight`, has 500 users: ranked, not trained with
SOURCES = ["profile", "facts", "raw-history", "item-text"]
ALONE = TrainConfig(
    model=ModelConfig(dim=128, blocks=1, dropout=0.4, temperature=0.07, item_dropout=0.15), epochs=40, batch=128,
    schedule="cosine", validate_on="excluded",
)  # fmt: skip
TAUGHT = Distillation(alpha=0.2, beta=False, projection="student", loss="infonce", phase1_fraction=0.6)
SHOWN = ["variant", "seen", "ndcg@10", "delta_ndcg@10", "ci_low", "ci_high", "p_holm", "verdict"]


def few(events: pd.DataFrame, users: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Leave the training and validation events of some drawn users, the first of any larger draw; all are tested."""
    drawn = np.sort(np.random.default_rng(0).permutation(events["user"].unique())[:users])
    known = events["user"].isin(drawn) | (events["split"] == "test")
    return events.assign(split=events["split"].where(known, "input")), drawn


def profiles(dataset: Dataset, read: dict[int, pd.DataFrame], style: str) -> pd.Series:
    """The shipped LLM profiles of these histories, by user; `make profiles PRESET=amazon-beauty-5core` writes them."""
    known = read_shipped(shipped_path(dataset.name, LLM, style, "plain"))
    prompts = prompts_for(dataset.domain, style, 1024, lambda texts: [len(text) for text in texts])
    task = Task(dataset.users["user_id"].to_dict(), read, prompts, "plain", model_sha256(LLM))
    written = table_of(write(task, lambda asked: not_shipped(asked) | shipped(known, asked)))
    return written.set_index("user")["text"]


def teachers(
    dataset: Dataset, events: pd.DataFrame, owners: np.ndarray, catalogue: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Source -> its users and their vectors, of training events: the owners with a profile, and `insight` if few."""
    own = events[events["user"].isin(owners) & (events["split"] == "train")]
    read = histories(own, dataset.items)
    texts = {source: profiles(dataset, read, "grounded") for source in SOURCES}
    if len(owners) <= SECOND:
        texts["insight"] = profiles(dataset, read, "insight")
    return {
        source: (
            told.index.to_numpy(),
            source_vectors(
                "profile" if source == "insight" else source, told, read, catalogue,
                lambda texts: encode(texts, ENCODER)[0], LATEST, 0,
            ),
        )
        for source, told in texts.items()
    }  # fmt: skip


def zero_shot(
    events: pd.DataFrame, each: dict[str, tuple[np.ndarray, np.ndarray]], catalogue: np.ndarray
) -> pd.DataFrame:
    """How each source's vectors rank its users' validation items, untrained, with standard errors over users."""
    rows = []
    for source, (owners, vectors) in each.items():
        own = events[events["user"].isin(owners)]
        target = own[own["split"] == "valid"].groupby("user")["item"].last().loc[owners].to_numpy()
        seen = [one.to_numpy() for _, one in own[own["split"] == "train"].groupby("user")["item"]]
        rank = similarity_ranks(vectors, catalogue, target, seen)
        values = {"zero_shot_ndcg@10": (rank <= 10) / np.log2(rank + 1)}
        values |= {"zero_shot_percentile": (1 - (rank - 1) / (len(catalogue) - 1)).clip(0)}
        row = {name: value.mean() for name, value in values.items()}
        row |= {f"{name}_error": value.std(ddof=1) / np.sqrt(len(value)) for name, value in values.items()}
        rows.append({"variant": source, "users": len(rank), **row})
    return pd.DataFrame(rows)


def planned(events: pd.DataFrame, items: int, each: dict[str, tuple[np.ndarray, np.ndarray]]) -> Jobs:
    data, users = training_data(events, items), int(events["user"].max()) + 1
    jobs: Jobs = {("plain", seed): Job(replace(ALONE, seed=seed), data) for seed in SEEDS}
    for source in SOURCES:
        owners, vectors = each[source]
        taught = taught_with(data, fit(vectors, "pca", WIDTH)[0], owners, users)
        for name, shuffled in ((source, False), (f"{source}-shuffled", True)):
            run = replace(ALONE, distillation=replace(TAUGHT, shuffled=shuffled))
            jobs |= {(name, seed): Job(replace(run, seed=seed), taught) for seed in SEEDS}
    return jobs


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)
    dataset = datasets.load("amazon-beauty-5core", 5)
    events = dataset.events.assign(split=leave_last_k(dataset.events, 1))
    catalogue, _ = encode(item_texts(dataset.items), ENCODER)
    tables: dict[str, list[pd.DataFrame]] = {"little-data": [], "little-rivals": [], "little-zero-shot": []}
    for size in SIZES:
        left, drawn = few(events, size)
        each = teachers(dataset, left, drawn, catalogue)
        first = {"dataset": dataset.name, "model": "SASRec", "trained_on": size}
        jobs = planned(left, len(dataset.items), each)
        sweep(jobs, RUNS)
        runs = results(jobs, RUNS)
        valid = pd.Series({name: run["valid_ndcg@10"] for (name, seed), run in runs.items() if seed == SEEDS[0]})
        print(f"{size} users, validation of seed {SEEDS[0]}: {valid.round(4).to_dict()}")
        controls = {source: f"{source}-shuffled" for source in SOURCES}
        against = dict.fromkeys([*controls, *controls.values()], "plain")
        found = ranks(jobs, RUNS)
        tables["little-zero-shot"].append(zero_shot(left, each, catalogue).assign(**first))
        for seen in ("excluded", "included"):
            tables["little-data"].append(compare(found, against, seen, True, controls).assign(**first))
            for rival in SOURCES[1:]:
                pair = {name: found[name] for name in ("profile", rival)}
                against_rival = compare(pair, {"profile": rival}, seen, True).query("baseline != ''")
                tables["little-rivals"].append(against_rival.assign(**first))
        for name, parts in tables.items():
            table = pd.concat(parts, ignore_index=True)
            save_csv(table[[*first, *table.columns.difference([*first], sort=False)]], OUT / f"{name}.csv")
        print(pd.concat(tables["little-data"]).query(f"trained_on == {size}")[[*SHOWN, "control_verdict"]].to_string())
        print(pd.concat(tables["little-rivals"]).query(f"trained_on == {size}")[[*SHOWN, "baseline"]].to_string())


if __name__ == "__main__":
    main()
