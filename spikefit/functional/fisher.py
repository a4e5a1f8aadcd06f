"""Fisher information of gates on units and on synapses: an estimate of the loss change if one is removed.

A gate ``g`` multiplies a unit's spikes or a synapse's weight. Its derivative for sample ``n`` is a vector-Jacobian
product ``v_n^T dz_n/dg`` with a vector ``v_n`` in the space of the logits ``z_n``. With ``v_n = dL_n/dz_n`` this is the
derivative of the sample's loss, and the squares make up the empirical Fisher information. The (true) Fisher information
draws the labels from the network's predictions ``p_n = softmax(z_n)``: the expectation of ``v_n v_n^T`` must be
``diag(p_n) - p_n p_n^T``. The functions ``*_pullbacks`` provide such vectors in three ways.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 2**24  # numbers in memory at a time, 64 MiB


def spike_contribution(spikes: Tensor, gradient: Tensor) -> Tensor:
    """First-order effect of each unit's gate on each sample, ``dL_n/dg_k = sum_{t,h,w} dL_n/ds * s``.

    Spikes taken after an average or maximum pooling give the same result as the neurons' own spikes: the sum of
    ``dL/ds * s`` over one window is ``dL/dp * p``.

    Args:
        spikes: ``[T, B, K, ...]``.
        gradient: gradient, with respect to ``spikes``, of the loss *summed* over samples; same shape.

    Returns:
        ``[B, K]``.
    """
    product = (spikes * gradient).sum(dim=0)
    return product.flatten(2).sum(dim=2) if product.dim() > 2 else product


def fisher_sum(contribution: Tensor) -> Tensor:
    """Sum over samples of half the squared contribution, ``1/2 * sum_n (dL_n/dg_k)**2``.

    Divided by the number of samples, this is half the diagonal of the Fisher information of the gates: the second-order
    estimate of the loss change (Theis et al. 2018, arXiv 1801.05787), applied to spikes. The square is taken before
    the sum over samples.

    Args:
        contribution: ``[B, K]`` from :func:`spike_contribution`.

    Returns:
        ``[K]``.
    """
    return contribution.square().sum(dim=0) / 2


def exact_pullbacks(logits: Tensor) -> Tensor:
    """Vectors whose outer products sum to ``diag(p) - p p^T``: ``sqrt(p_c) * (p - e_c)`` for each class c.

    ``p - e_c`` is the gradient of the cross entropy with label c, and ``p_c`` is the probability of that label.

    Args:
        logits: ``[B, classes]``.

    Returns:
        ``[classes, B, classes]``: one backward pass per class.
    """
    p = logits.softmax(dim=1)
    gradients = p.unsqueeze(0) - torch.eye(p.shape[1], dtype=p.dtype, device=p.device).unsqueeze(1)
    return p.t().sqrt().unsqueeze(2) * gradients


def sketched_pullbacks(logits: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Random vectors whose outer products sum to ``diag(p) - p p^T`` in expectation.

    Each vector is the sum of :func:`exact_pullbacks` over the classes with random signs. Drawn labels are unbiased too,
    but have a larger variance: where the network is confident, nearly all labels are the same class, and the rare
    others dominate the sum.

    Args:
        logits: ``[B, classes]``.
        draws: number of vectors per sample, one backward pass each.
        generator: draws the signs; on the CPU.

    Returns:
        ``[draws, B, classes]``.
    """
    p = logits.softmax(dim=1)
    signs = torch.randint(0, 2, (draws, *p.shape), generator=generator).to(p) * 2 - 1
    signed = signs * p.sqrt()
    return (p * signed.sum(dim=2, keepdim=True) - signed) / draws**0.5


def drawn_pullbacks(logits: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Gradients of the cross entropy with labels drawn from the predictions; unbiased as well.

    Args:
        logits: ``[B, classes]``.
        draws: number of labels per sample, one backward pass each.
        generator: draws the labels; on the CPU.

    Returns:
        ``[draws, B, classes]``.
    """
    p = logits.softmax(dim=1)
    labels = torch.multinomial(p.cpu(), draws, replacement=True, generator=generator).t().to(p.device)
    return (p - F.one_hot(labels, p.shape[1])) / draws**0.5


def dense_weight_fisher(inputs: Tensor, gradient: Tensor, samples: int) -> Tensor:
    """``1/2 * sum_n (dL_n/dW)**2`` of a linear layer, from the exact weight gradient of each sample.

    Args:
        inputs: inputs of the layer, ``[T * B, in]``, time outermost.
        gradient: gradient, with respect to the layer's output, of the loss *summed* over samples; ``[T * B, out]``.
        samples: B.

    Returns:
        ``[out, in]``.
    """
    rows = inputs.unflatten(0, (-1, samples))[:, :, None, :, None]
    columns = gradient.unflatten(0, (-1, samples))[:, :, None, :, None]
    step = max(1, _CHUNK // (inputs.shape[1] * gradient.shape[1]))
    total = inputs.new_zeros(gradient.shape[1], inputs.shape[1])
    for start in range(0, samples, step):
        total += _half_square_sum(rows[:, start : start + step], columns[:, start : start + step])
    return total


def conv_weight_fisher(
    inputs: Tensor,
    gradient: Tensor,
    samples: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """``1/2 * sum_n (dL_n/dW)**2`` of a convolution; gradients are summed over time and map before the square.

    Args:
        inputs: inputs of the layer, ``[T * B, in, H, W]``, time outermost.
        gradient: as in :func:`dense_weight_fisher`, ``[T * B, out, H', W']``.
        samples: B.
        kernel, stride, padding, dilation, groups: of the convolution.

    Returns:
        ``[out, in / groups, *kernel]``.
    """
    frames = inputs.unflatten(0, (-1, samples))
    columns = gradient.unflatten(0, (-1, samples)).flatten(3).unflatten(2, (groups, -1))
    fan_in = inputs.shape[1] * kernel[0] * kernel[1]
    patches = len(frames) * columns.shape[-1]
    step = max(1, _CHUNK // (fan_in * (patches + columns.shape[3])))
    total = inputs.new_zeros(gradient.shape[1], fan_in // groups)
    for start in range(0, samples, step):
        chunk = frames[:, start : start + step]
        rows = F.unfold(chunk.flatten(0, 1), kernel, dilation, padding, stride)
        rows = rows.unflatten(0, chunk.shape[:2]).unflatten(2, (groups, -1))
        total += _half_square_sum(rows, columns[:, start : start + step])
    return total.unflatten(1, (-1, *kernel))


def _half_square_sum(rows: Tensor, columns: Tensor) -> Tensor:
    """Half the sum over samples of the squared product ``columns * rows^T``, summed over time and positions.

    Args:
        rows: ``[T, B, groups, in, places]``.
        columns: ``[T, B, groups, out, places]``.

    Returns:
        ``[groups * out, in]``.
    """
    per_sample = torch.einsum("tbgop,tbgip->bgoi", columns, rows)
    return per_sample.square().sum(dim=0).flatten(0, 1) / 2
