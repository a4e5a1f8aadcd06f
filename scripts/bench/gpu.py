"""Benchmark on a CUDA device: correctness and speed of the kernels, and speed of training steps.

    python -m scripts.bench.gpu --out docs/results/bench_gpu.json [--only check bandwidth step profile]

``check`` compares the kernels with plain torch in float64. ``bandwidth`` measures the memory bandwidth of the kernels
(the bytes that they must move, divided by their time) and of a copy. ``step`` times training steps (forward, cross
entropy, backward, SGD) of VGG-11, ResNet-18 and ConvSNN, interleaved in one process with those of SpikingJelly and of a
ReLU network on the same number of frames. If SpikingJelly is not installed, its rows report that. ``profile`` counts
the launches and synchronisations of a step and lists its longest kernels. With ``--device cpu`` all sizes are small, to
test the script.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.bench.gpu_networks import Builder, ours, peers
from scripts.bench.timing import interleaved, quartiles, versions
from spikefit.cuda_graphs import CapturedNetwork
from spikefit.functional.dynamics import Dynamics, Norm
from spikefit.functional.lif import PlainScan, multi_step, normed_multi_step
from spikefit.functional.quantize import _CodebookLookup, codebook_lookup
from spikefit.networks.blocks import Network

warnings.filterwarnings("ignore")
Row = dict[str, Any]
BATCH = 256
EPS = 1e-5


def wait(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def median_ms(function: Callable[[], object], device: torch.device, seconds: float = 0.5) -> float:
    """Median milliseconds of a call."""
    for _ in range(3):
        function()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        wait(device)
        start = time.perf_counter()
        function()
        wait(device)
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)[len(times) // 2]


def difference(ours: Tensor, expected: Tensor) -> float:
    """Norm of the difference divided by the norm of ``expected``."""
    return float((ours.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-30))


def composed(y: Tensor, dynamics: Dynamics, amount: float, norm: Norm, pool: int) -> Tensor:
    """Reference of ``normed_multi_step``, composed of torch's functions."""
    folded = F.batch_norm(y.flatten(0, 1), norm.mean, norm.var, norm.gain, norm.bias, norm.mean is None, 0.0, EPS)
    current = folded.unflatten(0, y.shape[:2])
    factor = torch.tensor(amount, dtype=y.dtype, device=y.device)
    spikes = PlainScan.apply(current, factor, dynamics)
    return F.avg_pool2d(spikes.flatten(0, 1), pool).unflatten(0, y.shape[:2])


