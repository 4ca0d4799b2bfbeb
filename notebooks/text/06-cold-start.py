# %% [markdown]
# # 6 · Can a teacher help with cold items?
#
# The paper's largest gain is on cold items: those with 6 to 9 training events, or none. We repeat its protocol and ask
# how a teacher that describes *users* can help with an *item* that the student has never seen. Then we give cold items
# a vector computed from their text.

# %% tags=["parameters"]
preset = "default"
lead = "SASRec"
also = []
seeds = [0, 1, 2]
share = 0.4
removed = 0.5
kept = [6, 9]
budget = 0.4
encoder = "minilm"
text_components = 128
item_text = {"id_dropout": 0.2}
weights = [0.0, 2.0, 5.0]
lifts = [0.0, 1.0, 2.0, 3.0, 4.0]
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
from seqbook.cold import cold_items, counts, statistics
from seqdistill.embeddings import teachers
from seqdistill.evaluation import baselines
from seqbook import cold
from seqbook.reporting import cold_tables
from seqdistill.embeddings import encoders
from seqbook.reporting import report
from seqbook.reporting.figures import curves as draw_curves
from seqbook.reporting.figures import forest
from seqbook import text_score
from seqbook.ablation import setups
from seqdistill.io import load_table, outputs_dir, save_csv, table_key
from seqdistill.config import ItemText, parse
from seqdistill.evaluation.ranking import model_score, rank, recommend
from seqdistill.training.sweep import ranks, run_folder, spent, sweep
from seqdistill.training.train import load_teacher, training_data, load_model

home = outputs_dir(preset)
artifacts, figures, runs = home / "artifacts", home / "figures", home / "runs"
report.style()

# %% [markdown]
# ## The protocol
#
# A `share` of the items that occur as test targets is affected. Some of these are *removed*: they lose all their
# training events. The others are *reduced*: each keeps a number of training events drawn from `kept`. The deleted
# events disappear from every sequence, in training and in the test histories. Items and events are drawn again for
# every seed, because a single draw of cold items is noisy; the test cases stay the same.

# %%
key = table_key(artifacts / "events.parquet")
events, items, users = (load_table(artifacts / f"{name}.parquet", key) for name in ("events", "items", "users"))
dataset, protocol = users[["dataset", "protocol"]].iloc[0]
draws = [cold_items(events, share, removed, tuple(kept), seed) for seed in seeds]

# %% [markdown]
# Counts are after the deletion, in all splits. The last column counts users with an affected test target.

# %%
ours = pd.DataFrame([{"source": f"ours, seed {seed}", **statistics(draws[n])} for n, seed in enumerate(seeds)])
sizes = pd.concat([ours.assign(dataset=dataset), report.paper("cold_data").assign(source="paper")], ignore_index=True)
sizes = sizes[["dataset", *sizes.columns.drop("dataset")]]
save_csv(sizes, home / "tables" / "data-cold.csv")
report.format_table(sizes, list(sizes.columns))

# %% [markdown]
# Rows with source `paper` are the paper's counts. If the data set is one of the paper's, ours should be close.

# %%
theirs = sizes[sizes["source"] == "paper"].set_index("dataset")
part = (theirs["removed"] + theirs["reduced"]) / (theirs["items"] + theirs["removed"])
said = ", ".join(f"{name} {value:.1%}" for name, value in part.items())
Markdown(f"The paper's affected items as a share of remaining and removed items: {said}.")

# %% [markdown]
# ## The teacher sees what the student sees
#
# A profile written from the full history would leak the deleted items to the student. So every draw needs its own
# profiles, and an LLM cannot write all of them again. Here the teacher of each draw is the *facts* text of chapter 2
# (computed, no LLM), written from the training events left in that draw, encoded and reduced by PCA to the width of
# chapter 3's teacher.

# %%
width = load_teacher(artifacts / "teacher.safetensors", key).shape[-1]
written = [cold.write_facts(left, items) for left, _, _ in draws]
careless = cold.write_facts(events, items)
profiles = [cold.encode_facts(texts, encoder) for texts in written]
whole = cold.encode_facts(careless, encoder)

