# %% [markdown]
# # 5 · What makes a student learn, and is it the knowledge?
#
# Chapter 4 compared whole methods. Here the method is taken apart: one setting varies, the rest stays as it was. Each
# table holds rows that keep it honest: `plain`, the same student with as many updates and no teacher, and a shuffled
# teacher for each side of the projection that the cells have: the setting of chapter 4 with the users' profiles
# exchanged (`shuffled` projects the student, `shuffled-target` the teacher). A cell that beats both is the best sign
# that knowledge came across, though its control has chapter 4's weight, phase 1 and loss; with one seed no row can be
# said to. `student` names the one that is taken apart.

# %% tags=["parameters"]
preset = "default"
student = "SASRec"
seeds = [0, 1, 2]
minor_seeds = [0]
sources = ["facts", "item-text"]
alphas = [0.2, 0.4, 0.6]
losses = ["mse", "infonce"]
shares = [0.1, 1.0]
coverage = [0.2]
components = [16]
neighbors = 15
source_encoder = "minilm"
context = 2048
cluster = "loky"
every = False

# %%
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from seqdistill.embeddings import teachers
from seqdistill.embeddings import encoders
from seqdistill.profiles import generate as profiles
from seqdistill.embeddings import reducers
from seqdistill.reporting import report
from seqdistill.reporting.figures import forest, over_epochs
from seqdistill.training.ablation import ablate, gains_by, noise_like, only_some, quarters, setups, taught_with
from seqdistill.io import ROOT, UserError, data_dir, load_json, load_table, outputs_dir, save_csv, table_key
from seqdistill.evaluation.significance import compare
from seqdistill.training.sweep import Job, grid, plan, ranks, results, spent, sweep
from seqdistill.training.train import load_training_data, load_teacher

home = outputs_dir(preset)
artifacts, figures = home / "artifacts", home / "figures"
report.style()

# %% [markdown]
# The student, its training and its distillation are those of chapter 4; runs that chapter 4 has trained are read, not
# trained again. The cells vary the form that projects the student (`distilled-student`), since its target cannot move;
# where the paper's literal form is meant, the text says so. The controls (section 8) have the seeds of `seeds`, the
# groups of users and items (section 10) all of chapter 4's, all other cells those of `minor_seeds`: with one seed a
# table gives intervals over users, but no verdict. `tables/ablation-*.csv` have more columns (seeds, p, effect size).
#
# On a data set with so few users most of these questions have no answer. So the default preset trains what it can
# answer (the weights of section 1, the collapse of section 5, the controls of section 8) and reads the other tables as
# they were recorded; `every: true` trains them anew, as all other presets do.

# %%
data = load_training_data(artifacts)
dataset, protocol = load_table(artifacts / "users.parquet")[["dataset", "protocol"]].iloc[0]
label = {"dataset": dataset, "protocol": f"{protocol}/all"}
setup, *_ = setups(home, data, student, minor_seeds, cluster, label)
others = replace(setup, recorded=ROOT / "outputs" / preset if preset == "default" and not every else None)
columns = ["variant", "verdict", "recall@10", "ndcg@10", "delta_ndcg@10", "control_verdict"]
print(setup.label["model"])

# %% [markdown]
# ## 1. How much weight for the teacher?
#
# The paper weighs the losses with $\alpha$, equalises their size with $\beta$, and finds $\alpha = 0.4$ with $\beta$ on
# the best of six settings on Beauty. The same grid here.

# %% [markdown]
# An ablation has four steps. First, its cells become training runs, one for each seed, beside the plain student and the
# shuffled teacher:

# %%
cells = grid(setup.taught, alpha=alphas, beta=[False, True])
taught = {name: replace(setup.alone, distillation=cell) for name, cell in cells.items()}
shuffled = replace(setup.alone, distillation=replace(setup.taught, shuffled=True))
jobs = plan({"plain": setup.alone, **taught, "shuffled": shuffled}, minor_seeds, data)

# %% [markdown]
# Second, they are trained; third, the test targets are ranked (each run stores its ranks); fourth, every cell is
# compared with the plain student and with its control:

