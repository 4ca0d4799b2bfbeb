"""Figures of cold items and new users, each drawn from its table."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure


def by_group(table: pd.DataFrame) -> Figure:
    """Draw differences with their 95 % intervals, one panel per group of targets; columns as `forest`, and group."""
    rows = table.dropna(subset="delta_ndcg@10")
    names, groups = list(rows["variant"].unique()), list(rows["group"].unique())
    figure, panels = plt.subplots(1, len(groups), sharey=True, squeeze=False, figsize=(9, 1 + 0.34 * len(names)))
    for axes, group in zip(panels[0], groups, strict=True):
        part = rows[rows["group"] == group].set_index("variant").reindex(names)
        errors = [part["delta_ndcg@10"] - part["ci_low"], part["ci_high"] - part["delta_ndcg@10"]]
        axes.errorbar(part["delta_ndcg@10"], range(len(names)), xerr=errors, fmt="o", capsize=3)
        axes.axvline(0, color="black", linewidth=1)
        axes.set(title=group, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
        axes.ticklabel_format(axis="x", scilimits=(-1, 1))
    figure.supxlabel("difference in NDCG@10 from the plain student, 95 % interval", fontsize="medium")
    return figure


def by_events(table: pd.DataFrame) -> Figure:
    """Draw differences with their 95 % intervals against the target's training events; as `forest`, and events."""
    rows = table.dropna(subset="delta_ndcg@10")
    names, events = list(rows["variant"].unique()), list(rows["events"].unique())
    figure, axes = plt.subplots(figsize=(7.2, 3.8))
    for row, name in enumerate(names):
        part = rows[rows["variant"] == name].set_index("events").reindex(events)
        errors = [part["delta_ndcg@10"] - part["ci_low"], part["ci_high"] - part["delta_ndcg@10"]]
        at = [place + 0.6 * (row + 0.5) / len(names) - 0.3 for place in range(len(events))]
        axes.errorbar(at, part["delta_ndcg@10"], yerr=errors, fmt="o", capsize=2, label=name)
    axes.axhline(0, color="black", linewidth=1)
    axes.set(xticks=range(len(events)), xticklabels=events, xlabel="training events of the target")
    axes.set(ylabel="difference in NDCG@10", title="Who gains over the plain student")
    axes.legend(fontsize=8)
    return figure


def distributions(table: pd.DataFrame) -> Figure:
    """Draw the share of targets at or above a percentile of the rank; columns variant, percentile, share."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    for name, part in table.groupby("variant", sort=False):
        axes.plot(part["percentile"], part["share"], label=name)
    axes.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="chance")
    axes.set(xlabel="percentile of the rank (0: on top)", ylabel="share of targets up to there")
    axes.set(title="Where removed items are ranked")
    axes.legend(fontsize=8)
    return figure


def by_length(table: pd.DataFrame) -> Figure:
    """Draw NDCG@10 against the events read, with a band of 95 %; columns variant, length, ndcg@10, low, high."""
    figure, axes = plt.subplots()
    for name, part in table.groupby("variant", sort=False):
        axes.plot(part["length"], part["ndcg@10"], marker="o", markersize=3, label=name)
        axes.fill_between(part["length"], part["low"], part["high"], alpha=0.15)
    axes.set(xlabel="events of the new user so far", ylabel="NDCG@10 of the next", title="Users who come later")
    axes.legend(fontsize=8)
    return figure
