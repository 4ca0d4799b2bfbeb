from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from seqdistill.config import ItemText, ModelConfig, TrainConfig
from seqdistill.evaluation.ranking import model_score
from seqdistill.io import UserError
from seqdistill.models.item_text import with_text
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.training.train import fresh, load_model, run_key, train

SHAPE = ModelConfig(dim=8, blocks=1, heads=1, length=6, temperature=0.1)
READS = TrainConfig(model=SHAPE, epochs=2, batch=8, item_text=ItemText())


@pytest.mark.parametrize("causal", [True, False])
def test_the_folded_student_is_plain_and_scores_the_same(causal):
    shape = replace(SHAPE, causal=causal)
    model = with_text(SequentialRecommender(9, shape), ItemText(), torch.randn(9, 5), np.array([1, 2, 5])).eval()
    plain = SequentialRecommender(9, shape).eval()
    plain.load_state_dict(model.export_state_dict())
    ids = torch.tensor([[1, 2, 3], [9, 0, 0]])
    torch.testing.assert_close(plain.score(ids), model.score(ids), rtol=0, atol=0)


def test_an_item_without_events_is_its_text_alone():
    texts = torch.randn(4, 5)
    model = with_text(SequentialRecommender(4, SHAPE), ItemText(), texts, np.array([1, 3])).eval()
    alone = texts @ model.item.adapter.weight.T
    torch.testing.assert_close(model.item.weight[[2, 4]], alone[[1, 3]])
    torch.testing.assert_close(model.item.weight[[1, 3]], alone[[0, 2]] + model.item.own.weight[[1, 3]])
    assert model.item.weight[0].abs().sum() == 0


def test_in_training_own_vectors_are_left_out_at_the_rate_asked_for():
    texts = torch.randn(4000, 5)
    model = with_text(SequentialRecommender(4000, SHAPE), ItemText(0.3), texts, np.arange(1, 4001)).train()
    without = (model.item.weight[1:] - texts @ model.item.adapter.weight.T).abs().sum(1) < 1e-6
    assert without.float().mean().item() == pytest.approx(0.3, abs=0.03)


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