# %%
sweep(jobs, home / "runs", cluster)
against, controls = dict.fromkeys([*cells, "shuffled"], "plain"), dict.fromkeys(cells, "shuffled")
by_hand = compare(ranks(jobs, home / "runs"), against, "included", False, controls)

# %% [markdown]
# `ablate` does the same and writes the table; the rest of the chapter uses it.

# %%
weights = ablate(setup, "alpha-beta", cells)
assert by_hand.set_index("variant")["ndcg@10"].to_dict() == weights.set_index("variant")["ndcg@10"].to_dict()
report.format_table(weights, columns)

# %%
report.show_figure(forest(weights, "Weight of the teacher"), weights, figures / "ablation-alpha-beta.png")

# %% [markdown]
# The paper's numbers for this grid, SASRec on **another data set** (Beauty), without a spread over seeds: only the
# order of rows can be compared.

# %%
theirs = report.paper("loss_balance")
theirs["setting"] = [f"alpha {row.alpha:g}, beta {'on' if row.beta else 'off'}" for row in theirs.itertuples()]
report.format_table(theirs, ["setting", "ndcg@10"])

# %% [markdown]
# ## 2. How are the states of a history put together?
#
# The paper finds the mean best on Beauty and Kion, exponential weights on ML-20M and Amazon-M2. The last position alone
# is the state that makes the prediction.

# %%
ways = ["mean", "exponential", "attention", "last"]
pooled = ablate(others, "aggregation", grid(setup.taught, aggregation=ways))
report.format_table(pooled, columns)

# %%
report.show_figure(forest(pooled, "Aggregation of the states"), pooled, figures / "ablation-aggregation.png")

# %% [markdown]
# ## 3. After which block?
#
# $k = K$ is the last block, `final_norm` the normalised states.

# %%
blocks = [*range(1, setup.alone.model.blocks + 1), "final_norm"]
deep = ablate(others, "block", grid(setup.taught, block=blocks))
report.format_table(deep, columns)

# %%
report.show_figure(forest(deep, "Block whose states are compared"), deep, figures / "ablation-block.png")

# %% [markdown]
# ## 4. How long should phase 1 last?
#
# `phase1_fraction` of the epochs have the teacher; with 1 there is no second phase, and `plain` has no first.
# `patience` ends phase 1 as soon as validation has not improved for two epochs. The fraction of chapter 4 is the row
# of its block in section 3. Where `patience` ends phase 1 at the same epoch, two rows rank alike.

# %%
cells = grid(setup.taught, phase1_fraction=shares) | {
    "patience 2": replace(setup.taught, phase1_fraction=0.8, patience=2)
}
timed = ablate(others, "schedule", cells)
report.format_table(timed, columns)

# %%
report.show_figure(forest(timed, "Length of phase 1"), timed, figures / "ablation-schedule.png")

# %% [markdown]
# ## 5. Which side is projected, and how are the two compared?
#
# With $\beta$ on, the gradient of $\alpha\,\mathrm{sg}(L_{model}/L_{distil})\,L_{distil}$ is that of
# $\alpha L_{model}\log L_{distil}$: it never stops pushing, and a trainable $T$ on the teacher's side can reach zero by
# shrinking its own target. Does it, and does it matter?

# %%
sides = grid(replace(setup.taught, probe=True), loss=losses, projection=["teacher", "teacher_frozen", "student"])
compared = ablate(setup, "side-loss", sides)
report.format_table(compared, columns)

# %%
report.show_figure(forest(compared, "Side of the projection and loss"), compared, figures / "ablation-side-loss.png")

# %% [markdown]
# Inside phase 1: left the variance of what the student must match, right how well a linear probe reads the teacher off
# the student.

# %%
cells = {name: replace(setup.alone, distillation=cell) for name, cell in sides.items()}
jobs = plan(cells, minor_seeds[:1], data)
inside = pd.DataFrame(
    {"loss": setting.loss, "projection": setting.projection, "epoch": epoch, **log}
    for name, run in results(jobs, home / "runs").items()
    for setting in [jobs[name].run.distillation]
    for epoch, log in enumerate(run["history"], 1)
)
inside = inside[["loss", "projection", "epoch", "target_variance", "probe_r2", "valid_ndcg@10"]]

