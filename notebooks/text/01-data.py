# %% [markdown]
# # 1 · What do we know about the users?
#
# Everything in this book follows from a table of events: who chose what, and when. This chapter fetches the
# ratings, checks them, decides which of them a model may learn from, and looks at what is left. The chapters after
# it never touch a raw file again.

# %% tags=["parameters"]
preset = "default"
dataset = "movielens-small"
minimum = 5
first_users = None
last_k = 10

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from seqdistill import datasets, report, splits
from seqdistill.artifacts import digest, outputs_dir, save_csv, save_table

home = outputs_dir(preset)
report.style()

# %% [markdown]
# ## From raw files to one event table
#
# `load` reads `data/<dataset>/raw/{users,items,interactions}.csv`, stops at the first cell that is not what it
# should be, and codes users and items by integers. Nothing is dropped silently: here is what the checks and the
# filter met.

# %%
data = datasets.load(dataset, minimum, first_users)
print(*data.notes, sep="\n")

# %% [markdown]
# An event is a user, an item, a time and, where the data has it, a value (here a rating). Items are numbered from
# 1, since 0 will mean padding.

# %%
data.events.head()

# %% [markdown]
# ## How large is it?
#
# The columns are those of the paper's first table. Its four data sets stand below ours: they are **other data**,
# shown for size only. MovieLens small is a development set. It fits a laptop, and the price is that its 671 users
# can show large effects only.

# %%
ours = pd.DataFrame([{"dataset": dataset, "source": "ours", **datasets.statistics(data.events)}])
theirs = report.paper("data").assign(source="paper")
theirs["density"] = theirs["interactions"] / (theirs["users"] * theirs["items"])
sizes = save_csv(pd.concat([ours, theirs], ignore_index=True), home / "tables" / "data.csv")

# %%
report.formatted(sizes, list(sizes.columns))

# %% [markdown]
# ## Which events may a model see?
#
# Each user's last $k$ events are the test targets, one after the other; each is predicted from the true history
# before it. The event before them chooses the model (validation). All earlier events train. This protocol is
# `leave_last_k`; with
# $k = 1$ it is the field's leave-one-out. The split is a column of the event table, so that it can be audited.

# %%
events = data.events.assign(split=splits.leave_last_k(data.events, last_k))
splits.audit(events)
events["split"].value_counts().rename_axis("split").to_frame()

# %% [markdown]
# The protocol drawn for eight users, the shortest histories first: a dot is an event, its colour says what it is
# used for.

# %%
sizes_by_user = events.groupby("user").size().sort_values(kind="stable")
some = sizes_by_user.index[np.linspace(0, len(sizes_by_user) // 2, 8).astype(int)]
drawn = events[events["user"].isin(some)].assign(step=lambda frame: frame.groupby("user").cumcount() + 1)
drawn["row"] = drawn["user"].map({user: row for row, user in enumerate(some)})

# %%
figure, axes = plt.subplots()
for split, group in drawn.groupby("split", sort=False):
    axes.scatter(group["step"], group["row"], s=14, label=split)
axes.set(xlabel="event of the user, in time order", ylabel="user", yticks=range(8), yticklabels=some)
_ = axes.legend(loc="lower right"), axes.set_title(f"{splits.protocol_name(last_k)}: who sees what")
report.save_figure(figure, drawn[["user", "step", "split"]], home / "figures" / "protocol.png")

# %% [markdown]
# ## Long tails
#
# A few users rate a great deal and a few films are rated by nearly everyone. The second tail is the reason why
# *popularity* is a strong baseline and stands in every table of this book.

# %%
tails = pd.concat(
    pd.DataFrame({"of": of, "events": events.groupby(of).size().sort_values(ascending=False).to_numpy()})
    for of in ("user", "item")
)
tails["rank"] = tails.groupby("of").cumcount() + 1

# %%
figure, axes = plt.subplots()
for of, group in tails.groupby("of", sort=False):
    axes.plot(group["rank"], group["events"], label=f"{of}s")
axes.set(
    xscale="log", yscale="log", xlabel="rank (most active first)", ylabel="events", title="Events per user and item"
)
_ = axes.legend()
report.save_figure(figure, tails, home / "figures" / "tails.png")

# %%
per_item = events.groupby("item").size().sort_values(ascending=False)
top = per_item.head(len(per_item) // 10).sum() / len(events)
Markdown(f"The most popular tenth of the items holds **{top:.0%}** of the events.")

# %% [markdown]
# ## When did it happen?
#
# Users of MovieLens rate in one or two sittings, often hundreds of films in an hour. So "the next event" is the
# next rating, not the next film seen: an honest caveat for every number in this book.

# %%
sitting = events.groupby("user")["time"].agg(lambda times: (times.max() - times.min()) / 86_400)
dated = events["time"].min() > 1e8
first, last = (f"{pd.to_datetime(moment, unit='s'):%Y-%m-%d}" for moment in events["time"].agg(["min", "max"]))
span = f"Events run from {first} to {last}; the median user is active for {sitting.median():.1f} days."
Markdown(span if dated else "The data gives the order of events only.")

# %% [markdown]
# ## Hand over
#
# The next chapters read three tables: events with their split, items with their texts, users with their ids. Each
# carries the digest of what it was made from, so that a stale one is noticed.

# %%
key = digest([data.key, "leave_last", last_k])
save_table(events, home / "artifacts" / "events.parquet", key)
save_table(data.items, home / "artifacts" / "items.parquet", key)
save_table(data.users.assign(dataset=dataset), home / "artifacts" / "users.parquet", key)
report.record(home, "01-data", {**datasets.statistics(data.events), "split": events["split"].value_counts().to_dict()})

# %% [markdown]
# ## Limits
#
# One data set of films, small and old; ratings stand for choices; sittings blur the order. The time split of the
# paper would leave too few test users here, so this book's headline protocol for this data set is leave-last-k.
