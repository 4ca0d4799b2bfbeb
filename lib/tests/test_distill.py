import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from seqdistill.config import Distillation
from seqdistill.distill import Teacher, combine, derangement, probe_r2, user_vector


@given(pad=st.integers(0, 20), gamma=st.floats(0, 1))
def test_padding_never_matters(pad, gamma):
    h, real = torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)
    wide = F.pad(h, (0, 0, 0, pad), value=1e6)
    torch.testing.assert_close(user_vector(wide, F.pad(real, (0, pad)), gamma), user_vector(h, real, gamma))


def test_mean_by_hand():
    h = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert user_vector(h, torch.tensor([[True, True, False]])).item() == 2.0


def test_exponential_by_hand():
    h = torch.tensor([[[0.0], [1.0]]])
    weight = torch.tensor(0.7).exp() / (1 + torch.tensor(0.7).exp())
    assert user_vector(h, torch.ones(1, 2, dtype=torch.bool), 0.7).item() == pytest.approx(weight.item())


def test_a_row_of_padding_is_an_error():
    with pytest.raises(ValueError, match="row 1 has no real position"):
        user_vector(torch.zeros(2, 1, 3), torch.tensor([[True], [False]]))


def test_beta_carries_no_gradient_and_equalises():
    model, distil = torch.tensor(6.0, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    total = combine(model, distil, 0.4, True)
    assert total.item() == pytest.approx(6.0)
    total.backward()
    assert model.grad.item() == pytest.approx(0.6)
    assert distil.grad.item() == pytest.approx(0.4 * 6 / 0.5)


def test_without_beta_the_sum_is_plain():
    assert combine(torch.tensor(6.0), torch.tensor(0.5), 0.4, False).item() == pytest.approx(3.8)


def states(users: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(users, 3, 8, requires_grad=True) for _ in range(2)], torch.ones(users, 3, dtype=torch.bool)


@pytest.mark.parametrize("side", ["target", "frozen", "student"])
def test_users_without_a_profile_give_no_gradient(side):
    vectors = torch.randn(4, 5)
    vectors[[1, 3]] = torch.nan
    hidden, real = states(4)
    loss, _ = Teacher(vectors, 8, Distillation(side=side), 0)(hidden, real, torch.arange(4))
    loss.backward()
    assert hidden[-1].grad[[1, 3]].abs().sum() == 0 and hidden[-1].grad[[0, 2]].abs().sum() > 0
    assert hidden[0].grad is None


def test_a_batch_without_profiles_is_zero_and_finite():
    hidden, real = states(2)
    loss, _ = Teacher(torch.full((2, 5), torch.nan), 8, Distillation(), 0)(hidden, real, torch.arange(2))
    loss.backward()
    assert loss.item() == 0 and hidden[-1].grad.abs().sum() == 0


def test_block_counts_from_one():
    hidden, real = states(2)
    loss, _ = Teacher(torch.randn(2, 5), 8, Distillation(block=1), 0)(hidden, real, torch.arange(2))
    loss.backward()
    assert hidden[0].grad.abs().sum() > 0 and hidden[1].grad is None


def test_frozen_projection_is_orthonormal_and_stays():
    teacher = Teacher(torch.randn(4, 5), 8, Distillation(side="frozen"), 0)
    weight = teacher.project.weight
    torch.testing.assert_close(weight.T @ weight, torch.eye(5))
    assert not any(p.requires_grad for p in teacher.parameters())


@given(st.integers(2, 50), st.integers(0, 5))
def test_shuffle_leaves_nobody_in_place_and_loses_nobody(n, seed):
    order = derangement(n, torch.Generator().manual_seed(seed))
    assert (order != torch.arange(n)).all() and order.sort().values.tolist() == list(range(n))


def test_shuffled_teacher_keeps_users_without_profile():
    vectors = torch.arange(12.0).view(6, 2)
    vectors[2] = torch.nan
    teacher = Teacher(vectors, 8, Distillation(shuffled=True), 0)
    assert teacher.has.tolist() == [True, True, False, True, True, True]
    kept = [0, 1, 3, 4, 5]
    assert (teacher.vectors[kept] != vectors[kept]).all()
    assert teacher.vectors[kept].sort(0).values.tolist() == vectors[kept].tolist()


def test_probe_reads_what_is_linear_and_nothing_else():
    h = torch.randn(400, 6)
    assert probe_r2(h, h @ torch.randn(6, 3)) > 0.99
    assert probe_r2(h, torch.randn(400, 3)) < 0.05
