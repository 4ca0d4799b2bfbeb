"""Cold items and new users: what is taken out of training, what is left, and the runs that are compared on it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from seqdistill.config import ItemText, TrainConfig
from seqdistill.data.splits import places
from seqdistill.embeddings.encoders import encode
from seqdistill.embeddings.reducers import Transform, fit
from seqdistill.profiles.facts import clean, facts_text, histories
from seqdistill.training.sweep import Job, Jobs, plan
from seqdistill.training.train import TrainingData, training_data

from seqbook.ablation import Setup, epochs_for, shuffled, taught_with

GROUPS = ("removed", "reduced", "affected", "unaffected")
Perturbed = tuple[pd.DataFrame, np.ndarray, np.ndarray]  # events that are left, items removed, items reduced
Encoded = tuple[np.ndarray, np.ndarray]  # users [n], vectors of their texts [n, e]


def cold_items(
    events: pd.DataFrame, share: float = 0.4, removed: float = 0.5, kept: tuple[int, int] = (6, 9), seed: int = 0
) -> Perturbed:
    """Draw a share of the items that are test targets; remove or reduce their training events (Severin et al., 2026).

    A share `removed` of them loses all; each of the others keeps a number drawn from `kept` (fewest, most).
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
    keep = ~train
    keep[rows] = pd.Series(item[rows]).groupby(item[rows]).cumcount().to_numpy() < most[item[rows]]
    return events[keep].reset_index(drop=True), gone, starved


def group_of(items: np.ndarray, drawn: Perturbed) -> np.ndarray:
    """Say of each item whether it was removed, reduced or left unaffected."""
    return np.select([np.isin(items, part) for part in drawn[1:]], GROUPS[:2], "unaffected")


def counts(events: pd.DataFrame, items: int) -> np.ndarray:
    """Training events of every item, [V]; item i in place i - 1."""
    return np.bincount(events.loc[events["split"] == "train", "item"], minlength=items + 1)[1:]


def statistics(drawn: Perturbed) -> dict[str, int]:
    """Count what is left, in the paper's columns: users, items, interactions, cold items, test users who meet one."""
    left, removed, reduced = drawn
    test = left[left["split"] == "test"]
    cold = group_of(test["item"].to_numpy(), drawn) != "unaffected"
    return {
        "users": left["user"].nunique(),
        "items": left["item"].nunique(),
        "interactions": len(left),
        "removed": len(removed),
        "reduced": len(reduced),
        "test_users_with_cold_items": test.loc[cold, "user"].nunique(),
    }


def newcomers(events: pd.DataFrame, share: float, most: int, seed: int) -> pd.DataFrame:
    """Take a share of the users out of training, and test them alone, on their second event and up to `most` in all."""
    users = events["user"].unique()
    drawn = np.random.default_rng(seed).choice(users, round(share * len(users)), replace=False)
    before, _ = places(events)
    tested = np.select([before == 0, before <= most], ["input", "test"], "unused")
    known = events["split"].where(events["split"] != "test", "unused")
    return events.assign(split=np.where(events["user"].isin(drawn), tested, known))


def write_facts(events: pd.DataFrame, items: pd.DataFrame) -> dict[int, str]:
    """Write a profile without an LLM (`facts_text`) of every user's training events: user -> text."""
    train = events[events["split"] == "train"]
    return {user: facts_text(history, {}) for user, history in histories(train, items).items()}


def encode_facts(texts: dict[int, str], encoder: str) -> Encoded:
    """Encode each user's text."""
    return np.array(list(texts)), encode(list(texts.values()), encoder)[0]


def titles_named(events: pd.DataFrame, texts: dict[int, str], items: pd.DataFrame, removed: np.ndarray) -> int:
    """Count the training events of removed items, among all events, whose title is named in the user's text."""
    train = events[(events["split"] == "train") & events["item"].isin(removed)]
    train = train.merge(items[["item", "title"]], on="item")
    pairs = zip(train["user"], train["title"], strict=True)
    return sum(f'"{clean(title, 80)}"' in texts.get(user, "") for user, title in pairs)


def taught_from(data: TrainingData, encoded: Encoded, width: int, users: int) -> TrainingData:
    """Give data of `users` users a teacher made of the vectors of some of them, reduced by PCA to a width."""
    owners, vectors = encoded
    return taught_with(data, fit(vectors, "pca", width)[0], owners, users)


def variants(setup: Setup, budget: float, ours: bool) -> tuple[dict[str, TrainConfig], dict[str, str]]:
    """Name the runs of a student of 04 for a share of its epochs (`ours`: both forms), and each form's control."""
    epochs, model = epochs_for(setup, budget), setup.label["model"]
    runs, controls = {f"{model} plain": replace(setup.alone, epochs=epochs)}, {}
    for form, control in {"distilled": "shuffled-target", "distilled-student": "shuffled"}.items():
        if ours or form == "distilled":
            run = replace(setup.runs[form], epochs=epochs)
            runs |= {f"{model} {form}": run, f"{model} {control}": shuffled(run)}
            controls[f"{model} {form}"] = f"{model} {control}"
    return runs, controls


def planned(
    runs: dict[str, TrainConfig], lead: str, text: ItemText, seeds: list[int], draws: list[TrainingData],
    leaked: list[TrainingData],
) -> Jobs:  # fmt: skip
    """Plan the runs of `variants` for every seed's draw, and for the student `lead` those that leak or read texts.

    draws: each seed's data, with item texts and a teacher from the events left; leaked: with one from all events.
    """
    alone, taught = runs[f"{lead} plain"], runs[f"{lead} distilled-student"]
    runs = runs | {f"{lead} item-side-text": replace(alone, item_text=text)}
    runs |= {f"{lead} item-side-text-distilled": replace(taught, item_text=text)}
    jobs: Jobs = {}
    for seed, data, leaking in zip(seeds, draws, leaked, strict=True):
        jobs |= plan(runs | {f"{lead} leaked": Job(taught, leaking)}, [seed], data)
    return jobs


def arrivals(
    events: pd.DataFrame, runs: dict[str, TrainConfig], encoded: Encoded, width: int, items: int,
    share: float, most: int, seeds: list[int],
) -> Jobs:  # fmt: skip
    """Plan runs that are tested on `newcomers` (share, most), drawn with each seed; newcomers have no teacher."""
    jobs: Jobs = {}
    for seed in seeds:
        frame = newcomers(events, share, most, seed)
        known = np.isin(encoded[0], frame.loc[frame["split"] == "train", "user"])
        of_known = encoded[0][known], encoded[1][known]
        data = taught_from(training_data(frame, items), of_known, width, int(events["user"].max()) + 1)
        jobs |= plan(runs, [seed], data)
    return jobs


def item_vectors(texts: np.ndarray, components: int) -> tuple[torch.Tensor, Transform]:
    """Reduce item texts [V, e] by PCA to vectors of mean length 1, [V, r]; also return the function for other texts."""
    narrow, squeeze = fit(texts, "pca", min(components, len(texts) - 1, texts.shape[1]))
    scale = float(np.linalg.norm(narrow, axis=1).mean())
    return torch.from_numpy(narrow / scale), lambda more: squeeze(more) / scale
