"""Measure what a teacher costs: UMAP's time by number of users, and a back end's throughput beside the bare runtime."""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from seqdistill.embeddings.reducers import fit
from seqdistill.io import ROOT, UserError, outputs_dir, save_csv
from seqdistill.profiles import generate, task_of
from seqdistill.profiles.answers import Store
from seqdistill.profiles.llamacpp import LlamaCpp
from seqdistill.profiles.weights import fetch_weights

COMPONENTS, DIMENSIONS, CLUSTERS = 64, 384, 40


def texts_like(users: int) -> np.ndarray:
    """Vectors that lie as sentence vectors do: clusters on a sphere, [users, 384]."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, DIMENSIONS))
    vectors = centres[rng.integers(CLUSTERS, size=users)] + rng.standard_normal((users, DIMENSIONS))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def umap_times(sizes: list[int]) -> pd.DataFrame:
    """Fit UMAP to 64 dimensions with a fixed seed on so many users, after one small fit that compiles it."""
    fit(texts_like(200), "umap", COMPONENTS)
    rows = []
    for users in sizes:
        vectors = texts_like(users)
        wall, cpu = time.perf_counter(), time.process_time()
        _, transform = fit(vectors, "umap", COMPONENTS)
        row = {"users": users, "fit_wall_s": time.perf_counter() - wall, "fit_cpu_s": time.process_time() - cpu}
        transform(texts_like(users + 20)[users:])  # compiles
        cpu = time.process_time()
        transform(texts_like(users + 200)[users:])
        rows.append(row | {"transform_200_cpu_s": time.process_time() - cpu})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def throughput(name: str, users: int, preset: str) -> pd.DataFrame:
    """Output tokens per second through the book's path (store included) and from the bare runtime, same prompts.

    Both are asked in turn, twice, the other way round the second time; what the runtime keeps of earlier prompts is
    warmed by a run that does not count.
    """
    path = fetch_weights(name)
    model = LlamaCpp(name, path)
    _, task = task_of(outputs_dir(preset) / "artifacts", name, "grounded", "plain", 1024, None, lambda: model)
    questions = task.first_questions()[:users]

    def bare(asked: dict) -> int:
        return model.server.handle_chat_completions(asked)["usage"]["completion_tokens"]

    def runtime() -> int:
        with ThreadPoolExecutor(model.parallel) as pool:
            return sum(pool.map(bare, [{"messages": asked.messages, **asked.sampling} for asked in questions]))

    def book() -> int:
        with tempfile.TemporaryDirectory() as folder:
            kept = Store(Path(folder) / "answers.sqlite")
            return sum(answer.output_tokens for _, answer in generate(model, questions, kept))

    book()
    rows = []
    for system, run in (("book", book), ("runtime", runtime), ("runtime", runtime), ("book", book)):
        cpu, wall = time.process_time(), time.perf_counter()
        tokens = run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        rows.append({"system": system, "users": users, "tokens": tokens, "wall_s": wall, "cpu_s": cpu})
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows).groupby(["system", "users"], as_index=False).sum()
    table["tokens_per_s"] = table["tokens"] / table["wall_s"]
    return table.assign(tokens_per_cpu_s=table["tokens"] / table["cpu_s"])


def main() -> None:
    """Command line: `umap SIZES...` or `llm NAME --users N`."""
    parser = argparse.ArgumentParser(prog="bench_teacher.py")
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("umap").add_argument("sizes", type=int, nargs="+")
    asked = commands.add_parser("llm")
    asked.add_argument("name")
    asked.add_argument("--users", type=int, default=24)
    asked.add_argument("--preset", default="default")
    given = parser.parse_args()
    try:
        table = umap_times(given.sizes) if given.what == "umap" else throughput(given.name, given.users, given.preset)
        save_csv(table, ROOT / "outputs" / "bench" / f"{given.what}.csv")
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
