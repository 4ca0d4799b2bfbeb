# %% [markdown]
# # 4 · Does a student learn from the teacher?
#
# SASRec (Kang & McAuley, 2018) reads a sequence of items and predicts the next one. We train it twice over: alone,
# and with a second loss that makes it reconstruct the user's profile vector (Severin et al., ECIR 2026, section
# 3.3). If the teacher helps, the second student ranks the test items higher. At serving time both are the same
# model.

# %% tags=["parameters"]
preset = "default"
seeds = [0, 1, 2]
shape = {"dim": 64, "blocks": 2, "heads": 2, "dropout": 0.2, "length": 50}
training = {"epochs": 16, "batch": 16, "lr": 0.001}
alpha = 0.4
share = 0.25
recent_days = 90.0
cluster = "loky"

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython.display import Markdown
from seqdistill import baselines, report
from seqdistill.artifacts import load_table, outputs_dir, save_csv, save_json
from seqdistill.config import Distillation, Run, parse, plain
from seqdistill.evaluate import rank
from seqdistill.sweep import plan, ranks, results, sweep
from seqdistill.train import load_problem, probe, run_key, student

home = outputs_dir(preset)
report.style()

# %% [markdown]
# ## The method
#
# Let $h_t$ be the hidden state at position $t$ after the last block, $H = \frac{1}{m}\sum_t h_t$ their mean over
# the $m$ real positions, $E(P(u))$ the reduced vector of the user's profile, and $T$ a projection. In phase 1 the
# loss is
#
# $$\mathcal{L} = \alpha\,\beta\,\lVert H - T(E(P(u)))\rVert^2 + (1-\alpha)\,\mathcal{L}_{\text{model}}, \qquad
# \beta = \mathrm{sg}\!\left(\mathcal{L}_{\text{model}} / \mathcal{L}_{\text{distil}}\right),$$
#
# where sg stops the gradient: $\beta$ gives both losses the same size. Phase 1 is the first `share` of the epochs;
# phase 2 trains on with $\mathcal{L}_{\text{model}}$ alone. `plain` below has the same number of updates, all of
# them without the teacher.

# %%
problem = load_problem(home / "artifacts")
config = parse(Run, {"student": shape, **training}, "04-distillation")
save_json({"run": plain(config), "share": share}, home / "artifacts" / "student.json")

# %% [markdown]
# Three students learn from the teacher. `distilled` is the paper's form: a trainable $T$ on the teacher's side.
# `distilled-student` projects the student instead, so that the target cannot move. `shuffled` is its control:
# every user gets **somebody else's** profile. Same vectors, same loss, no knowledge.

# %%
paper_form = Distillation(alpha=alpha, share=share)
student_side = replace(paper_form, side="student")
variants = {
    "plain": config,
    "distilled": replace(config, distillation=paper_form),
    "distilled-student": replace(config, distillation=student_side),
    "shuffled": replace(config, distillation=replace(student_side, shuffled=True)),
}

# %% [markdown]
# Each is trained with several seeds. A finished run is never trained again; a killed one goes on from its last
# epoch.

# %%
runs = plan(variants, seeds, problem)
print(f"{len(runs)} runs of {config.epochs} epochs, one thread each")
sweep(runs, home / "runs", cluster)

# %% [markdown]
# ## How they learned
#
# Left: the student's own loss. Right: the reconstruction loss, phase 1 only. A literal $T$ can shrink its own
# target; the curve alone would not show it, so the table after it gives the target's variance.

# %%
found = results(runs, home / "runs")
curves = pd.DataFrame(
    {"variant": variant, "seed": seed, "epoch": epoch, **log}
    for (variant, seed), run in found.items()
    for epoch, log in enumerate(run["history"], 1)
)

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.4))
colors = dict(zip(variants, sns.color_palette(), strict=False))
for variant, group in curves.groupby("variant", sort=False):
    for ax, column in zip(axes, ("loss_model", "loss_distil"), strict=True):
        if column in group and group[column].notna().any():
            spread = group.groupby("epoch")[column].agg(["mean", "std"]).dropna(subset="mean")
            ax.errorbar(
                spread.index, spread["mean"], spread["std"].fillna(0), label=variant, color=colors[variant], capsize=2
            )
axes[0].set(xlabel="epoch", ylabel="cross-entropy, nats", title="student's loss")
axes[1].set(xlabel="epoch", ylabel="mean squared error", title="reconstruction (phase 1)", yscale="log")
_ = axes[0].legend(fontsize=7)
report.save_figure(figure, curves, home / "figures" / "learning.png")

# %% [markdown]
# `variance_start` and `variance_end` are the mean variance of what the student must match, over the users of a batch,
# in the first and last epoch of phase 1 (about 1 for a fixed teacher). `probe_r2` says how well a linear probe reads
# the true teacher off the final student, on users that the probe did not see: 0 is no better than the mean.

