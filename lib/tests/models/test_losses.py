import numpy as np
import pytest
import torch
import torch.nn.functional as F
from seqdistill.config import TrainConfig
from seqdistill.models.losses import full_softmax, sampled_softmax, student_loss


def batch(requires_grad=True):
    h, items = (torch.randn(n, 8, requires_grad=requires_grad) for n in (9 * 50, 30))
    return h, items, torch.from_numpy(np.random.default_rng(0).integers(1, 31, 9 * 50))


def same_with_gradients(loss, plain, inputs):
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(*(torch.autograd.grad(x, inputs, retain_graph=True) for x in (loss, plain)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_chunked_loss_equals_its_definition_and_torchs():
    h, items, targets = batch()
    plain, torchs = F.cross_entropy(h @ items.T, targets - 1), F.linear_cross_entropy(h, items, targets - 1)
    same_with_gradients(full_softmax(h, items, targets), plain, (h, items))
    same_with_gradients(3 * full_softmax(h, items, targets), 3 * torchs, (h, items))


def test_a_loss_beyond_the_range_of_probabilities_is_exact():
    h, items, targets = batch()
    h, items = h * 10, items * 10
    plain = F.cross_entropy(h.double() @ items.double().T, targets - 1)
    assert plain > 300 and full_softmax(h, items, targets).item() == pytest.approx(plain.item(), rel=1e-5)


def test_sampled_softmax_over_everything_is_the_full_softmax():
    h, items, targets = batch()
    loss = sampled_softmax(h, items, targets, torch.randperm(30) + 1)
    same_with_gradients(loss, full_softmax(h, items, targets), (h, items))


def test_the_correction_makes_the_sampled_sum_unbiased():
    h, items, targets = batch(requires_grad=False)
    draws = [sampled_softmax(h, items, targets, 1 + torch.randperm(30)[:20]) for _ in range(400)]
    full, mean = full_softmax(h, items, targets), torch.stack(draws).mean()
    assert abs(mean - full) < 0.05 * full
    biased = sampled_softmax(h, items, targets, torch.randperm(30)[:20] + 1) + np.log(20 / 30)
    assert abs(biased - full) > abs(mean - full)


@pytest.mark.parametrize("kind", ["full", "sampled"])
def test_nothing_to_predict_is_zero(kind):
    h, items, _ = batch()
    assert student_loss(h[:0], items, torch.zeros(0, dtype=torch.long), TrainConfig(loss=kind, negatives=5)).item() == 0
