# %% [markdown]
# # 4 · Does a student learn from the teacher?
#
# SASRec (Kang & McAuley, 2018) reads a sequence of items and predicts the next one. We train it in two ways: alone,
# and with a second loss that makes it reconstruct the user's profile vector (Severin et al., ECIR 2026, section 3.3).
# If the teacher helps, the second student ranks the test items higher. At serving time both are the same model.

# %% tags=["parameters"]
preset = "default"
seeds = [0, 1, 2]
students = ["SASRec"]
sasrec = {
    "model": {"dim": 64, "blocks": 2, "heads": 2, "dropout": 0.3, "length": 50, "temperature": 0.07},
    "epochs": 20,
    "batch": 32,
    "lr": 0.002,
    "schedule": "cosine",
    "validate_on": "excluded",
}
sasrec_teacher = {"alpha": 0.4, "phase1_fraction": 0.25}
bert4rec = {
    "model": {"dim": 64, "blocks": 2, "heads": 2, "dropout": 0.1, "length": 50, "temperature": 0.07},
    "epochs": 60,
    "batch": 32,
    "lr": 0.002,
    "schedule": "cosine",
    "validate_on": "excluded",
    "mask_prob": 0.5,
    "mask_last_prob": 0.3,
}
bert4rec_teacher = {"alpha": 0.4, "phase1_fraction": 0.25}
own = {"projection": "student"}
forms = ["SASRec distilled", "distilled-student"]
sources = []
gru4rec = True
rivals = ["item-kNN", "Markov", "EASE", "iALS"]
primary = "excluded"
recent_days = 90.0
power_tables = 200
cluster = "loky"

# %%
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from seqdistill.embeddings import reducers
from seqdistill.evaluation import baselines
from seqbook.reporting import report
from seqbook.reporting.main_tables import Comparison, comparable, gains, learning, main_table
from seqbook.reporting.main_tables import power_by_seeds, reading, record, seen_above
from seqdistill.io import ROOT, digest, load_table, outputs_dir, save_csv, save_json, table_key
from seqdistill.data.splits import hard_targets
from seqdistill.config import Distillation, parse, to_dict, parse_recommender
from seqdistill.config import gru4rec as recurrent
from seqdistill.evaluation.ranking import rank
from seqdistill.training.sweep import Job, plan, ranks, results, run_folder, spent, sweep
from seqdistill.training.train import load_training_data, taught_by, probe_run

home = outputs_dir(preset)
report.style()

# %% [markdown]
# ## The method
#
# Let $h_t$ be the hidden state at position $t$ after the last block, $H = \frac{1}{m}\sum_t h_t$ the mean over the $m$
# real positions, $E(P(u))$ the reduced vector of the user's profile, and $T$ a projection. In phase 1 the loss is
#
# $$\mathcal{L} = \alpha\,\beta\,\lVert H - T(E(P(u)))\rVert^2 + (1-\alpha)\,\mathcal{L}_{\text{model}}, \qquad
# \beta = \mathrm{sg}\!\left(\mathcal{L}_{\text{model}} / \mathcal{L}_{\text{distil}}\right),$$
#
# where sg stops the gradient: $\beta$ scales $\mathcal{L}_{\text{distil}}$ to the size of $\mathcal{L}_{\text{model}}$.
# Phase 1 takes `phase1_fraction` of the epochs; phase 2 continues with $\mathcal{L}_{\text{model}}$ alone. `plain` has
# the same number of updates, all without the teacher.

# %%
data = load_training_data(home / "artifacts")
configured = {"SASRec": (sasrec, sasrec_teacher), "BERT4Rec": (bert4rec, bert4rec_teacher)}
config = {
    name: (parse_recommender(run, name, "04-distillation"), parse(Distillation, taught, f"04-distillation, {name}"))
    for name, (run, taught) in configured.items()
}
settings = {name: {"run": to_dict(run), "teacher": to_dict(taught)} for name, (run, taught) in config.items()}
config = {name: config[name] for name in students}
chosen = {name: settings[name] for name in students}
save_json({"students": chosen, "own": own, "seeds": seeds}, home / "artifacts" / "student.json")