# %% [markdown]
# How large would the leak be? We count the titles of removed items in the texts written from the full history and from
# the remaining events:

# %%
ways = {"the full history": [careless] * len(draws), "what is left": written}
leaks = {
    way: sum(cold.titles_named(events, facts, items, draw[1]) for facts, draw in zip(texts_of, draws, strict=True))
    for way, texts_of in ways.items()
}
Markdown(
    "Training events of removed items whose title the user's facts name: "
    + ", ".join(f"**{number:,}** when written from {way}" for way, number in leaks.items())
    + f", over all {len(draws)} draws (another item may have the same title)."
)

# %% [markdown]
# `leaked` below is a student with a teacher from the full history: its gain over `distilled-student` is the leak.
#
# ## Training
#
# The students `lead` and `also`, their distillation and their names are those of chapter 4, with a share of its epochs
# (`budget`): `distilled` is the paper's form, `shuffled-target` its control. `lead` is trained in the form that
# projects the student as well (`distilled-student`). `item-side-text` is not the paper's method: an item's vector is
# its own embedding plus a linear adapter of its frozen text vector. The item's own embedding is dropped at random
# (`id_dropout`), and always for an item without events. Text vectors come from the same encoder as the profiles,
# reduced by PCA.

# %%
texts, _ = encoders.encode(teachers.item_texts(items), encoder)
catalogue, squeeze = cold.item_vectors(texts, text_components)
training = [replace(training_data(left, len(items)), texts=catalogue) for left, _, _ in draws]
total = int(events["user"].max()) + 1
own = [cold.taught_from(data, encoded, width, total) for data, encoded in zip(training, profiles, strict=True)]
leaked = [cold.taught_from(data, whole, width, total) for data in training]

# %%
leading, *others = setups(home, training[0], lead, seeds, cluster, {})
variants, controls = cold.variants(leading, budget, ours=True)
for other in [setup for setup in others if setup.label["model"] in also]:
    more, checks = cold.variants(other, budget, ours=False)
    variants, controls = variants | more, controls | checks
jobs = cold.planned(variants, lead, parse(ItemText, item_text, "06-cold-start"), seeds, own, leaked)

# %% [markdown]
# The section on new users has runs of its own: some users are removed from training entirely, and no item is made
# cold.

# %%
simple = {name: variants[name] for name in (f"{lead} plain", f"{lead} distilled", f"{lead} shuffled-target")}
later = cold.arrivals(events, simple, whole, width, len(items), new_share, longest, new_seeds)
everything = {**jobs, **{(f"new {name}", seed): job for (name, seed), job in later.items()}}
sweep(everything, runs, cluster)
print(f"{len(everything)} runs, one thread each")

# %% [markdown]
# ## Plain against distilled
#
# Every target is ranked among all items. The baselines are popularity and item-kNN, computed from the remaining
# events, and *text-kNN*: the cosine between an item's text and the mean text of the history, without training.

# %%
ranked = {f"baseline {name}": [] for name in ("popularity", "item-kNN", "text-kNN")} | ranks(jobs, runs)
for data, (left, _, _) in zip(training, draws, strict=True):
    train = left[left["split"] == "train"]
    ranked["baseline popularity"].append(rank(data.test, baselines.popularity(train, data.items)))
    ranked["baseline item-kNN"].append(rank(data.test, baselines.item_knn(train, data.items)))
    ranked["baseline text-kNN"].append(rank(data.test, baselines.text_knn(texts)))

# %% [markdown]
# Targets are grouped into *removed*, *reduced*, either (*affected*), and the rest. Each seed has its own cold items,
# so a user counts in a seed only if one of their targets is in the group there. Systems are compared within (seed,
# user); values are averaged over a user's seeds, then over users; the tests account for the spread over both users and
# seeds. `cases` counts the cases of all seeds together; ± is the spread of the seed means. As in chapter 4, a
# distilled student must gain over plain and over its control; each table is corrected for its own students.

# %%
base = [name for name in ranked if name.startswith("baseline")]
plain = {name: f"{name.split()[0]} plain" for name in variants if not name.endswith("plain")}
plain |= dict.fromkeys(base, f"{lead} plain")
compared = {name: ranked[name] for name in [*base, *variants]}
main = cold_tables.compare_groups(compared, draws, plain, "included", controls)
columns = ["variant", "verdict", "model", "cases", "recall@10", "ndcg@10", "delta_ndcg@10"]

