from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from seqdistill.config import ItemText, ModelConfig, TrainConfig
from seqdistill.evaluation.ranking import model_score
from seqdistill.io import UserError
from seqdistill.models import transformer
from seqdistill.models.item_text import with_text
from seqdistill.models.losses import full_softmax, sampled_softmax, student_loss
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.training.train import fresh, load_model, run_key, train


def student(causal: bool = True, **shape) -> SequentialRecommender:
    torch.manual_seed(0)
    shape = {"dim": 8, "blocks": 2, "heads": 2, "dropout": 0.0, "length": 12} | shape
    model = transformer.student(30, ModelConfig(causal=causal, **shape)).eval()
    for weight in filter(lambda weight: weight.requires_grad, model.parameters()):
        torch.nn.init.normal_(weight, std=0.3)
    return model


RECURRENT = [{"recurrent": True}, {"recurrent": True, "blocks": 1}]
IDS = torch.arange(1, 9)[None]


@given(st.sampled_from([{}, *RECURRENT]), st.integers(1, 7), st.integers(1, 30))
def test_no_position_sees_a_later_one(shape, position, other):
    model, changed = student(**shape), IDS.clone()
    changed[0, position] = other
    torch.testing.assert_close(model(IDS)[0][:, :position], model(changed)[0][:, :position])


@given(st.integers(0, 8), st.sampled_from([{}, {"causal": False}, *RECURRENT]))
def test_padding_never_matters(pad, shape):
    model, ids = student(**shape), torch.tensor([[4, 9, 2]])
    wide = torch.cat([F.pad(ids, (0, pad)), torch.arange(1, 4 + pad)[None]])
    torch.testing.assert_close(model(wide)[0][:1, :3], model(ids)[0])
    torch.testing.assert_close(model.score(wide)[:1], model.score(ids))


@pytest.mark.parametrize("shape", [{}, *RECURRENT], ids=str)
def test_a_score_is_that_of_the_last_output_and_a_recurrent_student_has_no_positions(shape):
    model = student(**shape)
    torch.testing.assert_close(model.score(IDS), model(IDS)[0][:, -1] @ model.catalogue().T)
    assert model.position.weight.any() == (not shape)


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_the_head_is_a_layer_on_the_output_and_a_bias_of_every_item(temperature):
    model = student(causal=False, blocks=1, output_layer=True, temperature=temperature)
    h = model.output(model(torch.tensor([[4, 9, 2, 31]]))[1][-1][0, 3])
    items = model.item.weight[1:31]
    if temperature:
        h, items = F.normalize(h, dim=0) / temperature, F.normalize(items, dim=1)
    torch.testing.assert_close(model.score(torch.tensor([[4, 9, 2]]))[0], items @ h + model.bias)


def batch():
    h, items = (torch.randn(n, 8, requires_grad=True) for n in (450, 30))
    return h, items, torch.randint(1, 31, (450,))


def test_the_chunked_loss_and_its_gradients_equal_their_definition():
    h, items, targets = batch()
    losses = 3 * full_softmax(h, items, targets), 3 * F.cross_entropy(h @ items.T, targets - 1)
    gradients = [torch.autograd.grad(loss, (h, items)) for loss in losses]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)


def test_a_loss_beyond_the_range_of_probabilities_is_exact():
    h, items, targets = batch()
    plain = F.cross_entropy(100 * h.double() @ items.double().T, targets - 1)
    assert plain > 300 and full_softmax(10 * h, 10 * items, targets).item() == pytest.approx(plain.item(), rel=1e-5)


def test_sampled_softmax_over_everything_is_the_full_softmax():
    h, items, targets = batch()
    loss = sampled_softmax(h, items, targets, torch.randperm(30) + 1)
    torch.testing.assert_close(loss, full_softmax(h, items, targets), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["full", "sampled"])
def test_nothing_to_predict_is_zero(kind):
    h, items, _ = batch()
    assert student_loss(h[:0], items, torch.zeros(0, dtype=torch.long), TrainConfig(loss=kind, negatives=5)).item() == 0


SHAPE = ModelConfig(dim=8, blocks=1, heads=1, length=6, temperature=0.1)
READS = TrainConfig(model=SHAPE, epochs=2, batch=8, item_text=ItemText())


def test_an_item_without_events_is_its_text_alone():
    texts = torch.randn(4, 5)
    model = with_text(SequentialRecommender(4, SHAPE), ItemText(), texts, np.array([1, 3])).eval()
    alone = texts @ model.item.adapter.weight.T
    torch.testing.assert_close(model.item.weight[[2, 4]], alone[[1, 3]])
    torch.testing.assert_close(model.item.weight[[1, 3]], alone[[0, 2]] + model.item.own.weight[[1, 3]])
    assert model.item.weight[0].abs().sum() == 0


def test_a_run_that_reads_texts_saves_the_plain_student(data, tmp_path):
    reads = replace(data, texts=torch.randn(30, 5))
    train(READS, reads, tmp_path)
    home = tmp_path / run_key(READS, reads)
    assert load_file(home / "model.safetensors").keys() == SequentialRecommender(30, SHAPE).state_dict().keys()
    assert run_key(READS, reads) != run_key(READS, replace(data, texts=torch.randn(30, 5)))
    scores = model_score(load_model(home))(np.array([0]), torch.tensor([[1, 2]]))
    assert scores.shape == (1, 30) and scores.isfinite().all()


def test_texts_that_are_not_there_are_named(data):
    with pytest.raises(UserError, match="the config asks for a teacher or item texts, and the data have none"):
        fresh(READS, data)
