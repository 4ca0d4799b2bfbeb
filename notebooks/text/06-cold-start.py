# %% [markdown]
# # 6 · Items that nobody has met yet
#
# The paper's largest gain is about cold items: those with 6 to 9 training events, or none. We repeat its protocol, ask
# what a teacher that knows *users* can do for an *item* that the student has never seen, and then give the items
# what they lack: a vector made from their text.

# %% tags=["parameters"]
preset = "default"
seeds = [0, 1, 2, 3, 4]
share = 0.4
removed = 0.5
kept = [6, 9]
epochs = {"SASRec": 6, "BERT4Rec": 10}
encoder = "minilm"
text_components = 128
item_text = {"id_dropout": 0.2}
weights = [0.0, 0.5, 1.0, 2.0]
lifts = [0.0, 0.5, 1.0, 1.25, 1.5, 1.75, 2.0]
price = 0.02
new_share = 0.2
new_seeds = [0, 1, 2]
longest = 20
cluster = "loky"

# %%
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from seqdistill import arms, baselines, cold, cold_figures, encoders, reducers, report, text_score
from seqdistill.artifacts import load_json, load_table, outputs_dir, save_csv, table_key
from seqdistill.config import Distillation, ItemText, Run, parse
from seqdistill.evaluate import model_score, rank, recommend
from seqdistill.significance import judged
from seqdistill.sweep import Job, ranks, run_folder, sweep
from seqdistill.train import load_teacher, problem, student, with_texts

home = outputs_dir(preset)
artifacts = home / "artifacts"
report.style()

# %% [markdown]
# ## The protocol
#
# Of the items that occur as test targets, a `share` is affected. Of those a part is *removed*: it loses all its
# training events. The others are *reduced*: each keeps as many training events as it draws from `kept`. The events
# taken away are gone from every sequence, in training and in the histories that are scored from. Which items, and
# which events, is drawn anew for every seed, since one draw of cold items is noise; the test cases stay the same.

# %%
key = table_key(artifacts / "events.parquet")
events, items, users = (load_table(artifacts / f"{name}.parquet") for name in ("events", "items", "users"))
dataset, protocol = users[["dataset", "protocol"]].iloc[0]
draws = [cold.cold_items(events, share, removed, tuple(kept), seed) for seed in seeds]

# %%
ours = [{"source": f"ours, seed {seed}", **cold.statistics(draw)} for seed, draw in zip(seeds, draws, strict=True)]
sizes = pd.DataFrame(ours).assign(dataset=dataset)
sizes = sizes[["dataset", *sizes.columns[:-1]]]
theirs = report.paper("cold_data").assign(source="paper")
sizes = save_csv(pd.concat([sizes, theirs], ignore_index=True), home / "tables" / "data-cold.csv")
report.formatted(sizes, list(sizes.columns))

# %% [markdown]
# Counts are of what is left, in all splits; `test_users` have a test target that is affected. Where the data set is one
# of the paper's, its counts are an expectation:

# %%
same = theirs[theirs["dataset"] == dataset].to_dict("records")
Markdown(cold.expectation(sizes.iloc[0].to_dict(), same[0]) if same else f"The paper has no counts for {dataset}.")

# %% [markdown]
# ## The teacher sees what the student sees
#
# A profile written from the full history would tell the student about the very items that were taken away. So every
# draw needs profiles of its own, and an LLM cannot be asked for all of them anew: here the teacher of each draw is the
# *facts* text of chapter 2 (computed, no LLM), from the training events that the draw leaves, encoded and reduced by
# PCA to the width of chapter 3's teacher.

# %%
width = load_teacher(artifacts / "teacher.safetensors", key).shape[-1]
profiles = [cold.told(left, items, encoder) for left, _, _ in draws]
whole = cold.told(events, items, encoder)

# %% [markdown]
# How large would the leak be? Titles of removed items that the texts name, from the full history and from what is left:

# %%
leaks = [cold.named(events, frame, items, gone) for left, gone, _ in draws for frame in (events, left)]
Markdown(
    f"Events of removed items that the facts name: {sum(leaks[::2]):,} when written from the full history, "
    f"{sum(leaks[1::2]):,} from what is left (other items may have the same title)."
)