# %%
shrunk = inside.dropna(subset="target_variance").groupby(["projection", "loss"])["target_variance"]
left = (shrunk.last() / shrunk.first()).groupby("projection").agg(["min", "max"])
text = "Variance of the target at the end of phase 1, as a share of its start: "
text += "; ".join(f"{name} {low:.4f} to {high:.4f}" for name, low, high in left.itertuples())
titles = {"target_variance": "variance of the target", "probe_r2": "R² of the probe"}
report.show_figure(over_epochs(inside, titles, "loss", "projection"), inside, figures / "inside.png", f"{text}.")

# %% [markdown]
# Where next to nothing of the variance is left, the target did collapse. Does it matter for the ranking? The table
# above can say only where it has several seeds; chapter 4 has them, for the paper's form and for the one that projects
# the student:

# %%
both = report.read_table("main", home / "tables")
both = both[both["protocol"].str.endswith("/all") & (both["seen"] == "included")]
both = both[(both["model"] == setup.label["model"]) & both["variant"].isin(["distilled", "distilled-student"])]
report.format_table(both, columns)

# %% [markdown]
# ## 6. What does the reduction cost?
#
# The teacher is reduced from the encoder's width. UMAP is the paper's choice; PCA keeps variance; `none` keeps all. The
# last row has the same profiles from the other encoder of chapter 3.

# %%
vectors, reducer_settings = reducers.load_reducer(artifacts / "reducer.safetensors")
own = data.teacher
owners = np.flatnonzero(~own.isnan().any(1).numpy())
width = own.shape[1]

# %% [markdown]
# The first row is chapter 3's reducer, the teacher of all other sections; the further rows reduce the same vectors, but
# for the last one.

# %%
student_side = replace(setup.alone, distillation=setup.taught)
choices = {f"pca to {width}": ("pca", width), "none": ("none", width)}
choices |= {f"umap to {size}": ("umap", size) for size in components}
spaces = {f"{reducer_settings['kind']} to {width}": Job(student_side, data)}
for name, (kind, size) in choices.items():
    if name not in spaces:
        space, _ = reducers.fit(vectors, kind, size, neighbors, 0)
        spaces[name] = Job(student_side, taught_with(data, space, owners))

# %%
key = table_key(artifacts / "events.parquet")
texts = load_table(artifacts / "profiles.parquet", key).groupby("user")["text"].agg("\n".join)
other, _ = encoders.encode(texts.tolist(), source_encoder)
space, _ = reducers.fit(other, "pca", width)
spaces[f"{source_encoder}, pca to {width}"] = Job(student_side, taught_with(data, space, texts.index.to_numpy()))

# %%
small = ablate(others, "reducer", spaces)
report.format_table(small, columns)

# %%
report.show_figure(forest(small, "Reduction of the teacher"), small, figures / "ablation-reducer.png")

# %% [markdown]
# ## 7. Which words, and whose?
#
# Each file of shipped profiles is one model, one style and one strategy for histories that do not fit a prompt (chapter
# 2; `plain` where none is named). A file that covers some users teaches only those. A profile counts only if it answers
# the very prompts that the present training events make: one written from another split could have read what are test
# events here; of a strategy every step. All are encoded by the same, faster encoder and reduced by PCA, but `shuffled`
# is as in chapter 3. Where a style covers some users only, `grounded` of those users stands beside it, and beside a
# strategy `plain`, as far as there are such profiles.

# %% tags=["nbval-ignore-output"]
profile_texts = {}
for path in [] if others.recorded else sorted((data_dir() / "profiles" / dataset).glob("*.parquet")):
    try:
        fit = profiles.fitting(path, artifacts, context, load_json(artifacts / "llm.json")["llm"])
        profile_texts[path.stem] = fit[fit["user"].isin(owners)]
    except UserError as error:
        print(f"{path.stem} is left out: {error}")
for name, texts in list(profile_texts.items()):
    model, style, strategy = profiles.named(name)
    whole, part = (f"{model}-grounded", style) if strategy == "plain" else (f"{model}-{style}", strategy)
    everybody = profile_texts.get(whole, texts)
    if texts["user"].nunique() < everybody["user"].nunique():
        profile_texts[f"{whole}, users of {part}"] = everybody[everybody["user"].isin(texts["user"])]
