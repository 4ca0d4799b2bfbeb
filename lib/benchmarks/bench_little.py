"""Does a teacher help where data is little? `make bench-little`: Beauty 5-core, trained on n users, tested on all.

A user who was not trained on is served from the history alone. Every teacher has the same users, encoder, width and
loss, and a shuffled control; the n users are drawn once, since the LLM's profiles exist for those, and the seeds vary
initial weights and batches. A student's settings are chosen without a teacher, on validation; those in ALSO were once
chosen by hand. "Extended" teachers cost fewer LLM calls: a ridge regression predicts a user's vector from facts and
items. Noisy teachers have others' vectors for some users; with short histories a student knows the last events only.
"""

from collections import defaultdict
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import little_sources
import numpy as np
import pandas as pd
from bench_search import BEAUTY, BEAUTY_BERT
from little_sources import ENCODER, LATEST, SOURCES, TEACHING, beauty, exchanged, extended, few, teachers, untrained
from seqbook.ablation import taught_with
from seqdistill.config import Distillation, TrainConfig
from seqdistill.data import Dataset
from seqdistill.embeddings.encoders import encoder_key
from seqdistill.embeddings.reducers import fit
from seqdistill.embeddings.teachers import item_texts
from seqdistill.evaluation.significance import by_user, compare, paired, pooled
from seqdistill.io import digest, load_csv, outputs_dir, save_csv
from seqdistill.training.sweep import Job, Jobs, plan, ranks, results, sweep
from seqdistill.training.train import TrainingData, training_data

OUT, RUNS = outputs_dir("bench"), outputs_dir("amazon-beauty-5core") / "runs"
STUDIES = [("SASRec", 1_500), ("SASRec", 500), ("BERT4Rec", 1_500)]  # student, training users
LLM_AND_FACTS = ["profile", "facts"]  # BERT4Rec's runs cost twice SASRec's, so it has only these of SOURCES
SEEDS, SEARCHED, WIDTH = [0, 1, 2, 3, 4], [0, 1, 2], 64
CALLS = [150, 500]  # profiles that a teacher of 1,500 users is extended from
DOSES, DOSED = [0.1, 0.25, 0.5], ["profile", "item-text"]  # shares of the users with another's vector, of two teachers
ALONE = replace(BEAUTY, epochs=40, batch=128)
MASKED = replace(BEAUTY_BERT, epochs=80, batch=128, mask_prob=0.3)
CANDIDATES = {  # of each student; the mean of SEARCHED seeds on validation chooses
    "SASRec": {"batch 128": ALONE, "80 epochs": replace(ALONE, epochs=80), "batch 32": replace(ALONE, batch=32)},
    "BERT4Rec": {
        "masked .3": MASKED,
        "masked .5": replace(MASKED, mask_prob=0.5),
        "160 epochs": replace(MASKED, epochs=160),
        "dropout .2": replace(MASKED, model=replace(MASKED.model, dropout=0.2)),
    },
}
CUTS = [3, 5]  # events that a student with short histories reads
ALSO = {("SASRec", 1_500): ["batch 128"]}
TAUGHT = Distillation(alpha=0.2, beta=False, projection="student", loss="infonce", phase1_fraction=0.6)
Ranked = dict[str, list[pd.DataFrame]]  # variant -> per-case ranks, one frame per seed
Tables = dict[str, list[pd.DataFrame]]  # file in OUT -> parts of its table
SHOWN = ["variant", "seen", "baseline", "ndcg@10", "delta_ndcg@10", "ci_low", "ci_high", "p_holm", "verdict"]


def teaching(
    data: TrainingData, vectors: np.ndarray, owners: np.ndarray, made_from: list, reducer: str = "pca"
) -> TrainingData:
    """Give the users a teacher from reduced vectors; runs are named after what it is made from."""
    users = int(data.test.histories.users.max()) + 1  # all of them, trained on or not
    taught = taught_with(data, fit(vectors, reducer, WIDTH)[0], owners, users)
    return replace(taught, teacher_key=digest([encoder_key(ENCODER), reducer, WIDTH, *made_from]))


def made_from_of(dataset: Dataset, owners: np.ndarray, texts: dict[str, pd.Series]) -> list:
    """What the teachers are made from, beside the users' events."""
    return [owners.tolist(), texts["profile"].tolist(), item_texts(dataset.items), LATEST]


def chosen(model: str, data: TrainingData) -> tuple[str, pd.DataFrame]:
    """Name of the candidate with the best mean NDCG@10 on the validation items, trained without a teacher; and all of them."""
    jobs = plan(CANDIDATES[model], SEARCHED, data)
    sweep(jobs, RUNS)
    runs = pd.Series({name: run["valid_ndcg@10"] for name, run in results(jobs, RUNS).items()})
    table = runs.groupby(level=0, sort=False).agg(["mean", "sem"]).set_axis(["valid_ndcg@10", "standard_error"], axis=1)
    best = table["valid_ndcg@10"].idxmax()
    table["chosen"] = table.index == best
    return best, table.rename_axis("settings").reset_index()


