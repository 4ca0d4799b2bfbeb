"""A run of IDGenRec: trained once, decoded on chosen cases, kept under the digest of what it was made from."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import rmtree
from statistics import median

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from joblib import Parallel, delayed
from safetensors.torch import save_file

from seqdistill.config import to_dict
from seqdistill.data.sequences import Cases
from seqdistill.evaluation.ranking import RANK_COLUMN, metrics
from seqdistill.idgenrec.ids import templates
from seqdistill.idgenrec.model import (
    IDGenRec,
    System,
    batch,
    epoch,
    generator_loss,
    recommender_loss,
    rewrite,
    start,
    write_users,
)
from seqdistill.idgenrec.trie import constrained_beam_search
from seqdistill.io import announce, digest, load_json, save_json, save_table, save_with
from seqdistill.training import checkpoint
from seqdistill.training.checkpoint import restore, state_of
from seqdistill.training.loop import AdamW
from seqdistill.training.train import ENGINE_VERSION, TrainingData

DECODED = 32  # cases decoded together
ALONE = 5  # requests timed one by one


def key(config: IDGenRec, given: TrainingData, texts: Sequence[str], chosen: np.ndarray) -> str:
    """Name of a run: digest of its settings, its inputs, its cases and `ENGINE_VERSION`."""
    made = [to_dict(config), given.key, digest(list(texts)), digest(chosen.tolist()), digest(templates())]
    return digest([ENGINE_VERSION, *made])[:16]


def train(
    config: IDGenRec,
    given: TrainingData,
    texts: Sequence[str],
    chosen: np.ndarray,
    folder: Path,
    progress: Callable[[str], None] = announce,
) -> dict:
    """Train and decode, or simply read a finished run; a second process that wants the same one waits for the first.

    Args:
        config: what to train.
        given: data; its teacher does not matter.
        texts: of the items.
        chosen: places of the test cases that are decoded.
        folder: parent of the run's folder, which `key` names.
        progress: takes a line after every epoch.

    Returns:
        The run's metrics.json.
    """
    home = folder / key(config, given, texts, chosen)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "lock"):
        if not (home / "metrics.json").exists():
            fit(config, given, texts, chosen, home, progress)
    return load_json(home / "metrics.json")


def sweep(
    jobs: dict[tuple[str, int], IDGenRec], given: TrainingData, texts: Sequence[str], chosen: np.ndarray, folder: Path
) -> dict[tuple[str, int], dict]:
    """Finish runs, one thread each, as many at a time as there are cores, and return their metrics."""
    homes = {name: folder / key(config, given, texts, chosen) for name, config in jobs.items()}
    todo = [config for name, config in jobs.items() if not (homes[name] / "metrics.json").exists()]
    if todo:
        announce(f"IDGenRec: {len(jobs)} runs, {len(todo)} of them to train")
        Parallel(n_jobs=-1)(delayed(train)(config, given, texts, chosen, folder.resolve()) for config in todo)
    return {name: load_json(home / "metrics.json") | {"folder": home} for name, home in homes.items()}


def clock() -> tuple[float, float]:
    """CPU seconds of this process, and seconds of the wall."""
    return time.process_time(), time.perf_counter()


def since(begun: tuple[float, float]) -> tuple[float, float]:
    """CPU and wall seconds since a reading of `clock`."""
    now = clock()
    return now[0] - begun[0], now[1] - begun[1]


def drawn(prefixes: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Draw prefixes, or take them all where `most` is 0."""
    return rng.permutation(prefixes)[:most] if most else prefixes


def fit(
    config: IDGenRec, given: TrainingData, texts: Sequence[str], chosen: np.ndarray, home: Path, progress: Callable
) -> None:
    """Alternate recommender and generator, decode the cases, and keep it all."""
    torch.set_num_threads(1)
    begun, rng = clock(), np.random.default_rng(config.seed)
    system = start(config, given, texts)
    prefixes = np.array([(user, before) for user, known in system.known.items() for before in range(1, known)])
    learners = {
        "recommender": (recommender_loss, config.recommender_epochs, config.recommender_lr, config.samples),
        "generator": (generator_loss, config.generator_epochs, config.generator_lr, config.generator_samples),
    }
    states = {name: AdamW(list(getattr(system, name).parameters()), it[2], 0.01) for name, it in learners.items()}
    steps = [name for name, it in learners.items() for _ in range(it[1])]
    steps = (steps * config.rounds)[: config.rounds * len(steps) - config.generator_epochs]
    history, spent = left_off(home / "checkpoint", system, states, rng)
    begun = clock() if history else begun
    for step, name in list(enumerate(steps))[len(history) :]:
        loss, _, _, most = learners[name]
        size, at = config.batch // (1 if name == "recommender" else 8), clock()
        value = epoch(system, drawn(prefixes, most, rng), loss, states[name], size, rng)
        if name == "generator" and steps[step + 1] == "recommender":
            rewrite(system)
        cpu, wall = since(at)
        history.append({"trained": name, "loss": value, "cpu_s": cpu, "wall_s": wall})
        total = sums(since(begun), spent)
        leave_off(home / "checkpoint", system, states, rng, history, total)
        left = total[1] / (step + 1) * (len(steps) - step - 1) / 60
        progress(f"run {home.name}: epoch {step + 1} of {len(steps)} ({name}), loss {value:.3f}, {left:.1f} min left")
    keep(system, home, history, sums(since(begun), spent), len(prefixes), given, chosen)
    rmtree(home / "checkpoint")


