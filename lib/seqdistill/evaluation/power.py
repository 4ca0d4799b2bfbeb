"""How many seeds does it take? Synthetic tables with the variances of real ones, tested as real ones are."""

from itertools import product

import numpy as np
import pandas as pd

from seqdistill.evaluation.significance import assess, decide, differences


def components(variant: list[pd.Series], baseline: list[pd.Series]) -> dict[str, float]:
    """Standard deviations of the differences of two systems by user (a series a seed): users, seeds, the rest.

    The usual estimates of a two-way layout without replication; at least two seeds, the same users in each.
    """
    table = pd.concat(differences(variant, baseline), axis=1).to_numpy()  # [U, S]
    users, seeds = table.shape
    by_user, by_seed, mean = table.mean(1, keepdims=True), table.mean(0, keepdims=True), table.mean()
    rest = ((table - by_user - by_seed + mean) ** 2).sum() / ((users - 1) * (seeds - 1))
    over_users = max(0.0, by_user.var(ddof=1) - rest / seeds)
    over_seeds = max(0.0, by_seed.var(ddof=1) - rest / users)
    return {"user_sd": over_users**0.5, "seed_sd": over_seeds**0.5, "rest_sd": rest**0.5}


def synthetic(
    rng: np.random.Generator, spread: dict[str, float], users: int, seeds: int, gain: float, lift: float, students: int
) -> dict[str, list[pd.Series]]:
    """Draw a plain student, taught ones that gain, and controls that gain `lift`: system -> a series a seed."""
    half = np.sqrt(0.5)  # two systems make a difference

    def system(mean: float) -> list[pd.Series]:
        fixed = mean + half * spread["user_sd"] * rng.standard_normal(users)
        shifts = half * spread["seed_sd"] * rng.standard_normal(seeds)
        return [pd.Series(fixed + shift + half * spread["rest_sd"] * rng.standard_normal(users)) for shift in shifts]

    drawn = {"plain": system(0.0)}
    for student in range(students):
        drawn |= {f"taught {student}": system(gain), f"control {student}": system(lift)}
    return drawn


def power(
    spread: dict[str, float], users: list[int], seeds: list[int], gains: list[float], lift: float = 0.0,
    students: int = 2, tables: int = 200, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Share of synthetic tables in which the first of some taught students is found to gain, and in which any is.

    spread: see `components`. gains: true differences in NDCG@10 of all of them; lift: that of their controls. Where a
    gain is at most `lift`, `any` is the type I error, largest where both are equal and large. A row per combination.
    """
    against = {f"{kind} {number}": "plain" for number in range(students) for kind in ("taught", "control")}
    controls, rows = {f"taught {number}": f"control {number}" for number in range(students)}, []
    for size, runs, gain in product(users, seeds, gains):
        rng, found = np.random.default_rng(seed), []
        for _ in range(tables):
            drawn = synthetic(rng, spread, size, runs, gain, lift, students)
            decided = decide(assess(drawn, against, controls))
            found.append((decided["verdict"] == "significant gain").to_numpy()[1::2])
        hits = np.array(found)
        rows.append((size, runs, gain, hits[:, 0].mean(), hits.any(1).mean()))
    return pd.DataFrame(rows, columns=["users", "seeds", "gain", "power", "any"])