def planned(run: TrainConfig, data: TrainingData, taught: dict[str, TrainingData], seeds: list[int]) -> Jobs:
    """The plain student, and each teacher and its shuffled control."""
    variants = {"plain": Job(run, data)}
    for source, one in taught.items():
        for name, shuffled in ((source, False), (f"{source}-shuffled", True)):
            variants[name] = Job(replace(run, distillation=replace(TAUGHT, shuffled=shuffled)), one)
    return plan(variants, seeds, data)


def compared(jobs: Jobs, sources: list[str], first: dict) -> tuple[pd.DataFrame, Ranked]:
    """Train, and test these sources against plain and their controls, as one family, in both readings of seen items."""
    sweep(jobs, RUNS)
    controls = {source: f"{source}-shuffled" for source in sources}
    against, ranked = dict.fromkeys([*controls, *controls.values()], "plain"), ranks(jobs, RUNS)
    tables = [compare(ranked, against, seen, False, controls) for seen in ("excluded", "included")]
    return pd.concat(tables).assign(**first), ranked


def over_rivals(ranked: Ranked, name: str = "profile") -> pd.DataFrame:
    """The student taught by `name` against those of the sources, one family of tests, in both readings of seen items."""
    rivals = [source for source in SOURCES if source != name and source in ranked]
    pairs = {f"{name}, {rival}": rival for rival in rivals}
    frames = dict.fromkeys(pairs, ranked[name]) | {rival: ranked[rival] for rival in rivals}
    tables = [compare(frames, pairs, seen, False).query("baseline != ''") for seen in ("excluded", "included")]
    return pd.concat(tables).assign(variant=name)


def slopes(ranked: Ranked, shares: dict[str, float], seen: str) -> list[pd.Series]:
    """Change of NDCG@10 from no noise to noise alone: least-squares slopes over the shares, by user, one series per seed."""
    centred = np.array([*shares.values()]) - np.mean([*shares.values()])
    weights = centred / (centred**2).sum()
    by_seed = zip(*(ranked[name] for name in shares), strict=True)
    gains = ([by_user(frame, seen)["ndcg@10"] for frame in frames] for frames in by_seed)
    return [sum(weight * part for weight, part in zip(weights, parts, strict=True)) for parts in gains]


def dosed(jobs: Jobs, source: str, noisy: dict[float, TrainingData], first: dict) -> tuple[pd.DataFrame, dict]:
    """Train with noisy teachers, and test every dose from none to all (the control) against plain, as one family.

    jobs: of `planned`, for this source. noisy: share of the users with another's vector -> data. Returns the table, by
    `variant` (source), `share` and `seen`; and the slopes by `seen`.
    """
    shares = {source: 0.0, **{f"{share:.0%}": share for share in noisy}, f"{source}-shuffled": 1.0}
    taught = {f"{share:.0%}": Job(jobs[source, SEEDS[0]].run, data) for share, data in noisy.items()}
    jobs |= plan(taught, SEEDS, noisy[max(noisy)])
    sweep(jobs, RUNS)
    ranked, tables = ranks(jobs, RUNS), []
    for seen in ("excluded", "included"):
        table = compare(ranked, dict.fromkeys(shares, "plain"), seen, False).query("baseline != ''")
        tables.append(table.assign(share=table["variant"].map(shares), variant=source, **first).sort_values("share"))
    return pd.concat(tables), {seen: slopes(ranked, shares, seen) for seen in ("excluded", "included")}


class Study(NamedTuple):
    """One student and its few training users: their data, teachers by source, settings, and what was ranked."""

    first: dict  # columns of every table
    data: TrainingData
    owners: np.ndarray
    vectors: dict[str, np.ndarray]
    made_from: list
    taught: dict[str, TrainingData]
    run: TrainConfig
    ranked: Ranked

    def teach(self, vectors: np.ndarray, name: str, reducer: str = "pca") -> TrainingData:
        """Give the users another teacher."""
        return teaching(self.data, vectors, self.owners, [name, *self.made_from], reducer)