def sums(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Add pairs of CPU and wall seconds."""
    return [a + b for a, b in zip(one, other, strict=True)]


def leave_off(
    path: Path, system: System, states: dict, rng: np.random.Generator, history: list[dict], spent: list[float]
) -> None:
    """Write everything that an epoch changes, as `checkpoint.save` does; what is no tensor goes with the last epoch."""
    tensors = {
        f"{name}/{key}": value
        for name, optimizer in states.items()
        for key, value in state_of(getattr(system, name), None, optimizer).items()
    }
    written = {"ids": system.ids, "users": list(system.users.items()), "random": rng.bit_generator.state}
    logs = [*history[:-1], {**history[-1], "written": written}]
    checkpoint.save(path, logs, spent, tensors | {"random": torch.get_rng_state()}, {})


def left_off(path: Path, system: System, states: dict, rng: np.random.Generator) -> tuple[list[dict], list[float]]:
    """Go on from what `leave_off` wrote, if there is any: put it back, and return its epochs and seconds."""
    history, spent, tensors, _ = checkpoint.load(path)
    if not history:
        return [], [0.0, 0.0]
    for name, optimizer in states.items():
        own = {key.split("/", 1)[1]: value for key, value in tensors.items() if key.startswith(f"{name}/")}
        restore(own, getattr(system, name), None, optimizer)
    written = history[-1].pop("written")
    system.ids, system.users = written["ids"], {tuple(it): tokens for it, tokens in written["users"]}
    rng.bit_generator.state = written["random"]
    torch.set_rng_state(tensors["random"])
    return history, spent


def keep(
    system: System,
    home: Path,
    history: list[dict],
    trained: list[float],
    prefixes: int,
    given: TrainingData,
    chosen: np.ndarray,
) -> None:
    """Decode the cases, and write the files of a run; metrics.json last, which says that it has finished."""
    config, at, models = system.config, clock(), (system.recommender.eval(), system.generator.eval())
    ranks = ranked(given, chosen, decode(system, given.test, chosen))
    infer, alone = since(at), [requested(system, given.test, place) for place in chosen[:ALONE]]
    epochs = sum(log["trained"] == "recommender" for log in history)
    result = {
        "config": to_dict(config),
        "history": history,
        "test": {seen: metrics(ranks[column]) for seen, column in RANK_COLUMN.items()},
        "parameters": sum(weight.numel() for model in models for weight in model.parameters()),
        "prefixes": prefixes,
        "prefixes_per_epoch": min(config.samples or prefixes, prefixes),
        "train_cpu_s_per_epoch": trained[0] / epochs,
        "train_wall_s_per_epoch": trained[1] / epochs,
        "infer_cpu_s": infer[0],
        "infer_wall_s": infer[1],
        "infer_cases": len(chosen),
        "request_s": median(alone),
    }
    weights = {
        f"{name}.{part}": weight.detach().contiguous()
        for name, model in zip(("recommender", "generator"), models, strict=True)
        for part, weight in model.named_parameters()
    }
    save_json(to_dict(config), home / "config.json")
    save_json({"ids": system.tokenizer.batch_decode(system.ids)}, home / "ids.json")
    save_table(ranks, home / "ranks.parquet")
    save_with(lambda path: save_file(weights, path), home / "model.safetensors")
    save_json({"cpu_seconds": trained[0]}, home / "cost.json")
    save_json(result, home / "metrics.json")


def sample_of(cases: Cases, place: int) -> tuple[int, int]:
    """User of a case, and the number of events before its target."""
    rows = cases.histories
    return int(rows.users[place]), int(rows.ends[place] - rows.starts[place])


def decode(system: System, cases: Cases, chosen: np.ndarray) -> np.ndarray:
    """Write user ids and lists: items of each chosen case, best first, 0 where there are no more, [n, K]."""
    samples = [sample_of(cases, place) for place in chosen]
    write_users(system, samples)
    unseen, found = len(templates()) - 1, []
    for begin in range(0, len(samples), DECODED):
        part = samples[begin : begin + DECODED]
        prompts = batch(system, part, [unseen] * len(part)).prompts
        found.append(
            constrained_beam_search(system.recommender, prompts, prompts > 0, system.ids, system.config.beams)[0]
        )
    return torch.cat(found).numpy()


def requested(system: System, cases: Cases, place: int) -> float:
    """Seconds of one request that stands alone, its user id included."""
    system.users.clear()
    at = clock()
    decode(system, cases, np.array([place]))
    return since(at)[1]


def ranked(given: TrainingData, chosen: np.ndarray, lists: np.ndarray) -> pd.DataFrame:
    """Rank each target within its list; a target that is not in it has the last rank of all, V.

    Returns:
        As `evaluate.rank`: user, item, position, kept, filtered (items of the history taken out of the list).
    """
    rows = []
    for place, found in zip(chosen, lists, strict=True):
        target, history = given.test.targets[place], given.test.histories.row(place)
        unseen = found[~np.isin(found, history) | (found == target)]
        ranks = [int(np.argmax(it == target)) + 1 if (it == target).any() else given.items for it in (found, unseen)]
        user, position = given.test.histories.users[place], given.test.position[place]
        rows.append((user, target, position, *ranks))
    return pd.DataFrame(rows, columns=["user", "item", "position", "rank_all", "rank_unseen"])
