"""Train RecTools' SASRec on a table user,item,time,split; print what bench_student.py prints of ours, as JSON.

Arguments: the table, the batch size. Cross-entropy over all items, d 64, 2 blocks, 2 heads, length 100.
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
from pytorch_lightning import Callback, Trainer, seed_everything  # noqa: E402
from rectools import Columns  # noqa: E402
from rectools.dataset import Dataset  # noqa: E402
from rectools.models import SASRecModel  # noqa: E402

EPOCHS = 3
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
torch.set_num_threads(1)
STARTS, ENDS = [], []  # RecTools copies the trainer, so that a callback cannot keep them


class Clock(Callback):
    def on_train_epoch_start(self, *_):
        STARTS.append(time.process_time())

    def on_train_epoch_end(self, *_):
        ENDS.append(time.process_time())


def dataset(events):
    moments = pd.Timestamp("2000-01-01") + pd.to_timedelta(events["time"], "min")
    table = {Columns.User: events["user"], Columns.Item: events["item"], Columns.Weight: 1.0, Columns.Datetime: moments}
    return Dataset.construct(pd.DataFrame(table))


def trainer():
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(
        max_epochs=EPOCHS, accelerator="cpu", devices=1, enable_model_summary=False, callbacks=[Clock()], **quiet
    )


def main():
    begun = time.process_time()
    seed_everything(0, verbose=False)
    events, batch = pd.read_csv(sys.argv[1]), int(sys.argv[2])
    shape = {"n_factors": 64, "n_blocks": 2, "n_heads": 2, "session_max_len": 100, "dropout_rate": 0.2}
    model = SASRecModel(
        **shape, lr=1e-3, batch_size=batch, epochs=EPOCHS, loss="softmax", get_trainer_func=trainer,
        recommend_torch_device="cpu", verbose=0,
    )  # fmt: skip
    model.fit(dataset(events[events["split"] == "train"]))
    truth = events[events["split"] == "test"].set_index("user")["item"]
    asked = time.process_time()
    found = model.recommend(
        users=truth.index.to_numpy(), dataset=dataset(events[events["split"] != "test"]), k=10, filter_viewed=False
    )
    infer = time.process_time() - asked
    place = found[found["item_id"] == found["user_id"].map(truth)]["rank"]
    recall, ndcg = len(place) / len(truth), float((1 / np.log2(place + 1)).sum() / len(truth))
    result = {
        "system": "RecTools 0.19.0",
        "cpu_s_per_epoch": float(np.median(np.subtract(ENDS, STARTS))),
        "infer_s": infer,
        "peak_rss_mb": peak_mb(),
        "recall@10": recall,
        "ndcg@10": ndcg,
        "curve": [{"cpu_s": ENDS[-1] - begun, "recall@10": recall}],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
