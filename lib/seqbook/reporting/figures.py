"""The book's figures, each drawn from one table."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator


def forest(
    table: pd.DataFrame, title: str, name: str = "variant", value: str = "delta_ndcg@10",
    xlabel: str = "difference in NDCG@10, 95 % interval", facet: str = "", hue: str = "",
) -> Figure:  # fmt: skip
    """Draw differences with intervals (`ci_low`, `ci_high`): lines by `name`, panels by `facet`, colours by `hue`."""
    rows = table.dropna(subset=[value])
    if "seeds" in rows and value == "delta_ndcg@10":
        xlabel += " over users" + " and seeds" * int(rows["seeds"].max() > 1)
    if "model" in rows and len(set(rows["model"])) == 1:
        title = f"{title}, {rows['model'].iloc[0]}"
    panels = list(rows.groupby(facet, sort=False)) if facet else [("", rows)]
    names, hues = list(rows[name].unique()), list(rows[hue].unique()) if hue else [""]
    size = (max(7.6, 2.5 * len(panels)) if facet else 6.4, 0.9 + 0.36 * max(1, len(names)) * (0.6 + 0.4 * len(hues)))
    figure, axes = plt.subplots(1, len(panels), sharey=True, squeeze=False, figsize=size)
    for ax, (panel, cells) in zip(axes[0], panels, strict=True):
        for number, label in enumerate(hues):
            part = cells[cells[hue] == label] if hue else cells
            lines = part[name].map(names.index).astype(float) + 0.7 * ((number + 0.5) / len(hues) - 0.5)
            errors = [(part[value] - part["ci_low"]).fillna(0), (part["ci_high"] - part[value]).fillna(0)]
            ax.errorbar(part[value], lines, xerr=errors, fmt="o", capsize=3, color=f"C{number}", label=label)
        ax.axvline(0, color="black", linewidth=1)
        ax.set(title=panel, yticks=range(len(names)), yticklabels=names, ylim=(max(1, len(names)) - 0.5, -0.5))
        ax.locator_params(axis="x", nbins=3 if facet else 6)
    if hue:
        axes[0, 0].set_ylabel(name)
        axes[0, -1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(title, fontsize="medium")
    figure.supxlabel(xlabel, fontsize="medium")
    return figure


def curves(
    table: pd.DataFrame, x: str, y: str, hue: str, title: str, xlabel: str, ylabel: str, log: str = "",
    drawstyle: str = "default",
) -> Figure:  # fmt: skip
    """Draw a line for each `hue`, with a band from `low` to `high` if these columns exist; log: "", "x" or "xy"."""
    figure, axes = plt.subplots()
    for name, part in table.groupby(hue, sort=False):
        axes.plot(part[x], part[y], label=name, drawstyle=drawstyle, marker="o" if len(part) < 8 else None)
        if "low" in part:
            axes.fill_between(part[x], part["low"], part["high"], alpha=0.15)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title, **{f"{axis}scale": "log" for axis in log})
    axes.legend(fontsize=8)
    return figure


def dots(
    table: pd.DataFrame, x: str, y: str, hue: str, title: str, xlabel: str, ylabel: str, style: str | None = None,
    palette: dict[str, str] | None = None, log: bool = False,
) -> Figure:  # fmt: skip
    """Draw a dot for each row; log: x is logarithmic, and y starts at 0."""
    figure, axes = plt.subplots()
    sns.scatterplot(table, x=x, y=y, hue=hue, style=style, palette=palette, s=60 if log else 24, ax=axes)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if log:
        axes.set(xscale="log", ylim=(0, 1.1 * table[y].max()))
    sns.move_legend(axes, "center left", bbox_to_anchor=(1, 0.5), fontsize=8, title=None)
    return figure


def over_epochs(
    table: pd.DataFrame, columns: dict[str, str], hue: str, style: str, row: str | None = None, ylabel: str = ""
) -> Figure:
    """Draw columns (name -> title of the panel) over training; mean and standard deviation over seeds."""
    keys = [column for column in ("model", "variant", "loss", "projection", "epoch") if column in table]
    long = table.rename(columns=columns).melt(keys, list(columns.values()), "what").dropna()
    grid = sns.relplot(
        long, x="epoch", y="value", hue=hue, style=style, row=row, col="what", kind="line", errorbar="sd", height=2.6,
        aspect=1.3, facet_kws={"sharey": False, "sharex": False},
    )  # fmt: skip
    grid.set_titles("{row_name}: {col_name}" if row else "{col_name}").set_ylabels(ylabel)
    sns.move_legend(grid, "lower center", bbox_to_anchor=(0.5, 1), ncol=4, title=None)
    return grid.figure


def timeline(table: pd.DataFrame) -> Figure:
    """Draw events over time by use; columns from, border, dated and one per label of the split."""
    figure, axes = plt.subplots()
    dated, counts = table["dated"].iloc[0], table.drop(columns=["from", "border", "dated"])
    time = pd.to_datetime(table["from"], unit="s") if dated else table["from"]
    axes.stackplot(time, counts.T, labels=counts.columns, step="post")
    if dated:
        axes.axvline(pd.to_datetime(table["border"].iloc[0], unit="s"), color="black", label="where global_time cuts")
    axes.set(xlabel="time" if dated else "place in the user's history", ylabel="events", title="Time line")
    axes.legend(fontsize=8)
    return figure


def growth(table: pd.DataFrame) -> Figure:
    """Draw CPU seconds by size; columns of, items, length, users, loss, step_cpu_s, epoch_cpu_s."""
    columns = {"items": "step_cpu_s", "length": "step_cpu_s", "users": "epoch_cpu_s"}
    parts = [table[table["of"] == of].assign(size=table[of], seconds=table[cost]) for of, cost in columns.items()]
    grid = sns.relplot(
        pd.concat(parts), x="size", y="seconds", hue="loss", col="of", kind="line", marker="o", height=2.8, aspect=0.9,
        facet_kws={"sharey": False, "sharex": False},
    )  # fmt: skip
    grid.set(xscale="log", yscale="log").set_titles("{col_name}").set_ylabels("CPU s of a step (users: an epoch)")
    for of, axes in grid.axes_dict.items():
        sizes = table.loc[table["of"] == of, of].unique()
        axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes], rotation=45)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    sns.move_legend(grid, "center left", bbox_to_anchor=(1, 0.5))
    return grid.figure


def palette(groups: pd.Series) -> dict[str, str]:
    """Colour of each group."""
    return dict(zip(sorted(groups.unique()), sns.color_palette("colorblind").as_hex(), strict=False))


def users_map(table: pd.DataFrame) -> Figure:
    """Draw users on the map of their profiles; columns x, y, favourite, cluster, label (of the cluster)."""
    title, colors = "Profiles, coloured by favourite genre", palette(table["favourite"])
    figure = dots(table, "x", "y", "favourite", title, "UMAP 1", "UMAP 2", palette=colors)
    figure.set_size_inches(7.2, 5.6)
    box = {"boxstyle": "round", "facecolor": "white", "alpha": 0.7, "edgecolor": "none"}
    for _, group in table.groupby("cluster"):
        x, y, label = group["x"].median(), group["y"].median(), group["label"].iloc[0]
        figure.axes[0].text(x, y, label, ha="center", va="center", fontsize=8, bbox=box)
    return figure


def explore(table: pd.DataFrame) -> Figure:
    """Draw one user and the nearest profiles on the map; columns x, y, who (everybody, neighbours or the user)."""
    colors = {"everybody": "lightgrey", "neighbours": "C0", "the user": "C3"}
    sizes, (figure, axes) = dict(zip(colors, (15, 50, 150), strict=True)), plt.subplots()
    sns.scatterplot(table, x="x", y="y", hue="who", size="who", palette=colors, sizes=sizes, size_order=colors, ax=axes)
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", title="The user and the nearest profiles")
    return figure