# %% [markdown]
# `leaked` below is a student taught from the full history: what it gains over `distilled-student` is the leak.
#
# ## What is trained
#
# The students and their distillation are those of chapter 4, with fewer epochs (`epochs`). SASRec comes in all forms,
# BERT4Rec in the paper's and its control. The last two rows are not the paper's method: an item's vector is its own
# plus a linear adapter of its text's vector, which is frozen; its own is left out now and then (`id_dropout`), and
# always for an item without events. Text vectors come from the encoder that the profiles came from, by PCA.

# %%
texts, _ = encoders.encode(arms.item_texts(items), encoder)
narrow, squeeze = reducers.fit(texts, "pca", text_components)
scale = float(np.linalg.norm(narrow, axis=1).mean())
catalogue = torch.from_numpy(narrow / scale)

# %%
chosen = load_json(artifacts / "student.json")
given = [with_texts(problem(left, len(items)), catalogue) for left, _, _ in draws]
total = int(events["user"].max()) + 1
own = [cold.taught_from(it, *profile, width, total) for it, profile in zip(given, profiles, strict=True)]
leaked = [cold.taught_from(it, *whole, width, total) for it in given]

# %%
base, forms = {}, {}
for name, values in chosen["students"].items():
    base[name] = parse(Run, {**values["run"], "epochs": epochs[name]}, "06-cold-start")
    paper = parse(Distillation, values["teacher"], "06-cold-start")
    ours = parse(Distillation, {**values["teacher"], **chosen["own"]}, "06-cold-start")
    lost = replace(paper if name == "BERT4Rec" else ours, shuffled=True)
    forms[name] = {"plain": None, "distilled": paper, "distilled-student": ours, "shuffled": lost}
if "BERT4Rec" in forms:
    del forms["BERT4Rec"]["distilled-student"]

# %%
jobs = {}
for place, seed in enumerate(seeds):
    for name, settings in forms.items():
        for form, setting in settings.items():
            jobs[f"{name} {form}", seed] = Job(replace(base[name], distillation=setting, seed=seed), own[place])
    alone, ours = replace(base["SASRec"], seed=seed), forms["SASRec"]["distilled-student"]
    knows = replace(alone, item_text=parse(ItemText, item_text, "06-cold-start"))
    jobs["SASRec leaked", seed] = Job(replace(alone, distillation=ours), leaked[place])
    jobs["SASRec item-side-text", seed] = Job(knows, own[place])
    jobs["SASRec item-side-text-distilled", seed] = Job(replace(knows, distillation=ours), own[place])

# %% [markdown]
# For the users who come later (last section) some users are taken out of training altogether, without cold items.

# %%
late = [cold.newcomers(events, new_share, longest, seed) for seed in new_seeds]
arrivals = {}
for seed, frame in zip(new_seeds, late, strict=True):
    told = np.isin(whole[0], frame.loc[frame["split"] == "train", "user"])
    taught = cold.taught_from(problem(frame, len(items)), whole[0][told], whole[1][told], width, total)
    for form in ("plain", "distilled", "distilled-student"):
        run = replace(base["SASRec"], distillation=forms["SASRec"][form], seed=seed)
        arrivals[f"SASRec {form}", seed] = Job(run, taught)

# %%
sweep({**jobs, **{(f"new {name}", seed): job for (name, seed), job in arrivals.items()}}, home / "runs", cluster)
print(f"{len(jobs) + len(arrivals)} runs, one thread each")

# %% [markdown]
# ## Plain against distilled
#
# Every case is ranked among all items. Beside the students stand popularity and item-kNN, from the events that are
# left, and *text-kNN*: the cosine between an item's text and the mean text of the history, without any training.

# %%
found = ranks(jobs, home / "runs")
found = {"baseline popularity": [], "baseline item-kNN": [], "baseline text-kNN": [], **found}
for it, (left, _, _) in zip(given, draws, strict=True):
    train = left[left["split"] == "train"]
    found["baseline popularity"].append(rank(it.test, baselines.popularity(train, it.items)))
    found["baseline item-kNN"].append(rank(it.test, baselines.item_knn(train, it.items)))
    found["baseline text-kNN"].append(rank(it.test, baselines.text_knn(texts)))

# %% [markdown]
# The groups: targets that were *removed*, *reduced*, either (*affected*), and the rest. Each seed has cold items of its
# own, so that a user counts in a seed only if a target of theirs is in the group there. Systems are compared within
# (seed, user), the differences averaged over a user's seeds, and users resampled.