print(", ".join(f"{name}: {texts['user'].nunique()} users whose answers fit" for name, texts in profile_texts.items()))

# %% tags=["nbval-ignore-output"]
written = {}
for name, texts in profile_texts.items():
    if (users := texts["user"].nunique()) <= width:
        print(f"{name}: {users} users are too few for a teacher of {width} components.")
    else:
        encoded, _ = encoders.encode(texts["text"].tolist(), source_encoder)
        means = pd.DataFrame(encoded).groupby(texts["user"].to_numpy(int)).mean()  # of the parts of a user
        space, _ = reducers.fit(means.to_numpy(), "pca", width)
        written[name] = Job(student_side, taught_with(data, space, means.index.to_numpy()))

# %%
worded = ablate(others, "profiles", written)
report.format_table(worded, columns)

# %%
report.show_figure(forest(worded, "Model and style of the profiles"), worded, figures / "ablation-profiles.png")

# %% [markdown]
# ## 8. Is it the knowledge?
#
# The controls. `noise` is Gaussian with the true teacher's covariance. `sources` names teachers that need no LLM, each
# with a shuffled control of its own. `text start` has no teacher at all: its item vectors start as reduced item texts.
# `plain, longer` trains as many epochs more as the others have the teacher: that takes more time than the teacher does,
# and is at least what equal wall time would give.

# %%
items = load_table(artifacts / "items.parquet", key)
rivals = {source: load_teacher(artifacts / f"teacher-{source}.safetensors", key) for source in sources}
taught = {"profile": data.teacher, "noise": noise_like(own, 0), **rivals}
controls = {name: Job(student_side, replace(data, teacher=teacher)) for name, teacher in taught.items()}

# %%
texts, _ = encoders.encode(teachers.item_texts(items), source_encoder)
dim = setup.alone.model.dim
start = torch.zeros(len(items), dim)
narrow, _ = reducers.fit(texts, "pca", min(dim, len(items) - 1, texts.shape[1]))
start[:, : narrow.shape[1]] = reducers.standardised(narrow) * 0.02
controls["text start"] = Job(setup.alone, replace(data, start=start))
phase1_epochs = round(setup.alone.epochs * setup.taught.phase1_fraction)
controls["plain, longer"] = replace(setup.alone, epochs=setup.alone.epochs + phase1_epochs)

# %%
known = ablate(replace(setup, seeds=seeds), "controls", controls, own=list(rivals))
report.format_table(known, columns)

# %%
report.show_figure(forest(known, "Knowledge, noise, and more time"), known, figures / "ablation-controls.png")

# %% [markdown]
# Does the LLM's text teach more than the best teacher without an LLM? The best one is chosen by validation NDCG@10,
# which is in the runs.

# %%
jobs = {name: job for name, job in known.attrs["runs"].items() if name[0] in {"profile", *rivals}}
valid = pd.Series({name: run["valid_ndcg@10"] for name, run in results(jobs, home / "runs").items()})
rival = valid.groupby(level=0).mean().drop("profile").idxmax()
pair = {name: frames for name, frames in ranks(jobs, home / "runs").items() if name in ("profile", rival)}
table = compare(pair, {"profile": rival}, "included", False)
report.format_table(table, ["variant", "verdict", "seeds", "ndcg@10", "baseline", "delta_ndcg@10", "p_holm"])

# %% [markdown]
# ## 9. How many users need a profile?

# %%
cells = {f"{share:.0%} of the users": only_some(own, share, 0) for share in coverage}
cells = {name: Job(student_side, replace(data, teacher=teacher)) for name, teacher in cells.items()}
covered = ablate(others, "coverage", cells | {"all users": student_side})
report.format_table(covered, columns)

# %%
report.show_figure(forest(covered, "Share of users with a profile"), covered, figures / "ablation-coverage.png")

# %% [markdown]
# ## 10. Who gains?
#
# The runs of chapter 4 once more, `distilled-student` against `plain`, within groups of cases: by length of the
# training history, by popularity of the target in training, by its first category.

