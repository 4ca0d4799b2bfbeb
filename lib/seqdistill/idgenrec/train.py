"""A run of IDGenRec: trained once, decoded on chosen cases, stored under the digest of what it was made from."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from joblib import Parallel, delayed
from safetensors.torch import save_file
from torch import Tensor, nn

from seqdistill.config import settings, to_dict
from seqdistill.data.sequences import Cases
from seqdistill.evaluation.ranking import RANK_COLUMN, metrics
from seqdistill.idgenrec.ids import cut, keywords, stacked, templates, unique
from seqdistill.idgenrec.model import (
    Batch,
    IDGenRec,
    System,
    batch,
    generator_loss,
    recommender_loss,
    rename,
    rewrite,
    untrained_system,
    write_users,
)
from seqdistill.idgenrec.trie import constrained_beam_search
from seqdistill.io import announce, digest, load_json, save_json, save_table, save_with
from seqdistill.training import checkpoint
from seqdistill.training.loop import AdamW
from seqdistill.training.train import ENGINE_VERSION, TrainingData

TAG_LR = 3e-3  # of a generator from scratch that learns keywords
DECODED = 32  # cases decoded together
TIMED = 5  # requests timed one by one


def key(config: IDGenRec, data: TrainingData, texts: Sequence[str], chosen: np.ndarray) -> str:
    """Name of a run: digest of its settings, its inputs, its cases and `ENGINE_VERSION`."""
    inputs = [settings(config), data.key, digest(list(texts)), digest(chosen.tolist()), digest(templates())]
    return digest([ENGINE_VERSION, *inputs])[:16]


def train(
    config: IDGenRec, data: TrainingData, texts: Sequence[str], chosen: np.ndarray, runs: Path,
    progress: Callable[[str], None] = announce,
) -> dict:  # fmt: skip
    """Train, resume or simply read a run, as `training.train` does; return its metrics.json.

    `texts` are those of the items, `chosen` are the places of the test cases that are decoded.
    """
    home = runs / key(config, data, texts, chosen)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "lock"):
        if not (home / "metrics.json").exists():
            fit(config, data, texts, chosen, home, progress)
    return load_json(home / "metrics.json")


def sweep(
    jobs: dict[tuple[str, int], IDGenRec], data: TrainingData, texts: Sequence[str], chosen: np.ndarray, runs: Path
) -> dict[tuple[str, int], dict]:
    """Finish runs, one thread each, as many at a time as there are cores; return their metrics, and each its folder."""
    homes = {name: runs / key(config, data, texts, chosen) for name, config in jobs.items()}
    todo = [config for name, config in jobs.items() if not (homes[name] / "metrics.json").exists()]
    announce(f"IDGenRec: {len(jobs)} runs, {len(todo)} of them to train")
    Parallel(n_jobs=-1)(delayed(train)(config, data, texts, chosen, runs.resolve()) for config in todo)
    return {name: load_json(home / "metrics.json") | {"folder": home} for name, home in homes.items()}


def start(config: IDGenRec, data: TrainingData, texts: Sequence[str]) -> System:
    """Set up a system and the first ids of its items: keywords, which a new generator learns, or written."""
    system = untrained_system(config, data.train, data.test, texts)
    if config.recommender:
        rewrite(system)
        return system
    rename(system, unique(keywords(texts, 6), system.tokenizer))
    model, end = system.generator.train(), system.tokenizer.eos_token_id
    optimizer, rng = AdamW(list(model.parameters()), TAG_LR, weight_decay=0.0), np.random.default_rng(config.seed)
    for _ in range(config.tag_epochs):
        for rows in np.array_split(rng.permutation(len(texts)), -(-len(texts) // config.batch)):
            read = cut([system.texts[row] for row in rows], end)
            labels = stacked([[*system.ids[row], end] for row in rows], -100)
            step(optimizer, model(input_ids=read, attention_mask=(read > 0).long(), labels=labels).loss)
    return system


def step(optimizer: AdamW, loss: Tensor) -> float:
    """Take one step of gradients clipped to norm 1; return the loss."""
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optimizer.trained, 1.0)
    optimizer.step()
    return loss.item()


def epoch(
    system: System, learner: str, samples: np.ndarray, optimizer: AdamW, size: int, rng: np.random.Generator
) -> float:
    """Train "recommender" or "generator" on samples [n, 2], in random order with random templates; return mean loss."""
    write_users(system, [tuple(sample) for sample in samples.tolist()])
    loss: Callable[[System, Batch], Tensor] = {"recommender": recommender_loss, "generator": generator_loss}[learner]
    for name in ("recommender", "generator"):
        getattr(system, name).train(name == learner).requires_grad_(name == learner)
    losses = []
    for rows in np.array_split(rng.permutation(len(samples)), -(-len(samples) // size)):
        chosen = rng.integers(0, len(templates()) - 1, len(rows))
        losses.append(step(optimizer, loss(system, batch(system, samples[rows].tolist(), chosen))))
    return float(np.mean(losses))


def fit(
    config: IDGenRec, data: TrainingData, texts: Sequence[str], chosen: np.ndarray, home: Path, progress: Callable
) -> None:
    """Train recommender and generator in turn, decode the cases, and write the run; metrics.json is written last."""
    torch.set_num_threads(1)
    began, rng, system = time.process_time(), np.random.default_rng(config.seed), start(config, data, texts)
    prefixes = np.array([(user, before) for user, events in system.trained.items() for before in range(1, events)])
    pair = nn.ModuleDict({"recommender": system.recommender, "generator": system.generator})
    optimizer = AdamW(list(pair.parameters()), config.recommender_lr)
    settings = {  # learning rate, prefixes of an epoch, batch
        "recommender": (config.recommender_lr, config.samples, config.batch),
        "generator": (config.generator_lr, config.generator_samples, config.batch // 8),
    }
    turn = ["recommender"] * config.recommender_epochs + ["generator"] * config.generator_epochs
    learners = (turn * config.rounds)[: config.rounds * len(turn) - config.generator_epochs]
    history, before, state, _ = checkpoint.load(home / "checkpoint")
    if history:
        torch.set_rng_state(state.pop("random"))
        written = json.loads(bytes(state.pop("written").numpy()))
        rng.bit_generator.state, system.ids = written["rng"], written["ids"]
        system.user_ids = {tuple(source): tokens for source, tokens in written["user_ids"]}
        checkpoint.restore(state, pair, None, optimizer)
        began = time.process_time() - before
    for number, learner in list(enumerate(learners))[len(history) :]:
        cpu, wall = time.process_time(), time.perf_counter()
        optimizer.lr, samples, size = settings[learner]
        drawn = rng.permutation(prefixes)[:samples] if samples else prefixes
        log = {"trained": learner, "loss": epoch(system, learner, drawn, optimizer, size, rng)}
        if learner == "generator" and learners[number + 1] == "recommender":
            rewrite(system)
        history.append(log | {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall})
        written = {"rng": rng.bit_generator.state, "ids": system.ids, "user_ids": list(system.user_ids.items())}
        state = checkpoint.state_of(pair, None, optimizer) | {"random": torch.get_rng_state()}
        state["written"] = torch.frombuffer(bytearray(json.dumps(written).encode()), dtype=torch.uint8)
        checkpoint.save(home / "checkpoint", history, time.process_time() - began, state, {})
        left = mean(log["wall_s"] for log in history) * (len(learners) - len(history)) / 60
        progress(f"run {home.name}: epoch {len(history)} of {len(learners)} ({learner}), loss {log['loss']:.3f}, "
                 f"{left:.1f} min left")  # fmt: skip
    seconds, cpu = time.process_time() - began, time.process_time()
    pair.eval()
    ranks = ranked(data, chosen, decode(system, data.test, chosen))
    result = {
        "config": to_dict(config),
        "history": history,
        "test": {seen: metrics(ranks[column]) for seen, column in RANK_COLUMN.items()},
        "parameters": sum(weight.numel() for weight in pair.parameters()),
        "prefixes": len(prefixes),
        "prefixes_per_epoch": min(config.samples or len(prefixes), len(prefixes)),
        "infer_cases": len(chosen),
        "infer_cpu_s": time.process_time() - cpu,
        "request_s": median(requested(system, data.test, place) for place in chosen[:TIMED]),
    }
    weights = {name: weight.detach().contiguous() for name, weight in pair.named_parameters()}
    save_json(to_dict(config), home / "config.json")
    save_json({"ids": system.tokenizer.batch_decode(system.ids)}, home / "ids.json")
    save_table(ranks, home / "ranks.parquet")
    save_with(lambda path: save_file(weights, path), home / "model.safetensors")
    save_json({"cpu_seconds": seconds}, home / "cost.json")
    save_json(result, home / "metrics.json")
    shutil.rmtree(home / "checkpoint", ignore_errors=True)


def decode(system: System, cases: Cases, chosen: np.ndarray) -> np.ndarray:
    """Write user ids and lists: items of each chosen case, best first, 0 where there are no more, [n, K]."""
    rows = cases.histories
    samples = [(int(rows.users[place]), int(rows.ends[place] - rows.starts[place])) for place in chosen]
    write_users(system, samples)
    lists, model, beams = [], system.recommender, system.config.beams
    for begin in range(0, len(samples), DECODED):
        part = samples[begin : begin + DECODED]
        prompts = batch(system, part, [-1] * len(part)).prompts  # the template that training has not seen
        lists.append(constrained_beam_search(model, prompts, prompts > 0, system.ids, beams)[0])
    return torch.cat(lists).numpy()


def requested(system: System, cases: Cases, place: int) -> float:
    """Seconds of one request that stands alone, its user id included."""
    system.user_ids.clear()
    began = time.perf_counter()
    decode(system, cases, np.array([place]))
    return time.perf_counter() - began


def ranked(data: TrainingData, chosen: np.ndarray, lists: np.ndarray) -> pd.DataFrame:
    """Rank each target in its list, for rank_unseen without the history's items; one that is not in it has rank V."""
    cases, rows = data.test, []
    for place, items in zip(chosen, lists, strict=True):
        target = cases.targets[place]
        unseen = items[~np.isin(items, cases.histories.row(place)) | (items == target)]
        ranks = [np.argmax(row == target) + 1 if target in row else data.items for row in (items, unseen)]
        rows.append((cases.histories.users[place], target, cases.position[place], *ranks))
    return pd.DataFrame(rows, columns=["user", "item", "position", "rank_all", "rank_unseen"])
