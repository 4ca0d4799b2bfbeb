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


SETTINGS = [
    *product(
        ("mse", "rmse", "cosine", "infonce", "multi_infonce"), ("teacher", "teacher_frozen", "student"), ("mean",)
    ),
    *product(("mse",), ("student",), ("exponential", "attention", "last")),
]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("loss", ["full", "sampled", *SETTINGS], ids=str)
def test_a_step_never_waits_for_its_device(data, loss, causal):
    run = replace(SMALL, negatives=5, model=replace(SMALL.model, causal=causal, item_dropout=0.1))
    if isinstance(loss, str):
        run = replace(run, loss=loss)
    else:
        kind, projection, aggregation = loss
        run = replace(run, distillation=Distillation(loss=kind, projection=projection, aggregation=aggregation))
    model, teacher, optimizer, machine = engine.fresh(run, data)
    batch = next(loop.examples(training_rows(data.train, run), run, 0, model.mask_id))
    with Reads() as reads:
        log = loop.step(batch, model.train(), teacher, optimizer, run, machine)
    assert reads.found == [] and all(isinstance(value, torch.Tensor) for value in log.values())


RECURRENT = {"recurrent": True, "blocks": 1}
KINDS = [*product(({"causal": True}, {"causal": False}), ("full", "sampled", *SETTINGS[-3:])), (RECURRENT, "full")]


@pytest.mark.parametrize(("model", "loss"), KINDS, ids=str)
def test_a_step_makes_every_tensor_on_its_device_and_no_shape_depends_on_numbers(data, loss, model, monkeypatch):
    """On the meta device, which holds shapes only: a tensor made elsewhere, or a shape read from one, fails."""
    run = replace(SMALL, negatives=5, model=replace(SMALL.model, **model))
    if isinstance(loss, str):
        run = replace(run, loss=loss)
    else:
        run = replace(run, distillation=Distillation(projection=loss[1], aggregation=loss[2]))
    student, teacher, _, _ = engine.fresh(run, data)
    batch = next(loop.examples(training_rows(data.train, run), run, 0, student.mask_id))
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