# %%
events = load_table(artifacts / "events.parquet")
main_seeds = load_json(artifacts / "student.json")["seeds"]
main = ranks(plan({"plain": setup.alone, "taught": student_side}, main_seeds, data), home / "runs")
train = events[events["split"] == "train"]
length = train.groupby("user").size()
count = train.groupby("item").size().reindex(range(len(items) + 1), fill_value=0)
category = items.set_index("item")["categories"].fillna("").str.split("|").str[0] if "categories" in items else None


# %%
groups = {
    "history": lambda cases: quarters(cases["user"].map(length)),
    "popularity": lambda cases: quarters(cases["item"].map(count)),
}
if category is not None:
    common = category.value_counts().index[:6]
    usual = category.where(category.isin(common)).astype("category")
    groups["category"] = lambda cases: cases["item"].map(usual).astype("category")

# %%
who = gains_by(main["taught"], main["plain"], groups).assign(model=setup.label["model"])
save_csv(who, home / "tables" / "ablation-who.csv")
report.format_table(who, ["variant", "verdict", "cases", "users", "ndcg@10", "delta_ndcg@10"])

# %%
report.show_figure(forest(who, "Gain of the taught student within groups"), who, figures / "ablation-who.png")

# %% [markdown]
# ## 11. And where a small gain can be shown?
#
# Few users show large effects only. Amazon Beauty 5-core has 22,363, and SASRec ranks there as well as the published
# ones do (chapter 8). `make bench-transfer` looks for the best taught SASRec on it, by validation NDCG@10, mean over
# seeds. First among the teachers of its main table: the LLM's profiles of a sample of the users; for all users
# computed facts, raw histories (the latest events as a text) and the mean text vector of their items. Then the best
# of them to the end of the training. Then the better of the two with a student that reads the texts of its items as
# well (`reads`, the form of chapter 6). `untaught` names the same student without its teacher. Weight, phase 1 and
# loss were chosen with `item-text`, which favours it; the profiles have an encoder of their own.

# %%
search = report.read_table("transfer-search", ROOT / "outputs" / "bench")
report.format_table(search, ["variant", "untaught", "seeds", "valid_ndcg@10", "best_epoch"])

# %% [markdown]
# The best taught one beside the plain student, itself without the teacher, the best untaught one, and itself with other
# users' vectors (`shuffled`). Each user has one test target; seen items are left out, then kept. Holm's correction
# counts the tests against `plain` and the control; another baseline has one test. `tested` are the seeds: first those
# that chose, whose luck favours the winner, then others, fixed before they were trained, which is the test to go by.
# Both have the same users and targets.

# %%
transfer = report.read_table("transfer", ROOT / "outputs" / "bench")
tested = ["variant", "verdict", "control_verdict", "tested", "seen", "baseline", "delta_ndcg@10"]
report.format_table(transfer, tested)

# %% [markdown]
# What a student gains over `plain` by reading is not the teacher's merit; that is only what the taught student gains
# over the one that reads as well but has no teacher, and over `shuffled`.
#
# ## What it says, and what it cost
#
# How many rows of each table gain or lose significantly against `plain`:

# %%
tables = {"weights": weights, "aggregation": pooled, "block": deep, "schedule": timed, "side and loss": compared}
tables |= {"reducer": small, "profiles": worded, "controls": known, "coverage": covered}
report.record_metrics(
    home, "05-ablations", {name: table.set_index("variant")["ndcg@10"].to_dict() for name, table in tables.items()}
)
verdicts = pd.DataFrame({name: table["verdict"].value_counts() for name, table in tables.items()}).T
verdicts.drop(columns="", errors="ignore").fillna(0).astype(int)

# %% tags=["nbval-ignore-output"]
used = {
    (f"{name} {variant}", seed): job
    for name, table in tables.items()
    for (variant, seed), job in table.attrs.get("runs", {}).items()
}
print(spent(used, home / "runs"))

# %% [markdown]
# ## Limits
#
# The cells are compared on the test split to show the surface, not to choose from it: a choice would belong on
# validation, where chapter 4's was made. With the seeds and users of the default preset only large effects can be
# shown; the order of cells that do not differ significantly means nothing. A shuffled control has chapter 4's
# phase 1, aggregation and loss, not those of the cell.
