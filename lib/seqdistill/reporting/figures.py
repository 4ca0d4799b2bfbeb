"""Every figure of the book is drawn from the table that lies beside it: name -> function of the table."""

from collections.abc import Callable
from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from seqdistill.reporting import cold_figures, cost_figures

Draw = Callable[[pd.DataFrame], Figure]
BOX = {"boxstyle": "round", "facecolor": "white", "alpha": 0.7, "edgecolor": "none"}


def forest(
    table: pd.DataFrame,
    title: str,
    name: str = "variant",
    value: str = "delta_ndcg@10",
    xlabel: str = "difference in NDCG@10, 95 % interval",
) -> Figure:
    """Draw differences with their 95 % intervals (`ci_low`, `ci_high`; none where there is none), one line each.

    A column `model` that names one model alone goes into the title; a column `seeds` says what the interval counts.
    """
    rows = table.dropna(subset=[value]).reset_index(drop=True)
    if "seeds" in rows and value == "delta_ndcg@10":
        xlabel += " over users" + " and seeds" * int(rows["seeds"].max() > 1)
    if "model" in rows and len(models := set(rows["model"])) == 1:
        title = f"{title}, {models.pop()}"
    figure, axes = plt.subplots(figsize=(6.4, 0.9 + 0.36 * len(rows)))
    errors = [(rows[value] - rows["ci_low"]).fillna(0), (rows["ci_high"] - rows[value]).fillna(0)]
    axes.errorbar(rows[value], rows.index, xerr=errors, fmt="o", capsize=3)
    axes.axvline(0, color="black", linewidth=1)
    axes.set(yticks=rows.index, yticklabels=rows[name], xlabel=xlabel, title=title, ylim=(len(rows) - 0.5, -0.5))
    axes.locator_params(axis="x", nbins=6)
    return figure


def protocol(events: pd.DataFrame) -> Figure:
    """Draw what the events of some users are used for; columns user, user_id, step, split."""
    figure, axes = plt.subplots()
    rows = {user: row for row, user in enumerate(events["user"].unique())}
    for split, group in events.groupby("split", sort=False):
        axes.scatter(group["step"], group["user"].map(rows), s=14, label=split)
    names = events.drop_duplicates("user")["user_id"]
    axes.set(xlabel="event of the user, in time order", ylabel="user", yticks=range(len(rows)), yticklabels=names)
    axes.set(title="Who sees what")
    axes.legend(loc="lower right")
    return figure


def tails(table: pd.DataFrame) -> Figure:
    """Draw events against the rank of users and items; columns of, events, rank."""
    figure, axes = plt.subplots()
    for of, group in table.groupby("of", sort=False):
        axes.plot(group["rank"], group["events"], label=f"{of}s")
    axes.set(xscale="log", yscale="log", xlabel="rank (most active first)", ylabel="events")
    axes.set(title="Events per user and item")
    axes.legend()
    return figure


def lengths(table: pd.DataFrame) -> Figure:
    """Draw the share of users with at most so many events; columns of, length, share."""
    figure, axes = plt.subplots()
    for of, group in table.groupby("of", sort=False):
        axes.step(group["length"], group["share"], where="post", label=of)
    axes.set(
        xscale="log", xlabel="events of a user", ylabel="share of users with no more", title="Lengths of histories"
    )
    axes.legend()
    return figure


def timeline(table: pd.DataFrame) -> Figure:
    """Draw events over time by use; columns from, border, dated and one per label of the split."""
    figure, axes = plt.subplots()
    dated, border = bool(table["dated"].iloc[0]), table["border"].iloc[0]
    time = pd.to_datetime(table["from"], unit="s") if dated else table["from"]
    columns = [name for name in table if name not in ("from", "border", "dated")]
    axes.stackplot(time, *(table[name] for name in columns), labels=columns, step="post")
    axes.set(xlabel="time" if dated else "place in the user's history", ylabel="events", title="Time line")
    if dated:
        axes.axvline(pd.to_datetime(border, unit="s"), color="black", label="where global_time cuts")
        locator = AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.legend(fontsize=8)
    return figure


def fidelity(table: pd.DataFrame) -> Figure:
    """Draw how much of a profile is true; columns genres, trends, titles: shares, one row a profile."""
    figure, axes = plt.subplots(1, 3, sharey=True, figsize=(7.2, 3))
    for ax, column in zip(axes, ["genres", "trends", "titles"], strict=True):
        ax.hist(table[column].dropna(), bins=10, range=(0, 1))
        ax.set(xlabel=f"share of {column} that is true")
    axes[0].set_ylabel("profiles")
    figure.suptitle("How much of a profile is true?")
    return figure


def length(table: pd.DataFrame) -> Figure:
    """Draw the words of the profiles; column words."""
    figure, axes = plt.subplots()
    bins = [number - 0.5 for number in range(table["words"].min(), table["words"].max() + 2)]
    axes.hist(table["words"], bins=bins)
    axes.set(xlabel="words of a profile", ylabel="profiles", title="Length of the profiles")
    return figure


def palette(groups: pd.Series) -> dict[str, str]:
    """Colour of each group."""
    return dict(zip(sorted(groups.unique()), sns.color_palette("colorblind").as_hex(), strict=False))


