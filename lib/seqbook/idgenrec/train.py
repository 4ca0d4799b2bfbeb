"""A run of IDGenRec: trained once, decoded on chosen cases, stored under the digest of what it was made from."""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from joblib import Parallel, delayed
from seqdistill.config import settings
from seqdistill.data.sequences import Cases
from seqdistill.evaluation.ranking import MISS
from seqdistill.io import announce, digest, load_json, save_json
from seqdistill.training import checkpoint
from seqdistill.training.loop import AdamW
from seqdistill.training.train import ENGINE_VERSION, TrainingData, finish
from torch import Tensor, nn

from seqbook.idgenrec.ids import cut, keywords, stacked, templates, unique
from seqbook.idgenrec.model import IDGenRec, System
from seqbook.idgenrec.trie import constrained_beam_search

TAG_LR = 3e-3  # of a generator from scratch that learns keywords
DECODED = 32  # cases decoded together
TIMED = 5  # requests timed one by one


def key(config: IDGenRec, data: TrainingData, texts: Sequence[str], chosen: np.ndarray) -> str:
    """Name of a run: digest of its settings, its inputs, its cases and `ENGINE_VERSION`."""
    inputs = [settings(config), data.key, digest(list(texts)), digest(chosen.tolist()), digest(templates())]
    return digest([ENGINE_VERSION, *inputs])[:16]


def train(config: IDGenRec, data: TrainingData, texts: Sequence[str], chosen: np.ndarray, runs: Path) -> dict:
    """Train, resume or simply read a run, as `training.train` does, decoded on the test cases `chosen`."""
    home = runs / key(config, data, texts, chosen)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "lock"):
        if not (home / "metrics.json").exists():
            fit(config, data, texts, chosen, home)
    return load_json(home / "metrics.json") | {"folder": home}


def sweep(
    jobs: dict[tuple[str, int], IDGenRec], data: TrainingData, texts: Sequence[str], chosen: np.ndarray, runs: Path
) -> dict[tuple[str, int], dict]:
    """Finish runs, one thread each, as many at a time as there are cores; return the result of `train` for each."""
    folders = {runs / key(config, data, texts, chosen): config for config in jobs.values()}
    todo = [config for folder, config in folders.items() if not (folder / "metrics.json").exists()]
    announce(f"IDGenRec: {len(jobs)} runs, {len(todo)} of them to train")
    Parallel(n_jobs=-1)(delayed(train)(config, data, texts, chosen, runs.resolve()) for config in todo)
    return {name: train(config, data, texts, chosen, runs) for name, config in jobs.items()}


def start(config: IDGenRec, data: TrainingData, texts: Sequence[str]) -> System:
    """Set up a system and the first ids of its items: keywords, which a generator from scratch learns, or written."""
    system = System(config, data.train, data.test, texts)
    if config.recommender:
        system.rewrite()
        return system
    system.rename(unique(keywords(texts, 6), system.tokenizer))
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
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optimizer.trained, 1.0)
    optimizer.step()
    return loss.item()


