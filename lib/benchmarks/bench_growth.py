"""How cost grows: a training step, an epoch, a ranking and an index, by items, length and users (synthetic data)."""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from measuring import apart, peak_mb, timed
from seqdistill.config import ModelConfig, TrainConfig
from seqdistill.data.sequences import batches, windows
from seqdistill.evaluation.ranking import block_size, model_score, recommend, topk
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.training.epochs import epoch, step, training_rows
from seqdistill.training.train import fresh, training_data

SHAPE = ModelConfig(dim=64, blocks=2, heads=2, length=50)
GROWTH = {
    "items": [(items, 50, loss) for loss in ("full", "sampled") for items in (10_000, 33_000, 100_000, 334_060)],
    "length": [(10_000, length, "sampled") for length in (12, 25, 50, 100, 200)],
    "amazon-m2": [(334_060, 5, loss) for loss in ("full", "sampled")],
}
USERS = (2_000, 6_000, 20_000, 60_000)


def indexes(vectors: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Approximate indexes of inner products that a catalogue of this size bears: name -> (query [1, d] -> ids [10])."""
    import faiss

    faiss.omp_set_num_threads(1)
    items, dim = vectors.shape
    lists = int(min(1024, 4 * np.sqrt(items)))
    ivf = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    ivf.cp.niter, ivf.cp.max_points_per_centroid, ivf.cp.min_points_per_centroid = 10, 64, 1
    ivf.train(vectors)
    ivf.add(vectors)

    def probing(count: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda query: ivf.search(query, 10, params=faiss.SearchParametersIVF(nprobe=count))[1]

    found = {f"IVF, {count} of {lists} lists": probing(count) for count in (8, 64, 256) if count < lists}
    if items <= 100_000:  # a graph of a million takes minutes to build
        graph = faiss.IndexHNSWFlat(dim, 16, faiss.METRIC_INNER_PRODUCT)
        graph.add(vectors)

        def walking(beam: int) -> Callable[[np.ndarray], np.ndarray]:
            return lambda query: graph.search(query, 10, params=faiss.SearchParametersHNSW(efSearch=beam))[1]

        found |= {f"HNSW, 16 neighbours, beam of {beam}": walking(beam) for beam in (64, 256)}
    return found


def scan(net: SequentialRecommender, said: str, histories: list[np.ndarray]) -> list[dict]:
    """Encode one history, then find ten items: all of the catalogue, or an index of it; CPU ms and recall of the ten."""
    vectors = net.catalogue().detach().contiguous()
    encode, queries = [], []
    with torch.inference_mode():
        for ids in histories:
            begun = time.process_time()
            queries.append(net.encode_last(torch.from_numpy(ids)).numpy())
            encode.append(1000 * (time.process_time() - begun))
    exact = {"exact": lambda query: topk(torch.from_numpy(query) @ vectors.T, 10).numpy()}
    begun = time.process_time()
    others = indexes(vectors.numpy())
    built, rows, truth = time.process_time() - begun, [], None
    for name, search in (exact | others).items():
        search(queries[0])
        spent, hits = [], []
        for query in queries:
            begun = time.perf_counter(), time.process_time()
            found = search(query)
            spent.append((1000 * (time.perf_counter() - begun[0]), 1000 * (time.process_time() - begun[1])))
            hits.append(set(found[0].tolist()))
        truth = truth or hits
        recall = np.mean([len(mine & own) / 10 for mine, own in zip(hits, truth, strict=True)])
        wall, cpu = np.array(spent).T
        row = {"items": len(vectors), "embeddings": said, "index": name, "encode_cpu_ms": float(np.median(encode))}
        row |= {f"search_p{q}_ms": float(np.percentile(wall, q)) for q in (50, 95, 99)}
        rows.append(row | {"search_cpu_ms": float(np.median(cpu)), "recall@10": float(recall)})
        print(rows[-1], flush=True)
    print("indexes built in", built, flush=True)
    return rows


def grow(items: int, length: int, loss: str) -> dict:
    """One training step of 64 histories, optimizer included, and the ranking of 256."""
    torch.set_num_threads(1)
    shape = ModelConfig(dim=64, blocks=2, heads=2, length=max(length, 3))
    rng, run = np.random.default_rng(0), TrainConfig(model=shape, loss=loss, negatives=1024)
    width = length + 1
    events = pd.DataFrame({"user": np.repeat(np.arange(256), width), "item": rng.integers(1, items + 1, 256 * width)})
    events = events.assign(time=np.tile(np.arange(width), 256), split="train")
    data, base = training_data(events, items), peak_mb()
    net, _, optimizer, machine = fresh(run, data)
    fed = batches(windows(data.train, length), 64, rng)
    spent = [
        timed(lambda batch=batch: step(batch, net.train(), None, optimizer, run, machine))[0]
        for _, batch in zip(range(3), fed, strict=False)
    ]
    row = {"batch": 64, "dim": 64, "step_cpu_s": min(spent[1:]), "step_mb": peak_mb() - base}
    cpu, _ = timed(lambda: recommend(data.train, model_score(net.eval()), size=block_size(items)))
    return row | {"rank_256_cpu_s": cpu, "peak_rss_mb": peak_mb()}


def grow_users(users: int) -> dict:
    """One epoch on sessions of six events, 10,000 items, and a ranking of all of them."""
    torch.set_num_threads(1)
    rng, run = np.random.default_rng(0), TrainConfig(model=SHAPE, loss="sampled", batch=256, negatives=1024)
    events = pd.DataFrame({"user": np.repeat(np.arange(users), 6), "item": rng.integers(1, 10_001, 6 * users)})
    data, base = training_data(events.assign(time=np.tile(np.arange(6), users), split="train"), 10_000), peak_mb()
    net, _, optimizer, machine = fresh(run, data)
    rows = training_rows(data.train, run)
    spent, _ = timed(lambda: epoch(rows, net, None, optimizer, run, 0, machine))
    row = {"batch": 256, "epoch_cpu_s": spent, "step_mb": peak_mb() - base}
    cpu, _ = timed(lambda: recommend(data.train, model_score(net.eval()), size=256))
    return row | {"rank_all_cpu_s": cpu, "peak_rss_mb": peak_mb()}


def growth() -> pd.DataFrame:
    """Time and memory by size of the catalogue, length of the histories, and number of users."""
    rows = [
        {"of": of, "items": items, "length": length, "loss": loss, **apart("grow", items, length, loss)}
        for of, points in GROWTH.items()
        for items, length, loss in points
    ]
    fixed = {"of": "users", "items": 10_000, "length": 5, "loss": "sampled"}
    return pd.DataFrame([*rows, *({**fixed, "users": users, **apart("grow_users", users)} for users in USERS)])