# %%
def table_of(systems, seen, names):
    parts = []
    for name in names:
        mine = {v: r for v, r in systems.items() if v.startswith((name, "baseline"))}
        part = cold.compare_groups(mine, draws, f"{name} plain", seen, (f"{name} shuffled",))
        part[["model", "variant"]] = part["variant"].str.split(" ", n=1, expand=True).to_numpy()
        parts.append(part if not parts else part[part["model"] == name])
    return pd.concat(parts, ignore_index=True).assign(dataset=dataset, protocol=f"{protocol}/all")


# %%
papers = {name: frames for name, frames in found.items() if "item-side" not in name and "leaked" not in name}
main = table_of(papers, "kept", base)
columns = ["variant", "model", "cases", "users", "recall@10", "ndcg@10", "delta_ndcg@10", "p_holm", "verdict"]
report.formatted(main[main["group"] == "removed"], columns)

# %% [markdown]
# Above: removed items. Below: reduced ones, all affected ones, and the unaffected.

# %%
report.formatted(main[main["group"] == "reduced"], columns)

# %%
report.formatted(main[main["group"] == "affected"], columns)

# %%
report.formatted(main[main["group"] == "unaffected"], columns)

# %% [markdown]
# The paper's own rows, on other data:

# %%
report.formatted(report.paper("cold"), ["variant", "dataset", "model", "recall@10", "ndcg@10"])

# %%
shown = main[main["model"] != "baseline"].assign(variant=main["model"] + " " + main["variant"])
report.save_figure(cold_figures.by_group(shown), shown, home / "figures" / "cold.png")

# %%
told = main.assign(variant=main["model"] + " " + main["variant"])
lines = []
for group in cold.GROUPS:
    part = told[(told["group"] == group) & (told["model"] != "baseline")].dropna(subset="delta_ndcg@10")
    lines += [f"* {group}: {report.sentence(part, name)}" for name in part["variant"]]
Markdown("\n".join(lines))

# %% [markdown]
# `shuffled` has other users' profiles: what it gains as well is no knowledge.
#
# ## The leak
#
# `distilled-student` has a teacher from what is left, `leaked` one from the full history. The difference is what a
# careless protocol would have reported.

# %%
pair = {name: found[name] for name in ("SASRec distilled-student", "SASRec leaked")}
leak = cold.compare_groups(pair, draws, "SASRec distilled-student")
save_csv(leak, home / "tables" / "cold-leak.csv")
leaking = leak.dropna(subset="delta_ndcg@10")
report.formatted(leaking, ["group", "cases", "ndcg@10", "delta_ndcg@10", "p_holm", "verdict"])

# %% [markdown]
# ## What becomes of an item without events?
#
# It has a vector, drawn at random, and all that training ever does to it is to push it away, since it is never the
# answer. A teacher of *users* cannot change that. The curves say where removed targets are ranked; the diagonal is
# chance. Below it, a student ranks them worse than a lottery would.

# %%
students = {name: frames for name, frames in found.items() if name.split()[1] in ("plain", "distilled")}
students |= {name: found[name] for name in ("baseline text-kNN", "SASRec item-side-text")}
places = cold.distribution(students, draws, len(items))
report.save_figure(cold_figures.distributions(places), places, home / "figures" / "cold-ranks.png")

# %%
medians = places.groupby("variant", sort=False)["median"].first()
Markdown("\n".join(f"* {name}: median percentile **{value:.4f}** (chance 0.5)" for name, value in medians.items()))

# %% [markdown]
# ## Items that can be read
#
# `item-side-text` gives an item a vector before its first event, and that vector is *like* those of similar items. But
# its scores are still low: the softmax has learned how often each item was the answer, and for these that was never.
# Two things are added to the score, after training and without an encoder at serving time:
#
# * a **term** between the user's reconstructed profile (a linear map of the student's state, fitted on the training
#   users' encoded profiles) and the item's text: profiles and item texts live in one encoder space. It is linear in the
#   state, so it is part of the item's vector;
# * a **lift**, the same for every item without training events: a logit adjustment (Menon et al., 2021).
#
# Their sizes are chosen on validation targets, which hold cold items as well: what ranks removed items best among
# all that costs the unaffected ones at most `price` of their NDCG@10. Whether the teacher helps here is asked there,
# too. `plain-scored` is a control: the plain student with the same two additions, chosen in the same way.

