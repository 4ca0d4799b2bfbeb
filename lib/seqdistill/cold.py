"""Cold items: the perturbation and its statistics, teachers that fit it, and comparisons within groups of cases."""

import numpy as np
import pandas as pd

from seqdistill.artifacts import BookError
from seqdistill.encoders import encode
from seqdistill.facts import clean, facts_text, histories
from seqdistill.reducers import fit, teacher_rows
from seqdistill.significance import SHOWN, TESTED, by_user, judged, paired
from seqdistill.splits import places
from seqdistill.train import Problem, taught_by

GROUPS = ("removed", "reduced", "affected", "unaffected")
COUNTS = [-1, 0, 2, 5, 9, 20, np.inf]  # upper bounds of groups of training events
COUNT_NAMES = ["0", "1-2", "3-5", "6-9", "10-20", "more"]
Perturbed = tuple[pd.DataFrame, np.ndarray, np.ndarray]  # events that are left, items removed, items reduced
Systems = dict[str, list[pd.DataFrame]]  # system -> per-case ranks, one frame per seed


def cold_items(
    events: pd.DataFrame, share: float = 0.4, removed: float = 0.5, kept: tuple[int, int] = (6, 9), seed: int = 0
) -> Perturbed:
    """Make items cold: take a share of the items that are test targets out of training, or starve them.

    Of the chosen items, `removed` lose all training events; each of the others keeps some of them, as many and which
    ones drawn with the seed (all, where it has no more). Other events stay as they are. As in Severin et al. (2026).

    Args:
        events: columns user, item, split; sorted by user, then time.
        share: of the items that occur as test targets.
        removed: share of the chosen that loses all; the others are reduced.
        kept: fewest and most training events that a reduced item keeps.
        seed: draws items and events.

    Returns:
        The events that are left, the items removed and the items reduced (sorted).
    """
    rng = np.random.default_rng(seed)
    targets = np.unique(events.loc[events["split"] == "test", "item"])
    chosen = rng.permutation(targets)[: round(share * len(targets))]
    cut = int(removed * len(chosen))
    gone, starved = np.sort(chosen[:cut]), np.sort(chosen[cut:])
    item, train = events["item"].to_numpy(), (events["split"] == "train").to_numpy()
    most = np.full(item.max() + 1, len(events))
    most[gone] = 0
    most[starved] = rng.integers(kept[0], kept[1] + 1, len(starved))
    rows = rng.permutation(np.flatnonzero(train))
    place = pd.Series(item[rows]).groupby(item[rows]).cumcount().to_numpy()
    keep = ~train
    keep[rows] = place < most[item[rows]]
    return events[keep].reset_index(drop=True), gone, starved


def group_of(items: np.ndarray, drawn: Perturbed) -> np.ndarray:
    """Say of each item whether it was removed, reduced or left unaffected."""
    return np.select([np.isin(items, part) for part in drawn[1:]], GROUPS[:2], "unaffected")


def counts(events: pd.DataFrame, items: int) -> np.ndarray:
    """Training events of every item, [V]; item i in place i - 1."""
    return np.bincount(events.loc[events["split"] == "train", "item"], minlength=items + 1)[1:]


def statistics(drawn: Perturbed) -> dict[str, int]:
    """What is left, in the paper's columns: users, items and interactions of all splits, and who meets a cold item."""
    left, removed, reduced = drawn
    test = left[left["split"] == "test"]
    return {
        "users": left["user"].nunique(),
        "items": left["item"].nunique(),
        "interactions": len(left),
        "removed": len(removed),
        "reduced": len(reduced),
        "test_users": test.loc[group_of(test["item"].to_numpy(), drawn) != "unaffected", "user"].nunique(),
    }


def expectation(ours: dict[str, float], paper: dict[str, float], within: float = 0.05) -> str:
    """Say of each of the paper's counts whether ours is within a share of it."""
    off = {name: ours[name] / paper[name] - 1 for name in ours if name in paper}
    said = [f"{name} {gap:+.1%}: *{'met' if abs(gap) <= within else 'not met'}*" for name, gap in off.items()]
    return f"Against the paper's counts, {within:.0%} allowed: " + "; ".join(said) + "."


