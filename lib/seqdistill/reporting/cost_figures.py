"""Figures of what the method costs, each drawn from its table."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from scipy import stats


def efficiency(table: pd.DataFrame) -> Figure:
    """Draw quality against the cost of inference; columns system, infer_cpu_s, infer_cases, ndcg@10."""
    rows = table.dropna(subset=["ndcg@10", "infer_cpu_s"])
    figure, axes = plt.subplots()
    spent = 1000 * rows["infer_cpu_s"] / rows["infer_cases"]
    for cost, row, mark in zip(spent, rows.to_dict("records"), "osD^vPX*<>"[: len(rows)], strict=True):
        axes.scatter(cost, row["ndcg@10"], s=60, marker=mark, label=row["system"])
    axes.set(xscale="log", xlim=(spent.min() / 3, 3 * spent.max()), ylim=(0, 1.25 * rows["ndcg@10"].max()))
    axes.set(
        xlabel="CPU milliseconds per case, decoded in batches", ylabel="NDCG@10", title="Quality and cost of inference"
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if spent.max() > 50 * spent.min() else (1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(fontsize=8)
    return figure


def overhead(table: pd.DataFrame) -> Figure:
    """Draw every pair of neighbouring epochs; columns model, pair, plain_cpu_s, distilled_cpu_s."""
    figure, axes = plt.subplots()
    for model, group in table.groupby("model", sort=False):
        ratio = group["distilled_cpu_s"] / group["plain_cpu_s"]
        dots = axes.plot(group["pair"], 100 * (ratio - 1), marker="o", linestyle="", label=model)
        mean = 100 * (stats.gmean(ratio) - 1)
        axes.axhline(mean, color=dots[0].get_color(), linestyle="--", label=f"{model}, geometric mean")
    axes.axhline(0, color="black", linewidth=1)
    axes.set(
        xlabel="pair of epochs", ylabel="CPU time over plain, %", title="What the teacher adds to an epoch of phase 1"
    )
    axes.legend(fontsize=8)
    return figure


def catalogue(table: pd.DataFrame) -> Figure:
    """Draw recall against time of search; columns items, embeddings, index, search_cpu_ms, recall@10."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    shown = table.assign(
        catalogue=table["items"].map("{:,}".format) + ", " + table["embeddings"],
        index=table["index"].str.replace(r" of \d+ lists", " lists", regex=True),
    )
    sns.scatterplot(shown, x="search_cpu_ms", y="recall@10", hue="catalogue", style="index", s=70, ax=axes)
    axes.set(
        xscale="log", xlabel="CPU milliseconds of a search", ylabel="recall@10 against exact scores", ylim=(0, 1.05)
    )
    axes.set(title="Exact and approximate search")
    sns.move_legend(axes, "center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return figure


def growth(table: pd.DataFrame) -> Figure:
    """Draw CPU seconds by size; columns of, items, length, users, loss, step_cpu_s, epoch_cpu_s."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 3))
    drawn = {
        "items": ("step_cpu_s", "a step"),
        "length": ("step_cpu_s", "a step"),
        "users": ("epoch_cpu_s", "an epoch"),
    }
    colors = dict(zip(("full", "sampled"), sns.color_palette(), strict=False))
    for ax, (of, (column, what)) in zip(axes, drawn.items(), strict=True):
        rows = table[table["of"] == of]
        for loss, group in rows.groupby("loss"):
            ax.plot(group[of], group[column], marker="o", markersize=4, label=f"{loss} softmax", color=colors[loss])
        ax.set(xscale="log", yscale="log", xlabel=of, ylabel=f"CPU seconds of {what}")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(sizes := rows[of].unique(), [f"{size:,.0f}" for size in sizes], rotation=45, fontsize=8)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes[0].legend(fontsize=8)
    figure.suptitle("What grows how")
    return figure
