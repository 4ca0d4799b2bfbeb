import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from seqdistill.config import Distillation
from seqdistill.io import UserError
from seqdistill.models.distillation import Teacher, combine, distillation_loss, pairing, probe_r2

CPU = torch.device("cpu")


def states(users: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(users, 3, 8, requires_grad=True) for _ in range(3)], torch.ones(users, 3, dtype=torch.bool)


def loss_of(teacher, hidden, real, users, batch=None):
    batch = users if batch is None else batch
    return teacher(hidden, real, pairing(users.numpy(), batch.numpy(), teacher.has, CPU))[0]


@given(
    st.integers(0, 20),
    st.sampled_from(["mean", "exponential", "attention", "last"]),
    st.floats(0.01, 1),
    st.integers(1, 5),
)
def test_padding_never_enters_an_aggregation(pad, how, gamma, length):
    h, real = torch.randn(2, 5, 4), torch.arange(5) < torch.tensor([[length], [5]])
    teacher = Teacher(torch.randn(2, 3), 4, Distillation(aggregation=how, gamma=gamma), 0)
    wide, mask = F.pad(h, (0, 0, 0, pad), value=1e6), F.pad(real, (0, pad))
    torch.testing.assert_close(teacher.aggregate([wide, wide], mask), teacher.aggregate([h, h], real))
    alone = teacher.aggregate([h[:1, :length], h[:1, :length]], real[:1, :length])
    torch.testing.assert_close(alone, teacher.aggregate([wide, wide], mask)[:1])


@pytest.mark.parametrize(
    ("how", "weights"),
    [
        ("mean", [0.5, 0.5]),
        ("exponential", [0.3318122, 0.6681878]),
        ("attention", [0.2689414, 0.7310586]),
        ("last", [0, 1]),
    ],
)
def test_aggregations_by_hand(how, weights):
    h, real = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])
    teacher = Teacher(torch.randn(1, 2), 1, Distillation(aggregation=how, gamma=0.7), 0)
    if how == "attention":
        torch.nn.init.constant_(teacher.attend.weight, 0.5)
        torch.nn.init.constant_(teacher.attend.bias, 7.0)
    assert teacher.aggregate([h, h], real).item() == pytest.approx(weights[0] + 3 * weights[1])


@pytest.mark.parametrize(("loss", "by_hand"), [("mse", 1.25), ("rmse", 1.25), ("cosine", 1 - (0.8 + 1.0) / 2)])
def test_losses_by_hand(loss, by_hand):
    student, target = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.8, 0.6], [0.0, 4.145]])
    if loss != "cosine":
        target = student + torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    found = distillation_loss(student, target.flip(0), torch.tensor([1, 0]), Distillation(loss=loss))
    assert found.item() == pytest.approx(by_hand)


def test_a_process_without_a_taught_row_reports_the_variance_of_the_whole_batch():
    vectors = torch.randn(6, 4)
    vectors[0] = torch.nan
    teacher, everyone = Teacher(vectors, 8, Distillation(projection="student"), 0), np.array([0, 1, 2])
    hidden, real = [torch.randn(1, 3, 8)] * 2, torch.ones(1, 3, dtype=torch.bool)
    loss, variance = teacher(hidden, real, pairing(np.array([0]), everyone, teacher.has, CPU))
    assert loss == 0 and variance == pytest.approx(vectors[1:3].var(0, correction=0).mean().item())


def test_rmse_is_the_root_of_the_mean_over_processes():
    teacher = Teacher(torch.randn(2, 3), 4, Distillation(loss="rmse"), 0)
    assert teacher.finish(torch.tensor(6.25)).item() == pytest.approx(2.5)


def test_infonce_equals_its_definition_over_the_users_of_the_batch():
    config = Distillation(loss="infonce", temperature=0.2, projection="student")
    teacher, (hidden, real) = Teacher(torch.randn(9, 6), 8, config, 0), states(3)
    users, batch, terms = torch.tensor([4, 1, 4]), torch.tensor([4, 1, 4, 7, 2]), []
    for row, user in zip(hidden[1].mean(1), users, strict=True):
        scores = F.cosine_similarity(teacher.project(row), teacher.vectors[[1, 2, 4, 7]]) / 0.2
        terms.append(scores.logsumexp(0) - scores[[1, 2, 4, 7].index(user)])
    torch.testing.assert_close(loss_of(teacher, hidden, real, users, batch), torch.stack(terms).mean())


@pytest.mark.parametrize(
    ("distil", "beta", "total", "gradient"),
    [(0.5, True, 6.0, 0.4 * 6 / 0.5), (1e-9, True, 3.6024, 0.4 * 6 / 1e-6), (0.5, False, 3.8, 0.4)],
)
def test_beta_equalises_carries_no_gradient_and_spares_a_collapsed_target(distil, beta, total, gradient):
    model, distil = torch.tensor(6.0, requires_grad=True), torch.tensor(distil, requires_grad=True)
    loss = combine(model, distil, 0.4, beta)
    loss.backward()
    assert (loss.item(), model.grad.item(), distil.grad.item()) == pytest.approx((total, 0.6, gradient))


