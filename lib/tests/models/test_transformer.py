import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from seqdistill.config import ModelConfig, parse
from seqdistill.data.sequences import Ragged, cloze
from seqdistill.io import UserError
from seqdistill.models import transformer
from seqdistill.models.losses import full_softmax
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


@given(st.integers(0, 1000), st.floats(0.05, 0.9), st.floats(0, 1))
def test_cloze_masks_at_least_one_item_of_every_row_and_loses_none(seed, mask_prob, mask_last_prob):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 9, 20)
    ends = lengths.cumsum()
    rows = Ragged(rng.integers(1, 31, ends[-1]), ends - lengths, ends, np.arange(20))
    batches = list(cloze(rows, 6, rng, 31, mask_prob, mask_last_prob))
    assert sorted(np.concatenate([users for users, *_ in batches])) == list(range(20))
    for users, inputs, targets in batches:
        for user, row, hidden in zip(users, inputs, targets, strict=True):
            assert np.where(hidden > 0, hidden, row)[row > 0].tolist() == rows.row(user).tolist()
            assert ((row == 31) == (hidden > 0)).all() and (hidden > 0).any()


def test_cloze_masks_as_often_as_asked_for():
    rows = Ragged(np.ones(40_000, int), np.arange(0, 40_000, 40), np.arange(40, 40_001, 40), np.arange(1000))
    some, last = (
        np.concatenate([targets for *_, targets in cloze(rows, 100, np.random.default_rng(0), 2, 0.2, share)]) > 0
        for share in (0.0, 1.0)
    )
    assert some.mean() == pytest.approx(0.2, abs=0.006) and last[:, -1].all() and last.sum() == 1000


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


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_the_head_is_a_layer_on_the_output_and_a_bias_of_every_item(temperature):
    torch.manual_seed(0)
    config = ModelConfig(
        causal=False, dim=8, blocks=1, heads=2, dropout=0.0, length=12, output_layer=True, temperature=temperature
    )
    model, ids = SequentialRecommender(30, config).eval(), torch.tensor([[4, 9, 2]])
    torch.nn.init.normal_(model.bias)
    h = model.output(model(torch.tensor([[4, 9, 2, 31]]))[1][-1][0, 3])
    items = model.item.weight[1:31]
    if temperature:
        h, items = F.normalize(h, dim=0) / temperature, F.normalize(items, dim=1)
    torch.testing.assert_close(model.score(ids)[0], items @ h + model.bias)


@given(st.integers(0, 8), st.integers(1, 2), st.integers(1, 7))
def test_a_recurrent_student_sees_no_later_event_and_no_padding(pad, blocks, position):
    torch.manual_seed(0)
    config = ModelConfig(dim=8, blocks=blocks, dropout=0.0, length=12, recurrent=True)
    model, ids = transformer.student(30, config).eval(), torch.arange(1, 9)[None]
    changed, wide = ids.clone(), F.pad(ids[:, :3], (0, pad))
    changed[0, position] = 30
    torch.testing.assert_close(model(ids)[0][:, :position], model(changed)[0][:, :position])
    torch.testing.assert_close(model.score(wide), model.score(ids[:, :3]))
    torch.testing.assert_close(model.score(ids)[0], model(ids)[0][0, -1] @ model.catalogue().T)
    assert not model.position.weight.any()
