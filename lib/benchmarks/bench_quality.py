"""How good are the students? `make bench-quality`: leave-one-out, every item ranked, tuned on validation alone.

Both students are searched on Amazon Beauty 5-core with seed 0; the settings with the best validation NDCG@10 (seen items
excluded) are trained with three seeds. On MovieLens one setting each is trained. Finished runs are read, killed ones resume.
"""

from dataclasses import replace

import pandas as pd
from seqdistill import data as datasets
from seqdistill.config import ModelConfig, TrainConfig
from seqdistill.data.splits import leave_last_k
from seqdistill.evaluation import baselines
from seqdistill.evaluation.ranking import rank
from seqdistill.evaluation.significance import compare
from seqdistill.io import outputs_dir, save_csv
from seqdistill.training.sweep import plan, ranks, results, sweep
from seqdistill.training.train import TrainingData, training_data

OUT = outputs_dir("bench")
RUNS, SEEDS = OUT / "runs", [0, 1, 2]
SHAPE = ModelConfig(dim=128, blocks=1, heads=2, dropout=0.5, length=50)
BEAUTY = TrainConfig(model=SHAPE, epochs=16, batch=256, lr=1e-3, schedule="cosine", validate_on="excluded")
COSINE = 0.07


def shaped(run: TrainConfig, **changes) -> TrainConfig:
    return replace(run, model=replace(run.model, **changes))


SASREC = {
    "inner product": BEAUTY,
    "cosine, dropout .4": shaped(BEAUTY, temperature=COSINE, dropout=0.4),
    "cosine, dropout .4, item dropout .15, 24 epochs": replace(
        shaped(BEAUTY, temperature=COSINE, dropout=0.4, item_dropout=0.15), epochs=24
    ),
}
BERT = replace(shaped(BEAUTY, causal=False, temperature=COSINE, dropout=0.4), epochs=48, mask_last_prob=0.3)
BERT4REC = {f"cosine, dropout .4, masked {share:g}": replace(BERT, mask_prob=share) for share in (0.3, 0.5)}
SEARCHES = {"SASRec": SASREC, "BERT4Rec": BERT4REC}
SMALL = TrainConfig(
    model=ModelConfig(dropout=0.3), epochs=40, batch=16, schedule="cosine", validate_on="excluded", patience=10
)
SMALL_BERT = replace(shaped(SMALL, causal=False), epochs=120, mask_prob=0.3, mask_last_prob=0.3, patience=30)


def prepared(name: str) -> tuple[pd.DataFrame, TrainingData]:
    dataset = datasets.load(name, 5)
    events = dataset.events.assign(split=leave_last_k(dataset.events, 1))
    return events, training_data(events, len(dataset.items))


def searched(data: TrainingData, model: str, settings: dict[str, TrainConfig]) -> tuple[pd.DataFrame, TrainConfig]:
    jobs, rows = plan(settings, SEEDS[:1], data), []
    sweep(jobs, RUNS)
    for (name, _), run in results(jobs, RUNS).items():
        found = {column: run[column] for column in ("valid_ndcg@10", "best_epoch", "parameters")}
        rows.append({"model": model, "setting": name, "epochs": settings[name].epochs, **found})
    best = max(rows, key=lambda row: row["valid_ndcg@10"])["setting"]
    print(f"{model}: best on validation: {best}")
    return pd.DataFrame(rows), settings[best]


def table(name: str, events: pd.DataFrame, data: TrainingData, models: dict[str, TrainConfig]) -> pd.DataFrame:
    train_events, jobs = events[events["split"] == "train"], plan(models, SEEDS, data)
    sweep(jobs, RUNS)
    systems = {
        "popularity": [rank(data.test, baselines.popularity(train_events, data.items))],
        "item-kNN": [rank(data.test, baselines.item_knn(train_events, data.items))],
        **ranks(jobs, RUNS),
    }
    against = dict.fromkeys((system for system in systems if system != "SASRec"), "SASRec")
    parts = [
        compare(systems, against, seen, last=True, fixed=("popularity", "item-kNN"))
        for seen in ("excluded", "included")
    ]
    found = pd.concat(parts, ignore_index=True).rename(columns={"variant": "model"})
    found.insert(0, "dataset", name)
    found.insert(1, "protocol", "leave_one_out")
    return found


def main() -> None:
    events, data = prepared("amazon-beauty-5core")
    searches = {name: searched(data, name, settings) for name, settings in SEARCHES.items()}
    save_csv(pd.concat(rows for rows, _ in searches.values()), OUT / "quality-search.csv")
    parts = [table("amazon-beauty-5core", events, data, {name: best for name, (_, best) in searches.items()})]
    events, data = prepared("movielens-small")
    parts.append(table("movielens-small", events, data, {"SASRec": SMALL, "BERT4Rec": SMALL_BERT}))
    print(save_csv(pd.concat(parts), OUT / "quality.csv").to_string())


if __name__ == "__main__":
    main()
