"""Train RePlay's SASRec, cross-entropy over all items (see peer.py)."""

import sys
from importlib.metadata import version
from pathlib import Path

import lightning.pytorch
import peer
from replay.data import FeatureHint, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.callback import PandasTopItemsCallback
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.sequential import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms


def loader(events, schema, batch, stage, length):
    """Write histories beside the table, a row per user, as RePlay wants to read them; items are coded from 0."""
    padded = {"user": {}, "item": {"shape": length, "padding": schema.item_id_features.item().padding_value}}
    path = Path(sys.argv[1]).with_suffix(f".{stage}.parquet")
    events.assign(item=events["item"] - 1).groupby("user")["item"].agg(list).reset_index().to_parquet(path)
    transforms = {stage: make_default_sasrec_transforms(schema)[stage]}
    return ParquetModule(batch, {stage: padded}, transforms, **{f"{stage}_path": str(path)})


def fit(events, batch, items):
    schema = TensorSchema(
        TensorFeatureInfo(
            "item", FeatureType.CATEGORICAL, is_seq=True, feature_hint=FeatureHint.ITEM_ID, cardinality=items,
            padding_value=items, embedding_dim=peer.DIM,
        )
    )  # fmt: skip
    net = SasRec.from_params(schema, peer.DIM, peer.HEADS, peer.BLOCKS, peer.LENGTH, peer.DROPOUT)
    model = LightningModule(net, OptimizerFactory(learning_rate=peer.LR))
    peer.trainer(lightning.pytorch).fit(model, loader(events, schema, batch, "train", peer.LENGTH + 1))
    return model, schema


def top(fitted, events, users):
    model, schema = fitted
    found = PandasTopItemsCallback(10, "user", "item")
    trainer = peer.trainer(lightning.pytorch)
    trainer.callbacks.append(found)
    data = loader(events[events["user"].isin(users)], schema, 256, "predict", peer.LENGTH)
    trainer.predict(model, data, return_predictions=False)
    table = found.get_result()
    return table.assign(item=table["item"] + 1, rank=table.groupby("user").cumcount() + 1)


if __name__ == "__main__":
    peer.measure(f"RePlay {version('replay-rec')}", fit, top)
