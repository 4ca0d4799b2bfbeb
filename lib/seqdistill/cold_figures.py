"""Figures of the cold-start chapter: table -> figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seqdistill.cold import COUNT_NAMES, GROUPS


def by_group(table: pd.DataFrame) -> Figure:
    """Draw the gain over the plain student with its 95 % interval, one panel per group of targets."""
    rows = table.dropna(subset="delta_ndcg@10")
    names = list(rows["variant"].unique())
    figure, panels = plt.subplots(1, len(GROUPS), sharey=True, figsize=(10, 0.9 + 0.34 * len(names)))
    for axes, group in zip(panels, GROUPS, strict=True):
        part = rows[rows["group"] == group].set_index("variant").reindex(names)
        errors = [part["delta_ndcg@10"] - part["ci_low"], part["ci_high"] - part["delta_ndcg@10"]]
        axes.errorbar(part["delta_ndcg@10"], np.arange(len(names)), xerr=errors, fmt="o", capsize=3)
        axes.axvline(0, color="black", linewidth=1)
        axes.set(title=group, yticks=np.arange(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
        axes.locator_params(axis="x", nbins=4)
    figure.supxlabel("difference in NDCG@10 from the plain student, 95 % interval over users", fontsize="medium")
    return figure


def by_count(table: pd.DataFrame) -> Figure:
    """Draw the gain over the plain student by the target's number of training events, with 95 % intervals."""
    rows = table.dropna(subset="delta_ndcg@10")
    names = list(rows["variant"].unique())
    figure, axes = plt.subplots(figsize=(7.2, 3.8))
    for step, name in zip(np.linspace(-0.3, 0.3, len(names)), names, strict=True):
        part = rows[rows["variant"] == name].set_index("events").reindex(COUNT_NAMES)
        errors = [part["delta_ndcg@10"] - part["ci_low"], part["ci_high"] - part["delta_ndcg@10"]]
        axes.errorbar(
            np.arange(len(COUNT_NAMES)) + step, part["delta_ndcg@10"], yerr=errors, fmt="o", capsize=2, label=name
        )
    axes.axhline(0, color="black", linewidth=1)
    axes.set(xticks=np.arange(len(COUNT_NAMES)), xticklabels=COUNT_NAMES, xlabel="training events of the target")
    axes.set(ylabel="difference in NDCG@10", title="Who gains: gain over the plain student")
    axes.legend(fontsize=7)
    return figure


def distributions(table: pd.DataFrame) -> Figure:
    """Draw the share of removed targets ranked at or above a percentile; chance is the diagonal."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    for name, part in table.groupby("variant", sort=False):
        axes.plot(part["percentile"], part["share"], label=name)
    axes.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="chance")
    axes.set(xlabel="percentile of the rank (0: on top)", ylabel="share of targets up to there")
    axes.set(title="Where removed items are ranked")
    axes.legend(fontsize=7)
    return figure


def by_length(table: pd.DataFrame) -> Figure:
    """Draw NDCG@10 against the number of events read, with a band of 95 %."""
    figure, axes = plt.subplots()
    for name, part in table.groupby("variant", sort=False):
        axes.plot(part["length"], part["ndcg@10"], marker="o", markersize=3, label=name)
        axes.fill_between(part["length"], part["low"], part["high"], alpha=0.15)
    axes.set(xlabel="events of the new user so far", ylabel="NDCG@10 of the next", title="Users who come later")
    axes.legend(fontsize=8)
    return figure
