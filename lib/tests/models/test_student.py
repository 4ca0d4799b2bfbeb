import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from seqdistill.config import ModelConfig, TrainConfig, parse
from seqdistill.data.sequences import Ragged, cloze
from seqdistill.io import UserError
from seqdistill.models.losses import full_softmax, gbce, sampled_softmax, student_loss
from seqdistill.models.transformer import SequentialRecommender


def student(causal: bool = True) -> SequentialRecommender:
    torch.manual_seed(0)
    model = SequentialRecommender(
        30, ModelConfig(causal=causal, dim=8, blocks=2, heads=2, dropout=0.0, length=12)
    ).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


@given(st.integers(1, 7), st.integers(1, 30))
def test_no_position_sees_a_later_one(position, other):
    model, ids = student(), torch.arange(1, 9)[None]
    changed = ids.clone()
    changed[0, position] = other
    torch.testing.assert_close(model(ids)[0][:, :position], model(changed)[0][:, :position])


def test_bert4rec_sees_both_sides():
    model, ids = student(causal=False), torch.arange(1, 9)[None]
    changed = ids.clone()
    changed[0, -1] = 30
    assert (model(ids)[0][0, 0] - model(changed)[0][0, 0]).abs().max() > 1e-3


@given(st.integers(0, 8), st.booleans())
def test_padding_never_matters(pad, causal):
    model, ids = student(causal), torch.tensor([[4, 9, 2]])
    wide = torch.cat([F.pad(ids, (0, pad)), torch.arange(1, 4 + pad)[None]])
    torch.testing.assert_close(model(wide)[0][:1, :3], model(ids)[0])
    torch.testing.assert_close(model.score(wide)[:1], model.score(ids))


def test_bert4rec_scores_by_a_mask_after_the_history():
    model = student(causal=False)
    assert model.mask_id == 31 and model.max_history == 11 and model.catalogue().shape == (30, 8)
    expected = model(torch.tensor([[4, 9, 2, 31]]))[0][0, 3] @ model.catalogue().T
    torch.testing.assert_close(model.score(torch.tensor([[4, 9, 2, 0, 0], [1, 2, 3, 4, 5]]))[0], expected)


@given(st.integers(0, 1000), st.floats(0.05, 0.9), st.floats(0, 1))
def test_cloze_hides_what_it_asks_for(seed, masked, mask_last_prob):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 9, 20)
    ends = lengths.cumsum()
    rows = Ragged(rng.integers(1, 31, ends[-1]), ends - lengths, ends, np.arange(20))
    seen = 0
    for users, inputs, targets in cloze(rows, 6, rng, 31, masked, mask_last_prob):
        for user, row, hidden in zip(users, inputs, targets, strict=True):
            whole = np.where(hidden > 0, hidden, row)[row > 0]
            assert whole.tolist() == rows.row(user).tolist()
            assert ((row == 31) == (hidden > 0)).all() and (hidden > 0).any()
            seen += 1
    assert seen == 20


@pytest.mark.parametrize("mask_last_prob", [0.0, 1.0])
def test_cloze_hides_as_often_as_it_is_told(mask_last_prob):
    rows = Ragged(np.ones(40_000, int), np.arange(0, 40_000, 40), np.arange(40, 40_001, 40), np.arange(1000))
    hidden = (
        np.concatenate([targets for *_, targets in cloze(rows, 100, np.random.default_rng(0), 2, 0.2, mask_last_prob)])
        > 0
    )
    if mask_last_prob:
        assert hidden[:, -1].all() and hidden.sum() == 1000
    else:
        assert hidden.mean() == pytest.approx(0.2, abs=0.006)


def batch(requires_grad=True):
    h, items = (torch.randn(n, 8, requires_grad=requires_grad) for n in (9 * 50, 30))
    return h, items, torch.from_numpy(np.random.default_rng(0).integers(1, 31, 9 * 50))