def users_map(table: pd.DataFrame) -> Figure:
    """Draw users on the map of their profiles; columns x, y, favourite, cluster, label (of the cluster)."""
    figure, axes = plt.subplots(figsize=(7.2, 5.6))
    colors = palette(table["favourite"])
    for name, group in table.groupby("favourite"):
        axes.scatter(group["x"], group["y"], s=14, label=name, alpha=0.75, color=colors[name])
    for _, group in table.groupby("cluster"):
        x, y, label = group["x"].median(), group["y"].median(), group["label"].iloc[0]
        axes.text(x, y, label, ha="center", va="center", fontsize=8, bbox=BOX)
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", title="Profiles, coloured by favourite genre")
    axes.legend(fontsize=7, title="favourite", title_fontsize=7)
    return figure


def explore(table: pd.DataFrame) -> Figure:
    """Draw one user and the nearest profiles on the map; columns x, y, who (everybody, neighbours or the user)."""
    figure, axes = plt.subplots(figsize=(5.4, 4.2))
    looks = {
        "everybody": {"s": 10, "color": "lightgrey"},
        "neighbours": {"s": 36},
        "the user": {"s": 90, "marker": "*"},
    }
    for who, look in looks.items():
        places = table[table["who"] == who]
        axes.scatter(places["x"], places["y"], label=who, **look)
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", title="The user and the nearest profiles")
    axes.legend(fontsize=8)
    return figure


def learning(table: pd.DataFrame) -> Figure:
    """Draw both losses over training; columns model, variant, seed, epoch, loss_model, loss_distil."""
    names = {"loss_model": "cross-entropy, nats", "loss_distil": "reconstruction (phase 1)"}
    long = table.rename(columns=names).melt(["model", "variant", "seed", "epoch"], list(names.values()), "loss")
    grid = sns.relplot(
        long.dropna(),
        x="epoch",
        y="value",
        hue="variant",
        style="variant",
        row="model",
        col="loss",
        kind="line",
        errorbar="sd",
        height=2.4,
        aspect=1.4,
        facet_kws={"sharey": False, "sharex": False},
    )
    grid.set_titles("{row_name}: {col_name}").set_ylabels("mean over seeds, ± 1 std")
    for axes in grid.axes.flat:
        axes.set_xlabel("epoch", visible=True)
    sns.move_legend(grid, "lower center", bbox_to_anchor=(0.5, 1), ncol=3, title="")
    return grid.figure


def inside(table: pd.DataFrame) -> Figure:
    """Draw the target's variance and the probe over training; columns loss, side, epoch, target_variance, probe_r2."""
    names = {"target_variance": "variance of the target", "probe_r2": "R² of the probe"}
    long = table.rename(columns=names).melt(["loss", "side", "epoch"], list(names.values()), "what").dropna()
    grid = sns.relplot(
        long,
        x="epoch",
        y="value",
        hue="loss",
        style="side",
        col="what",
        kind="line",
        height=3,
        facet_kws={"sharey": False, "sharex": False},
    )
    grid.set_titles("{col_name}").set_ylabels("")
    sns.move_legend(grid, "lower center", bbox_to_anchor=(0.5, 1), ncol=5)
    return grid.figure


FIGURES: dict[str, Draw] = {
    "protocol": protocol,
    "tails": tails,
    "lengths": lengths,
    "timeline": timeline,
    "fidelity": fidelity,
    "length": length,
    "map": users_map,
    "arms": partial(
        forest,
        title="What the vectors say about the next choice",
        name="arm",
        value="delta",
        xlabel="percentile of the item, gain over a random profile",
    ),
    "learning": learning,
    "inside": inside,
    "explore": explore,
    "main": partial(forest, title="Gain over the plain student, all targets, seen kept"),
    "idgenrec": partial(forest, title="Gain over IDGenRec, last target of each user, seen kept"),
    "gains": partial(
        forest,
        title="Other data, other protocol: compare directions",
        name="where",
        value="gain",
        xlabel="gain in NDCG@10 over plain, %, 95 % interval where ours",
    ),
    "ablation-alpha-beta": partial(forest, title="Weight of the teacher (the paper's form)"),
    "ablation-aggregation": partial(forest, title="Aggregation of the states"),
    "ablation-aggregation-other": partial(forest, title="Aggregation of the states, the other student"),
    "ablation-block": partial(forest, title="Block whose states are compared"),
    "ablation-schedule": partial(forest, title="Length of phase 1"),
    "ablation-side-loss": partial(forest, title="Side of the projection and loss"),
    "ablation-reducer": partial(forest, title="Reduction of the teacher"),
    "ablation-profiles": partial(forest, title="Model and style of the profiles"),
    "ablation-controls": partial(forest, title="Knowledge, noise, and more time"),
    "ablation-coverage": partial(forest, title="Share of users with a profile"),
    "ablation-who": partial(forest, title="Gain of the taught student within groups"),
    "cold": cold_figures.by_group,
    "cold-text": cold_figures.by_group,
    "cold-ranks": cold_figures.distributions,
    "cold-events": cold_figures.by_events,
    "cold-users": cold_figures.by_length,
    "efficiency": cost_figures.efficiency,
    "overhead": cost_figures.overhead,
    "latency": partial(
        forest,
        title="One request, against the plain student",
        name="system",
        value="more",
        xlabel="CPU time over plain, %, 95 % interval over requests",
    ),
    "catalogue": cost_figures.catalogue,
    "growth": cost_figures.growth,
}
