import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from seqdistill.config import Distillation
from seqdistill.io import UserError
from seqdistill.models.distillation import Teacher, combine, distillation_loss, pairing

CPU = torch.device("cpu")


def states(users: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(users, 3, 8, requires_grad=True) for _ in range(3)], torch.ones(users, 3, dtype=torch.bool)


def loss_of(teacher, hidden, real, users):
    return teacher(hidden, real, pairing(users, users, teacher.has, CPU))[0]


HOW = st.sampled_from(["mean", "exponential", "attention", "last"])


@given(st.integers(0, 20), HOW, st.floats(0.01, 1), st.integers(1, 5))
def test_padding_never_enters_an_aggregation(pad, how, gamma, length):
    h, real = torch.randn(2, 5, 4), torch.arange(5) < torch.tensor([[length], [5]])
    teacher = Teacher(torch.randn(2, 3), 4, Distillation(aggregation=how, gamma=gamma), 0)
    wide, mask = F.pad(h, (0, 0, 0, pad), value=1e6), F.pad(real, (0, pad))
    torch.testing.assert_close(teacher.aggregate([wide, wide], mask), teacher.aggregate([h, h], real))
    alone = teacher.aggregate([h[:1, :length], h[:1, :length]], real[:1, :length])
    torch.testing.assert_close(alone, teacher.aggregate([wide, wide], mask)[:1])


@pytest.mark.parametrize(
    ("how", "second"), [("mean", 0.5), ("exponential", 0.6681878), ("attention", 0.7310586), ("last", 1.0)]
)
def test_aggregations_by_hand(how, second):
    h, real = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])
    teacher = Teacher(torch.randn(1, 2), 1, Distillation(aggregation=how, gamma=0.7), 0)
    if how == "attention":
        torch.nn.init.constant_(teacher.attend.weight, 0.5)
        torch.nn.init.constant_(teacher.attend.bias, 7.0)
    assert teacher.aggregate([h, h], real).item() == pytest.approx(1 - second + 3 * second)


def test_every_user_of_the_batch_is_a_positive_by_its_similarity():
    student, targets, own = torch.randn(3, 6), torch.randn(4, 6, requires_grad=True), torch.tensor([2, 0, 2])
    config, terms = Distillation(loss="multi_infonce", temperature=0.2), []
    for row, place in zip(student, own, strict=True):
        weights = (F.cosine_similarity(targets[place], targets) / 0.2).softmax(0).detach()
        scores = F.cosine_similarity(row, targets) / 0.2
        terms.append(scores.logsumexp(0) - weights @ scores)
    losses = distillation_loss(student, targets, own, config), torch.stack(terms).mean()
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, targets) for loss in losses))


def test_a_process_without_a_taught_row_reports_the_variance_of_the_whole_batch():
    vectors = torch.randn(6, 4)
    vectors[0] = torch.nan
    teacher = Teacher(vectors, 8, Distillation(projection="student"), 0)
    (hidden, real), pairs = states(1), pairing(np.array([0]), np.array([0, 1, 2]), teacher.has, CPU)
    loss, variance = teacher(hidden, real, pairs)
    assert loss == 0 and variance == pytest.approx(vectors[1:3].var(0, correction=0).mean().item())


@pytest.mark.parametrize(
    ("distil", "beta", "total", "gradient"),
    [(0.5, True, 6.0, 0.4 * 6 / 0.5), (1e-9, True, 3.6024, 0.4 * 6 / 1e-6), (0.5, False, 3.8, 0.4)],
)
def test_beta_equalises_carries_no_gradient_and_spares_a_collapsed_target(distil, beta, total, gradient):
    model, distil = torch.tensor(6.0, requires_grad=True), torch.tensor(distil, requires_grad=True)
    loss = combine(model, distil, 0.4, beta)
    loss.backward()
    assert (loss.item(), model.grad.item(), distil.grad.item()) == pytest.approx((total, 0.6, gradient))


@pytest.mark.parametrize("projection", ["teacher", "teacher_frozen", "student"])
@pytest.mark.parametrize("kind", ["mse", "rmse", "cosine", "infonce", "multi_infonce"])
def test_users_without_a_profile_give_no_gradient(projection, kind):
    vectors = torch.randn(4, 5)
    vectors[[1, 3]] = torch.nan
    hidden, real = states(4)
    teacher = Teacher(vectors, 8, Distillation(projection=projection, loss=kind), 0)
    teacher.finish(loss_of(teacher, hidden, real, np.arange(4))).backward()
    assert hidden[1].grad[[1, 3]].abs().sum() == 0 and hidden[1].grad[[0, 2]].abs().sum() > 0
    assert hidden[0].grad is None and hidden[2].grad is None


def test_a_batch_without_profiles_is_zero_and_finite():
    hidden, real = states(2)
    teacher = Teacher(torch.cat([torch.full((2, 5), torch.nan), torch.ones(1, 5)]), 8, Distillation(), 0)
    loss = loss_of(teacher, hidden, real, np.arange(2))
    loss.backward()
    assert loss.item() == 0 and hidden[-1].grad.abs().sum() == 0
    assert all(weight.grad.abs().sum() == 0 for weight in teacher.parameters())


@pytest.mark.parametrize(("owners", "shuffled"), [(0, False), (1, True)])
def test_a_teacher_of_nobody_and_a_shuffle_of_one_are_refused(owners, shuffled):
    vectors = torch.full((3, 2), torch.nan)
    vectors[:owners] = 1.0
    with pytest.raises(UserError, match=rf"teacher: {owners} users have a profile; {owners + 1} or more must"):
        Teacher(vectors, 4, Distillation(shuffled=shuffled), 0)
