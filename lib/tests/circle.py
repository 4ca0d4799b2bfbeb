import numpy as np
import pandas as pd
from seqdistill.data.splits import leave_last_k


def circle():
    """40 users walking round a circle of 30 items: what comes next can be learned."""
    rng, rows = np.random.default_rng(1), []
    for user in range(40):
        at = rng.integers(30)
        for time in range(rng.integers(8, 25)):
            at = (at + rng.choice([1, 1, 1, 2])) % 30
            rows.append((user, at + 1, time, 4.0))
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "value"])
    return frame.assign(split=leave_last_k(frame, 2))
