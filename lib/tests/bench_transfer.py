"""Which taught SASRec ranks best on Beauty 5-core? `make bench-transfer`: chosen on validation, tested against controls.

Student, epochs, form of the distillation and teachers are those of the preset amazon-beauty-5core. With one seed, the
teacher whose student has the best validation NDCG@10 is chosen; then a student that also reads its items' texts
(chapter 6's `item-side-text`) is tried, without the teacher and with it. The best taught one of all is trained with
more seeds and set beside the plain student, itself without the teacher, and itself with other users' vectors.
Finished runs, also chapter 4's, are read; killed ones go on.
"""

from dataclasses import replace

import pandas as pd
from seqdistill import encoders
from seqdistill.ablations import setups
from seqdistill.arms import item_texts
from seqdistill.artifacts import load_table, outputs_dir, save_csv, table_key
from seqdistill.cold import item_vectors
from seqdistill.config import ItemText
from seqdistill.significance import compare
from seqdistill.sweep import Job, plan, ranks, results, sweep
from seqdistill.train import load_problem, load_teacher, taught_by, with_texts

HOME, OUT = outputs_dir("amazon-beauty-5core"), outputs_dir("bench")
RUNS, SEEDS, COMPONENTS = HOME / "runs", [0, 1], 128


def searched(jobs: dict[str, Job]) -> pd.DataFrame:
    """Train jobs with the first seed; how they do on validation."""
    planned = plan(jobs, SEEDS[:1], next(iter(jobs.values())).given)
    sweep(planned, RUNS)
    return pd.DataFrame(
        {
            "variant": name,
            "teacher": name.split(", ")[-1] if job.run.distillation else "",
            "reads": job.run.item_text is not None,
            "valid_ndcg@10": run["valid_ndcg@10"],
            "best_epoch": run["best_epoch"],
        }
        for ((name, _), job), run in zip(planned.items(), results(planned, RUNS).values(), strict=True)
    )


def main() -> None:
    artifacts = HOME / "artifacts"
    key = table_key(artifacts / "events.parquet")
    texts, _ = encoders.encode(item_texts(load_table(artifacts / "items.parquet", key)), "minilm")
    given = with_texts(load_problem(artifacts), item_vectors(texts, COMPONENTS)[0])
    setup = setups(HOME, given, "SASRec", SEEDS, "loky", {})[0]
    alone, taught = setup.alone, replace(setup.alone, distillation=setup.taught)
    everyone = load_teacher(artifacts / "teacher-item-text.safetensors", key)
    problems = {"profile": given, "item-text": taught_by(given, everyone)}
    jobs = {"plain": Job(alone, given)} | {name: Job(taught, problem) for name, problem in problems.items()}
    first = searched(jobs)
    teacher = first[first["teacher"] != ""].set_index("variant")["valid_ndcg@10"].idxmax()
    reading = {"reads": Job(replace(alone, item_text=ItemText()), given)}
    reading[f"reads, {teacher}"] = Job(replace(taught, item_text=ItemText()), problems[teacher])
    search = pd.concat([first, searched(reading)], ignore_index=True)
    print(save_csv(search, OUT / "transfer-search.csv").to_string(), flush=True)
    best = search.loc[search[search["teacher"] != ""]["valid_ndcg@10"].idxmax()]
    name, untaught = best["variant"], "reads" if best["reads"] else "plain"
    jobs |= reading
    jobs["shuffled"] = Job(replace(jobs[name].run, distillation=replace(setup.taught, shuffled=True)), jobs[name].given)
    chosen = {variant: jobs[variant] for variant in dict.fromkeys(("plain", untaught, name, "shuffled"))}
    planned = plan(chosen, SEEDS, given)
    sweep(planned, RUNS)
    ranked, parts = ranks(planned, RUNS), []
    for seen in ("filtered", "kept"):
        against = {variant: "plain" for variant in chosen if variant != "plain"}
        parts.append(compare(ranked, against, seen, True, {name: "shuffled"}))
        if untaught != "plain":
            parts.append(compare({it: ranked[it] for it in (untaught, name)}, {name: untaught}, seen, True)[1:])
    print(save_csv(pd.concat(parts), OUT / "transfer.csv").to_string())


if __name__ == "__main__":
    main()
