"""What could teach instead of a profile, and which of it carries the most: a test that no held-out event enters."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from seqdistill.evaluation.significance import holm, paired
from seqdistill.io import UserError
from seqdistill.profiles.facts import facts_text, histories, history_lines

TEXT_TEACHERS = ("profile", "facts", "raw-history")
NO_LLM = ("facts", "raw-history", "item-text")
TEACHERS = (*TEXT_TEACHERS, "item-text", "shuffled", "noise")
Encode = Callable[[Sequence[str]], np.ndarray]


def item_texts(items: pd.DataFrame) -> list[str]:
    """Write every item of the catalogue as a line of a history, without a user's rating."""
    events = pd.DataFrame({"user": 0, "item": items["item"], "value": np.nan, "split": "train"})
    return history_lines(histories(events, items)[0])


def arm_texts(arm: str, profiles: pd.Series, found: dict[int, pd.DataFrame], latest: int) -> list[str]:
    """Texts of a text arm.

    Args:
        arm: "profile", "facts" (computed, no LLM) or "raw-history".
        profiles: profile text by user.
        found: user -> training history.
        latest: events that "raw-history" shows, the user's last ones in training.
    """
    if arm == "profile":
        return profiles.tolist()
    if arm == "facts":
        return [facts_text(found[user], {}) for user in profiles.index]
    return ["\n".join(history_lines(found[user].tail(latest))) for user in profiles.index]


def arm_vectors(
    arm: str,
    profiles: pd.Series,
    found: dict[int, pd.DataFrame],
    items: np.ndarray,
    encode: Encode,
    latest: int,
    seed: int,
) -> np.ndarray:
    """One vector per user with a profile, [n, e].

    "item-text" is the mean of the vectors of the history's items, "shuffled" another user's profile, "noise" normal
    and as wide as an encoded profile.

    Args:
        profiles: profile text by user; a user of several parts stands here once for each, and the mean is returned.
        found: user -> training history, in the order of the users.
        items: vectors of the catalogue, [V, e]; item i in row i - 1.
        encode: texts -> vectors.
        latest: see `arm_texts`.
        seed: of "shuffled" and "noise".

    Raises:
        UserError: there is no such arm.
    """
    if arm not in TEACHERS:
        raise UserError(f'arms: "{arm}" is not a teacher; choose one of {", ".join(TEACHERS)}.')
    rng, users = np.random.default_rng(seed), profiles.index.unique()
    if arm == "noise":
        width = encode([profiles.iloc[0]]).shape[1]
        return rng.standard_normal((len(users), width)).astype(np.float32)
    if arm == "item-text":
        return np.stack([items[found[user]["item"].to_numpy() - 1].mean(0) for user in users])
    texts = arm_texts("profile" if arm == "shuffled" else arm, profiles, found, latest)
    vectors = pd.DataFrame(encode(texts), index=profiles.index).groupby(level=0, sort=False).mean().to_numpy()
    if arm == "shuffled":
        order = rng.permutation(len(users))
        moved = np.empty_like(vectors)
        moved[order] = vectors[np.roll(order, 1)]
        return moved
    return vectors.astype(np.float32)


def centred(vectors: np.ndarray) -> np.ndarray:
    """Take the mean away and give every row length 1: what all texts share says nothing about one of them."""
    moved = vectors - vectors.mean(0)
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)


def ranked(users: np.ndarray, items: np.ndarray, targets: np.ndarray, seen: list[np.ndarray]) -> np.ndarray:
    """Rank of each user's target by text similarity among all items that the user has not seen in training, [n].

    Args:
        users: [n, e].
        items: [V, e]; item i in row i - 1.
        targets: item of each user.
        seen: items of each user's training history.
    """
    scores = centred(users) @ centred(items).T
    ranks = []
    for row, target, known in zip(scores, targets, seen, strict=True):
        own = row[target - 1]
        rivals = np.delete(row, np.setdiff1d(known, [target]) - 1)
        ranks.append((rivals >= own).sum())
    return np.array(ranks)


def category_auc(users: np.ndarray, categories: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Share of pairs (category of the target, other category) that text similarity puts in the right order, [n].

    Args:
        users: [n, e].
        categories: vectors of their names, [c, e].
        relevant: True where the target carries the category, [n, c]; NaN where it carries all or none.
    """
    scores = centred(users) @ centred(categories).T
    found = np.full(len(users), np.nan)
    for row, (score, mine) in enumerate(zip(scores, relevant, strict=True)):
        if 0 < mine.sum() < len(mine):
            right = score[mine][:, None] - score[~mine][None]
            found[row] = ((right > 0) + 0.5 * (right == 0)).mean()
    return found


def carried(
    vectors: dict[str, np.ndarray],
    items: np.ndarray,
    categories: np.ndarray,
    relevant: np.ndarray,
    targets: np.ndarray,
    seen: list[np.ndarray],
    against: str = "shuffled",
) -> pd.DataFrame:
    """How well each arm ranks the validation item and its categories, with no training at all.

    Returns:
        One row per arm: category_auc, item_percentile (1: on top, .5: chance), recall@10, ndcg@10; and against
        the arm `against` the difference in item_percentile with its 95 % interval over users (delta, ci_low, ci_high,
        p, and p_holm: corrected for the number of arms; NaN where a single user leaves nothing to test).

    Raises:
        UserError: there is no target at all.
    """
    if not len(targets):
        raise UserError("arms: no user has both a profile and a validation item, so that nothing can be ranked.")
    per_user = {}
    for arm, users in vectors.items():
        ranks = ranked(users, items, targets, seen)
        pairs = zip(seen, targets, strict=True)
        rivals = np.array([len(items) - len(np.setdiff1d(known, [target])) for known, target in pairs])
        per_user[arm] = pd.DataFrame(
            {
                "category_auc": category_auc(users, categories, relevant),
                "item_percentile": 1 - (ranks - 1) / (rivals - 1),
                "recall@10": ranks <= 10,
                "ndcg@10": np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0),
            }
        )
    rows = []
    for arm, table in per_user.items():
        both = ([scores["item_percentile"]] for scores in (table, per_user[against]))
        test = paired(*both) if arm != against else {}
        rows.append({"arm": arm, "users": len(table), **table.mean().to_dict(), **test})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"]))


def reading(row: dict) -> str:
    """Read one row of `carried` aloud; a difference is said where interval and corrected p agree on it."""
    told = "inconclusive to differ"
    if row["p_holm"] < 0.05 and row["ci_low"] * row["ci_high"] > 0:
        told = "higher" if row["delta"] > 0 else "lower"
    interval = f"{row['ci_low']:+.4f} to {row['ci_high']:+.4f}, Holm-adjusted p = {row['p_holm']:.4f}"
    return f"**{row['arm']}**: *{told}* ({interval})"
