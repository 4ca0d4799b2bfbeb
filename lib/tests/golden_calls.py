"""The library's names that test_golden.py calls: where they move or change, this file alone is edited."""
# ruff: noqa: F401 - the test imports from here

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from circle import circle
from seqbook.cold import cold_items, newcomers
from seqbook.idgenrec import model as idgenrec
from seqbook.idgenrec import train as idgenrun
from seqbook.idgenrec.ids import templates
from seqbook.idgenrec.trie import constrained_beam_search, trie
from seqdistill.config import Distillation, ItemText, ModelConfig, TrainConfig
from seqdistill.data import load, splits
from seqdistill.data.sequences import cases
from seqdistill.data.tables import DOMAINS
from seqdistill.embeddings.reducers import diagnostics, fit, standardised, teacher_rows
from seqdistill.evaluation.baselines import item_knn, popularity, recent_popularity, text_knn
from seqdistill.evaluation.ranking import load_ranks, metrics, rank, ranks_of, recommend, topk
from seqdistill.evaluation.significance import compare
from seqdistill.io import save_table
from seqdistill.profiles import answers
from seqdistill.profiles import generate as profiles
from seqdistill.profiles import prompts as prompting
from seqdistill.profiles.answers import latest, read_shipped, shipped
from seqdistill.profiles.audit import audit, fault, summary
from seqdistill.profiles.facts import facts_text, histories, history_lines
from seqdistill.profiles.generate import named as file_of
from seqdistill.profiles.strategies import STRATEGIES, plans
from seqdistill.training import train as engine

FROM_FACTS, STYLES = prompting.FROM_FACTS, prompting.SAMPLING
LOGGED = ("loss_model", "loss_distil", "target_variance", "probe_r2")


def split_of(data, **protocol):
    return splits.split(data.events, splits.Protocol(**protocol), data.dated)


def played(domain, style, strategy, read, budget, tokens):
    """Ask as a strategy does, answering with numbers: for each of its plans the chats of every round and its end."""
    found = []
    for plan in plans(strategy, prompting.Prompts(domain, style, budget, lambda texts: list(map(tokens, texts))), read):
        rounds = [next(plan)]
        while isinstance(rounds[-1], list):
            try:
                rounds.append(plan.send([f"Answer {len(rounds)}, {place}." for place, _ in enumerate(rounds[-1])]))
            except StopIteration as end:
                rounds.append(end.value)
        found.append(rounds)
    return found


@cache
def task_of(llm, style):
    """What the second chapter would ask about the default preset's users, counting words as tokens."""
    data, events, _ = movielens()
    counter = SimpleNamespace(count_tokens=lambda texts: [len(text.split()) for text in texts])
    users = data.users.assign(dataset=data.name, domain=data.domain)
    with tempfile.TemporaryDirectory() as folder:
        for name, frame in {"events": events, "items": data.items, "users": users}.items():
            save_table(frame, Path(folder) / f"{name}.parquet")
        return profiles.task_of(Path(folder), llm, style, "plain", 4096, None, lambda: counter)[1]


def asked(llm, style, strategy, told=()):
    """What is asked first about users: all, or any cut for `told`, as only the model's tokenizer knows how much fits."""
    task = task_of(llm, style)
    if style == "grounded":
        return task.first_questions()
    found, sampling = [], prompting.sampling_of(style)
    for user in [user for user in task.histories if task.ids[user] in told]:
        lines = history_lines(task.histories[user])
        for cut in range(1, min(len(lines), 100) + 1):
            part = lines[-cut:] if strategy == "plain" else lines[:cut]
            chat = task.prompts.ask("history", history="\n".join(part))
            found.append(answers.Question(task.ids[user], chat, task.model_sha256, sampling))
    return found


def top(test, score, seen=False, size=256):
    return recommend(test.histories, score, 5, seen, size)


def student_of(model, **shape):
    return ModelConfig(**{"causal": model == "SASRec", "dim": 8, "blocks": 2, "heads": 2, "length": 10} | shape)


def trained(model, shape, teach=None, text=None, teacher=None, start=None, texts=None, **more):
    """Losses and validation by epoch, test metrics, size and ranks of a run on the circle."""
    parts = {"distillation": teach and Distillation(**teach), "item_text": text and ItemText(**text)}
    config = TrainConfig(model=student_of(model, **shape), epochs=2, batch=16, lr=0.01, mask_prob=0.3, **parts, **more)
    given = replace(engine.training_data(circle(), 30, teacher), start=start, texts=texts)
    with tempfile.TemporaryDirectory() as folder:
        done = engine.train(config, given, Path(folder))
        ranks = load_ranks(Path(folder) / engine.run_key(config, given) / "ranks.parquet")["rank_all"]
    found = {"losses": [[log[name] for name in LOGGED if name in log] for log in done["history"]]}
    found["valid"] = [log["valid_ndcg@10"] for log in done["history"]]
    found["test"] = [done["test"][name]["ndcg@10"] for name in ("included", "excluded")]
    return found | {"size": done["parameters"], "ranks": ranks[::2].tolist()}


def named(texts):
    """First and rewritten ids of items, and a prompt, of an untrained IDGenRec."""
    config = idgenrec.IDGenRec(layers=1, width=16, heads=2, tag_epochs=0, history=4, id_tokens=4)
    system = idgenrun.start(config, engine.training_data(circle(), 30), texts)
    first = system.tokenizer.batch_decode(system.ids)
    system.write_users([(2, 3)])
    prompt = system.tokenizer.decode(system.batch([(2, 3)], [9]).prompts[0])
    system.rewrite()
    return first, prompt.split(" for user ")[0], system.tokenizer.batch_decode(system.ids)


@cache
def movielens():
    """The default preset's data set, its events with their split, and its training histories."""
    data = load("movielens-small", 5)
    events = data.events.assign(split=split_of(data, name="leave_last_k", last_k=10))
    return data, events, histories(events[events["split"] == "train"], data.items)
