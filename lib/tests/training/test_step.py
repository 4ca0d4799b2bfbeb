"""What a training step asks of its device: no number is read back."""

from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from seqdistill.config import Distillation
from seqdistill.training import loop
from seqdistill.training import train as engine
from seqdistill.training.loop import training_rows
from test_train import SMALL
from torch.utils._python_dispatch import TorchDispatchMode


class Reads(TorchDispatchMode):
    """Counts the operations that make a host wait for its device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.name().split(".")[0].removeprefix("aten::")
        indices = args[1] if "index" in name and isinstance(args[1], list | tuple) else []
        masks = [part for part in indices if part is not None and part.dtype == torch.bool]
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "_unique2") or masks:
            self.found.append(name)
        return operation(*args, **(kwargs or {}))


LOSSES, SIDES = ("mse", "rmse", "cosine", "infonce", "multi_infonce"), ("teacher", "teacher_frozen", "student")
AGGREGATED = [*product(("mse",), ("student",), ("exponential", "attention", "last"))]


def first_batch(data, taught, **shape):
    """A run that its loss over items names, or how its teacher is compared; what it trains; its first batch."""
    run = replace(SMALL, negatives=5, model=replace(SMALL.model, **shape))
    if isinstance(taught, str):
        run = replace(run, loss=taught)
    else:
        loss, projection, aggregation = taught
        run = replace(run, distillation=Distillation(loss=loss, projection=projection, aggregation=aggregation))
    fresh = engine.fresh(run, data)
    return run, fresh, next(loop.examples(training_rows(data.train, run), run, 0, fresh[0].mask_id))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("taught", ["full", "sampled", *product(LOSSES, SIDES, ("mean",)), *AGGREGATED], ids=str)
def test_a_step_never_waits_for_its_device(data, taught, causal):
    run, (model, teacher, optimizer, machine), batch = first_batch(data, taught, causal=causal, item_dropout=0.1)
    with Reads() as reads:
        log = loop.step(batch, model.train(), teacher, optimizer, run, machine)
    assert reads.found == [] and all(isinstance(value, torch.Tensor) for value in log.values())


SHAPES = [*product(({"causal": True}, {"causal": False}), ("full", "sampled", *AGGREGATED))]


@pytest.mark.parametrize(("shape", "taught"), [*SHAPES, ({"recurrent": True, "blocks": 1}, "full")], ids=str)
def test_a_step_makes_every_tensor_on_its_device_and_no_shape_depends_on_numbers(data, taught, shape, monkeypatch):
    """On the meta device, which holds shapes only: a tensor made elsewhere, or a shape read from one, fails."""
    run, (student, teacher, *_), batch = first_batch(data, taught, **shape)
    parts = [part.to("meta") for part in (student, teacher) if part]
    optimizer = loop.AdamW([weight for part in parts for weight in part.parameters() if weight.requires_grad], run.lr)
    monkeypatch.setattr(torch, "autocast", lambda *args, **settings: nullcontext())  # knows no meta device
    machine = SimpleNamespace(device=torch.device("meta"), process_index=0, num_processes=1)
    log = loop.step(batch, student.train(), teacher, optimizer, run, machine)
    assert {(value.device.type, value.ndim) for value in log.values()} == {("meta", 0)}


def test_reads_are_counted():
    with Reads() as reads:
        assert torch.ones(3).sum().item() == 3 and len(torch.ones(3)[torch.ones(3) > 0]) == 3
    assert reads.found == ["_local_scalar_dense", "index"]