# %% [markdown]
# There are two forms of distillation. `distilled` is the paper's form: a trainable $T$ on the teacher's side.
# `distilled-student` projects the student instead, so that the target cannot move. Each has a control of the same form,
# `shuffled-target` and `shuffled` respectively: every user gets **another user's** profile, with the same vectors and
# the same loss but no information about the user. `forms` lists the forms that are taught by the profiles; "SASRec
# distilled" selects a form for one student only.

# %%
variants, controls, ours = {}, {}, {}
for name, (run, taught) in config.items():
    ours[name] = parse(Distillation, {**to_dict(taught), **own}, "04-distillation, own")
    known = {"distilled": ("shuffled-target", taught), "distilled-student": ("shuffled", ours[name])}
    variants[f"{name} plain"] = run
    for form in (form for form in known if {form, f"{name} {form}"} & set(forms)):
        control, setting = known[form]
        variants[f"{name} {form}"] = replace(run, distillation=setting)
        variants[f"{name} {control}"] = replace(run, distillation=replace(setting, shuffled=True))
        controls[f"{name} {form}"] = f"{name} {control}"

# %% [markdown]
# `sources` lists further teachers of chapter 3 that need no LLM. Each is trained in the form `distilled-student`, with
# its own shuffled control.

# %%
key, artifacts = table_key(home / "artifacts" / "events.parquet"), home / "artifacts"
taught_data = {source: taught_by(data, artifacts / f"teacher-{source}.safetensors", key) for source in sources}
for (source, source_data), (name, (run, _)) in product(taught_data.items(), config.items()):
    variants[f"{name} {source}"] = Job(replace(run, distillation=ours[name]), source_data)
    shuffled = replace(ours[name], shuffled=True)
    variants[f"{name} {source}-shuffled"] = Job(replace(run, distillation=shuffled), source_data)
    controls[f"{name} {source}"] = f"{name} {source}-shuffled"

# %% [markdown]
# The reconstruction loss applies only to users with training events and a vector of the teacher. The other users train
# a distilled student with $\mathcal{L}_{\text{model}}$ alone.

# %%
learners, profiled = data.train.users, {"profiles": data} if forms else {}
for source, one in (profiled | taught_data).items():
    owners = int((~one.teacher.isnan().any(1))[learners].sum())
    print(f"{source}: {owners:,} of {len(learners):,} training users have a vector ({owners / len(learners):.0%})")

# %% [markdown]
# A further baseline without a teacher is GRU4Rec (Hidasi et al., 2016): one recurrent layer replaces the first
# student's attention; all other settings are the same.

# %%
if gru4rec:
    first, _ = next(iter(config.values()))
    variants["GRU4Rec plain"] = recurrent(first)

# %% [markdown]
# Each variant is trained with several seeds. A finished run is never trained again; an interrupted one resumes from
# its last epoch. `cluster` says where the runs take place: on the cores of this machine, or on a Ray or Dask cluster.

# %%
jobs = plan(variants, seeds, data)
sweep(jobs, home / "runs", cluster)
print(f"{len(jobs)} runs, one thread each")

# %% [markdown]
# ## Training curves
#
# Left: the student's own loss. Right: the reconstruction loss, in phase 1 only. The paper's trainable $T$ can shrink
# the target. The curve does not show this, so the table below gives the target's variance.

# %%
runs = results(jobs, home / "runs")
figure, curves, text = learning(runs)
report.show_figure(figure, curves, home / "figures" / "learning.png", text)

# %% [markdown]
# `variance_start` and `variance_end` are the mean variance of the student's target over the users of a batch, in the
# first and last epoch of phase 1 (about 1 for a fixed teacher). `probe_r2` is the $R^2$ of a linear probe that predicts
# the teacher from the final student's $H$, on users that the probe was not fitted on; 0 means no better than predicting
# the mean. The second table adds `variance_left`, the share of the target's variance that is left at the end of phase
# 1, and the probe's $R^2$ for the plain student (`plain_probe_r2`). Runs that are recorded without their weights have
# no probe.