# %%
readers = ["SASRec item-side-text", "SASRec item-side-text-distilled", "SASRec plain"]
centred, grids, picked = arms.centred(texts), {}, {}
vectors = [arms.centred(vector) for _, vector in profiles]
for name in readers:
    mine = [jobs[name, seed] for seed in seeds]
    grids[name] = text_score.grid_search(mine, home / "runs", draws, vectors, centred, weights, lifts)
    picked[name] = text_score.cheapest(grids[name], price)
searched = pd.concat(grids.values(), keys=grids, names=["variant"]).reset_index("variant")
save_csv(searched, home / "tables" / "cold-search.csv")
best = pd.DataFrame([{"variant": name, **text_score.row_of(grids[name], picked[name])} for name in readers])
report.formatted(best, list(best.columns))

# %%
reader = best.set_index("variant")["removed"].loc[readers[:2]].idxmax()
Markdown(f"Chosen on validation: **{reader}**, weight {picked[reader]['weight']:g}, lift {picked[reader]['lift']:g}.")

# %%
for name, label in ((reader, "SASRec item-side-text-scored"), ("SASRec plain", "SASRec plain-scored")):
    found[label] = [
        text_score.rescored(jobs[name, seed], home / "runs", draw, vector, centred, **picked[name])
        for seed, draw, vector in zip(seeds, draws, vectors, strict=True)
    ]
extra = ["item-side-text", "item-side-text-distilled", "item-side-text-scored", "plain-scored"]

# %%
others = ("plain", "shuffled", "popularity", "text-kNN")
beyond = {name: found[name] for name in found if name.split()[1] in (*others, *extra)}
texted = table_of(beyond, "kept", ["SASRec"])
report.formatted(texted[texted["group"] == "removed"], columns)

# %% [markdown]
# Above: removed items. Below: reduced, and unaffected ones.

# %%
report.formatted(texted[texted["group"] == "reduced"], columns)

# %%
report.formatted(texted[texted["group"] == "unaffected"], columns)

# %%
drawn = texted[texted["variant"].isin(extra)]
report.save_figure(cold_figures.by_group(drawn), drawn, home / "figures" / "cold-text.png")

# %% [markdown]
# What was aimed at, and whether it was reached. "Above" means that a paired test shows a gain over that baseline.

# %%
scored = "SASRec item-side-text-scored"
mine = texted.set_index(["group", "variant"])
removed_now, reduced_now = (mine.loc[group] for group in ("removed", "reduced"))
rivals = {name: {scored: found[scored], name: found[name]} for name in ("baseline popularity", "baseline text-kNN")}
above = {name: cold.compare_groups(two, draws, name).query("group == 'removed'") for name, two in rivals.items()}
goals = {
    "removed: 5 times the plain student": removed_now["ndcg@10"]["item-side-text-scored"]
    >= 5 * removed_now["ndcg@10"]["plain"],
    **{f"removed: above {name}": "gain shown" in table["verdict"].tolist() for name, table in above.items()},
    "reduced: 30 % above the plain student": reduced_now["ndcg@10"]["item-side-text-scored"]
    >= 1.3 * reduced_now["ndcg@10"]["plain"],
    "unaffected: no loss shown": mine.loc[("unaffected", "item-side-text-scored"), "verdict"] != "loss shown",
}
Markdown("\n".join(f"* {goal}: *{'met' if met else 'not met'}*" for goal, met in goals.items()))

# %%
lines = []
for group in cold.GROUPS:
    part = texted[(texted["group"] == group) & texted["variant"].isin(extra)]
    lines += [f"* {group}: {report.sentence(part, name)}" for name in part["variant"]]
Markdown("\n".join(lines))

# %% [markdown]
# ## Who gains, by training events of the target
#
# The same differences, by how many training events the target has in the seed's draw.

# %%
names = ["plain", "distilled", "distilled-student", "item-side-text", "item-side-text-scored"]
several = {f"SASRec {name}": found[f"SASRec {name}"] for name in names}
by_events = cold.gains_by_count(several, draws, "SASRec plain", len(items))
save_csv(by_events, home / "tables" / "cold-events.csv")
report.save_figure(cold_figures.by_count(by_events), by_events, home / "figures" / "cold-events.png")