def told(events: pd.DataFrame, items: pd.DataFrame, encoder: str) -> tuple[np.ndarray, np.ndarray]:
    """Write a profile without an LLM (`facts_text`) of every user's training events, and encode it.

    Returns:
        The users who have training events, [n], and their vectors, [n, e].
    """
    found = histories(events[events["split"] == "train"], items)
    return np.array(list(found)), encode([facts_text(history, {}) for history in found.values()], encoder)[0]


def named(events: pd.DataFrame, written: pd.DataFrame, items: pd.DataFrame, gone: np.ndarray) -> int:
    """Count the events of items in `gone` whose titles the facts of their users name.

    Args:
        events: all events, as they were.
        written: the events that the facts are written from.
        items: texts of the catalogue.
        gone: items that a profile should not know.
    """
    texts = {u: facts_text(h, {}) for u, h in histories(written[written["split"] == "train"], items).items()}
    lost = events[(events["split"] == "train") & events["item"].isin(gone)].merge(items[["item", "title"]], on="item")
    return sum(
        f'"{clean(title, 80)}"' in texts.get(user, "") for user, title in zip(lost["user"], lost["title"], strict=True)
    )


def taught_from(given: Problem, owners: np.ndarray, vectors: np.ndarray, width: int, users: int) -> Problem:
    """Give a problem of `users` users the teacher that the vectors of some of them make, reduced by PCA to a width."""
    return taught_by(given, teacher_rows(fit(vectors, "pca", width)[0], owners, users))


def newcomers(events: pd.DataFrame, share: float, most: int, seed: int) -> pd.DataFrame:
    """Take users out of training, and test them from their first events on, as if they had just come.

    The first event of each is history; the next `most` are targets, so that target number n has n events before it.
    The others train and validate as before and are not tested.

    Args:
        events: columns user, split; sorted by user, then time.
        share: of the users.
        most: targets of each.
        seed: draws the users.
    """
    users = events["user"].unique()
    drawn = np.random.default_rng(seed).choice(users, round(share * len(users)), replace=False)
    before, _ = places(events)
    tested = np.select([before == 0, before <= most], ["input", "test"], "unused")
    known = events["split"].where(events["split"] != "test", "unused")
    return events.assign(split=np.where(events["user"].isin(drawn), tested, known))


def masks(ranks: list[pd.DataFrame], draws: list[Perturbed], group: str) -> list[np.ndarray]:
    """Mark, for each seed, the cases whose target its draw put into a group; "affected" is removed or reduced."""
    found = [group_of(frame["item"].to_numpy(), drawn) for frame, drawn in zip(ranks, draws, strict=True)]
    return [names != "unaffected" if group == "affected" else names == group for names in found]


def by_seed_and_user(ranks: list[pd.DataFrame], marks: list[np.ndarray], column: str) -> pd.DataFrame:
    """Recall@10 and NDCG@10 of every (seed, user) with a marked case, means over the user's marked cases."""
    parts = [by_user(frame[mark], column) for frame, mark in zip(ranks, marks, strict=True)]
    return pd.concat(parts, keys=range(len(parts)), names=["seed", "user"])


