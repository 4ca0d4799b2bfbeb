import numpy as np
import pandas as pd
import pytest
import torch
from seqdistill.data.sequences import cases
from seqdistill.evaluation import baselines
from seqdistill.evaluation.ranking import metrics, rank


@pytest.fixture
def train():
    rows = [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 2), (2, 3)]
    return pd.DataFrame(rows, columns=["user", "item"])


def scores(score, *history):
    return score(np.array([0]), torch.tensor([[*history, 0]]))[0]


def test_ease_is_the_ridge_regression_of_every_item_on_the_others(train):
    met = baselines.matrix(train, 4).toarray().astype(float)
    found = torch.stack([scores(baselines.ease(train, 4, l2=0.5), item) for item in range(1, 5)]).numpy()
    for item in range(4):
        others = [other for other in range(4) if other != item]
        x = met[:, others]
        weights = np.linalg.solve(x.T @ x + 0.5 * np.eye(3), x.T @ met[:, item])
        np.testing.assert_allclose(found[others, item], weights, atol=1e-5)
        assert found[item, item] == 0


def test_markov_counts_what_followed_the_last_item(train):
    share = torch.tensor([2, 3, 2, 0]) / 7
    torch.testing.assert_close(scores(baselines.markov(train, 4, 0.1), 3, 1), torch.tensor([0, 2, 0, 0]) + 0.1 * share)
    torch.testing.assert_close(scores(baselines.markov(train, 4, 0.1), 1, 3), 0.1 * share)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_item_knn_equals_its_definition_and_recent_items_may_count_more(train, decay):
    users = train.groupby("item")["user"].agg(set).reindex(range(1, 5), fill_value=set())
    history, found = [2, 3, 3, 1], scores(baselines.item_knn(train, 4, 5.0, decay), 2, 3, 3, 1)
    for item in range(1, 5):
        alike = [len(users[item] & users[i]) / ((len(users[item]) * len(users[i])) ** 0.5 + 5) for i in history]
        terms = [decay**age * alike[-1 - age] for age in range(4) if history[-1 - age] != item]
        assert found[item - 1].item() == pytest.approx(sum(terms), rel=1e-5)


def test_ials_folds_a_user_in_by_the_weights_of_its_events(train):
    score = baselines.ials(train, 4, factors=3, regularization=0.5, alpha=4.0)
    model = next(cell.cell_contents for cell in score.__closure__ if hasattr(cell.cell_contents, "item_factors"))
    y = np.asarray(model.item_factors, float)
    weight = np.diag([5.0, 5.0, 1.0, 1.0])
    user = np.linalg.solve(y.T @ weight @ y + 0.5 * np.eye(3), y.T @ (weight @ [1, 1, 0, 0]))
    np.testing.assert_allclose(scores(score, 1, 2), y @ user, atol=1e-3)


@pytest.mark.parametrize("name", baselines.GRIDS)
def test_a_rival_is_chosen_on_validation_and_finds_what_follows(name):
    start = np.random.default_rng(0).integers(0, 12, 60)
    rows = [(user, 1 + (start[user] + step) % 12, step) for user in range(60) for step in range(7)]
    events = pd.DataFrame(rows, columns=["user", "item", "time"]).assign(split=(["train"] * 5 + ["valid", "test"]) * 60)
    train, valid, test = events[events["split"] == "train"], cases(events, "valid"), cases(events, "test")

    def rated(among, score):
        return metrics(rank(among, score)["rank_unseen"])["ndcg@10"]

    score, settings = baselines.chosen(name, train, 12, valid)
    assert rated(test, score) > rated(test, baselines.popularity(train, 12)) + 0.1
    grid = [rated(valid, make(train, 12)) for make in baselines.GRIDS[name]]
    assert settings["valid_ndcg@10"] == pytest.approx(max(grid), abs=1e-6)
