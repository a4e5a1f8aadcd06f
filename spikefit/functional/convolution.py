"""Shapes of convolutions."""

from collections.abc import Sequence

from torch import Tensor


def output_size(
    size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[int, ...]:
    """Height and width of the map that a convolution returns, as :class:`torch.nn.Conv2d` has it.

    Args:
        size: height and width of the input.
        kernel_size, stride, padding, dilation: as in :class:`torch.nn.Conv2d`, one number a dimension.

    Example:
        >>> output_size((28, 28), (3, 3), (2, 2), (1, 1), (1, 1))
        (14, 14)
    """
    return tuple(
        (length + 2 * pad - spread * (kernel - 1) - 1) // step + 1
        for length, kernel, step, pad, spread in zip(size, kernel_size, stride, padding, dilation, strict=True)
    )


def ungrouped(weight: Tensor, groups: int) -> Tensor:
    """The weight of a grouped convolution as that of one without groups: zeros where there is no synapse.

    Args:
        weight: ``[out, in / groups, kh, kw]``.
        groups: of the convolution.

    Returns:
        ``[out, in, kh, kw]``.
    """
    if groups == 1:
        return weight
    full = weight.new_zeros(weight.shape[0], weight.shape[1] * groups, *weight.shape[2:])
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    for group in range(groups):
        chunk = slice(group * rows, (group + 1) * rows)
        full[chunk, group * columns : (group + 1) * columns] = weight[chunk]
    return full
