"""What the peers share: the shape of the model, a trainer with a clock, and the row that bench_student.py reads, as JSON.

A peer's script takes a table user,item,time,split and the batch size. All train as long as RecTools does by default. None
sees more than the end of a history, LENGTH inputs, where ours cuts a longer history into several rows.
"""

import json
import logging
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from measuring import peak_mb  # noqa: E402

DIM, BLOCKS, HEADS, LENGTH, DROPOUT, LR, EPOCHS = 64, 2, 2, 100, 0.2, 1e-3, 3
STARTS, ENDS = [], []  # RecTools copies the trainer, so that a callback cannot keep them


def trainer(pl):
    """A silent trainer of `pytorch_lightning` or of `lightning.pytorch`, whichever the library is built on."""
    clock = pl.callbacks.LambdaCallback(
        on_train_epoch_start=lambda *_: STARTS.append(time.process_time()),
        on_train_epoch_end=lambda *_: ENDS.append(time.process_time()),
    )
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return pl.Trainer(max_epochs=EPOCHS, accelerator="cpu", devices=1, limit_val_batches=0, callbacks=[clock], **off)


def measure(system, fit, top):
    """Print a system's row: `fit(events, batch, items)` gives a model, `top(model, events, users)` user,item,rank."""
    begun = time.process_time()
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    events, batch = pd.read_csv(sys.argv[1]), int(sys.argv[2])
    model = fit(events[events["split"] == "train"], batch, int(events["item"].max()))
    truth = events[events["split"] == "test"].set_index("user")["item"]
    asked = time.process_time()
    found = top(model, events[events["split"] != "test"], truth.index.to_numpy())
    infer = time.process_time() - asked
    place = found[found["item"] == found["user"].map(truth)]["rank"].astype(int)
    recall, ndcg = len(place) / len(truth), float((1 / np.log2(place + 1)).sum() / len(truth))
    result = {
        "system": system,
        "cpu_s_per_epoch": float(np.median(np.subtract(ENDS, STARTS))),
        "infer_s": infer,
        "peak_rss_mb": peak_mb(),
        "recall@10": recall,
        "ndcg@10": ndcg,
        "curve": [{"cpu_s": ENDS[-1] - begun, "recall@10": recall}],
    }
    print(json.dumps(result))