def same_with_gradients(loss, plain, inputs):
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(*(torch.autograd.grad(x, inputs, retain_graph=True) for x in (loss, plain)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_chunked_loss_equals_the_plain_definition():
    h, items, targets = batch()
    plain = F.cross_entropy(h @ items.T, targets - 1)
    same_with_gradients(full_softmax(h, items, targets), plain, (h, items))


def test_chunked_loss_equals_torchs():
    h, items, targets = batch()
    theirs = F.linear_cross_entropy(h, items, targets - 1)
    same_with_gradients(3 * full_softmax(h, items, targets), 3 * theirs, (h, items))


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


@pytest.mark.parametrize(("t", "power"), [(0.0, 1.0), (1.0, 5 / 29), (0.75, 0.75 * 5 / 29 + 0.25)])
def test_gbce_equals_its_definition(t, power):
    h, items, targets = batch()
    negatives = torch.tensor([3, 8, 1, 30, 17])
    terms = []
    for x, y in zip(h, targets, strict=True):
        others = [torch.log(1 - torch.sigmoid(x @ items[n - 1])) for n in negatives if n != y]
        terms.append(torch.log(torch.sigmoid(x @ items[y - 1]) ** power) + sum(others))
    same_with_gradients(gbce(h, items, targets, negatives, t), -sum(terms) / (6 * len(terms)), (h, items))


@pytest.mark.parametrize("kind", ["full", "sampled", "bce", "gbce"])
def test_nothing_to_predict_is_zero(kind):
    h, items, _ = batch()
    assert student_loss(h[:0], items, torch.zeros(0, dtype=torch.long), TrainConfig(loss=kind, negatives=5)).item() == 0


def test_heads_that_do_not_divide_the_width_are_named():
    with pytest.raises(UserError, match=r'"heads" = 3 does not divide "dim" = 64'):
        parse(ModelConfig, {"heads": 3}, "test")


def test_item_dropout_leaves_places_and_scoring_alone():
    torch.manual_seed(0)
    model = SequentialRecommender(30, ModelConfig(dim=8, blocks=1, heads=1, dropout=0.0, item_dropout=0.25, length=50))
    ids = torch.arange(1, 31).repeat(200, 1)
    bare = model.train().embed(ids) - model.position.weight[:30]
    hidden = (bare == 0).all(2)
    assert hidden.float().mean().item() == pytest.approx(0.25, abs=0.02)
    whole = model.item(ids) * 8**0.5
    torch.testing.assert_close(bare[~hidden], whole[~hidden])
    torch.testing.assert_close(model.eval().embed(ids), whole + model.position.weight[:30])


def test_padding_row_has_no_gradient_and_catalogue_starts_at_item_one():
    model = student()
    ids = torch.tensor([[3, 5, 0, 0]])
    full_softmax(model(ids)[0][0, :2], model.catalogue(), torch.tensor([5, 7])).backward()
    assert model.item.weight.grad[0].abs().sum() == 0
    assert model.catalogue().shape == (30, 8)


def test_every_linear_and_embedding_starts_small():
    model = SequentialRecommender(2000, ModelConfig())
    assert model.item.weight[1:].std().item() == pytest.approx(0.02, rel=0.02)
    assert model.blocks[0].qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("causal", [True, False])
def test_a_score_needs_the_last_position_alone(causal):
    model = SequentialRecommender(30, ModelConfig(causal=causal, dim=8, blocks=2, heads=2, length=9)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    ids = torch.tensor([[4, 5, 6, 7, 0, 0], [9, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]])
    lengths = (ids > 0).sum(1)
    read = ids if causal else torch.nn.functional.pad(ids, (0, 1)).scatter(1, lengths[:, None], model.mask_id)
    h, _ = model(read)
    whole = h[torch.arange(3), lengths - int(causal)] @ model.catalogue().T
    torch.testing.assert_close(model.score(ids), whole)
