"""What does a teacher cost? `make bench-umap`: UMAP's time by users; `make bench-llm`: tokens per second of a back end."""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from command import one_line
from measuring import timed
from seqdistill.embeddings.encoders import open_encoder
from seqdistill.embeddings.reducers import fit
from seqdistill.io import load_table, outputs_dir, save_csv
from seqdistill.profiles.answers import Store
from seqdistill.profiles.generate import generate, task_of
from seqdistill.profiles.llm import open_llm

COMPONENTS, DIMENSIONS, CLUSTERS = 64, 384, 40
USERS = 24  # who are asked about
ARTIFACTS = outputs_dir(os.environ.get("PRESET") or "default") / "artifacts"


def text_like(users: int) -> np.ndarray:
    """Vectors that lie as sentence vectors do: clusters on a sphere, [users, 384]."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, DIMENSIONS))
    vectors = centres[rng.integers(CLUSTERS, size=users)] + rng.standard_normal((users, DIMENSIONS))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def umap_times(*sizes: str) -> pd.DataFrame:
    """Fit UMAP to 64 dimensions with a fixed seed on so many users, after one small fit that compiles it."""
    fit(text_like(200), "umap", COMPONENTS)
    rows = []
    for users in map(int, sizes):
        vectors = text_like(users)
        wall, cpu = time.perf_counter(), time.process_time()
        _, transform = fit(vectors, "umap", COMPONENTS)
        row = {"users": users, "fit_wall_s": time.perf_counter() - wall, "fit_cpu_s": time.process_time() - cpu}
        transform(text_like(users + 20)[users:])  # compiles
        cpu = time.process_time()
        transform(text_like(users + 200)[users:])
        rows.append(row | {"transform_200_cpu_s": time.process_time() - cpu})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def throughput(name: str) -> pd.DataFrame:
    """Output tokens per second of the book's path, answers stored, for the first users of a preset; twice, after a warm-up."""
    model = open_llm(name)
    _, task = task_of(ARTIFACTS, name, "grounded", "plain", 1024, None, lambda: model)
    questions, rows = task.first_questions()[:USERS], []
    for number in range(3):
        cpu, wall = time.process_time(), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            answers = generate(model, questions, Store(Path(folder) / "answers.sqlite"))
            tokens = sum(answer.output_tokens for answer in answers.values())
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        row = {"llm": name, "round": number, "users": USERS, "tokens": tokens, "wall_s": wall, "cpu_s": cpu}
        rows.append(row | {"tokens_per_s": tokens / wall, "tokens_per_cpu_s": tokens / cpu})
    return pd.DataFrame(rows[1:])


def encoding() -> pd.DataFrame:
    """CPU seconds of the sentence encoder for some of a preset's profiles, its loading aside."""
    texts = load_table(ARTIFACTS / "profiles.parquet")["text"].head(64).tolist()
    run = open_encoder("e5-small").encode
    run(texts[:2])
    cpu, wall = timed(lambda: run(texts))
    return pd.DataFrame([{"encoder": "e5-small", "texts": len(texts), "cpu_s": cpu, "wall_s": wall}])


def main() -> None:
    what, *arguments = sys.argv[1:]
    with one_line(f"{what}.csv"):
        table = {"umap": umap_times, "teacher": encoding, "llm": throughput}[what](*arguments)
        save_csv(table, outputs_dir("bench") / f"{what}.csv")


if __name__ == "__main__":
    main()
