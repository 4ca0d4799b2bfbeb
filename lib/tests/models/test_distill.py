import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from seqdistill.config import Distillation
from seqdistill.data.sequences import Ragged, padded
from seqdistill.io import UserError
from seqdistill.models.distillation import (
    Teacher,
    combine,
    derangement,
    difference,
    exponential,
    last,
    pairing,
    probe_r2,
    user_vector,
)

AGGREGATIONS = ["mean", "exponential", "attention", "last"]


@given(st.integers(0, 20), st.sampled_from(AGGREGATIONS), st.floats(0.01, 1), st.integers(1, 5))
def test_padding_never_matters(pad, how, gamma, length):
    h, real = torch.randn(2, 5, 4), torch.arange(5) < torch.tensor([[length], [5]])
    teacher = Teacher(torch.randn(2, 3), 4, Distillation(aggregation=how, gamma=gamma), 0)
    wide, mask = F.pad(h, (0, 0, 0, pad), value=1e6), F.pad(real, (0, pad))
    torch.testing.assert_close(teacher.aggregated([wide, wide], mask), teacher.aggregated([h, h], real))
    alone = teacher.aggregated([h[:1, :length], h[:1, :length]], real[:1, :length])
    torch.testing.assert_close(alone, teacher.aggregated([wide, wide], mask)[:1])


def test_mean_by_hand():
    h = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert user_vector(h, torch.tensor([[True, True, False]])).item() == 2.0


def test_exponential_by_hand():
    h, real = torch.tensor([[[0.0], [1.0]]]), torch.ones(1, 2, dtype=torch.bool)
    weight = torch.tensor(0.7).exp() / (1 + torch.tensor(0.7).exp())
    assert user_vector(h, real, exponential(real, 0.7)).item() == pytest.approx(weight.item())


def test_last_by_hand():
    h, real = torch.tensor([[[1.0], [3.0], [100.0]]]), torch.tensor([[True, True, False]])
    assert user_vector(h, real, last(real)).item() == 3.0


def test_attention_by_hand():
    h, real = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])
    teacher = Teacher(torch.randn(1, 2), 1, Distillation(aggregation="attention"), 0)
    with torch.no_grad():
        teacher.attend.weight.fill_(0.5)
        teacher.attend.bias.fill_(7.0)
    w = torch.tensor([0.5, 1.5]).softmax(0)
    assert teacher.aggregated([h, h], real).item() == pytest.approx((w[0] + 3 * w[1]).item())


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [("mse", 1.25), ("rmse", 1.25), ("cosine", 1 - (0.8 + 1.0) / 2)],
)
def test_losses_by_hand(loss, by_hand):
    student, target = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.8, 0.6], [0.0, 0.0 + 4.145]])
    if loss != "cosine":
        target = student + torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    found = difference(student, target.flip(0), torch.tensor([1, 0]), Distillation(loss=loss))
    assert found.item() == pytest.approx(by_hand)


def test_rmse_is_the_root_of_the_whole():
    teacher = Teacher(torch.randn(2, 3), 4, Distillation(loss="rmse"), 0)
    assert teacher.finished(torch.tensor(6.25)).item() == pytest.approx(2.5)


def test_infonce_equals_its_definition_over_the_users_of_the_batch():
    config = Distillation(loss="infonce", temperature=0.2, projection="student")
    teacher, (hidden, real) = Teacher(torch.randn(9, 6), 8, config, 0), states(3)
    users, batch, terms = torch.tensor([4, 1, 4]), torch.tensor([4, 1, 4, 7, 2]), []
    for row, user in zip(hidden[1].mean(1), users, strict=True):
        scores = F.cosine_similarity(teacher.project(row), teacher.vectors[[1, 2, 4, 7], 0]) / 0.2
        terms.append(scores.logsumexp(0) - scores[[1, 2, 4, 7].index(user)])
    torch.testing.assert_close(teacher(hidden, real, pairs(teacher, users, batch))[0], torch.stack(terms).mean())


def test_several_profiles_by_hand():
    vectors = torch.tensor([[[1.0, 0.0], [3.0, 2.0]], [[5.0, 5.0], [torch.nan, torch.nan]]])
    mean = Teacher(vectors, 4, Distillation(), 0)
    assert mean.target(torch.tensor([0, 1])).tolist() == [[2.0, 1.0], [5.0, 5.0]]
    weighed = Teacher(vectors, 4, Distillation(several="attention"), 0)
    with torch.no_grad():
        weighed.choose.weight.copy_(torch.tensor([[0.0, 0.5]]))
    w = torch.tensor([0.0, 1.0]).softmax(0)
    expected = torch.stack([w @ vectors[0], vectors[1, 0]])
    torch.testing.assert_close(weighed.target(torch.tensor([0, 1])), expected)


