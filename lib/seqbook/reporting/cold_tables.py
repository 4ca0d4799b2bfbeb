"""Cold items and new users: comparisons within groups of cases, and where targets are ranked."""

from itertools import pairwise

import numpy as np
import pandas as pd
from seqdistill.evaluation.significance import compare

from seqbook.cold import GROUPS, Perturbed, group_of

Ranks = dict[str, list[pd.DataFrame]]  # "model variant" -> per-case ranks, one frame per seed
Rivals = dict[str, str]  # system -> the system that it is tested against
Groups = dict[str, list[np.ndarray]]  # group -> the cases in it, one mask per seed


def target_groups(frames: list[pd.DataFrame], draws: list[Perturbed]) -> Groups:
    """Cases by what each seed's draw did to their target; "affected" is removed or reduced."""
    names = [group_of(frame["item"].to_numpy(), draw) for frame, draw in zip(frames, draws, strict=True)]
    affected = {"affected": [name != "unaffected" for name in names]}
    return {group: affected.get(group, [name == group for name in names]) for group in GROUPS}


def bins(values: list[np.ndarray], bounds: list[int]) -> Groups:
    """Cases by bins of a value per case: up to and including each bound, and above the last; values: one per seed."""
    names = [str(high) if high == low + 1 else f"{low + 1}-{high}" for low, high in pairwise(bounds)]
    names.append(f"{bounds[-1] + 1}+")
    binned = [pd.cut(value, [*bounds, np.inf], labels=names) for value in values]
    groups = {name: [np.asarray(part == name) for part in binned] for name in names}
    return {name: masks for name, masks in groups.items() if any(map(np.any, masks))}


def within(
    ranks: Ranks, groups: Groups, against: Rivals, seen: str = "included", controls: Rivals | None = None
) -> pd.DataFrame:
    """`significance.compare` in groups of cases, adjusted together; "model variant" becomes two columns."""
    table = compare(ranks, against, seen, False, controls, groups=groups)
    table[["model", "variant"]] = table["variant"].str.split(" ", n=1, expand=True).to_numpy()
    return table


def compare_groups(
    ranks: Ranks, draws: list[Perturbed], against: Rivals, seen: str = "included", controls: Rivals | None = None
) -> pd.DataFrame:
    """Compare within each of `GROUPS`, adjusted group by group; UserError where a group has no case."""
    groups = target_groups(next(iter(ranks.values())), draws).items()
    tables = [within(ranks, {group: masks}, against, seen, controls) for group, masks in groups]
    return pd.concat(tables, ignore_index=True)


def distribution(ranks: Ranks, masks: list[np.ndarray], items: int) -> pd.DataFrame:
    """Share of marked targets up to each percentile of the rank (0: on top); by chance, share = percentile."""
    steps, parts = np.linspace(0, 1, 101), []
    for name, frames in ranks.items():
        places = np.concatenate([frame["rank_all"][mask] / items for frame, mask in zip(frames, masks, strict=True)])
        share = (places[:, None] <= steps).mean(0)
        parts.append(pd.DataFrame({"variant": name, "percentile": steps, "share": share, "median": np.median(places)}))
    return pd.concat(parts, ignore_index=True)


def quality_by_length(ranks: Ranks) -> pd.DataFrame:
    """NDCG@10 of new users by their number of events so far, with its 95 % interval (normal, over cases)."""
    parts = []
    for name, frames in ranks.items():
        cases = pd.concat(frames, ignore_index=True)
        gain = pd.Series(np.where(cases["rank_all"] <= 10, 1 / np.log2(cases["rank_all"] + 1), 0.0))
        table = gain.groupby(cases["position"].rename("length") + 1).agg(["mean", "sem", "size"])
        low, high = (table["mean"] + sign * 1.96 * table["sem"] for sign in (-1, 1))
        values = {"variant": name, "ndcg@10": table["mean"], "low": low, "high": high, "cases": table["size"]}
        parts.append(pd.DataFrame(values).reset_index())
    return pd.concat(parts, ignore_index=True)
