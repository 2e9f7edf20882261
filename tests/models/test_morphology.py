import cv2
import numpy as np
import pytest
import torch

from models.morphology import close, grow, shrink


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_masks_grow_shrink_and_close_as_opencv_has_it(reach):
    mask = (np.random.default_rng(0).uniform(size=(24, 30)) > 0.7).astype(np.uint8)
    kernel = np.ones((2 * reach + 1,) * 2, np.uint8)
    tensor = torch.from_numpy(mask).bool()
    np.testing.assert_array_equal(grow(tensor, reach).numpy(), cv2.dilate(mask, kernel).astype(bool))
    np.testing.assert_array_equal(shrink(tensor, reach).numpy(), cv2.erode(mask, kernel).astype(bool))
    inner = slice(2 * reach, -2 * reach or None)  # OpenCV lets the border close over what touches it, too
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel).astype(bool)
    np.testing.assert_array_equal(close(tensor, reach).numpy()[inner, inner], closed[inner, inner])


def test_growing_is_differentiable_and_keeps_values():
    alpha = torch.zeros(9, 9)
    alpha[4, 4] = 0.7
    alpha.requires_grad_()
    grown = grow(alpha, 2)
    assert grown[2:7, 2:7].min().item() == pytest.approx(0.7)
    assert grown.sum().item() == pytest.approx(25 * 0.7)
    grown.sum().backward()
    assert alpha.grad[4, 4] >= 25
