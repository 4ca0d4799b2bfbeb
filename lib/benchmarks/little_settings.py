"""The settings of the students of `bench_little`, among which validation chooses."""

from dataclasses import replace

from seqdistill.config import ModelConfig, TrainConfig

ALONE = TrainConfig(
    model=ModelConfig(dim=128, blocks=1, dropout=0.4, temperature=0.07, item_dropout=0.15), epochs=40, batch=128,
    schedule="cosine", validate_on="excluded",
)  # fmt: skip
MASKED = replace(
    ALONE, model=ModelConfig(causal=False, dim=128, blocks=1, dropout=0.4, temperature=0.07), epochs=80,
    mask_prob=0.3, mask_last_prob=0.3,
)  # fmt: skip
CANDIDATES = {  # of each student; the mean of SEARCHED seeds on validation chooses
    "SASRec": {"batch 128": ALONE, "80 epochs": replace(ALONE, epochs=80), "batch 32": replace(ALONE, batch=32)},
    "BERT4Rec": {
        "masked .3": MASKED,
        "masked .5": replace(MASKED, mask_prob=0.5),
        "160 epochs": replace(MASKED, epochs=160),
        "dropout .2": replace(MASKED, model=replace(MASKED.model, dropout=0.2)),
    },
}
