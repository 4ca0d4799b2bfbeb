"""Train RecTools' SASRec or, with a third argument `esasrec`, the eSASRec of its authors (see peer.py).

SASRec: cross-entropy over all items. eSASRec: LiGR layers and a softmax over 256 sampled items, as in their paper.
"""

import sys
from importlib.metadata import version

import pandas as pd
import peer
import pytorch_lightning
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers

ENHANCED = {
    "transformer_layers_type": LiGRLayers, "use_key_padding_mask": True, "loss": "sampled_softmax", "n_negatives": 256,
}  # fmt: skip


def dataset(events):
    moments = pd.Timestamp("2000-01-01") + pd.to_timedelta(events["time"], "min")
    table = {Columns.User: events["user"], Columns.Item: events["item"], Columns.Weight: 1.0, Columns.Datetime: moments}
    return Dataset.construct(pd.DataFrame(table))


def fit(events, batch, items, **kind):
    shape = {"n_factors": peer.DIM, "n_blocks": peer.BLOCKS, "n_heads": peer.HEADS, "session_max_len": peer.LENGTH}
    model = SASRecModel(
        **shape, **kind, dropout_rate=peer.DROPOUT, lr=peer.LR, batch_size=batch, epochs=peer.EPOCHS,
        get_trainer_func=lambda: peer.trainer(pytorch_lightning), recommend_torch_device="cpu", verbose=0,
    )  # fmt: skip
    return model.fit(dataset(events))


def top(model, events, users):
    found = model.recommend(users=users, dataset=dataset(events), k=10, filter_viewed=False)
    return found.rename(columns={Columns.User: "user", Columns.Item: "item", Columns.Rank: "rank"})


if __name__ == "__main__":
    enhanced, name = sys.argv[3:] == ["esasrec"], f"RecTools {version('rectools')}"
    if enhanced:
        peer.measure(f"eSASRec ({name})", lambda *data: fit(*data, **ENHANCED), top)
    else:
        peer.measure(name, fit, top)
