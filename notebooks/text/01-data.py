# %% [markdown]
# # 1 · What do we know about the users?
#
# Everything in this book is computed from a table of events: who chose what, and when. This chapter reads the events,
# validates them, splits them into training, validation and test, and describes them. Later chapters never read a raw
# file.

# %% tags=["parameters"]
preset = "default"
dataset = "movielens-small"
minimum = 5
filter = "core"
first_users = None
protocol = "leave_last_k"
last_k = 10
quantile = 0.8
targets = "last"
valid_share = 0.2
seed = 0

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown
from seqdistill import data as datasets
from seqbook.reporting import report
from seqbook.reporting.figures import curves, dots
from seqbook.reporting.figures import timeline as draw_timeline
from seqdistill.data import splits
from seqdistill.io import digest, outputs_dir, save_csv, save_table
from seqdistill.config import parse, to_dict

home = outputs_dir(preset)
report.style()

# %% [markdown]
# ## From raw files to one event table
#
# `load` reads the files in `data/<dataset>/raw`, stops at the first invalid cell, and encodes users and items as
# integers. Users and items with few events are removed: `core` repeats this until all have `minimum` events; `single`
# does one pass (the paper's published setting: one pass, more than 3 events). Nothing is dropped silently: the notes
# below report what the checks and the filter found.

# %%
data = datasets.load(dataset, minimum, first_users, filter)
print(*data.notes, sep="\n")

# %% [markdown]
# An event is a user, an item, a time and, where available, a value (here a rating). Items are numbered from 1; 0 is
# padding.

# %%
data.events.head()

# %% [markdown]
# ## How large is the data?
#
# The columns are those of the paper's first table. The paper's four data sets are listed below ours. A data set of the
# paper with another name than ours is **other data**, shown for size only. The default, MovieLens small, is a
# development set: it fits a laptop, but it has so few users that only large effects can be detected.

# %%
ours = pd.DataFrame([{"dataset": dataset, "source": "ours", **datasets.statistics(data.events)}])
theirs = report.paper("data").assign(source="paper")
theirs["density"] = theirs["interactions"] / (theirs["users"] * theirs["items"])
sizes = save_csv(pd.concat([ours, theirs], ignore_index=True), home / "tables" / "data.csv")

# %% [markdown]
# The next table also lists the other data sets that `make data` has prepared on this machine, with the paper's filter
# applied.

# %% tags=["nbval-ignore-output"]
others = {name: numbers for name, numbers in datasets.present().items() if name != dataset}
here = [{"dataset": name, "source": "ours", **numbers} for name, numbers in others.items()]
report.format_table(pd.concat([ours, pd.DataFrame(here), theirs], ignore_index=True), list(sizes.columns))

# %% [markdown]
# ## Which events may a model see?
#
# There are three protocols. `leave_last_k`: the last $k$ events of every user with enough events are test targets. Each
# target is predicted from the true history before it; the event before the test targets is for validation, and all
# earlier events are for training. `leave_one_out` is the same with $k = 1$, the usual protocol in the field.
# `global_time` is the paper's: events up to one time are for training, later ones for testing, and a share of the
# training users is held out for validation.

# %%
settings = {"name": protocol, "last_k": last_k, "quantile": quantile, "targets": targets}
how = parse(splits.Protocol, {**settings, "valid_share": valid_share, "seed": seed}, "01-data")
events = data.events.assign(split=splits.split(data.events, how, data.dated))
events["split"].value_counts().rename_axis("split").to_frame()

# %% [markdown]
# `global_time` adds two labels. `input` events are part of the history from which a later target is predicted, but are
# not trained on; `unused` events serve neither purpose. Students and profiles use `train` events only, so a validation
# user of `global_time` has no profile, and needs none.
#
# Is there leakage? Each row is a check; a single violation would have stopped the book here.

# %%
splits.audit(events, how).set_index("must not be")

# %% [markdown]
# Two kinds of target say little about a recommender. The first is already in the user's history: with seen items
# excluded it cannot be recommended and counts as a miss. The second has the same timestamp as another event of its
# user: the order of the two is then the order in the file. If `share` is large, interpret the results with care.

# %%
report.format_table(splits.hard_targets(events))

# %% [markdown]
# The protocol for eight users, shortest histories first. Each dot is an event; its colour is its split.