# %%
inside = pd.DataFrame(
    {
        "variant": variant,
        "variance_start": next((log["target_variance"] for log in run["history"] if "loss_distil" in log), None),
        "variance_end": next((log["target_variance"] for log in run["history"][::-1] if "loss_distil" in log), None),
        "probe_r2": probe_run(run_folder(jobs[variant, seed], home / "runs"), jobs[variant, seed].data),
        "best_epoch": float(run["best_epoch"]),
    }
    for (variant, seed), run in runs.items()
)
inside = inside.groupby("variant", sort=False).mean().reset_index()
report.format_table(save_csv(inside, home / "tables" / "inside.csv"))

# %%
taught = inside.set_index("variant").loc[list(controls)]
taught["variance_left"] = taught["variance_end"] / taught["variance_start"]
taught["plain_probe_r2"] = [
    np.mean([probe_run(run_folder(jobs[plain, seed], home / "runs"), teacher) for seed in seeds])
    for name in controls
    for plain, teacher in [(f"{name.split()[0]} plain", jobs[name, seeds[0]].data)]
]
report.format_table(taught.reset_index(), ["variant", "variance_left", "probe_r2", "plain_probe_r2"])

# %%
left = ", ".join(f"{name} {share:.1%}" for name, share in taught["variance_left"].items())
learned = ", ".join(taught.index[taught["probe_r2"] > taught["plain_probe_r2"] + 0.05])
Markdown(f"Variance left: {left}. Probe more than 0.05 above the plain student's: **{learned or 'none'}**.")

# %% [markdown]
# A trainable $T$ on the teacher's side can lower the loss by shrinking the projected target; a fixed target cannot
# shrink. If almost no variance is left, or if the probe $R^2$ is no higher than for the plain student, nothing shows
# that the student learned from the teacher. A gain in its row below may then come from the loss alone.
#
# ## The main table
#
# The table includes baselines: popularity in training, popularity in the `recent_days` days before each test case, and
# four recommenders: item-kNN, optionally with more weight on recent items; a first-order Markov chain; EASE (Steck,
# 2019); iALS (Hu et al., 2008). The settings of each recommender are chosen from a small grid on validation (seen items
# excluded). Every item is ranked, without sampling; a tie counts against the target.

# %%
events = load_table(home / "artifacts" / "events.parquet")
train = events[events["split"] == "train"]
dataset, protocol = load_table(home / "artifacts" / "users.parquet")[["dataset", "protocol"]].iloc[0]
dated = load_table(home / "artifacts" / "users.parquet")["dated"].iloc[0]
ranked = {
    "baseline popularity": [rank(data.test, baselines.popularity(train, data.items))],
}
if dated:
    recent = baselines.recent_popularity(train, data.items, data.test, recent_days)
    ranked["baseline recent-popularity"] = [rank(data.test, recent)]

# %% tags=["nbval-ignore-output"]
searched = {}
for name in rivals:
    score, searched[name] = baselines.chosen(name, train, data.items, data.valid)
    ranked[f"baseline {name}"] = [rank(data.test, score)]
ranked |= ranks(jobs, home / "runs")
report.format_table(pd.DataFrame(searched).T.rename_axis("rival").reset_index())

# %% [markdown]
# The number of targets that are repeats or ties (defined in chapter 1):

# %%
report.format_table(hard_targets(events))

