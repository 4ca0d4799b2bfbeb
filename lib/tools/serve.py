"""Recommend ten items after a history of item ids, the latest last: python serve.py 318 50 2571. Needs no PyTorch."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
about = json.loads((HERE / "student.json").read_text())  # its ids in the order of its scores, and what it reads at most
session = onnxruntime.InferenceSession(HERE / "student.onnx", providers=["CPUExecutionProvider"])
place = {item_id: number for number, item_id in enumerate(about["item_ids"])}


def recommend(history: list[str], k: int = 10) -> list[str]:
    """The k best items that are not in the history, whose unknown ids are passed over."""
    seen = np.array([place[item_id] for item_id in history if item_id in place], dtype=np.int64)
    scores = session.run(["scores"], {"ids": seen[None, -about["max_history"] :] + 1})[0][0]
    scores[seen] = -np.inf
    return [about["item_ids"][item] for item in np.argsort(-scores)[: min(k, len(place) - len(set(seen)))]]


if __name__ == "__main__":
    if not any(item_id in place for item_id in sys.argv[1:]):
        sys.exit("ids of items are expected, the latest last; none of these is one that the student knows.")
    print(*recommend(sys.argv[1:]), sep="\n")
