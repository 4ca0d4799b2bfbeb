"""The settings of the students of `bench_little`, among which validation chooses."""

from dataclasses import replace

from bench_search import BEAUTY, BEAUTY_BERT

ALONE = replace(BEAUTY, epochs=40, batch=128)
MASKED = replace(BEAUTY_BERT, epochs=80, batch=128, mask_prob=0.3)
CANDIDATES = {  # of each student; the mean of SEARCHED seeds on validation chooses
    "SASRec": {"batch 128": ALONE, "80 epochs": replace(ALONE, epochs=80), "batch 32": replace(ALONE, batch=32)},
    "BERT4Rec": {
        "masked .3": MASKED,
        "masked .5": replace(MASKED, mask_prob=0.5),
        "160 epochs": replace(MASKED, epochs=160),
        "dropout .2": replace(MASKED, model=replace(MASKED.model, dropout=0.2)),
    },
}