# %% [markdown]
# If the protocol gives each user several test targets, the same runs are evaluated twice: on the last target alone, as
# in leave-one-out, and on all targets. Both evaluations are made with seen items included (as in the paper) and
# excluded. Metrics are means over users, so every user has the same weight.
#
# The question is: does a distilled student rank better than its own `plain` **and** than its control, the shuffled
# teacher of the same form? Both must hold: a gain's p is the larger of the two, a loss's is that against `plain`.
# Holm's correction counts the distilled students. `verdict` answers the question; `control_delta_ndcg@10` is the
# difference from the control. The verdicts that count are those of the primary endpoint: NDCG@10 on all targets, with
# seen items as `primary` says. All other readings are secondary. Rows without a verdict have an interval only. The
# t-test treats both users and seeds as samples: the variance of a difference is the variance over users plus the
# variance over seeds. A few seeds give a poor estimate of the variance over seeds, so the test takes the larger of two
# estimates: that of the difference itself and the one pooled over the variants of a student. `tables/main.csv` has more
# columns: seeds, p, and `effect`, the mean difference divided by the standard deviation of the users' differences
# (Cohen's d, paired).

# %%
against = {system: f"{system.split()[0]} plain" for system in variants if not system.endswith(" plain")}
strongest, fixed = next(iter(config)), [system for system in ranked if system.startswith("baseline")]
against |= dict.fromkeys([*fixed, *(["GRU4Rec plain"] if gru4rec else [])], f"{strongest} plain")
folders = {system: [system.replace(" ", "-")] for system in fixed}
folders |= {system: [run_folder(jobs[system, seed], home / "runs").name for seed in seeds] for system in variants}

# %% [markdown]
# `tables/main-runs.json` records what is compared. From this file and the ranks of the runs, `make tables` makes the
# tables and figures below again, without the data.

# %%
single = bool(data.test.position.max() == 0)  # one target a user: the last is all
made_with = digest([data.key, settings, own, reducers.made_from(home / "artifacts" / "teacher.safetensors")])
comparison = Comparison(folders, against, controls, single, dataset, protocol, made_with, primary)
record(comparison, ranked, home)
main = save_csv(main_table(ranked, comparison), home / "tables" / "main.csv")
columns = ["variant", "verdict", "model", "recall@10", "ndcg@10", "delta_ndcg@10", "control_delta_ndcg@10"]
print(f"Primary endpoint: NDCG@10, all targets, seen items {primary}")
report.format_table(reading(main, primary), columns)

# %%
secondary = "included" if primary == "excluded" else "excluded"
print(f"Secondary: all targets, seen items {secondary}")
report.format_table(reading(main, secondary), columns)

# %% [markdown]
# Why do the results with seen items included and excluded differ? If a student ranks items high that the user has
# already seen, these items push the target down, but only while they remain candidates. `above` is the mean number of
# seen items ranked above the target, and `enters` the share of cases whose target is in the top ten only with seen
# items excluded. Use the results with seen items excluded for a shop that never recommends what a customer has, and
# those with seen items included for a shop that sells refills.

# %%
report.format_table(save_csv(seen_above(ranked), home / "tables" / "seen.csv"))

# %% [markdown]
# The main table for each user's last target alone: seen items included, then excluded. With one case per user the
# intervals are wide. If the protocol has one target per user, see the tables above.

# %%
last = pd.concat([reading(main, seen, "last") for seen in ("included", "excluded")])
shown = ["variant", "verdict", "model", "seen", "ndcg@10", "delta_ndcg@10"]
print("One target per user.") if single else display(report.format_table(last, shown))

# %% [markdown]
# ## Results

# %%
figure, labelled = gains(main, primary)
report.show_figure(figure, labelled, home / "figures" / "main.png")

# %% [markdown]
# A gain is *significant* if the intervals against `plain` and against the control both exclude zero. The intervals,
# like p, are adjusted for the number of distilled students. A shuffled teacher carries no information about the user,
# so a gain that the control also shows is an effect of the added loss, not evidence of transfer. `upper_share` is the
# upper bound of the gain over plain, as a share of plain; `control_upper_share` is the same for the gain over the
# control.

# %%
taught = labelled.dropna(subset="control_delta_ndcg@10")
shares = ["upper_share", "control_delta_ndcg@10", "control_upper_share", "control_verdict"]
report.format_table(taught, ["variant", "delta_ndcg@10", *shares])

