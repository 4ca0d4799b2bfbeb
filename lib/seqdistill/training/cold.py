"""Cold items and new users: the runs that are compared on them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from seqdistill.config import ItemText, TrainConfig
from seqdistill.data.cold import newcomers
from seqdistill.embeddings.encoders import encode
from seqdistill.embeddings.reducers import Transform, fit, teacher_rows
from seqdistill.profiles.facts import clean, facts_text, histories
from seqdistill.training.ablation import Setup
from seqdistill.training.sweep import Job, Jobs, plan
from seqdistill.training.train import TrainingData, training_data

Told = tuple[np.ndarray, np.ndarray]  # users [n], vectors of what was written about them [n, e]


def expectation(sizes: pd.DataFrame, dataset: str, within: float = 0.05) -> str:
    """Say of each of the paper's counts whether ours, of the first seed, is within a share of it.

    Args:
        sizes: one row per source, with columns dataset, source ("paper", or ours) and those of `data.cold.statistics`.
        dataset: ours.
        within: the share.
    """
    ours = sizes[(sizes["dataset"] == dataset) & (sizes["source"] != "paper")].iloc[0]
    theirs = sizes[(sizes["dataset"] == dataset) & (sizes["source"] == "paper")]
    if theirs.empty:
        return f"The paper has no counts for {dataset}."
    paper = theirs.iloc[0].drop(["dataset", "source"])
    said = [
        f"{name} {ours[name] / value - 1:+.1%}: *{'met' if abs(ours[name] / value - 1) <= within else 'not met'}*"
        for name, value in paper.items()
    ]
    return f"Against the paper's counts, {within:.0%} allowed: " + "; ".join(said) + "."


def written(events: pd.DataFrame, items: pd.DataFrame) -> dict[int, str]:
    """Write a profile without an LLM (`facts_text`) of every user's training events: user -> text."""
    found = histories(events[events["split"] == "train"], items)
    return {user: facts_text(history, {}) for user, history in found.items()}


def told(texts: dict[int, str], encoder: str) -> Told:
    """Encode a text of each user."""
    return np.array(list(texts)), encode(list(texts.values()), encoder)[0]


def titles_named(events: pd.DataFrame, texts: dict[int, str], items: pd.DataFrame, gone: np.ndarray) -> int:
    """Count the training events of items in `gone` whose titles the texts of their users name.

    Args:
        events: all events, as they were before anything was taken away.
        texts: user -> facts.
        items: texts of the catalogue.
        gone: items that a profile should not know.
    """
    lost = events[(events["split"] == "train") & events["item"].isin(gone)].merge(items[["item", "title"]], on="item")
    return sum(
        f'"{clean(title, 80)}"' in texts.get(user, "") for user, title in zip(lost["user"], lost["title"], strict=True)
    )


def taught_from(given: TrainingData, about: Told, width: int, users: int) -> TrainingData:
    """Give a problem of `users` users the teacher that the vectors of some of them make, reduced by PCA to a width."""
    owners, vectors = about
    return replace(given, teacher=teacher_rows(fit(vectors, "pca", width)[0], owners, users))


def variants(setup: Setup, budget: float, ours: bool) -> tuple[dict[str, TrainConfig], dict[str, str]]:
    """Name the runs of one of chapter 4's students, with a share of its epochs; and the control of each taught form.

    Args:
        setup: student and distillations.
        budget: share of the epochs; there are more where phase 1 would have none.
        ours: with the form that projects the student, too.
    """
    full, share = setup.alone.epochs, min(setup.literal.phase1_fraction, setup.taught.phase1_fraction)
    enough = (number for number in range(round(budget * full), full) if round(number * share))
    run, model = replace(setup.alone, epochs=next(enough, full)), setup.label["model"]
    forms = {"distilled": ("shuffled-target", setup.literal)}
    if ours:
        forms["distilled-student"] = ("shuffled", setup.taught)
    runs, controls = {f"{model} plain": run}, {}
    for form, (control, setting) in forms.items():
        runs[f"{model} {form}"] = replace(run, distillation=setting)
        runs[f"{model} {control}"] = replace(run, distillation=replace(setting, shuffled=True))
        controls[f"{model} {form}"] = f"{model} {control}"
    return runs, controls


def planned(
    runs: dict[str, TrainConfig],
    lead: str,
    text: ItemText,
    seeds: list[int],
    given: list[TrainingData],
    leaked: list[TrainingData],
) -> Jobs:
    """Plan every run for every seed's draw, and for the student `lead` those that leak and those that read texts.

    Args:
        runs: see `variants`.
        lead: name of a student.
        text: how it reads texts.
        seeds: one for each draw.
        given: problem of each draw, with the teacher that it leaves, and with texts.
        leaked: the same with a teacher from the full histories.
    """
    alone, taught = runs[f"{lead} plain"], runs[f"{lead} distilled-student"]
    readers = {"item-side-text": alone, "item-side-text-distilled": taught}
    runs = runs | {f"{lead} {name}": replace(run, item_text=text) for name, run in readers.items()}
    jobs: Jobs = {}
    for seed, own, leaking in zip(seeds, given, leaked, strict=True):
        jobs |= plan(runs | {f"{lead} leaked": Job(taught, leaking)}, [seed], own)
    return jobs


def arrivals(
    events: pd.DataFrame, runs: dict[str, TrainConfig], about: Told, width: int, items: int,
    share: float, most: int, seeds: list[int],
) -> Jobs:  # fmt: skip
    """Plan runs that are tested on `newcomers`, other users with every seed; newcomers have no teacher.

    Args:
        events: all events.
        runs: variant -> run.
        about: vectors of all users.
        width: of the teacher.
        items: catalogue size.
        share, most, seeds: see `newcomers`.
    """
    jobs: Jobs = {}
    for seed in seeds:
        frame = newcomers(events, share, most, seed)
        known = np.isin(about[0], frame.loc[frame["split"] == "train", "user"])
        from_known = (about[0][known], about[1][known])
        given = taught_from(training_data(frame, items), from_known, width, int(events["user"].max()) + 1)
        jobs |= plan(runs, [seed], given)
    return jobs


def item_vectors(texts: np.ndarray, components: int) -> tuple[torch.Tensor, Transform]:
    """Reduce item texts [V, e] by PCA to vectors of mean length 1, [V, r], and a function that does so for others.

    r is `components`, or less where there are fewer items.
    """
    narrow, squeeze = fit(texts, "pca", min(components, len(texts) - 1, texts.shape[1]))
    scale = float(np.linalg.norm(narrow, axis=1).mean())
    return torch.from_numpy(narrow / scale), lambda more: squeeze(more) / scale
