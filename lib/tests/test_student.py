import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from seqdistill.config import Student
from seqdistill.losses import full_softmax
from seqdistill.models import SASRec


def student() -> SASRec:
    torch.manual_seed(0)
    model = SASRec(30, Student(dim=8, blocks=2, heads=2, dropout=0.0, length=12)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


@given(st.integers(1, 7), st.integers(1, 30))
def test_no_position_sees_a_later_one(position, other):
    model, ids = student(), torch.arange(1, 9)[None]
    changed = ids.clone()
    changed[0, position] = other
    torch.testing.assert_close(model(ids)[0][:, :position], model(changed)[0][:, :position])


@given(st.integers(0, 8))
def test_padding_never_matters(pad):
    model, ids = student(), torch.tensor([[4, 9, 2]])
    wide = torch.cat([F.pad(ids, (0, pad)), torch.arange(1, 4 + pad)[None]])
    torch.testing.assert_close(model(wide)[0][:1, :3], model(ids)[0])
    torch.testing.assert_close(model.score(wide)[:1], model.score(ids))


def test_chunked_loss_equals_the_plain_definition():
    h, items = torch.randn(9, 50, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    targets = torch.from_numpy(np.random.default_rng(0).integers(0, 31, (9, 50)))
    loss = full_softmax(h, items, targets)
    plain = F.cross_entropy((h @ items.T).flatten(0, 1), targets.flatten() - 1, ignore_index=-1)
    torch.testing.assert_close(loss, plain)
    for ours, theirs in zip(*(torch.autograd.grad(x, (h, items)) for x in (loss, plain)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_padding_row_has_no_gradient_and_catalogue_starts_at_item_one():
    model = student()
    ids = torch.tensor([[3, 5, 0, 0]])
    full_softmax(model(ids)[0], model.catalogue(), torch.tensor([[5, 7, 0, 0]])).backward()
    assert model.item.weight.grad[0].abs().sum() == 0
    assert model.catalogue().shape == (30, 8)


def test_every_linear_and_embedding_starts_small():
    model = SASRec(2000, Student())
    assert model.item.weight[1:].std().item() == pytest.approx(0.02, rel=0.02)
    assert model.blocks[0].qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