def test_every_user_of_the_batch_is_a_positive_by_its_similarity():
    student, targets, own = torch.randn(3, 6), torch.randn(4, 6), torch.tensor([2, 0, 2])
    config, terms = Distillation(loss="multi_infonce", temperature=0.2), []
    for row, place in zip(student, own, strict=True):
        weights = F.cosine_similarity(targets[place], targets).div(0.2).exp()
        scores = F.cosine_similarity(row, targets).div(0.2)
        terms.append(scores.logsumexp(0) - weights @ scores / weights.sum())
    torch.testing.assert_close(distillation_loss(student, targets, own, config), torch.stack(terms).mean())


@pytest.mark.parametrize("projection", ["teacher", "teacher_frozen", "student"])
@pytest.mark.parametrize("kind", ["mse", "rmse", "cosine", "infonce", "multi_infonce"])
def test_users_without_a_profile_give_no_gradient(projection, kind):
    vectors = torch.randn(4, 5)
    vectors[[1, 3]] = torch.nan
    hidden, real = states(4)
    teacher = Teacher(vectors, 8, Distillation(projection=projection, loss=kind), 0)
    teacher.finish(loss_of(teacher, hidden, real, torch.arange(4))).backward()
    assert hidden[1].grad[[1, 3]].abs().sum() == 0 and hidden[1].grad[[0, 2]].abs().sum() > 0
    assert hidden[0].grad is None and hidden[2].grad is None


def test_a_batch_without_profiles_is_zero_and_finite():
    hidden, real = states(2)
    teacher = Teacher(torch.cat([torch.full((2, 5), torch.nan), torch.ones(1, 5)]), 8, Distillation(), 0)
    loss = loss_of(teacher, hidden, real, torch.arange(2))
    loss.backward()
    assert loss.item() == 0 and hidden[-1].grad.abs().sum() == 0
    assert all(weight.grad.abs().sum() == 0 for weight in teacher.parameters())


@pytest.mark.parametrize(("owners", "shuffled"), [(0, False), (1, True)])
def test_a_teacher_of_nobody_and_a_shuffle_of_one_are_refused(owners, shuffled):
    vectors = torch.full((3, 2), torch.nan)
    vectors[:owners] = 1.0
    with pytest.raises(UserError, match=rf"teacher: {owners} users have a profile; {owners + 1} or more must"):
        Teacher(vectors, 4, Distillation(shuffled=shuffled), 0)


@pytest.mark.parametrize(("block", "index"), [(1, 0), (2, 1), ("last", 1), ("final_norm", 2)])
def test_blocks_count_from_one_and_the_norm_comes_last(block, index):
    hidden, real = states(2)
    loss_of(Teacher(torch.randn(2, 5), 8, Distillation(block=block), 0), hidden, real, torch.arange(2)).backward()
    assert [state.grad is not None for state in hidden] == [place == index for place in range(3)]


def test_frozen_projection_is_orthonormal_and_stays():
    teacher = Teacher(torch.randn(4, 5), 8, Distillation(projection="teacher_frozen"), 0)
    torch.testing.assert_close(teacher.project.weight.T @ teacher.project.weight, torch.eye(5))
    assert not any(weight.requires_grad for weight in teacher.parameters())


def test_a_shuffled_teacher_keeps_users_without_profile():
    vectors = torch.arange(12.0).view(6, 2)
    vectors[2] = torch.nan
    teacher, owners = Teacher(vectors, 8, Distillation(shuffled=True), 0), [0, 1, 3, 4, 5]
    assert teacher.has.tolist() == [True, True, False, True, True, True]
    shuffled = teacher.vectors.squeeze(1)[owners]
    assert (shuffled != vectors[owners]).all() and shuffled.sort(0).values.tolist() == vectors[owners].tolist()


def test_the_probe_is_a_ridge_regression_with_a_penalised_intercept():
    h, vectors, held = torch.randn(60, 4), torch.randn(60, 2) + 1, torch.arange(60) % 5 == 0
    x = F.pad((h - h[~held].mean(0)) / h[~held].std(0), (0, 1), value=1.0).double()
    weights = torch.linalg.solve(x[~held].T @ x[~held] + torch.eye(5), x[~held].T @ vectors[~held].double())
    residual, truth = vectors[held] - x[held] @ weights, vectors[held] - vectors[~held].mean(0)
    assert probe_r2(h, vectors) == pytest.approx(1 - (residual**2).sum().item() / (truth**2).sum().item(), abs=1e-6)
