"""What `accelerate launch` starts in a test: both processes train every run of plan.json."""

import sys
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from seqdistill.config import TrainConfig, parse
from seqdistill.io import load_json
from seqdistill.training.train import train, training_data

assert PartialState(cpu=True).num_processes == 2
folder = Path(sys.argv[1])
teacher = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
teacher[::2] = torch.nan
data = training_data(pd.read_parquet(folder / "events.parquet"), 30, teacher)
for values in load_json(folder / "plan.json")["runs"]:
    train(parse(TrainConfig, values, "plan"), data, folder / "runs")
