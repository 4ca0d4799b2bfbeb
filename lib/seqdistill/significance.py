"""Is a difference real? Paired tests over users, and Holm's correction."""

import numpy as np
import pandas as pd
from scipy import stats

from seqdistill.artifacts import BookError

RESAMPLES = 9_999


def by_user(ranks: pd.DataFrame, column: str, k: int = 10) -> pd.DataFrame:
    """Recall@k and NDCG@k per user, means over the user's cases: every user weighs the same."""
    hit = ranks[column] <= k
    gains = pd.DataFrame({f"recall@{k}": hit.astype(float), f"ndcg@{k}": hit / np.log2(ranks[column] + 1)})
    return gains.groupby(ranks["user"]).mean()


def paired(variant: list[pd.Series], baseline: list[pd.Series], seed: int = 0) -> dict[str, float]:
    """Compare two systems on the same users: seed-averaged NDCG per user, then a paired test over users.

    Args:
        variant: per-user values, one series per training seed.
        baseline: the same for the baseline.
        seed: seed of the resampling.

    Returns:
        delta (mean difference), ci_low and ci_high (95 % percentile bootstrap over users), p (two-sided sign-flip
        randomisation test); a single user leaves nothing to test, and all but delta NaN.

    Raises:
        BookError: the two were not scored on the same users.
    """
    a, b = (sum(values) / len(values) for values in (variant, baseline))
    if not a.index.equals(b.index):
        raise BookError("paired: the systems were scored on different users.")
    difference = (a - b).to_numpy()
    if len(difference) < 2:
        return {"delta": float(difference.mean()), "ci_low": np.nan, "ci_high": np.nan, "p": np.nan}
    rng = np.random.default_rng(seed)
    low, high = stats.bootstrap(
        (difference,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng, batch=500
    ).confidence_interval
    test = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, vectorized=True, rng=rng, batch=500
    )
    return {"delta": float(difference.mean()), "ci_low": float(low), "ci_high": float(high), "p": float(test.pvalue)}


def holm(p: pd.Series) -> pd.Series:
    """Adjust p-values for their number (Holm, 1979); NaN stays NaN and does not count."""
    known = p.dropna().sort_values(kind="stable")
    factors = np.arange(len(known), 0, -1)
    return (known * factors).cummax().clip(upper=1.0).reindex(p.index)
