"""How good are the students? `make bench-quality`: leave-one-out, every item ranked, tuned on validation alone.

SASRec is searched on Amazon Beauty 5-core with seed 0 by validation NDCG@10 (seen items excluded); BERT4Rec has the
settings that `bench_search` chose there. Each is trained with three seeds. On MovieLens one setting each is trained.
Finished runs are read (those of Beauty are recorded in outputs/amazon-beauty-5core), killed ones resume.
"""

import pandas as pd
from bench_search import BEAUTY, COSINE, SEARCHES, changed, named
from seqdistill import data as datasets
from seqdistill.config import ModelConfig, TrainConfig
from seqdistill.data.splits import leave_last_k
from seqdistill.evaluation import baselines
from seqdistill.evaluation.ranking import rank
from seqdistill.evaluation.significance import compare
from seqdistill.io import load_csv, outputs_dir, save_csv
from seqdistill.training.sweep import plan, ranks, results, sweep
from seqdistill.training.train import TrainingData, training_data

OUT = outputs_dir("bench")
SEEDS = [0, 1, 2]
PLAIN = changed(BEAUTY, {"temperature": 0.0, "dropout": 0.5, "item_dropout": 0.0, "epochs": 16})
SASREC = {
    "inner product": PLAIN,
    "cosine, dropout .4": changed(PLAIN, COSINE | {"dropout": 0.4}),
    "cosine, dropout .4, item dropout .15, 24 epochs": BEAUTY,
}
SMALL = TrainConfig(
    model=ModelConfig(dropout=0.3), epochs=40, batch=16, schedule="cosine", validate_on="excluded", patience=10
)
SMALL_BERT = changed(SMALL, {"causal": False, "epochs": 120, "mask_prob": 0.3, "mask_last_prob": 0.3, "patience": 30})


def prepared(name: str) -> tuple[pd.DataFrame, TrainingData]:
    dataset = datasets.load(name, 5)
    events = dataset.events.assign(split=leave_last_k(dataset.events, 1))
    return events, training_data(events, len(dataset.items))


def searched(data: TrainingData) -> tuple[pd.DataFrame, TrainConfig]:
    """Train SASRec with each of its settings; return their table, and the best on validation."""
    jobs, runs = plan(SASREC, SEEDS[:1], data), outputs_dir("amazon-beauty-5core") / "runs"
    sweep(jobs, runs)
    columns = ["valid_ndcg@10", "best_epoch", "parameters"]
    rows = [
        {
            "model": "SASRec",
            "setting": name,
            "epochs": SASREC[name].epochs,
            **{column: run[column] for column in columns},
        }
        for (name, _), run in results(jobs, runs).items()
    ]
    return pd.DataFrame(rows), SASREC[max(rows, key=lambda row: row["valid_ndcg@10"])["setting"]]


def bert4rec() -> TrainConfig:
    """BERT4Rec with the settings that `bench_search` chose on Beauty."""
    rows = load_csv(OUT / "search-bert4rec-amazon-beauty-5core.csv")
    return named(rows.loc[rows["chosen"], "setting"].iloc[0], *SEARCHES["amazon-beauty-5core"]["BERT4Rec"])


def table(name: str, events: pd.DataFrame, data: TrainingData, models: dict[str, TrainConfig]) -> pd.DataFrame:
    train_events, jobs = events[events["split"] == "train"], plan(models, SEEDS, data)
    runs = outputs_dir(name) / "runs"
    sweep(jobs, runs)
    systems = {
        "popularity": [rank(data.test, baselines.popularity(train_events, data.items))],
        "item-kNN": [rank(data.test, baselines.item_knn(train_events, data.items))],
        **ranks(jobs, runs),
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
    search, sasrec = searched(data)
    save_csv(search, OUT / "quality-search.csv")
    parts = [table("amazon-beauty-5core", events, data, {"SASRec": sasrec, "BERT4Rec": bert4rec()})]
    parts.append(table("movielens-small", *prepared("movielens-small"), {"SASRec": SMALL, "BERT4Rec": SMALL_BERT}))
    print(save_csv(pd.concat(parts), OUT / "quality.csv").to_string())


if __name__ == "__main__":
    main()