# %% [markdown]
# **Removed** items:

# %%
report.format_table(main[main["group"] == "removed"], columns)

# %% [markdown]
# **Reduced** items:

# %%
report.format_table(main[main["group"] == "reduced"], columns)

# %% [markdown]
# **Affected**: removed or reduced, the paper's cases.

# %%
report.format_table(main[main["group"] == "affected"], columns)

# %% [markdown]
# **Unaffected** items:

# %%
report.format_table(main[main["group"] == "unaffected"], columns)

# %% [markdown]
# The paper's results on affected targets, on other data:

# %%
report.format_table(report.paper("cold"), ["variant", "dataset", "model", "recall@10", "ndcg@10"])

# %% [markdown]
# The gain over the plain student by group. A shuffled teacher has other users' profiles: a gain that it also shows is
# not evidence of transfer. `control_verdict` below is the test against it.

# %%
drawn = main[main["model"] != "baseline"].assign(variant=main["model"] + " " + main["variant"])
figure = forest(drawn, "Gain over the plain student, by group of targets", facet="group")
report.show_figure(figure, drawn, figures / "cold.png", report.caption(drawn, "group"))

# %%
taught = drawn.dropna(subset="control_delta_ndcg@10")
report.format_table(taught, ["group", "variant", "control_delta_ndcg@10", "control_upper_share", "control_verdict"])

# %% [markdown]
# ## The leak
#
# `distilled-student` has a teacher from the remaining events, `leaked` one from the full history. A protocol with this
# leak would have reported the difference as a gain.

# %%
pair = {name: ranked[name] for name in (f"{lead} distilled-student", f"{lead} leaked")}
leak = cold_tables.compare_groups(pair, draws, {f"{lead} leaked": f"{lead} distilled-student"})
save_csv(leak, home / "tables" / "cold-leak.csv")
report.format_table(leak, ["variant", "group", "cases", "ndcg@10", "delta_ndcg@10", "p_holm", "verdict"])

# %% [markdown]
# ## How are items without events ranked?
#
# Such an item has a random initial vector. It is never a target, so training only pushes its vector away from the
# student's states. A teacher of *users* cannot change that. The curves show where removed targets are ranked (0 is the
# top); the diagonal is chance. Where a curve is below the diagonal, the student ranks them worse than chance.

# %%
names = [name for name in variants if name.split()[1] in ("plain", "distilled")]
systems = {name: ranked[name] for name in [*names, "baseline text-kNN", f"{lead} item-side-text"]}
marks = cold_tables.target_groups(ranked[f"{lead} plain"], draws)["removed"]
places = cold_tables.distribution(systems, marks, len(items))
medians = places.groupby("variant", sort=False)["median"].first()
text = ", ".join(f"{name} {value:.4f}" for name, value in medians.items())

# %%
labels = "Ranks of removed items", "percentile of the rank (0: top)", "cumulative share of targets"
figure = draw_curves(places, "percentile", "share", "variant", *labels)
figure.axes[0].plot([0, 1], [0, 1], color="black", linestyle="--")
text = f"Median percentile of removed targets (0: top; chance: 0.5): {text}."
report.show_figure(figure, places, figures / "cold-ranks.png", text)

# %% [markdown]
# Removed items still occur in test histories. If a history ends in one, the student's state is near that item's
# vector. This vector is near those of all other items without events, because training moved them all in the same way.
# The curves of the plain student may therefore have two parts:

# %%
parts = []
for frame, data, (left, _, _), mark in zip(ranked[f"{lead} plain"], training, draws, marks, strict=True):
    last = data.test.histories.items[data.test.histories.ends - 1]
    trained = counts(left, len(items))[last - 1] > 0
    parts.append(pd.DataFrame({"trained": trained, "upper": frame["rank_all"] <= len(items) / 2})[mark])
