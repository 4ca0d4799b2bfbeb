"""Both students at their best: `make bench-search` (ONLY= a data set or a student), hours; finished runs are read.

Settings are searched one question at a time, each from the best so far, on a data set without the test events: its
last `TARGETS` events a user are what settings are ranked by (NDCG@10, seen items excluded). One event of few users would
put them in the wrong order: the standard error of a difference stands beside each. The best three get three seeds.
"""

import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from seqdistill import data as datasets
from seqdistill.config import ModelConfig, TrainConfig
from seqdistill.data.splits import leave_last_k
from seqdistill.evaluation.significance import by_user
from seqdistill.io import outputs_dir, save_csv
from seqdistill.training.sweep import plan, ranks, results, sweep
from seqdistill.training.train import TrainingData, training_data

OUT = outputs_dir("bench")
SEEDS = [0, 1, 2]
TEST = {"movielens-small": 10, "amazon-beauty-5core": 1}  # events of a user that no search may see
TARGETS = {"movielens-small": 5, "amazon-beauty-5core": 1}
SHAPE = {name.name for name in fields(ModelConfig)}
COSINE = {"temperature": 0.07}

SMALL = TrainConfig(
    model=ModelConfig(dropout=0.2), epochs=40, batch=32, lr=2e-3, schedule="cosine", validate_on="excluded", patience=15
)
SMALL_BERT = replace(
    SMALL, model=ModelConfig(causal=False, dropout=0.1, temperature=0.07), epochs=60, mask_prob=0.5, mask_last_prob=0.3,
    patience=20,
)  # fmt: skip
BEAUTY = TrainConfig(  # what the search below chose
    model=ModelConfig(dim=128, blocks=1, dropout=0.4, temperature=0.07, item_dropout=0.15), epochs=24, batch=256,
    schedule="cosine", validate_on="excluded",
)  # fmt: skip
BEAUTY_START = replace(BEAUTY, model=ModelConfig(dim=128, blocks=1, dropout=0.5), epochs=16)
BEAUTY_BERT = replace(
    BEAUTY, model=ModelConfig(causal=False, dim=128, blocks=1, dropout=0.4, temperature=0.07), epochs=48,
    mask_prob=0.5, mask_last_prob=0.3,
)  # fmt: skip
LONGER = {
    "120 epochs": {"epochs": 120},
    "200 epochs, constant rate": {"epochs": 200, "schedule": "constant", "warmup": 5},
}
Questions = dict[str, dict[str, dict]]  # question -> answer -> what it changes
SASREC: Questions = {
    "scores": {"cosine": COSINE},
    "dropout": {f"dropout {share:g}": {"dropout": share} for share in (0.3, 0.4, 0.5)},
    "item dropout": {f"item dropout {share:g}": {"item_dropout": share} for share in (0.15, 0.3)},
    "rate": {f"lr {rate:g}": {"lr": rate} for rate in (1e-3, 4e-3)},
    "batch": {f"batch {size}": {"batch": size} for size in (16, 64)},
    "width": {"dim 128": {"dim": 128}, "1 block": {"blocks": 1}},
    "length": {f"{epochs} epochs": {"epochs": epochs} for epochs in (20, 80)},
}
BERT4REC: Questions = {
    "masks": {f"masked {share:g}": {"mask_prob": share} for share in (0.2, 0.4, 0.6)},
    "scores": {"inner product": {"temperature": 0.0}},
    "output layer": {"output layer": {"output_layer": True}},
    "dropout": {f"dropout {share:g}": {"dropout": share} for share in (0.2, 0.3, 0.4)},
    "blocks": {"1 block": {"blocks": 1}},
    "last masks": {"last masked 0": {"mask_last_prob": 0.0}, "last masked .6": {"mask_last_prob": 0.6}},
    "rate": {f"lr {rate:g}": {"lr": rate} for rate in (1e-3, 4e-3)},
    "length": LONGER,
    "loss": {"sampled softmax": {"loss": "sampled", "negatives": 512}},
    "width": {"dim 128": {"dim": 128}},
}
BEAUTY_SASREC: Questions = {
    "scores": {"cosine and dropout .4": COSINE | {"dropout": 0.4}},
    "item dropout": {"item dropout .15 and 24 epochs": {"item_dropout": 0.15, "epochs": 24}},
}
BEAUTY_BERT4REC: Questions = {  # at most one answer to a question is kept
    "masks": {f"masked {share:g}": {"mask_prob": share} for share in (0.3, 0.7)},
    "regularisation": {
        "dropout .1": {"dropout": 0.1},
        "dropout .2": {"dropout": 0.2},
        "last masked .6": {"mask_last_prob": 0.6},
    },
    "depth": {"2 blocks": {"blocks": 2}, "output layer": {"output_layer": True}},
    "training": {"96 epochs": {"epochs": 96}, "lr .002": {"lr": 2e-3}},
}
SEARCHES: dict[str, dict[str, tuple[TrainConfig, Questions]]] = {
    "movielens-small": {"BERT4Rec": (SMALL_BERT, BERT4REC), "SASRec": (SMALL, SASREC)},
    "amazon-beauty-5core": {
        "BERT4Rec": (BEAUTY_BERT, BEAUTY_BERT4REC),
        "SASRec": (BEAUTY_START, BEAUTY_SASREC),
    },
}


