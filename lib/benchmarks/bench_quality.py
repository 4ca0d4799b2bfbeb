"""How good are the students? `make bench-quality`: Beauty 5-core, leave-one-out, the settings of `make bench-search`."""

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

NAME = "amazon-beauty-5core"


def main() -> None:
    dataset, runs = datasets.load(NAME, 5), outputs_dir(NAME) / "runs"
    events = dataset.events.assign(split=leave_last_k(dataset.events, 1))
    data, train = training_data(events, len(dataset.items)), events[events["split"] == "train"]
    jobs = plan({model: chosen(NAME, model) for model in SEARCHES[NAME]}, SEEDS, data)
    sweep(jobs, runs)
    knn, _ = baselines.chosen("item-kNN", train, data.items, data.valid)
    fixed = {"popularity": baselines.popularity(train, data.items), "item-kNN": knn}
    systems = {model: [rank(data.test, score)] for model, score in fixed.items()} | ranks(jobs, runs)
    against = dict.fromkeys((system for system in systems if system != "SASRec"), "SASRec")
    parts = [compare(systems, against, seen, last=True, fixed=tuple(fixed)) for seen in ("excluded", "included")]
    table = pd.concat(parts, ignore_index=True).rename(columns={"variant": "model"})
    table.insert(0, "dataset", NAME)
    table.insert(1, "protocol", "leave_one_out")
    print(save_csv(table, OUT / "quality.csv").to_string())


if __name__ == "__main__":
    main()
