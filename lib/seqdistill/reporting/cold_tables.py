"""Comparisons within groups of cases, where each seed has other cases in a group; and where targets are ranked."""

from itertools import pairwise

import numpy as np
import pandas as pd

from seqdistill.data.cold import GROUPS, Perturbed, counts, group_of
from seqdistill.data.sequences import Cases
from seqdistill.evaluation.significance import SHOWN, TESTED, adjust_pvalues, by_user, columns_of, paired
from seqdistill.io import UserError

COUNTS = [-1, 0, 2, 5, 9, 20, np.inf]  # upper bounds of groups of training events
COUNT_NAMES = ["0", "1-2", "3-5", "6-9", "10-20", "more"]
LENGTHS = [0, 2, 5, 10, np.inf]  # upper bounds of groups of events of a new user
Systems = dict[str, list[pd.DataFrame]]  # system -> per-case ranks, one frame per seed
Rivals = dict[str, str]  # system -> the system that it is tested against


def masks(ranks: list[pd.DataFrame], draws: list[Perturbed], group: str) -> list[np.ndarray]:
    """Mark, for each seed, the cases whose target its draw put into a group; "affected" is removed or reduced."""
    found = [group_of(frame["item"].to_numpy(), drawn) for frame, drawn in zip(ranks, draws, strict=True)]
    return [names != "unaffected" if group == "affected" else names == group for names in found]


def by_seed_and_user(ranks: list[pd.DataFrame], marks: list[np.ndarray], seen: str) -> pd.DataFrame:
    """Recall@10 and NDCG@10 of every (seed, user) with a marked case, means over the user's marked cases."""
    parts = [by_user(frame[mark], seen) for frame, mark in zip(ranks, marks, strict=True)]
    return pd.concat(parts, keys=range(len(parts)), names=["seed", "user"])


def by_seed(difference: pd.Series) -> list[pd.Series]:
    """Write differences by (seed, user) as one series a seed of the same users, for `significance.paired`.

    Each is the user's mean over the seeds in which the user counts, moved to where the seed's own mean stands: so their
    mean is the user's, and their spread that of the seeds.
    """
    users, seeds = (difference.groupby(level).mean() for level in ("user", "seed"))
    return [users + gap for gap in seeds - seeds.mean()]