def compare_within(
    ranks: Systems, marks: list[np.ndarray], baseline: str, column: str, controls: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Set systems beside a baseline on marked cases only, where each seed marks other cases.

    A user counts in the seeds in which a case of theirs is marked. Two systems are compared within (seed, user), the
    differences are averaged over a user's seeds, and the test resamples users: a difference never mixes two draws.

    Args:
        ranks: system -> per-case ranks, one frame per seed; the seeds' cases are the same for all systems.
        marks: which cases count, one mask per seed.
        baseline, column, controls: as in `significance.compare`.

    Returns:
        As `significance.compare`, its p not yet corrected: see `significance.judged`.

    Raises:
        BookError: no case is marked, or systems were not scored on the same cases.
    """
    if not any(mark.any() for mark in marks):
        raise BookError("cold: no case falls into the group.")
    values = {name: by_seed_and_user(frames, marks, column) for name, frames in ranks.items()}
    users = {name: table["ndcg@10"].groupby("user").mean() for name, table in values.items()}
    strongest = max(controls, key=lambda name: users[name].mean(), default="")
    rows = []
    for name, table in values.items():
        if not table.index.equals(values[baseline].index):
            raise BookError(f"cold: {name} and {baseline} were scored on different cases.")
        seeds = table.groupby("seed").mean()
        row = {"variant": name, "seen": column, "seeds": len(seeds), "cases": sum(map(np.sum, marks))}
        row |= {"users": len(users[name])}
        for metric in SHOWN:
            row |= {metric: seeds[metric].mean(), f"{metric}_std": seeds[metric].std(ddof=1)}
        rivals = {"": baseline if name != baseline else ""}
        if controls:
            rivals["control_"] = strongest if name not in (*controls, baseline) else ""
        for prefix, rival in rivals.items():
            test = paired([users[name]], [users[rival]]) if rival else dict.fromkeys(TESTED, np.nan)
            row[prefix.rstrip("_") or "baseline"] = rival
            row |= {f"{prefix}{'delta_ndcg@10' if key == 'delta' else key}": value for key, value in test.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def compare_groups(
    ranks: Systems, draws: list[Perturbed], baseline: str, column: str = "kept", controls: tuple[str, ...] = ()
) -> pd.DataFrame:
    """`compare_within` for each of `GROUPS`; Holm's correction is for all tests of a group."""
    found = []
    for group in GROUPS:
        table = compare_within(ranks, masks(ranks[baseline], draws, group), baseline, column, controls)
        found.append(judged(table, ["", "control_"] if controls else [""]).assign(group=group))
    return pd.concat(found, ignore_index=True)


def gains_by_count(ranks: Systems, draws: list[Perturbed], baseline: str, items: int) -> pd.DataFrame:
    """Gain over a baseline by how many training events the target has in the seed's draw; see `compare_within`."""
    found = [counts(drawn[0], items) for drawn in draws]
    groups = [
        np.asarray(pd.cut(count[frame["item"].to_numpy() - 1], COUNTS, labels=COUNT_NAMES))
        for count, frame in zip(found, ranks[baseline], strict=True)
    ]
    tables = []
    for name in COUNT_NAMES:
        marks = [group == name for group in groups]
        if any(mark.any() for mark in marks):
            tables.append(compare_within(ranks, marks, baseline, "kept").assign(events=name))
    return judged(pd.concat(tables, ignore_index=True), [""])


def distribution(ranks: Systems, draws: list[Perturbed], items: int, group: str = "removed") -> pd.DataFrame:
    """Share of a group's targets up to each percentile of the rank (0: on top); by chance they are equal."""
    steps, parts = np.linspace(0, 1, 101), []
    for name, frames in ranks.items():
        marks = masks(frames, draws, group)
        places = np.concatenate([frame["kept"][mark] / items for frame, mark in zip(frames, marks, strict=True)])
        share = (places[:, None] <= steps).mean(0)
        parts.append(pd.DataFrame({"variant": name, "percentile": steps, "share": share, "median": np.median(places)}))
    return pd.concat(parts, ignore_index=True)


def quality_by_length(ranks: Systems) -> pd.DataFrame:
    """NDCG@10 of `newcomers` by the events that they had so far, with its 95 % interval (normal, over users)."""
    parts = []
    for name, frames in ranks.items():
        whole = pd.concat(frames)
        gain = pd.Series(np.where(whole["kept"] <= 10, 1 / np.log2(whole["kept"] + 1), 0.0))
        read = gain.groupby(whole["position"].to_numpy() + 1).agg(["mean", "sem", "size"]).rename_axis("length")
        low, high = (read["mean"] + sign * 1.96 * read["sem"] for sign in (-1, 1))
        values = {"variant": name, "ndcg@10": read["mean"], "low": low, "high": high, "cases": read["size"]}
        parts.append(pd.DataFrame(values).reset_index())
    return pd.concat(parts, ignore_index=True)