def check_norm_scan(device: torch.device, dtype: torch.dtype, case: tuple[Any, ...]) -> Row:
    """Share of pooling windows whose spikes differ from float64, and the largest relative error of a gradient."""
    (leak, amount), reset, surrogate, pool, measured, steps = case
    dynamics = Dynamics(1.0, leak, reset, surrogate, 2.0)
    y = (torch.randn(steps, 3, 70, 17, 15, device=device) * 1.3 + 0.3).to(dtype)
    gain, bias = torch.rand(70, device=device) + 0.5, torch.randn(70, device=device) * 0.3
    mean, var = (None, None) if measured else (torch.randn(70, device=device), torch.rand(70, device=device) + 0.5)
    results = []
    up = torch.randn(steps, 3, 70, 17 // pool, 15 // pool, device=device).to(dtype)
    for exact in (False, True):
        kind = torch.float64 if exact or dtype == torch.float64 else torch.float32
        leaves = [x.to(torch.float64 if exact else x.dtype).requires_grad_() for x in (y.detach().clone(), gain, bias)]
        leaves = [x.detach().to(kind if i else x.dtype).requires_grad_() for i, x in enumerate(leaves)]
        statistics = [None if x is None else x.to(kind) for x in (mean, var)]
        norm = Norm(leaves[1], leaves[2], statistics[0], statistics[1], EPS)
        if exact:
            out = composed(leaves[0], dynamics, amount, norm, pool)
        else:
            out = normed_multi_step(leaves[0], steps, dynamics, amount, norm, None, pool)[0]
        out.backward(up.to(out.dtype))
        results.append((out.detach(), [x.grad for x in leaves]))
    (out, grads), (expected, exact_grads) = results
    differ = float(((out.double() - expected).abs() > 5e-3).double().mean())
    errors = [difference(a, b) for a, b in zip(grads, exact_grads, strict=True) if a is not None and b is not None]
    return {"windows_that_differ": differ, "gradient": max(errors)}


def check(device: torch.device, small: bool) -> Row:
    """Compare every kernel with plain torch in float64."""
    leaks = (("none", 0.0), ("decay", 0.7), ("linear", 0.05))
    cases = [
        *((leak, "zero", "atan", 2, True, 4) for leak in leaks),
        *((leak, "subtract", "triangle", 1, False, 4) for leak in leaks),
        (leaks[1], "subtract", "sigmoid", 3, True, 4),
        (leaks[1], "zero", "atan", 2, True, 16),
    ]
    rows: Row = {}
    kinds = [(torch.float32, case) for case in cases]
    kinds += [
        (dtype, case) for dtype in (torch.float64, torch.bfloat16) for case in cases[::4]
    ]  # few, because each is compiled
    for dtype, case in kinds[:: 8 if small else 1]:
        found = check_norm_scan(device, dtype, case)
        worst = rows.setdefault(f"norm, scan and pooling, {str(dtype)[6:]}", dict.fromkeys(found, 0.0))
        rows[f"norm, scan and pooling, {str(dtype)[6:]}"] = {name: max(worst[name], found[name]) for name in found}
    for levels, groups in product((4, 16, 256), (1, 64)):
        weight = torch.randn(groups, 4608, device=device, requires_grad=True)
        codebook = torch.randn(groups, levels, device=device).sort(dim=1).values.requires_grad_()
        up = torch.randn_like(weight)
        ours, plain = codebook_lookup(weight, codebook), _CodebookLookup.apply(weight, codebook)
        gradient = torch.autograd.grad(ours, codebook, up)[0]
        exact = torch.autograd.grad(_CodebookLookup.apply(weight.double(), codebook.double()), codebook, up.double())[0]
        rows[f"codebook of {levels}, {groups} rows"] = {
            "values_that_differ": float((ours != plain).double().mean()),
            "gradient": difference(gradient, exact),
        }
    if device.type == "cuda":
        rows["a step from a CUDA graph"] = check_captured(device)
    return rows


def bandwidth(device: torch.device, small: bool) -> Row:
    """Memory bandwidth of the kernels and of a copy: bytes that must be moved divided by time, in GB/s."""
    count = 1 << (20 if small else 28)
    source, target = torch.empty(count, device=device), torch.empty(count, device=device)
    rows: Row = {"copy": {"gb_s": 8 * count / 1e6 / median_ms(partial(target.copy_, source), device)}}
    batch = 4 if small else BATCH
    for dtype, pool in product((torch.float32, torch.bfloat16), (1, 2)):
        y = torch.randn(4 * batch, 128, 32, 32, device=device).to(dtype)
        y = y.contiguous(memory_format=torch.channels_last).unflatten(0, (4, batch)).requires_grad_()
        gain, bias = torch.ones(128, device=device), torch.zeros(128, device=device)
        norm = Norm(gain.requires_grad_(), bias.requires_grad_(), None, None, EPS)
        forward = partial(normed_multi_step, y, 4, Dynamics(leak="decay", reset="zero"), 0.5, norm, None, pool)
        spikes = forward()[0]
        up = torch.randn(spikes.shape, device=device).to(dtype).contiguous()
        up = up.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (4, batch))
        backward = partial(torch.autograd.grad, spikes, [y, gain, bias], up, retain_graph=True)
        whole, pooled = y.numel() * y.element_size() / 1e6, spikes.numel() * spikes.element_size() / 1e6
        ms = median_ms(forward, device), median_ms(backward, device)
        rows[f"norm, scan and pooling of {pool}, {str(dtype)[6:]}"] = {
            "forward_ms": ms[0],
            "forward_gb_s": (2 * whole + pooled) / ms[0],
            "backward_ms": ms[1],
            "backward_gb_s": (3 * whole + 2 * pooled) / ms[1],
        }
    current = torch.randn(4, batch, 128, 32, 32, device=device)
    scan_ms = median_ms(partial(multi_step, current, Dynamics(leak="decay"), 0.5), device)
    rows["scan alone, float32"] = {"forward_ms": scan_ms, "forward_gb_s": 8 * current.numel() / 1e6 / scan_ms}
    for levels in (4, 256):
        weight = torch.randn(1, (1 << 16) if small else (1 << 24), device=device, requires_grad=True)
        codebook = torch.randn(1, levels, device=device).sort(dim=1).values.requires_grad_()
        up, values = torch.randn_like(weight), codebook_lookup(weight, codebook)
        there = median_ms(partial(codebook_lookup, weight.detach(), codebook.detach()), device)
        back = median_ms(partial(torch.autograd.grad, values, codebook, up, retain_graph=True), device)
        rows[f"codebook of {levels}"] = {
            "forward_ms": there,
            "forward_gb_s": 9 * weight.numel() / 1e6 / there,
            "backward_ms": back,
            "backward_gb_s": 5 * weight.numel() / 1e6 / back,
        }
    return rows


