"""Does a teacher help where data is little? `make bench-little`: Beauty 5-core, trained on n users, tested on all.

A user who was not trained on is served from the history alone. Every teacher has the same users, encoder, width and loss,
and a shuffled control of its own; five seeds, which also draw the n users. Runs are kept, so a killed search goes on.
"""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
from seqdistill import data as datasets
from seqdistill.config import Distillation, ModelConfig, TrainConfig
from seqdistill.data.splits import leave_last_k
from seqdistill.embeddings.encoders import encode
from seqdistill.embeddings.reducers import fit
from seqdistill.embeddings.teachers import item_texts, source_vectors
from seqdistill.evaluation.significance import compare
from seqdistill.io import outputs_dir, save_csv
from seqdistill.profiles.facts import histories
from seqdistill.training.ablation import taught_with
from seqdistill.training.sweep import Job, Jobs, ranks, results, sweep
from seqdistill.training.train import TrainingData, training_data

OUT = outputs_dir("bench")
SIZES, SEEDS, WIDTH, LATEST, ENCODER = [1_500, 500], [0, 1, 2, 3, 4], 64, 30, "minilm"
SOURCES = ["item-text", "facts"]
ALONE = TrainConfig(
    model=ModelConfig(dim=128, blocks=1, dropout=0.4, temperature=0.07, item_dropout=0.15), epochs=40, batch=128,
    schedule="cosine", validate_on="excluded",
)  # fmt: skip
TAUGHT = Distillation(alpha=0.2, beta=False, projection="student", loss="infonce", phase1_fraction=0.6)


def few(events: pd.DataFrame, users: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Leave the training and validation events of some drawn users; all users are tested."""
    drawn = np.sort(np.random.default_rng(seed).permutation(events["user"].unique())[:users])
    known = events["user"].isin(drawn) | (events["split"] == "test")
    return events.assign(split=events["split"].where(known, "input")), drawn


def teachers(
    events: pd.DataFrame, items: pd.DataFrame, owners: np.ndarray, catalogue: np.ndarray
) -> dict[str, np.ndarray]:
    """Vectors of the owners by source, from their training events."""
    own = events[events["user"].isin(owners) & (events["split"] == "train")]
    read, names = histories(own, items), pd.Series("", index=owners)
    each = {
        source: source_vectors(source, names, read, catalogue, lambda texts: encode(texts, ENCODER)[0], LATEST, 0)
        for source in SOURCES
    }
    return {source: fit(vectors, "pca", WIDTH)[0] for source, vectors in each.items()}


def planned(size: int, events: pd.DataFrame, items: pd.DataFrame, catalogue: np.ndarray) -> Jobs:
    jobs: Jobs = {}
    for seed in SEEDS:
        left, owners = few(events, size, seed)
        data, users = training_data(left, len(items)), int(events["user"].max()) + 1
        jobs["plain", seed] = Job(replace(ALONE, seed=seed), data)
        for source, space in teachers(events, items, owners, catalogue).items():
            taught: TrainingData = taught_with(data, space, owners, users)
            for name, shuffled in ((source, False), (f"{source}-shuffled", True)):
                run = replace(ALONE, seed=seed, distillation=replace(TAUGHT, shuffled=shuffled))
                jobs[name, seed] = Job(run, taught)
    return jobs


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)
    dataset = datasets.load("amazon-beauty-5core", 5)
    events = dataset.events.assign(split=leave_last_k(dataset.events, 1))
    catalogue, _ = encode(item_texts(dataset.items), ENCODER)
    parts = []
    for size in SIZES:
        jobs = planned(size, events, dataset.items, catalogue)
        sweep(jobs, OUT / "runs")
        runs = results(jobs, OUT / "runs")
        valid = pd.Series({name: run["valid_ndcg@10"] for (name, seed), run in runs.items() if seed == SEEDS[0]})
        print(f"{size} users, validation of seed {SEEDS[0]}: {valid.round(4).to_dict()}")
        controls = {source: f"{source}-shuffled" for source in SOURCES}
        against = dict.fromkeys([*controls, *controls.values()], "plain")
        for seen in ("excluded", "included"):
            table = compare(ranks(jobs, OUT / "runs"), against, seen, True, controls)
            parts.append(table.assign(dataset=dataset.name, trained_on=size, model="SASRec"))
        found = pd.concat(parts, ignore_index=True)
        first = ["dataset", "model", "trained_on"]
        save_csv(found[[*first, *found.columns.difference(first, sort=False)]], OUT / "little-data.csv")
        shown = [
            "variant",
            "seen",
            "ndcg@10",
            "delta_ndcg@10",
            "ci_low",
            "ci_high",
            "p_holm",
            "verdict",
            "control_verdict",
        ]
        print(found[found["trained_on"] == size][shown].to_string())


if __name__ == "__main__":
    main()