# %% [markdown]
# How large must a gain be for this data to show it? With this number of users, this variance and this number of tests,
# a true gain of `detectable` in NDCG@10 over plain and over the control is significant four times in five. For each
# distilled form, `detectable` is the larger value of its two tests; the table shows the mean over the forms of a
# student. The next columns are shares of the plain student's NDCG@10: `detectable`, and the lowest and the highest gain
# that the paper reports on its four data sets (with seen items included; `detectable` is for the primary endpoint).

# %%
least = labelled[labelled["control"] != ""].copy()
least["detectable"] = least[["detectable", "control_detectable"]].max(axis=1)
least = least.groupby("model")[["detectable"]].mean()
plain = labelled[labelled["variant"].str.endswith("plain")].set_index("model")["ndcg@10"]
theirs = report.paper("main").pivot_table(index=["model", "dataset"], columns="variant", values="ndcg@10").dropna()
reported = (theirs["distilled"] / theirs["plain"] - 1).groupby("model").agg(paper_lowest="min", paper_highest="max")
least = least.assign(share_of_plain=least["detectable"] / plain).join(reported)
report.format_table(least.reset_index())

# %% [markdown]
# If a gain of the paper's size is too small to be detected here, an *inconclusive* verdict does not contradict the
# paper. `detectable` is cautious: it takes the larger of two estimates of the spread over seeds, and corrects for every
# test.
#
# How many seeds are needed? We simulate tables with the variance components of these runs (users, seeds, residual), and
# the same number of distilled students, and test them in the same way. The figure shows how often a student with a
# true gain, whose control has none, gets the verdict *significant gain*. If the control gains as much as the student,
# that verdict is an error; the caption gives its rate.

# %%
if drawn := power_by_seeds(ranked, comparison, power_tables):
    figure, found, text = drawn
    save_csv(found, home / "tables" / "power.csv")
    report.show_figure(figure, found, home / "figures" / "power.png", text)

# %% [markdown]
# ## A second student: BERT4Rec
#
# BERT4Rec (Sun et al., 2019) is trained to fill in masked items, from the items on both sides. It needs three times as
# many epochs, so the default preset does not train it. With the default preset, this section shows the rows of preset
# `full` instead: five seeds, the same events and teacher, seen items excluded. `students` lists the students to train.

# %%
full = ROOT / "outputs" / "full"
if preset == "default" and comparable(home, full):
    second = reading(report.read_table("main", full / "tables"), "excluded").query("model == 'BERT4Rec'")
    display(report.format_table(second, ["variant", "verdict", "seeds", *columns[3:]]))
else:
    print(f"trained here: {', '.join(students)}; no row of another preset is shown.")

# %%
summary = {
    f"{row['protocol']} {row['seen']} {row['model']} {row['variant']}": {
        name: row[name] for name in ("recall@10", "ndcg@10")
    }
    for row in main.to_dict("records")
}
report.record_metrics(
    home, "04-distillation", summary | {"probe_r2": inside.set_index("variant")["probe_r2"].to_dict()}
)

# %% [markdown]
# ## Limits
#
# One data set, one encoder, at most one LLM. In the MovieLens presets the settings of the plain students were searched
# (`make bench-search`, chapter 8) without the test events, on five validation targets per user; to save time the
# default preset trains fewer epochs than the best settings use. $\alpha$, $\beta$ and the loss are those of the paper
# for Beauty there (for ML-20M the paper has $\alpha = 0.8$ without $\beta$; this was not tried); `phase1_fraction` was
# chosen by hand. A preset for other data says in its file how its settings were chosen. The distilled students and
# GRU4Rec have the settings of the plain student. The number of epochs is a budget: a `best_epoch` near it means that
# the student was still improving. With `windows: all`, as here by default, every event of a long history is used in
# training; with `windows: last`, as in the published settings, only the last window is. *Inconclusive* means that this
# data cannot tell, not that there is no effect.

# %% tags=["nbval-ignore-output"]
print(spent(jobs, home / "runs"))
