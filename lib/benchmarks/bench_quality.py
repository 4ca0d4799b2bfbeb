"""How good are the students? `make bench-quality`: leave-one-out, every item ranked, the settings of `make bench-search`."""

import pandas as pd
from bench_search import OUT, SEARCHES, SEEDS, chosen
from seqdistill import data as datasets
from seqdistill.data.splits import leave_last_k
from seqdistill.evaluation import baselines
from seqdistill.evaluation.ranking import rank
from seqdistill.evaluation.significance import compare
from seqdistill.io import outputs_dir, save_csv
from seqdistill.training.sweep import plan, ranks, sweep
from seqdistill.training.train import training_data


def table(name: str) -> pd.DataFrame:
    dataset, runs = datasets.load(name, 5), outputs_dir(name) / "runs"
    events = dataset.events.assign(split=leave_last_k(dataset.events, 1))
    data, train = training_data(events, len(dataset.items)), events[events["split"] == "train"]
    jobs = plan({model: chosen(name, model) for model in SEARCHES[name]}, SEEDS, data)
    sweep(jobs, runs)
    knn, _ = baselines.chosen("item-kNN", train, data.items, data.valid)
    fixed = {"popularity": baselines.popularity(train, data.items), "item-kNN": knn}
    systems = {model: [rank(data.test, score)] for model, score in fixed.items()} | ranks(jobs, runs)
    against = dict.fromkeys((system for system in systems if system != "SASRec"), "SASRec")
    parts = [compare(systems, against, seen, last=True, fixed=tuple(fixed)) for seen in ("excluded", "included")]
    rows = pd.concat(parts, ignore_index=True).rename(columns={"variant": "model"})
    rows.insert(0, "dataset", name)
    rows.insert(1, "protocol", "leave_one_out")
    return rows


def main() -> None:
    parts = [table(name) for name in ("amazon-beauty-5core", "movielens-small")]
    print(save_csv(pd.concat(parts), OUT / "quality.csv").to_string())


if __name__ == "__main__":
    main()