# %%
marked = by_events[by_events["verdict"].isin(["gain shown", "loss shown"])]
lines = [f"* {row['variant']}, {row['events']} events: *{row['verdict']}*" for row in marked.to_dict("records")]
Markdown("\n".join(lines) or "No difference is shown for any number of events.")

# %% [markdown]
# ## An item that arrives after training
#
# The saved student is a plain one; the adapter went into its item vectors. But those of items without events are the
# adapter alone, so that it can be read off them. As an example: the removed item with the most test targets arrives
# once more, as a new item. Five lines give it a vector and put it among the candidates:

# %%
left, gone, _ = draws[0]
home_run = run_folder(jobs["SASRec item-side-text", seeds[0]], home / "runs")
model, unseen = student(home_run, len(items)), cold.counts(left, len(items)) == 0
adapter = np.linalg.lstsq(narrow[unseen] / scale, model.catalogue().detach().numpy()[unseen])[0]
new = int(left.loc[(left["split"] == "test") & left["item"].isin(gone), "item"].mode()[0])
text, before = arms.item_texts(items)[new - 1], model.item.weight[new].detach()

# %%
vector = squeeze(encoders.encode([text], encoder)[0]) / scale @ adapter
model.item.weight.data = torch.cat([model.item.weight.data, torch.from_numpy(vector)])
model.items += 1
lift = torch.zeros(model.items).index_fill_(0, torch.tensor([model.items - 1]), picked["SASRec item-side-text"]["lift"])
top = recommend(given[0].test.histories, lambda rows, ids: model_score(model)(rows, ids) + lift, 10)

# %%
gap = float((torch.from_numpy(vector[0]) - before).abs().max())
cases_with = (top == model.items).any(1)
owners = np.unique(given[0].test.histories.users[cases_with])
Markdown(
    f"{report.escaped(text)}: the vector made now differs from that of training by at most {gap:.4f}; the item is "
    f"among the ten best of {cases_with.sum():,} of {len(top):,} test histories, of {len(owners):,} users."
)

# %% [markdown]
# ## Users who come later
#
# A new user needs no profile: the student reads the sequence. Some users were taken out of training; each is scored
# after every one of the first events, and neither student has a teacher for them.

# %%
newer = ranks(arrivals, home / "runs")
lengths = save_csv(cold.quality_by_length(newer), home / "tables" / "cold-users.csv")
report.save_figure(cold_figures.by_length(lengths), lengths, home / "figures" / "cold-users.png")

# %%
parts = []
for low, high in ((1, 2), (3, 5), (6, 10), (11, longest)):
    marks = [
        ((frame["position"] + 1 >= low) & (frame["position"] + 1 <= high)).to_numpy() for frame in newer["SASRec plain"]
    ]
    part = cold.compare_within(newer, marks, "SASRec plain", "kept")
    parts.append(part.assign(variant=f"{low} to {high} events, " + part["variant"]))
spans = judged(pd.concat(parts, ignore_index=True), [""])
report.formatted(spans, ["variant", "cases", "users", "recall@10", "ndcg@10", "delta_ndcg@10", "p_holm", "verdict"])

# %%
Markdown("\n".join(f"* {report.sentence(spans, name)}" for name in spans.dropna(subset="delta_ndcg@10")["variant"]))

# %%
first = ["dataset", "protocol", "group", "model", "variant"]
both = [main, table_of(papers, "filtered", base), texted[texted["variant"].isin(extra)]]
whole_table = pd.concat(both, ignore_index=True)
save_csv(whole_table[first + [name for name in whole_table if name not in first]], home / "tables" / "cold.csv")
kept_only = whole_table[whole_table["seen"] == "kept"].to_dict("records")
numbers = {f"{r['group']} {r['model']} {r['variant']}": {m: r[m] for m in ("recall@10", "ndcg@10")} for r in kept_only}
report.record(home, "06-cold-start", numbers | {"median_percentile": medians.to_dict()})

# %% [markdown]
# ## Limits
#
# The teacher of this chapter is computed facts, not an LLM's text. Removed items keep their test and validation events,
# so that a history may hold one whose vector was never trained, or knows its text alone. The lift is one number for
# all items without events; a service would set it anew as items age. The profile term is fitted after training, on the
# states of a finished student; a joint training could do better. The item side was tried on a split within the training
# events, with one draw. Epochs are a budget, smaller than chapter 4's.