shares = pd.concat(parts).groupby("trained")["upper"].mean().reindex([True, False])
Markdown(
    f"In the upper half of the ranking of {lead} plain: **{shares[True]:.4f}** of the removed targets if the "
    f"history ends in an item with training events, **{shares[False]:.4f}** if it ends in one without."
)

# %% [markdown]
# ## Item vectors from text
#
# `item-side-text` gives an item a vector before its first event, *similar* to those of similar items. But the scores
# of such items are still low: the softmax has learned how often each item is the target, and these items never are.
# Two terms are added to the score after training, without an encoder at serving time:
#
# * a **profile term**, the inner product of the user's reconstructed profile (a linear map of the student's state,
#   fitted on the training users' encoded profiles, with an untuned ridge penalty) and the item's text vector: profiles
#   and item texts share one encoder space. It is linear in the state, so it can be merged into the item's vector;
# * a **lift**, the same for every item without training events: a logit adjustment (Menon et al., 2021).
#
# The weight of the profile term and the lift are chosen on validation targets, which also include cold items. Among
# all settings that lose at most the share `price` of the plain student's NDCG@10 on unaffected items, we choose the
# one that ranks removed items best. The choice between the two students that read texts (the readers), with and
# without a teacher, is made there, too. `plain-scored` is a control: the plain student with the same two terms, chosen
# in the same way. If weight and lift 0 are chosen for it, it *is* the plain student.

# %%
centred, vectors = teachers.centred(texts), [teachers.centred(encoded) for _, encoded in profiles]
readers = [f"{lead} {name}" for name in ("item-side-text", "item-side-text-distilled", "plain")]
mine = {name: [jobs[name, seed] for seed in seeds] for name in readers}
grids = {
    name: text_score.grid_search(mine[name], runs, draws, vectors, centred, weights, lifts).assign(variant=name)
    for name in readers
}
_ = save_csv(pd.concat(grids.values(), ignore_index=True), home / "tables" / "cold-search.csv")

# %% [markdown]
# The choice of each student, and its NDCG@10 on validation targets:

# %%
start = grids[f"{lead} plain"].query("weight == 0 and lift == 0")["unaffected"].iloc[0]
picked = {name: text_score.cheapest(grid, (1 - price) * start) for name, grid in grids.items()}
best = pd.DataFrame(picked.values())
report.format_table(best, ["variant", "weight", "lift", "removed", "reduced", "unaffected"])

# %%
reader = best.set_index("variant")["removed"].loc[readers[:2]].idxmax()
unchosen = next(name for name in readers[:2] if name != reader)
scored, other, control = (f"{lead} {name}-scored" for name in ("item-side-text", "other-reader", "plain"))
for name, label in ((reader, scored), (unchosen, other), (f"{lead} plain", control)):
    sizes_of = (picked[name]["weight"], picked[name]["lift"])
    ranked[label] = text_score.rescored(mine[name], runs, draws, vectors, centred, *sizes_of)
Markdown(
    f"Chosen on validation, and called `item-side-text-scored` from here on: **{reader}** with weight "
    f"{picked[reader]['weight']:g} and lift {picked[reader]['lift']:g}; `other-reader-scored` is {unchosen}."
)

# %% [markdown]
# The test results, beside the baselines. `verdict` requires a gain over plain and over a control: `plain-scored` for
# the scored students, the same student without a teacher for `item-side-text-distilled`.

# %%
extra = [*readers[:2], scored, other, control]
texted = cold_tables.compare_groups(
    {name: ranked[name] for name in ["baseline popularity", "baseline text-kNN", f"{lead} plain", *extra]},
    draws,
    dict.fromkeys(["baseline popularity", "baseline text-kNN", *extra], f"{lead} plain"),
    "included",
    {scored: control, other: control, readers[1]: readers[0]},
)
report.format_table(texted[texted["group"] == "removed"], columns)

# %% [markdown]
# Above: removed items. Below: reduced ones.

# %%
report.format_table(texted[texted["group"] == "reduced"], columns)

# %% [markdown]
# Unaffected items, which must not lose:

# %%
report.format_table(texted[texted["group"] == "unaffected"], columns)

# %%
drawn = texted[texted["model"] != "baseline"]
figure = forest(drawn, "Gain over the plain student, by group of targets", facet="group")
report.show_figure(figure, drawn, figures / "cold-text.png", report.caption(drawn, "group"))