def study(
    model: str, size: int, dataset: Dataset, events: pd.DataFrame, catalogue: np.ndarray, tables: Tables
) -> Study:
    """Choose a student's settings on validation, train it with each source, and test."""
    left, drawn = few(events, size)
    owners, vectors, texts = teachers(dataset, left, drawn, catalogue, TEACHING)
    data, made_from = training_data(left, len(dataset.items)), made_from_of(dataset, owners, texts)
    sources = LLM_AND_FACTS if model == "BERT4Rec" else SOURCES
    taught = {name: teaching(data, vectors[name], owners, [name, *made_from]) for name in sources}
    first = {"dataset": dataset.name, "model": model, "trained_on": size}
    if (model, size) == STUDIES[0]:
        tables["little-zero-shot"].append(untrained(dataset, left, drawn, catalogue).assign(**first))
    (best, searched), ranked = chosen(model, data), {}
    tables["little-search"].append(searched.assign(**first))
    for settings in dict.fromkeys([best, *ALSO.get((model, size), [])]):
        columns = first | {"settings": settings}
        found, ranked[settings] = compared(planned(CANDIDATES[model][settings], data, taught, SEEDS), sources, columns)
        tables["little-data"].append(found)
        tables["little-rivals"].append(over_rivals(ranked[settings]).assign(**columns))
    first["settings"], found = best, little_sources.unlearned(data, left, catalogue, ranked[best]["plain"])
    tables["little-baselines"].append(found.assign(**first))
    return Study(first, data, owners, vectors, made_from, taught, CANDIDATES[model][best], ranked[best])


def extension(of: Study, events: pd.DataFrame, tables: Tables) -> None:
    """Train with teachers that were extended from fewer profiles."""
    features = np.column_stack([of.vectors["facts"], of.vectors["item-text"]])
    calls, kept = {"profile": {"calls": len(of.owners), "r2": np.nan}}, {"profile": of.taught["profile"]}
    for count in CALLS:
        some = np.isin(of.owners, few(events, count)[1])
        more, r2 = extended(of.vectors["profile"], features, some)
        kept[f"extended-{count}"] = of.teach(more, f"ridge {count}")
        calls[f"extended-{count}"] = {"calls": int(some.sum()), "r2": r2}
    found, ranked = compared(planned(of.run, of.data, kept, SEEDS), [*kept], of.first)
    asked = pd.DataFrame.from_dict(calls, orient="index")
    tables["little-extension"].append(found.merge(asked, "left", left_on="variant", right_index=True))
    for name in [*kept][1:]:
        tables["little-rivals"].append(over_rivals(of.ranked | ranked, name).assign(**of.first))


def noise(of: Study, tables: Tables) -> None:
    """Train with teachers of which a share of the users has another user's vector.

    The slopes of all teachers share one estimate of the variance over seeds, as the differences of a table do.
    """
    found, arms = [], {}
    for name in DOSED:
        noisy = {share: of.teach(exchanged(of.vectors[name], share), f"{share} of {name}") for share in DOSES}
        table, arms[name] = dosed(planned(of.run, of.data, {name: of.taught[name]}, SEEDS), name, noisy, of.first)
        found.append(table)
    table = pd.concat(found, ignore_index=True)
    for name, seen in product(DOSED, ("excluded", "included")):
        tested = paired(arms[name][seen], pooled([arm[seen] for arm in arms.values()]))
        rows = (table["variant"] == name) & (table["seen"] == seen)
        table.loc[rows, ["slope", "slope_low", "slope_high"]] = [
            tested[part] for part in ("delta", "ci_low", "ci_high")
        ]
    tables["little-doses"].append(table)


def short(of: Study, tables: Tables) -> None:
    """Train students that read a user's last events only, with teachers that know the whole history."""
    for length in CUTS:
        run = replace(of.run, model=replace(of.run.model, length=length), windows="last")
        columns = of.first | {"length": length}
        found, ranked = compared(planned(run, of.data, of.taught, SEEDS), SOURCES, columns)
        tables["little-short"].append(found)
        tables["little-short-rivals"].append(over_rivals(ranked).assign(**columns))


def main() -> None:
    dataset, events, catalogue = beauty()
    tables: Tables = defaultdict(list)
    first = study(*STUDIES[0], dataset, events, catalogue, tables)
    save(tables)
    others = [(study, *one, dataset, events, catalogue) for one in STUDIES[1:]]
    for act, *parts in [(extension, first, events), (noise, first), (short, first), *others]:
        act(*parts, tables)
        save(tables)


def save(tables: Tables) -> None:
    """Write the tables so far; rows of studies that this run has not come to yet stay as they were."""
    for name, parts in tables.items():
        table, path = pd.concat(parts, ignore_index=True), OUT / f"{name}.csv"
        first = [column for column in ("dataset", "model", "trained_on", "settings", "length") if column in table]
        if path.exists():
            old, key = load_csv(path), [*first, "variant"] if "variant" in table else first
            new = pd.MultiIndex.from_frame(table[key].astype(str))
            table = pd.concat(
                [table, old[~pd.MultiIndex.from_frame(old[key].astype(str)).isin(new)]], ignore_index=True
            )
        save_csv(table[[*first, *table.columns.difference(first, sort=False)]], path)
        if "verdict" in table:
            print(table.query("baseline != ''")[["trained_on", "settings", *SHOWN]].to_string())


if __name__ == "__main__":
    main()