def test_a_row_of_padding_is_an_error_where_batches_are_made():
    rows = Ragged(np.arange(1, 4), np.array([0, 2, 2]), np.array([2, 2, 3]), np.arange(3))
    with pytest.raises(ValueError, match="row 1 has no item"):
        padded(rows, np.arange(3))


def test_beta_carries_no_gradient_and_equalises():
    model, distil = torch.tensor(6.0, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    total = combine(model, distil, 0.4, True)
    assert total.item() == pytest.approx(6.0)
    total.backward()
    assert model.grad.item() == pytest.approx(0.6)
    assert distil.grad.item() == pytest.approx(0.4 * 6 / 0.5)


def test_beta_does_not_blow_up_a_collapsed_target():
    model, distil = torch.tensor(6.0), torch.tensor(1e-9, requires_grad=True)
    combine(model, distil, 0.4, True).backward()
    assert distil.grad.item() == pytest.approx(0.4 * 6 / 1e-6)


def test_without_beta_the_sum_is_plain():
    assert combine(torch.tensor(6.0), torch.tensor(0.5), 0.4, False).item() == pytest.approx(3.8)


def pairs(teacher, users, batch):
    return pairing(users.numpy(), batch.numpy(), teacher.has, torch.device("cpu"))


def states(users: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(users, 3, 8, requires_grad=True) for _ in range(3)], torch.ones(users, 3, dtype=torch.bool)


@pytest.mark.parametrize("side", ["teacher", "teacher_frozen", "student"])
@pytest.mark.parametrize("kind", ["mse", "rmse", "cosine", "infonce"])
def test_users_without_a_profile_give_no_gradient(side, kind):
    vectors = torch.randn(4, 5)
    vectors[[1, 3]] = torch.nan
    hidden, real = states(4)
    teacher = Teacher(vectors, 8, Distillation(projection=side, loss=kind), 0)
    teacher.finished(teacher(hidden, real, pairs(teacher, torch.arange(4), torch.arange(4)))[0]).backward()
    assert hidden[1].grad[[1, 3]].abs().sum() == 0 and hidden[1].grad[[0, 2]].abs().sum() > 0
    assert hidden[0].grad is None and hidden[2].grad is None


def test_a_batch_without_profiles_is_zero_and_finite():
    hidden, real = states(2)
    teacher = Teacher(torch.cat([torch.full((2, 5), torch.nan), torch.ones(1, 5)]), 8, Distillation(), 0)
    loss, _ = teacher(hidden, real, pairs(teacher, torch.arange(2), torch.arange(2)))
    loss.backward()
    assert loss.item() == 0 and hidden[-1].grad.abs().sum() == 0
    assert all(weight.grad.abs().sum() == 0 for weight in teacher.parameters())


@pytest.mark.parametrize(("owners", "shuffled"), [(0, False), (1, True)])
def test_a_teacher_of_nobody_and_a_shuffle_of_one_are_refused(owners, shuffled):
    vectors = torch.full((3, 2), torch.nan)
    vectors[:owners] = 1.0
    with pytest.raises(UserError, match=rf"teacher: at least .* must have a profile; {owners} has one"):
        Teacher(vectors, 4, Distillation(shuffled=shuffled), 0)


@pytest.mark.parametrize(("block", "index"), [(1, 0), (2, 1), ("last", 1), ("final_norm", 2)])
def test_blocks_count_from_one_and_the_norm_comes_last(block, index):
    hidden, real = states(2)
    teacher = Teacher(torch.randn(2, 5), 8, Distillation(block=block), 0)
    loss, _ = teacher(hidden, real, pairs(teacher, torch.arange(2), torch.arange(2)))
    loss.backward()
    assert [state.grad is not None for state in hidden] == [place == index for place in range(3)]


def test_frozen_projection_is_orthonormal_and_stays():
    teacher = Teacher(torch.randn(4, 5), 8, Distillation(projection="teacher_frozen"), 0)
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
    found = teacher.vectors.squeeze(1)
    assert (found[kept] != vectors[kept]).all()
    assert found[kept].sort(0).values.tolist() == vectors[kept].tolist()


def test_probe_reads_what_is_linear_and_nothing_else():
    h = torch.randn(400, 6)
    assert probe_r2(h, h @ torch.randn(6, 3)) > 0.99
    assert probe_r2(h, torch.randn(400, 3)) < 0.05