# %% [markdown]
# Does the teacher contribute? The reader with a teacher against the reader without, both scored:

# %% tags=["nbval-ignore-output"]
taught, untaught = (scored, other) if reader == readers[1] else (other, scored)
part = cold_tables.compare_groups({name: ranked[name] for name in (untaught, taught)}, draws, {taught: untaught})
save_csv(part, home / "tables" / "cold-teacher.csv")
report.format_table(
    part.dropna(subset="delta_ndcg@10"), ["variant", "group", "cases", "delta_ndcg@10", "p_holm", "verdict"]
)

# %% [markdown]
# We set these goals beforehand; they are not the paper's. "Above" a baseline means that a paired test on the removed
# items is significant. Popularity and item-kNN cannot rank an item without events, so text-kNN is the baseline that
# matters there. An inconclusive difference does not prove that there is no loss; its interval is given.

# %%
rivals = {"baseline popularity": scored, "baseline text-kNN": scored}
over = cold_tables.compare_groups({name: ranked[name] for name in [scored, *rivals]}, draws, rivals)
under = over[(over["group"] == "removed") & (over["verdict"] == "significant loss")]["variant"].tolist()
at, words, low, high = (
    texted.set_index(["group", "variant"])[name] for name in ("ndcg@10", "verdict", "ci_low", "ci_high")
)
pairs = {group: (at[group, "item-side-text-scored"], at[group, "plain"]) for group in ("removed", "reduced")}
said = {group: f"NDCG@10 {ours:.4f} against {alone:.4f}" for group, (ours, alone) in pairs.items()}
enough = {group: pairs[group][0] >= times * pairs[group][1] for group, times in {"removed": 5, "reduced": 1.3}.items()}
gains = {group: words[group, "item-side-text-scored"] == "significant gain" for group in pairs}
rest = ("unaffected", "item-side-text-scored")
goals = {
    f"removed: 5 times the plain student or more, and significant ({said['removed']})": enough["removed"]
    and gains["removed"],
    "removed: above popularity": "popularity" in under,
    "removed: above text-kNN": "text-kNN" in under,
    f"reduced: 30 % above the plain student, and significant ({said['reduced']})": enough["reduced"]
    and gains["reduced"],
    f"unaffected: no significant loss (NDCG@10 {low[rest]:+.4f} to {high[rest]:+.4f})": words[rest]
    != "significant loss",
}
Markdown("\n".join(f"* {goal}: *{'met' if met else 'not met'}*" for goal, met in goals.items()))

# %% [markdown]
# ## Gain by training events of the target
#
# The same differences, by the number of training events that the target has in the seed's draw.

# %%
names = ["plain", "distilled", "distilled-student", "item-side-text", "item-side-text-scored"]
several = {f"{lead} {name}": ranked[f"{lead} {name}"] for name in names}
versus = dict.fromkeys(list(several)[1:], f"{lead} plain")
pairs = zip(draws, ranked[f"{lead} plain"], strict=True)
trained = [counts(left, len(items))[frame["item"].to_numpy() - 1] for (left, _, _), frame in pairs]
by_count = cold_tables.within(several, cold_tables.bins(trained, [-1, 0, 2, 5, 9, 20]), versus)
by_count = save_csv(by_count.rename(columns={"group": "events"}), home / "tables" / "cold-events.csv")

# %%
title = "Gain over the plain student, by training events of the target"
figure = forest(by_count, title, name="events", hue="variant")
report.show_figure(figure, by_count, figures / "cold-events.png", report.caption(by_count, "events"))

# %% [markdown]
# ## An item that arrives after training
#
# The saved student is a plain one: the adapter has been merged into its item vectors. The vectors of items without
# events are the adapter's output alone, so the adapter can be recovered from them.

# %%
left, gone, _ = draws[0]
first = jobs[f"{lead} item-side-text", seeds[0]]
model, unseen = load_model(run_folder(first, runs)), counts(left, len(items)) == 0
adapter = np.linalg.lstsq(catalogue.numpy()[unseen], model.item.weight.detach().numpy()[1 : len(items) + 1][unseen])[0]