def compare_within(
    ranks: Systems, marks: list[np.ndarray], against: Rivals, seen: str = "included", controls: Rivals | None = None,
    groups: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """Set systems beside their baselines on marked cases only, where each seed marks other cases.

    A user counts in the seeds in which a case of theirs is marked. Values are means over a user's seeds, then over
    users; two systems are compared within (seed, user), so that a difference never mixes two draws, and the test
    resamples users and seeds. What ± shows is the spread of the seeds' own means.

    Args:
        ranks: system -> per-case ranks, one frame per seed; the seeds' cases are the same for all systems.
        marks: which cases count, one mask per seed.
        against, seen, controls: as in `significance.compare`.
        groups: how many such comparisons are adjusted together.

    Returns:
        As `significance.compare`, with `cases` the sum over seeds and the number of users, before
        `significance.adjust_pvalues`.

    Raises:
        UserError: no case is marked, or systems were not scored on the same cases.
    """
    if not any(mark.any() for mark in marks):
        raise UserError("cold: no test case of any seed falls into a group; take more seeds, or a larger share.")
    values = {name: by_seed_and_user(frames, marks, seen) for name, frames in ranks.items()}
    first = next(iter(values))
    for name, table in values.items():
        if not table.index.equals(values[first].index):
            raise UserError(f"cold: {name} and {first} were scored on different cases.")
    users = {name: table.groupby("user").mean() for name, table in values.items()}
    rivals = {"": against} | ({"control_": controls} if controls else {})
    tests, rows = groups * sum(map(len, rivals.values())), []
    for name, table in values.items():
        seeds = table.groupby("seed").mean()
        row = {"variant": name, "seen": seen, "seeds": len(seeds), "cases": sum(int(mark.sum()) for mark in marks)}
        row |= {"users": len(users[name])}
        for metric in SHOWN:
            row |= {metric: users[name][metric].mean(), f"{metric}_std": seeds[metric].std(ddof=1)}
        for prefix, chosen in rivals.items():
            rival, test = chosen.get(name, ""), dict.fromkeys(TESTED, np.nan)
            if rival:
                difference = table["ndcg@10"] - values[rival]["ndcg@10"]
                test = paired(by_seed(difference), [0 * users[name]["ndcg@10"]], tests)
            row |= columns_of(prefix, rival, len(seeds) == 1, test)
        rows.append(row)
    return pd.DataFrame(rows)


def split_names(table: pd.DataFrame) -> pd.DataFrame:
    """Cut "model variant" into two columns."""
    table[["model", "variant"]] = table["variant"].str.split(" ", n=1, expand=True).to_numpy()
    return table


def compare_groups(
    ranks: Systems, draws: list[Perturbed], against: Rivals, seen: str = "included", controls: Rivals | None = None
) -> pd.DataFrame:
    """`compare_within` for each of `GROUPS`, with columns group, model and variant; adjusted group by group."""
    frames, found = next(iter(ranks.values())), []
    for group in GROUPS:
        table = compare_within(ranks, masks(frames, draws, group), against, seen, controls)
        table = adjust_pvalues(table, ["", "control_"] if controls else [""])
        found.append(split_names(table.assign(group=group)))
    return pd.concat(found, ignore_index=True)


def by_count(ranks: Systems, draws: list[Perturbed], against: Rivals, items: int) -> pd.DataFrame:
    """Compare by how many training events the target has in the seed's draw; column events, see `compare_within`."""
    frames = next(iter(ranks.values()))
    found = [
        np.asarray(pd.cut(counts(drawn[0], items)[frame["item"].to_numpy() - 1], COUNTS, labels=COUNT_NAMES))
        for drawn, frame in zip(draws, frames, strict=True)
    ]
    groups = {name: [group == name for group in found] for name in COUNT_NAMES}
    return within_all(ranks, {name: marks for name, marks in groups.items() if any(map(np.any, marks))}, against)


def within_all(ranks: Systems, groups: dict[str, list[np.ndarray]], against: Rivals) -> pd.DataFrame:
    """`compare_within` for each group, adjusted together; the group's name is in the column events."""
    found = [
        compare_within(ranks, marks, against, groups=len(groups)).assign(events=name) for name, marks in groups.items()
    ]
    return adjust_pvalues(pd.concat(found, ignore_index=True), [""])


def by_length(ranks: Systems, against: Rivals) -> pd.DataFrame:
    """Compare by how many events the new user has so far; column events, see `compare_within`."""
    frames = next(iter(ranks.values()))
    so_far = [frame["position"].to_numpy() + 1 for frame in frames]
    most, groups = max(number.max() for number in so_far), {}
    for low, high in pairwise(LENGTHS):
        marks = [(low < number) & (number <= high) for number in so_far]
        if any(map(np.any, marks)):
            groups[f"{low + 1}-{min(high, most):.0f}"] = marks
    return within_all(ranks, groups, against)


def display_path(table: pd.DataFrame, by: str) -> str:
    """Say of each group of a comparison which rows gain and which lose."""
    parts = []
    for group, rows in table.groupby(by, sort=False):
        words = {word: rows.loc[rows["verdict"] == f"{word} shown", "variant"].tolist() for word in ("gain", "loss")}
        said = "; ".join(f"{word} shown for {', '.join(names)}" for word, names in words.items() if names)
        parts.append(f"{group}{' events' * (by == 'events')}: {said or 'nothing shown'}")
    return ". ".join(parts) + "."


def distribution(ranks: Systems, draws: list[Perturbed], items: int, group: str = "removed") -> pd.DataFrame:
    """Share of a group's targets up to each percentile of the rank (0: on top); by chance they are equal."""
    steps, parts = np.linspace(0, 1, 101), []
    for name, frames in ranks.items():
        marks = masks(frames, draws, group)
        places = np.concatenate([frame["rank_all"][mark] / items for frame, mark in zip(frames, marks, strict=True)])
        share = (places[:, None] <= steps).mean(0)
        parts.append(pd.DataFrame({"variant": name, "percentile": steps, "share": share, "median": np.median(places)}))
    return pd.concat(parts, ignore_index=True)


def quality_by_length(ranks: Systems) -> pd.DataFrame:
    """NDCG@10 of new users by the events that they had so far, with its 95 % interval (normal, over cases)."""
    parts = []
    for name, frames in ranks.items():
        whole = pd.concat(frames)
        gain = pd.Series(np.where(whole["rank_all"] <= 10, 1 / np.log2(whole["rank_all"] + 1), 0.0))
        read = gain.groupby(whole["position"].to_numpy() + 1).agg(["mean", "sem", "size"]).rename_axis("length")
        low, high = (read["mean"] + sign * 1.96 * read["sem"] for sign in (-1, 1))
        values = {"variant": name, "ndcg@10": read["mean"], "low": low, "high": high, "cases": read["size"]}
        parts.append(pd.DataFrame(values).reset_index())
    return pd.concat(parts, ignore_index=True)


def top_half(frames: list[pd.DataFrame], tests: list[Cases], draws: list[Perturbed], items: int) -> dict[str, float]:
    """Share of removed targets in the upper half of the ranking, by the last item of the history: "known" in training?

    Args:
        frames: per-case ranks of a system, one frame per seed.
        tests: the cases that they rank.
        draws: see `cold.cold_items`.
        items: catalogue size.
    """
    parts = []
    for frame, cases, drawn, mark in zip(frames, tests, draws, masks(frames, draws, "removed"), strict=True):
        last = cases.histories.items[cases.histories.ends - 1]
        known = counts(drawn[0], items)[last - 1] > 0
        parts.append(pd.DataFrame({"known": known, "top": frame["rank_all"] <= items / 2})[mark])
    shares = pd.concat(parts).groupby("known")["top"].mean()
    return {"known": float(shares.get(True, np.nan)), "unknown": float(shares.get(False, np.nan))}