def epoch(
    system: System, learner: str, samples: np.ndarray, optimizer: AdamW, size: int, rng: np.random.Generator
) -> float:
    """Train "recommender" or "generator" on samples [n, 2], in random order with random templates; return mean loss."""
    system.write_users([tuple(sample) for sample in samples.tolist()])
    loss = getattr(system, f"{learner}_loss")
    for name in ("recommender", "generator"):
        getattr(system, name).train(name == learner).requires_grad_(name == learner)
    losses = []
    for rows in np.array_split(rng.permutation(len(samples)), -(-len(samples) // size)):
        chosen = rng.integers(0, len(templates()) - 1, len(rows))
        losses.append(step(optimizer, loss(system.batch(samples[rows].tolist(), chosen))))
    return float(np.mean(losses))


def fit(config: IDGenRec, data: TrainingData, texts: Sequence[str], chosen: np.ndarray, home: Path) -> None:
    """Train recommender and generator in turn, decode the cases, and write the run; metrics.json is written last."""
    torch.set_num_threads(1)
    began, rng, system = time.process_time(), np.random.default_rng(config.seed), start(config, data, texts)
    prefixes = np.array([(user, before) for user, events in system.trained.items() for before in range(1, events)])
    pair = nn.ModuleDict({"recommender": system.recommender, "generator": system.generator})
    optimizer = AdamW(list(pair.parameters()), config.recommender_lr)
    passes = {  # learning rate, prefixes of an epoch, batch
        "recommender": (config.recommender_lr, config.samples, config.batch),
        "generator": (config.generator_lr, config.generator_samples, config.batch // 8),
    }
    turn = ["recommender"] * config.recommender_epochs + ["generator"] * config.generator_epochs
    learners = (turn * config.rounds)[: config.rounds * len(turn) - config.generator_epochs]
    saved, _ = checkpoint.load(home / "checkpoint", pair, optimizer)
    history = saved.get("history", [])
    if history:
        torch.set_rng_state(torch.tensor(saved["torch_rng"], dtype=torch.uint8))
        rng.bit_generator.state, system.ids = saved["numpy_rng"], saved["ids"]
        system.user_ids = {tuple(source): tokens for source, tokens in saved["user_ids"]}
        began = time.process_time() - saved["seconds"]
    for number, learner in list(enumerate(learners))[len(history) :]:
        cpu, wall = time.process_time(), time.perf_counter()
        optimizer.lr, samples, size = passes[learner]
        drawn = rng.permutation(prefixes)[:samples] if samples else prefixes
        log = {"trained": learner, "loss": epoch(system, learner, drawn, optimizer, size, rng)}
        if learner == "generator" and learners[number + 1] == "recommender":
            system.rewrite()
        history.append(log | {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall})
        saved = {"history": history, "seconds": time.process_time() - began, "ids": system.ids}
        saved |= {"torch_rng": torch.get_rng_state().tolist(), "numpy_rng": rng.bit_generator.state}
        saved["user_ids"] = list(system.user_ids.items())
        checkpoint.save(home / "checkpoint", saved, pair, optimizer, {})
        left = mean(log["wall_s"] for log in history) * (len(learners) - len(history)) / 60
        reached = f"epoch {len(history)} of {len(learners)} ({learner}), loss {log['loss']:.3f}"
        announce(f"IDGenRec, seed {config.seed} ({home.name}): {reached}, {left:.1f} min left")
    seconds, cpu = time.process_time() - began, time.process_time()
    pair.eval()
    ranks = ranked(data, chosen, decode(system, data.test, chosen))
    result = {
        "history": history,
        "parameters": sum(weight.numel() for weight in pair.parameters()),
        "prefixes": len(prefixes),
        "prefixes_per_epoch": min(config.samples or len(prefixes), len(prefixes)),
        "infer_cases": len(chosen),
        "infer_cpu_s": time.process_time() - cpu,
        "request_s": median(requested(system, data.test, place) for place in chosen[:TIMED]),
    }
    weights = {name: weight.detach().contiguous() for name, weight in pair.named_parameters()}
    save_json({"ids": system.tokenizer.batch_decode(system.ids)}, home / "ids.json")
    finish(home, config, ranks, weights, seconds, result)


def decode(system: System, cases: Cases, chosen: np.ndarray) -> np.ndarray:
    """Write user ids and lists: items of each chosen case, best first, 0 if there are no more, [n, K]."""
    rows = cases.histories
    samples = [(int(rows.users[place]), int(rows.ends[place] - rows.starts[place])) for place in chosen]
    system.write_users(samples)
    lists, model, beams = [], system.recommender, system.config.beams
    for begin in range(0, len(samples), DECODED):
        part = samples[begin : begin + DECODED]
        prompts = system.batch(part, [-1] * len(part)).prompts  # the template that training has not seen
        lists.append(constrained_beam_search(model, prompts, prompts > 0, system.ids, beams)[0])
    return torch.cat(lists).numpy()


def requested(system: System, cases: Cases, place: int) -> float:
    """Seconds of a single request, including its user id."""
    system.user_ids.clear()
    began = time.perf_counter()
    decode(system, cases, np.array([place]))
    return time.perf_counter() - began


def ranked(data: TrainingData, chosen: np.ndarray, lists: np.ndarray) -> pd.DataFrame:
    """Rank each target in its list (for rank_unseen, without items of the history); a target not in it is a miss."""
    cases, rows = data.test, []
    for place, items in zip(chosen, lists, strict=True):
        target = cases.targets[place]
        unseen = items[~np.isin(items, cases.histories.row(place))]
        ranks = [np.argmax(row == target) + 1 if target in row else MISS for row in (items, unseen)]
        rows.append((cases.histories.users[place], target, cases.position[place], *ranks))
    return pd.DataFrame(rows, columns=["user", "item", "position", "rank_all", "rank_unseen"])