class Called(nn.Module):
    """A network with the forward pass of its benchmark; the input is ignored, but required by CUDA graphs."""

    def __init__(self, network: nn.Module, forward: Callable[[], Tensor]) -> None:
        super().__init__()
        self.network, self.run = network, forward

    def forward(self, unused: Tensor) -> Tensor:
        return self.run()


def training_step(network: nn.Module, forward: Callable[[], Tensor], labels: Tensor, bf16: bool) -> Callable[[], None]:
    """Build a training step: forward, cross entropy, backward, SGD with momentum."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(labels.device.type, torch.bfloat16, enabled=bf16):
            logits = forward()
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def peak_mib(step: Callable[[], None], device: torch.device) -> float | None:
    """Peak memory of a step in MiB, in addition to the memory that was allocated before it; None on a CPU."""
    step()
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def time_steps(
    device: torch.device, small: bool, case: tuple[str, int, bool], rounds: int, wanted: Sequence[str] | None
) -> Row:
    """Milliseconds of the interleaved training steps of one network, for all rows or for the ``wanted`` ones."""
    name, steps, bf16 = case
    width, batch = (0.125, 4) if small else (1.0, BATCH)
    frames = (torch.rand(steps, batch, 3, 32, 32, device=device) < 0.3).float()
    labels = torch.randint(0, 10, (batch,), device=device)

    def built(levels: int, chip: bool, captured: bool) -> tuple[nn.Module, Any]:
        network = ours(name, width, steps, levels, chip, device)
        run = CapturedNetwork(network, patience=1) if captured else network
        return network, partial(logits_of, network, run, frames)

    def recorded(build: Builder) -> tuple[nn.Module, Any]:
        network, forward = build()
        replayed = Called(network, forward)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            torch.cuda.make_graphed_callables(replayed, (frames[:1, :1].clone(),))
        return network, partial(replayed, frames[:1, :1])

    builders: dict[str, Builder] = {}
    for label, levels, chip in (("float", 0, False), ("CAT M=4", 4, False), ("CAT M=4 on a chip's integers", 4, True)):
        builders[label] = partial(built, levels, chip, False)
        builders[f"{label}, CUDA graph"] = partial(built, levels, chip, True)
    others = peers(name, width, frames, device)
    builders |= others
    if device.type == "cuda":
        builders |= {f"{label}, CUDA graph": partial(recorded, build) for label, build in others.items()}
    if wanted is not None:
        builders = {label: builders[label] for label in wanted}
    rows: Row = {}
    functions: dict[str, Callable[[], object]] = {}
    for label, build in builders.items():
        torch.manual_seed(0)
        try:
            network, forward = build()
            step = training_step(network, forward, labels, bf16)
            rows[label] = {"peak_mib": peak_mib(step, device)}
        except Exception as error:  # another library is not installed or fails
            rows[label] = {"failed": f"{type(error).__name__}: {error}"[:300]}
            continue

        def waited(step: Callable[[], None] = step) -> None:
            step()
            wait(device)

        functions[label] = waited
    for label, times in interleaved(functions, rounds, warm_up=3).items():
        rows[label] |= quartiles(times)
    return rows


def logits_of(network: Network, run: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    """Logits of ``network`` from the output of ``run``."""
    return network.logits(run(frames))


def check_captured(device: torch.device) -> Row:
    """Largest relative difference of the weights after five steps of CAT with and without CUDA graphs."""
    results = []
    frames = (torch.rand(4, 32, 3, 32, 32, device=device) < 0.3).float()
    labels = torch.randint(0, 10, (32,), device=device)
    for captured in (False, True):
        torch.manual_seed(0)
        network = ours("VGG-11", 0.25, 4, 4, False, device)
        run = CapturedNetwork(network, patience=1) if captured else network
        step = training_step(network, partial(logits_of, network, run, frames), labels, False)
        for _ in range(5):
            step()
        results.append(network.state_dict())
    floats = [name for name, value in results[0].items() if value.is_floating_point()]
    return {"weights": max(difference(results[1][name], results[0][name]) for name in floats)}


def profiled(device: torch.device, small: bool, levels: int, chip: bool) -> Row:
    """Launches and synchronisations of one training step of VGG-11 in bfloat16, and its longest kernels."""
    from torch.profiler import ProfilerActivity, profile

    batch = 4 if small else BATCH
    network = ours("VGG-11", 0.125 if small else 1.0, 4, levels, chip, device)
    frames = (torch.rand(4, batch, 3, 32, 32, device=device) < 0.3).float()
    labels = torch.randint(0, 10, (batch,), device=device)
    step = training_step(network, lambda: network.logits(network(frames)), labels, True)
    for _ in range(5):
        step()
    wait(device)
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as found:
        step()
        wait(device)
    events = found.key_averages()
    kernels = [e for e in events if str(e.device_type).endswith("CUDA" if cuda else "CPU")]
    spent = [(e.self_device_time_total if cuda else e.self_cpu_time_total, e) for e in kernels]

    def count(*names: str) -> int:
        return sum(e.count for e in events if any(name in e.key for name in names))

    return {
        "device_ms": sum(time for time, _ in spent) / 1e3,
        "launches": count("LaunchKernel", "cuLaunch"),
        "copies": count("Memcpy"),
        "synchronisations": count("aten::_local_scalar_dense", "StreamSynchronize"),
        "longest": {e.key[:80]: [round(t / 1e3, 3), e.count] for t, e in sorted(spent, key=lambda x: -x[0])[:14]},
    }


STEPS = [("VGG-11", 4, True), ("VGG-11", 4, False), ("VGG-11", 16, True), ("ResNet-18", 4, True), ("ConvSNN", 4, True)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sections and write their figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/bench_gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", nargs="*", default=[""], help="prefixes of sections; all sections by default")
    parser.add_argument("--rows", nargs="*", help="rows of the steps' tables; all by default")
    options = parser.parse_args(arguments)
    device, small = torch.device(options.device), options.device == "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    card = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    figures: Row = {
        "card": card,
        "versions": versions("triton", "spikingjelly"),
        "command": "python " + " ".join(sys.argv),
        "batch": BATCH,
    }
    sections: list[tuple[str, Callable[[], Row]]] = [
        ("check", partial(check, device, small)),
        ("bandwidth", partial(bandwidth, device, small)),
        *(
            (
                f"step {name}, T={steps}, {'bf16' if bf16 else 'fp32'}",
                partial(time_steps, device, small, (name, steps, bf16), options.rounds, options.rows),
            )
            for name, steps, bf16 in STEPS
        ),
        *(
            (f"profile {label}", partial(profiled, device, small, levels, chip))
            for label, levels, chip in (("float", 0, False), ("CAT M=4", 4, False), ("chip's integers", 4, True))
        ),
    ]
    for name, section in sections:
        if not name.startswith(tuple(options.only)):
            continue
        start = time.perf_counter()
        try:
            figures[name] = section()
        except Exception as error:  # the other sections must still run
            figures[name] = {"failed": f"{type(error).__name__}: {error}"[:600]}
        seconds = time.perf_counter() - start
        print(f"## {name} ({seconds:.0f} s)\n{json.dumps(figures[name], indent=1)}", flush=True)
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