def changed(run: TrainConfig, values: dict) -> TrainConfig:
    shape = {name: value for name, value in values.items() if name in SHAPE}
    rest = {name: value for name, value in values.items() if name not in SHAPE}
    return replace(run, model=replace(run.model, **shape), **rest)


def without_test(name: str) -> TrainingData:
    """The events before the test ones; of each user the last `TARGETS` are what settings are ranked by."""
    dataset = datasets.load(name, 5)
    split = leave_last_k(dataset.events, TEST[name])
    seen = dataset.events[split != "test"].reset_index(drop=True)
    return training_data(seen.assign(split=leave_last_k(seen, TARGETS[name])), len(dataset.items))


def scored(settings: dict[str, TrainConfig], seeds: list[int], data: TrainingData, folder: Path) -> dict[str, dict]:
    """Train settings: name -> NDCG@10 by user (mean over seeds), and what stands in the table."""
    jobs = plan(settings, seeds, data)
    sweep(jobs, folder)
    runs, found = results(jobs, folder), {}
    for name, frames in ranks(jobs, folder).items():
        last = [runs[name, seed] for seed in seeds]
        found[name] = {
            "users": sum(by_user(frame, "excluded")["ndcg@10"] for frame in frames) / len(frames),
            "best_epoch": np.mean([run["best_epoch"] for run in last]),
            "epochs": np.mean([len(run["history"]) for run in last]),
            "loss": np.mean([run["history"][-1]["loss_model"] for run in last]),
        }
    return found


def row(name: str, values: dict, best: pd.Series) -> dict:
    difference = values["users"] - best
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    shown = {"setting": name, "ndcg@10": values["users"].mean(), "delta": difference.mean(), "delta_se": error}
    return shown | {column: values[column] for column in ("epochs", "best_epoch", "loss")}


def searched(dataset: str, model: str, start: TrainConfig, questions: Questions) -> pd.DataFrame:
    """Go through the questions; `delta` is against the best before each."""
    data, known, folder = without_test(dataset), {"start": start}, outputs_dir(dataset) / "runs"
    scores = scored(known, SEEDS[:1], data, folder)
    best, rows = "start", [{"question": "start", **row("start", scores["start"], scores["start"]["users"])}]
    for question, answers in questions.items():
        before = scores[best]["users"]
        new = {f"{best}, {name}": changed(known[best], values) for name, values in answers.items()}
        known |= new
        scores |= scored(new, SEEDS[:1], data, folder)
        rows += [{"question": question, **row(name, scores[name], before)} for name in new]
        best = max(scores, key=lambda name: scores[name]["users"].mean())
        print(f"{dataset}, {model}, {question}: {best} {scores[best]['users'].mean():.4f}")
    leading = sorted(scores, key=lambda name: -scores[name]["users"].mean())[:3]
    final = scored({name: known[name] for name in leading}, SEEDS, data, folder)
    chosen = max(final, key=lambda name: final[name]["users"].mean())
    rows += [{"question": "three seeds", **row(name, final[name], final[chosen]["users"])} for name in final]
    table = pd.DataFrame(rows).assign(dataset=dataset, model=model, chosen=lambda rows: rows["setting"] == chosen)
    print(f"{dataset}, {model}: chosen {chosen}: {known[chosen]}")
    return table[["dataset", "model", *table.columns.drop(["dataset", "model"])]]


def chosen(dataset: str, model: str) -> TrainConfig:
    """The settings that the recorded search chose: its name lists the answers that were kept."""
    table = pd.read_csv(OUT / f"search-{model.lower()}-{dataset}.csv")
    kept = table.loc[table["chosen"], "setting"].iloc[-1] + ","
    run, questions = SEARCHES[dataset][model]
    for name, values in (answer for answers in questions.values() for answer in answers.items()):
        run = changed(run, values) if f", {name}," in kept else run
    return run


def main() -> None:
    for dataset, models in SEARCHES.items():
        for model, search in models.items():
            if os.environ.get("ONLY") in (None, "", dataset, model):
                save_csv(searched(dataset, model, *search), OUT / f"search-{model.lower()}-{dataset}.csv")


if __name__ == "__main__":
    main()