# %%
phase1 = curves.dropna(subset="target_variance").groupby("variant", sort=False)["target_variance"]
inside = pd.DataFrame({"variance_start": phase1.first(), "variance_end": phase1.last()}).reindex(list(variants))
homes = {name: home / "runs" / run_key(*job) for name, job in runs.items()}
probes = pd.Series({name: probe(student(folder, problem.items), problem) for name, folder in homes.items()})
inside["probe_r2"] = probes.groupby(level=0).mean()
chosen = pd.Series({name: float(run["best_epoch"]) for name, run in found.items()})
inside["best_epoch"] = chosen.groupby(level=0).mean()
inside = inside.rename_axis("variant").reset_index()
report.formatted(save_csv(inside, home / "tables" / "inside.csv"), list(inside.columns))

# %%
told = inside.set_index("variant")
shrunk = told.loc["distilled", "variance_end"] / told.loc["distilled", "variance_start"]
read = told["probe_r2"]
Markdown(
    f"The paper's target ends with **{shrunk:.1%}** of its variance: a trainable $T$ on that side makes the task easy. "
    f"A probe reads the teacher off `distilled` with R² {read['distilled']:.4f}, off `distilled-student` with "
    f"{read['distilled-student']:.4f}, off `plain` with {read['plain']:.4f}."
)

# %% [markdown]
# ## The main table
#
# Two baselines stand beside the students: popularity in training, and popularity in the weeks before each case.
# Every item is ranked, none is sampled; a tie counts against the target.

# %%
events = load_table(home / "artifacts" / "events.parquet")
train = events[events["split"] == "train"]
recent = baselines.recent_popularity(train, problem.items, problem.test, recent_days)
ranked = {
    "popularity": [rank(problem.test, baselines.popularity(train, problem.items))],
    "recent-popularity": [rank(problem.test, recent)],
    **ranks(runs, home / "runs"),
}

# %% [markdown]
# Where the protocol gives a user several test targets they are read twice from the same runs: the last one alone, as
# in leave-one-out, and all of them; and each reading with seen items kept as candidates (as in the paper) and left
# out. Every user weighs the same: metrics are means over users, and the test resamples *users*, after averaging over
# seeds and over a user's cases.

# %%
dataset, protocol = load_table(home / "artifacts" / "users.parquet")[["dataset", "protocol"]].iloc[0]
model = {"popularity": "popularity", "recent-popularity": "popularity"}
readings = [("all", "kept"), ("all", "filtered"), ("last", "kept"), ("last", "filtered")]

# %%
parts = []
for which, seen in readings:
    part = report.compare(ranked, "plain", seen, which == "last")
    part.insert(0, "protocol", f"{protocol}/{which}")
    part.insert(1, "model", [model.get(name, "SASRec") for name in part["variant"]])
    parts.append(part)
main = pd.concat(parts, ignore_index=True)
main.insert(0, "dataset", dataset)
save_csv(main, home / "tables" / "main.csv")
columns = ["variant", "seeds", "cases", "recall@10", "ndcg@10", "delta_ndcg@10", "p_holm", "verdict"]
report.formatted(parts[0], columns)

# %% [markdown]
# Above: all targets, seen items kept. Below: all targets, seen items left out.

# %%
report.formatted(parts[1], columns)

# %% [markdown]
# The same two readings for each user's last target alone. One case a user: the intervals are wide.

# %%
report.formatted(parts[2], columns)

# %%
report.formatted(parts[3], columns)

# %% [markdown]
# ## Reading

# %%
figure = report.forest(parts[0].query("model == 'SASRec'"), "Gain over the plain student, all targets, seen kept")
report.save_figure(figure, parts[0].query("model == 'SASRec'"), home / "figures" / "main.png")

# %% [markdown]
# A gain or loss is *shown* where the interval leaves zero out and the p-value, adjusted for the number of rows in the
# table (Holm), is below .05; the interval itself is not adjusted. Both resample users and take the seeds as they are:
# where ± over seeds is as large as the difference, other seeds could have told another story. `shuffled` carries no
# knowledge of its user, so a gain that `shuffled` shows as well is no transfer, but an effect of the added loss.

# %%
against = report.compare({name: ranked[name] for name in ("shuffled", "distilled-student")}, "shuffled", "kept", False)
lines = [report.sentence(parts[0], name) for name in ("distilled", "distilled-student", "shuffled")]
lines.append("The test that matters, true against shuffled teacher: " + report.sentence(against, "distilled-student"))
Markdown("\n".join(f"* {line}" for line in lines))

# %%
summary = {
    f"{row['protocol']} {row['seen']} {row['variant']}": {name: row[name] for name in ("recall@10", "ndcg@10")}
    for row in main.to_dict("records")
}
report.record(home, "04-distillation", summary | {"probe_r2": inside.set_index("variant")["probe_r2"].to_dict()})

# %% [markdown]
# ## Limits
#
# One data set; one encoder, one LLM. In the default preset (few users, a small LLM) batch, learning rate and dropout
# were chosen among six settings of the plain student, the share of phase 1 between a quarter and a half, by
# validation NDCG@10 of one seed; $\alpha$ and $\beta$ are the paper's. The number of epochs is a budget: a
# `best_epoch` near it says that a student still improves at its end. Intervals resample users with the seeds given.
# *Not shown* means that this data cannot tell, not that there is no effect.
