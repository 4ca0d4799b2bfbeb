"""Which taught SASRec ranks best on Beauty 5-core? `make bench-transfer`: chosen on validation, tested against controls.

Student, epochs and form of the distillation are those of the preset amazon-beauty-5core. By validation
NDCG@10, mean over seeds, the best teacher is chosen, then the schedule (the preset's, or the teacher to the end); then
a student that also reads its items' texts (chapter 6's `item-side-text`) is tried, without the teacher and with it. The
best taught one of all is set beside the plain student, itself without the teacher, the best untaught one, and itself
with other users' vectors, trained from the seeds that chose, and anew from others. Finished runs, also chapter 4's, are
read; killed ones go on.
"""

from dataclasses import replace

import pandas as pd
from seqbook.ablation import setups
from seqbook.cold import item_vectors
from seqdistill.config import ItemText
from seqdistill.embeddings import encoders
from seqdistill.embeddings.teachers import item_texts
from seqdistill.evaluation.significance import compare
from seqdistill.io import load_table, outputs_dir, save_csv, table_key
from seqdistill.training.sweep import Job, plan, ranks, results, sweep
from seqdistill.training.train import load_training_data, taught_by

HOME, OUT = outputs_dir("amazon-beauty-5core"), outputs_dir("bench")
RUNS, COMPONENTS = HOME / "runs", 128
SOURCES = ["item-text", "facts", "raw-history"]  # that 03 wrote for every user
SEARCHED, FRESH = [0, 1], [2, 3, 4, 5, 6]  # seeds that choose, and those that chose nothing


def searched(jobs: dict[str, Job], untaught: dict[str, str], seeds: list[int]) -> pd.DataFrame:
    """Train jobs; how they do on validation, and which is the same student without its teacher."""
    planned = plan(jobs, seeds, next(iter(jobs.values())).data)
    sweep(planned, RUNS)
    runs = pd.DataFrame([{"variant": name, **run} for (name, _), run in results(planned, RUNS).items()])
    runs = runs.groupby("variant", sort=False)
    valid = runs["valid_ndcg@10"]
    table = {"seeds": valid.size(), "valid_ndcg@10": valid.mean(), "valid_ndcg@10_std": valid.std()}
    table = pd.DataFrame(table | {"best_epoch": runs["best_epoch"].mean()}).reset_index()
    table.insert(1, "untaught", table["variant"].map(untaught).fillna(""))
    return table


def best(search: pd.DataFrame, taught: bool = True) -> str:
    """The taught variant, or the untaught one, that does best on validation."""
    rows = search[(search["untaught"] != "") == taught]
    return rows.set_index("variant")["valid_ndcg@10"].idxmax()


def compared(ranked: dict[str, list[pd.DataFrame]], name: str, rivals: list[str]) -> pd.DataFrame:
    """Test all against plain, the chosen one also against its control and, one by one, its rivals."""
    against, parts = {variant: "plain" for variant in ranked if variant != "plain"}, []
    for seen in ("excluded", "included"):
        parts.append(compare(ranked, against, seen, True, {name: "shuffled"}))
        for rival in rivals:
            parts.append(compare({it: ranked[it] for it in (rival, name)}, {name: rival}, seen, True)[1:])
    return pd.concat(parts)


def main() -> None:
    artifacts = HOME / "artifacts"
    key = table_key(artifacts / "events.parquet")
    texts, _ = encoders.encode(item_texts(load_table(artifacts / "items.parquet", key)), "minilm")
    data = replace(load_training_data(artifacts), texts=item_vectors(texts, COMPONENTS)[0])
    setup = setups(HOME, data, "SASRec", SEARCHED, "loky", {})[0]
    alone, taught = setup.alone, replace(setup.alone, distillation=setup.taught)
    paths = {source: artifacts / f"teacher-{source}.safetensors" for source in SOURCES}
    jobs = {"plain": Job(alone, data), "profile": Job(taught, data)}
    jobs |= {source: Job(taught, taught_by(data, path, key)) for source, path in paths.items()}
    untaught = dict.fromkeys(["profile", *paths], "plain")
    teacher = best(searched(jobs, untaught, SEARCHED))
    whole = f"{teacher}, to the end"
    run = replace(alone, distillation=replace(setup.taught, phase1_fraction=1.0))
    jobs[whole], untaught[whole] = jobs[teacher]._replace(run=run), "plain"
    form = best(searched(jobs, untaught, SEARCHED))
    jobs["reads"] = Job(replace(alone, item_text=ItemText()), data)
    jobs[f"reads, {form}"] = jobs[form]._replace(run=replace(jobs[form].run, item_text=ItemText()))
    untaught[f"reads, {form}"] = "reads"
    search = searched(jobs, untaught, SEARCHED)
    print(save_csv(search, OUT / "transfer-search.csv").to_string(), flush=True)
    name, rival = best(search), best(search, taught=False)
    other = replace(jobs[name].run.distillation, shuffled=True)
    jobs["shuffled"] = jobs[name]._replace(run=replace(jobs[name].run, distillation=other))
    chosen = dict.fromkeys(("plain", untaught[name], rival, name, "shuffled"))
    rivals, parts = sorted({untaught[name], rival} - {"plain"}), []
    for tested in (SEARCHED, FRESH):
        planned = plan({variant: jobs[variant] for variant in chosen}, tested, data)
        sweep(planned, RUNS)
        tables = compared(ranks(planned, RUNS), name, rivals)
        parts.append(tables.assign(tested=" ".join(map(str, tested))))
    print(save_csv(pd.concat(parts), OUT / "transfer.csv").to_string())


if __name__ == "__main__":
    main()