# %% [markdown]
# As an example, the removed item with the most test targets arrives again as a new item. Five lines give it a vector
# and add it to the candidates of the saved student:

# %%
example = int(left.loc[(left["split"] == "test") & left["item"].isin(gone), "item"].mode()[0])
text, before, new = teachers.item_texts(items)[example - 1], model.item.weight[example].detach(), len(items) + 1

# %%
vector = torch.from_numpy(squeeze(encoders.encode([text], encoder)[0]) @ adapter)
model.item.weight.data = torch.cat([model.item.weight.data[:new], vector, model.item.weight.data[new:]])
model.items, model.mask_id = new, new + 1
lift = torch.eye(new)[new - 1] * picked[f"{lead} item-side-text"]["lift"]
top = recommend(training[0].test.histories, lambda rows, ids: model_score(model)(rows, ids) + lift, 10)

# %%
hits = (top == new).any(1)
people = len(np.unique(training[0].test.histories.users[hits]))
Markdown(
    f"{report.escaped(text)}: this vector differs from the training one by at most "
    f"{float((vector[0] - before).abs().max()):.4f}; the item is among the ten best of {hits.sum():,} of {len(top):,} "
    f"test histories, those of {people:,} users."
)

# %% [markdown]
# ## New users
#
# A new user needs no profile: the student uses the sequence. Some users were removed from training; each is evaluated
# after each of their first events, and no student had a teacher for them.

# %%
newer = ranks(later, runs)
lengths = save_csv(cold_tables.quality_by_length(newer), home / "tables" / "cold-users.csv")
so_far = [frame["position"].to_numpy() + 1 for frame in newer[f"{lead} plain"]]
groups = cold_tables.bins(so_far, [0, 2, 5, 10])
rivals = {f"{lead} {name}": f"{lead} plain" for name in ("distilled", "shuffled-target")}
checks = {f"{lead} distilled": f"{lead} shuffled-target"}
spans = cold_tables.within(newer, groups, rivals, "included", checks).rename(columns={"group": "events"})
labels = "New users", "events of the new user so far", "NDCG@10 of the next event"
figure = draw_curves(lengths, "length", "ndcg@10", "variant", *labels)
report.show_figure(figure, lengths, figures / "cold-users.png", report.caption(spans, "events"))

# %% [markdown]
# The same, by the number of events so far, with tests over users:

# %%
columns = ["variant", "verdict", "events", "users", "ndcg@10", "delta_ndcg@10", "control_delta_ndcg@10"]
report.format_table(spans, columns)

# %% [markdown]
# All rows are saved in one table: the students with seen items included and excluded, and those that read texts.

# %%
filtered = cold_tables.compare_groups(compared, draws, plain, "excluded", controls)
own_rows = texted["variant"].isin([name.split(" ", 1)[1] for name in extra])
table = pd.concat([main, filtered, texted[own_rows]], ignore_index=True)
table = table.assign(dataset=dataset, protocol=f"{protocol}/all")
order = ["dataset", "protocol", "group", "model", "variant"]
_ = save_csv(table[order + [name for name in table if name not in order]], home / "tables" / "cold.csv")

# %%
rows = table[table["seen"] == "included"].to_dict("records")
numbers = {
    f"{row['group']} {row['model']} {row['variant']}": {m: row[m] for m in ("recall@10", "ndcg@10")} for row in rows
}
report.record_metrics(home, "06-cold-start", numbers | {"median_percentile": medians.to_dict()})

# %% [markdown]
# ## Limits
#
# The teacher in this chapter is computed facts, not an LLM's text. Removed items keep their test and validation events,
# so a history may include an item whose vector was never trained as a target, or comes from its text alone. The lift is
# one number for all items without events; a service would update it as items age. `price` is relative to the plain
# student, so a gain from the texts on unaffected items may be given up in favour of the removed ones. The profile term
# is fitted after training, on the states of a finished student; joint training could do better. The item side was
# developed on a split within the training events, with one draw. The number of epochs is a budget, smaller than chapter
# 4's.

# %% tags=["nbval-ignore-output"]
print(spent(everything, runs))
