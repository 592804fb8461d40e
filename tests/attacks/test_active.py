"""Which images are still under attack, and where the others ended."""

import torch

from ntklens.attacks.active import Active


def test_finished_images_keep_their_place_and_the_value_that_they_had():
    start = torch.zeros(5, 1)
    active = Active(torch.arange(5.0)[:, None], torch.arange(5), start)
    assert active.retire(torch.zeros(5, dtype=torch.bool)) == slice(None)
    active.x_adv = active.x_adv + 1
    assert active.retire(torch.tensor([False, True, False, False, True])).tolist() == [0, 2, 3]
    assert active.x.flatten().tolist() == [0, 2, 3] == active.y.tolist()
    active.x_adv = active.x_adv + 1
    assert active.retire(torch.tensor([True, False, False])).tolist() == [1, 2]
    assert active.rows.tolist() == [2, 3]
    active.x_adv = active.x_adv + 1
    assert active.restore().flatten().tolist() == [2, 1, 3, 3, 1]


def test_the_callers_tensor_is_not_written_to():
    start = torch.zeros(2, 3)
    active = Active(start, torch.arange(2), start)
    active.retire(torch.tensor([True, False]))
    active.x_adv = active.x_adv + 1
    assert active.restore()[1].tolist() == [1, 1, 1]
    assert not start.any()


def test_all_images_can_be_finished():
    start = torch.ones(2, 3)
    active = Active(start, torch.arange(2), start)
    active.retire(torch.tensor([True, True]))
    assert len(active) == 0
    assert torch.equal(active.restore(), start)
