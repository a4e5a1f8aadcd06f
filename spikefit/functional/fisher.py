"""Fisher information of gates on units and on synapses: how much the loss would change if one were removed.

Everything here works on per-sample derivatives with respect to a gate that multiplies a unit's spikes or a synapse's
weight. Those come from pulling vectors ``v_n`` in the space of the logits back through the network:
``v_n^T dz_n/dg``. With ``v_n = dL_n/dz_n`` that is the derivative of the sample's loss, whose squares make up the
empirical Fisher information. The Fisher information itself takes the labels from the network's own predictions ``p_n =
softmax(z_n)``; for it ``v_n v_n^T`` must be ``diag(p_n) - p_n p_n^T`` in the mean, which the functions ``*_pullbacks``
see to in three ways.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 2**24  # numbers held at once, 64 MiB


def spike_contribution(spikes: Tensor, gradient: Tensor) -> Tensor:
    """First-order effect of each unit's gate on each sample, ``dL_n/dg_k = sum_{t,h,w} dL_n/ds * s``.

    Spikes behind an average or a maximum pooling give the same result as the neurons' own: over one window the sum of
    ``dL/ds * s`` is ``dL/dp * p``.

    Args:
        spikes: ``[T, B, K, ...]``.
        gradient: the gradient of the *sum* over samples of the loss with respect to ``spikes``, same shape.

    Returns:
        ``[B, K]``.
    """
    product = (spikes * gradient).sum(dim=0)
    return product.flatten(2).sum(dim=2) if product.dim() > 2 else product


def fisher_sum(contribution: Tensor) -> Tensor:
    """Sum over samples of half the squared contribution, ``1/2 * sum_n (dL_n/dg_k)**2``.

    Divided by the number of samples this is the diagonal of the Fisher information of the gates, the second-order
    estimate of the loss change (Theis et al. 2018, arXiv 1801.05787), taken on spikes. The square comes before the sum
    over samples.

    Args:
        contribution: ``[B, K]`` from :func:`spike_contribution`.

    Returns:
        ``[K]``.
    """
    return contribution.square().sum(dim=0) / 2


def exact_pullbacks(logits: Tensor) -> Tensor:
    """Vectors whose outer products add up to ``diag(p) - p p^T``: ``sqrt(p_c) * (p - e_c)`` for each class c.

    ``p - e_c`` is the gradient of the cross entropy with label c, and ``p_c`` that label's probability.

    Args:
        logits: ``[B, classes]``.

    Returns:
        ``[classes, B, classes]``: one backward pass a class.
    """
    p = logits.softmax(dim=1)
    gradients = p.unsqueeze(0) - torch.eye(p.shape[1], dtype=p.dtype, device=p.device).unsqueeze(1)
    return p.t().sqrt().unsqueeze(2) * gradients


def sketched_pullbacks(logits: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Random vectors whose outer products add up to ``diag(p) - p p^T`` in the mean.

    Each is the sum of :func:`exact_pullbacks` over the classes with random signs. A drawn label is right in the mean
    too, but where the network is sure of a class it nearly always is that class, and the rare others carry the sum.

    Args:
        logits: ``[B, classes]``.
        draws: number of vectors a sample, one backward pass each.
        generator: of the signs, on the CPU.

    Returns:
        ``[draws, B, classes]``.
    """
    p = logits.softmax(dim=1)
    signs = torch.randint(0, 2, (draws, *p.shape), generator=generator).to(p) * 2 - 1
    signed = signs * p.sqrt()
    return (p * signed.sum(dim=2, keepdim=True) - signed) / draws**0.5


def drawn_pullbacks(logits: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Gradients of the cross entropy with labels drawn from the predictions; right in the mean as well.

    Args, returns:
        as :func:`sketched_pullbacks`.
    """
    p = logits.softmax(dim=1)
    labels = torch.multinomial(p.cpu(), draws, replacement=True, generator=generator).t().to(p.device)
    return (p - F.one_hot(labels, p.shape[1])) / draws**0.5


def dense_weight_fisher(inputs: Tensor, gradient: Tensor, samples: int) -> Tensor:
    """``1/2 * sum_n (dL_n/dW)**2`` of a linear layer, with each sample's exact gradient of the weight.

    Args:
        inputs: what the layer read, ``[T * B, in]``, time outermost.
        gradient: the gradient of the *sum* over samples of the loss with respect to what the layer delivered,
            ``[T * B, out]``.
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
    """``1/2 * sum_n (dL_n/dW)**2`` of a convolution: gradients add over time and map before the square.

    Args:
        inputs: what the layer read, ``[T * B, in, H, W]``, time outermost.
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
    """Half the squares of each sample's sum over time and places of ``columns`` times ``rows``, added over samples.

    Args:
        rows: ``[T, B, groups, in, places]``.
        columns: ``[T, B, groups, out, places]``.

    Returns:
        ``[groups * out, in]``.
    """
    per_sample = torch.einsum("tbgop,tbgip->bgoi", columns, rows)
    return per_sample.square().sum(dim=0).flatten(0, 1) / 2