# %%
sizes_by_user = events.groupby("user").size().sort_values(kind="stable")
some = sizes_by_user.index[np.linspace(0, len(sizes_by_user) // 2, 8).astype(int)]
drawn = events[events["user"].isin(some)].assign(step=lambda frame: frame.groupby("user").cumcount() + 1)
drawn["user_id"] = drawn["user"].map(data.users.set_index("user")["user_id"])
drawn = drawn.set_index("user").loc[some].reset_index()[["user", "user_id", "step", "split"]]

# %%
figure = dots(
    drawn.astype({"user_id": str}), "step", "user_id", "split", "Split of the events", "event, in time order", "user"
)
counts = ", ".join(f"{count:,} {split}" for split, count in drawn["split"].value_counts().items())
text = f"Protocol {how.label}: {len(drawn):,} events of {len(some)} users, {counts}."
report.show_figure(figure, drawn, home / "figures" / "protocol.png", text)

# %% [markdown]
# ## Long tails
#
# A few users have very many events, and a few items are chosen much more often than the rest. The long tail of the
# items is why the comparisons of recommenders include *popularity* as a baseline.

# %%
tails = pd.concat(
    pd.DataFrame({"of": of, "events": events.groupby(of).size().sort_values(ascending=False).to_numpy()})
    for of in ("user", "item")
)
tails["rank"] = tails.groupby("of").cumcount() + 1

# %%
per_item = events.groupby("item").size().sort_values(ascending=False)
top = per_item.head(len(per_item) // 10).sum() / len(events)
text = f"The most popular tenth of the items holds {top:.0%} of the events."
title, xlabel = "Events per user and per item", "rank (most events first)"
figure = curves(tails, "rank", "events", "of", title, xlabel, "events", log="xy")
report.show_figure(figure, tails, home / "figures" / "tails.png", text)

# %% [markdown]
# ## How long is a history?
#
# To score, a student reads a fixed number of the latest events. In training, a longer history is usually cut into
# windows, so that no event is lost. The figure shows the share of users with at most a given number of events, for all
# events and for training events.

# %%
counted = {"all events": events, "training events": events[events["split"] == "train"]}
lengths = pd.concat(
    pd.DataFrame({"of": of, "length": np.sort(part.groupby("user").size().to_numpy())}) for of, part in counted.items()
)
lengths["share"] = (lengths.groupby("of").cumcount() + 1) / lengths.groupby("of")["length"].transform("size")

# %%
quartiles = lengths[lengths["of"] == "training events"]["length"].quantile([0.25, 0.5, 0.75])
text = "Training events of a user, quartiles: {:.0f}, {:.0f}, {:.0f}.".format(*quartiles)
labels = "Length of histories", "events of a user", "share of users with at most as many"
figure = curves(lengths, "length", "share", "of", *labels, log="x", drawstyle="steps-post")
report.show_figure(figure, lengths, home / "figures" / "lengths.png", text)

# %% [markdown]
# ## When did it happen?
#
# The figure shows the events over time, in forty equal steps, coloured by split. The black line is the boundary of
# `global_time`. A protocol that splits each user's history separately lets a student learn from other users' events
# that are later than a target. This is common in the field, but it makes results look better than those of a running
# service.

# %%
edges = np.linspace(events["time"].min(), events["time"].max() + 1, 41)
step = np.searchsorted(edges, events["time"], side="right") - 1
timeline = pd.crosstab(edges[step], events["split"]).reindex(edges, fill_value=0)
timeline = timeline.rename_axis("from").reset_index()
timeline = timeline[["from", *(label for label in splits.LABELS if label in timeline)]]
border = splits.boundary(events, quantile)

# %%
after = float((events["time"] > border).mean())
text = f"Of {len(events):,} events {after:.0%} are later than the {quantile:g} quantile of time."
timeline = timeline.assign(border=border, dated=data.dated)
report.show_figure(draw_timeline(timeline), timeline, home / "figures" / "timeline.png", text)

# %% [markdown]
# "The next event" is the next one in the data, not in the user's life. On a rating site, such as MovieLens, people rate
# in sessions, often hundreds of films in an hour. This caveat applies to every number in this book.

# %%
sitting = events.groupby("user")["time"].agg(lambda times: (times.max() - times.min()) / 86_400)
first, last = (f"{pd.to_datetime(moment, unit='s'):%Y-%m-%d}" for moment in events["time"].agg(["min", "max"]))
late = events.loc[events["time"] > border, "user"].nunique()
both = np.intersect1d(*(events.loc[side, "user"] for side in (events["time"] > border, events["time"] <= border)))
span = f"Events run from {first} to {last}; the median user is active for {sitting.median():.1f} days. "
span += f"{late:,} users have events after the {quantile:g} quantile of time, {len(both):,} of them also before it."
Markdown(span if data.dated else "The data gives only the order of events.")

# %% [markdown]
# ## Save
#
# The next chapters read three tables: events with their split, items with their texts, users with their ids. Each
# stores a digest of its inputs, so that stale tables are detected.

# %%
key = digest([data.key, to_dict(how)])
save_table(events, home / "artifacts" / "events.parquet", key)
save_table(data.items, home / "artifacts" / "items.parquet", key)
users = data.users.assign(dataset=dataset, domain=data.domain, protocol=how.label, dated=data.dated)
save_table(users, home / "artifacts" / "users.parquet", key)
report.record_metrics(
    home, "01-data", {**datasets.statistics(data.events), "split": events["split"].value_counts().to_dict()}
)

# %% [markdown]
# ## Limits
#
# The default is a small, old film data set. Its ratings stand for choices, and rating sessions blur their order. The
# paper's time split would leave too few test users (counted above), so the headline protocol is leave-last-k.
