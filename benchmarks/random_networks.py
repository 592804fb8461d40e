"""Compare everything that differentiates networks with plain autograd, on random networks of many kinds of layers.

Run it with `python -m benchmarks.random_networks --count 500`. Each network is drawn from a seed: a chain of layers and
functions of torch, in float64. The kernels (trace, full and per layer), the tracker's record, the kernel's gradient in the
inputs, random projections, and a linearisation's values and gradients are compared with one backward pass at a time. It
prints how many comparisons were right, refused with an error of ours, wrong, or ended in an error of another library; the
last two must be 0.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import ntklens as nl
from benchmarks.random_blocks import BLOCKS, draw


def plain_jacobian(net: nn.Module, x: Tensor, create_graph: bool = False) -> dict[str, Tensor]:
    """Return (n, O, P) for each parameter by one backward pass at a time, on the network itself."""
    parameters = dict(net.named_parameters())
    rows = [
        torch.autograd.grad(
            f, list(parameters.values()), retain_graph=True, create_graph=create_graph, materialize_grads=True
        )
        for one in x
        for f in net(one[None].clone())[0]
    ]
    columns = zip(*rows, strict=True)
    return {
        n: torch.stack([g.flatten() for g in c]).view(len(x), -1, p.numel())
        for (n, p), c in zip(parameters.items(), columns, strict=True)
    }


def comparisons(net: nn.Module, x: Tensor) -> Iterator[tuple[str, Callable[[], Tensor], Callable[[], Tensor]]]:
    """Yield what is compared: its name, how we compute it, and how plain autograd does."""
    n, generator = len(x), torch.Generator().manual_seed(0)
    blocks = plain_jacobian(net, x)
    j = torch.cat(list(blocks.values()), 2)
    o, weights = j.shape[1], torch.randn(n, n, generator=generator, dtype=x.dtype)
    trace = torch.einsum("iop,jop->ij", j, j) / o
    yield "trace", lambda: nl.empirical_kernel(net)(x), lambda: trace
    yield (
        "full",
        lambda: nl.empirical_kernel(net, "full")(x[:-1], x),
        lambda: torch.einsum("iap,jbp->ijab", j[:-1], j),
    )
    yield "plain", lambda: nl.empirical_kernel(net, layerwise=False)(x), lambda: trace

    def by_layer() -> Tensor:
        layers = nl.empirical_kernel(net).per_layer(x)
        return torch.stack([layers.get(name, torch.zeros_like(trace)) for name in blocks] + [sum(layers.values())])

    def by_layer_plainly() -> Tensor:
        # layers named after a parameter are compared one by one, and all of them by their sum
        names = nl.empirical_kernel(net).per_layer(x)
        grams = [torch.einsum("iop,jop->ij", b, b) / o if name in names else 0 * trace for name, b in blocks.items()]
        return torch.stack([*grams, trace])

    yield "per layer", by_layer, by_layer_plainly
    y = torch.arange(n) % o
    yield "tracker", lambda: nl.KernelTracker(x, y, top_k=1).record(net, 0), lambda: trace

    def gradient() -> Tensor:
        leaf = x.clone().requires_grad_()
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            first = torch.cat(list(plain_jacobian(net, leaf, create_graph=True).values()), 2)
            total = (weights * torch.einsum("iop,jop->ij", first, j) / o).sum()
            return torch.autograd.grad(total, leaf, materialize_grads=True)[0]

    yield "gradient", lambda: nl.empirical_kernel(net).gradient(x, x, weights), gradient
    yield (
        "projections",
        lambda: nl.empirical_kernel(net, projections=4)(x),
        lambda: _projected(net, x, blocks) / o,
    )
    change = {
        name: 0.3 * torch.randn(p.shape, generator=generator, dtype=x.dtype) for name, p in net.named_parameters()
    }
    w = torch.randn(n, o, generator=generator, dtype=x.dtype)

    def linearised() -> nl.networks.Linearized:
        lin = nl.linearize(net)
        with torch.no_grad():
            for name, p in lin.network.named_parameters():
                p.add_(change[name])
        return lin

    slope = torch.einsum("iop,p->io", j, torch.cat([change[name].flatten() for name in blocks]))
    yield "linearize", lambda: linearised()(x).detach(), lambda: net(x.clone()).detach() + slope

    def ours_in_inputs() -> Tensor:
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad((linearised()(leaf) * w).sum(), leaf)[0]

    def plainly_in_inputs() -> Tensor:
        leaf = x.clone().requires_grad_()
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            f = net(leaf.clone())
            parameters = list(net.parameters())
            g = torch.autograd.grad((f * w).sum(), parameters, create_graph=True, materialize_grads=True)
            total = (f * w).sum() + sum((a * c).sum() for a, c in zip(g, change.values(), strict=True))
            return torch.autograd.grad(total, leaf, materialize_grads=True)[0]

    yield "linearize in inputs", ours_in_inputs, plainly_in_inputs

    def in_parameters() -> Tensor:
        lin = linearised()
        g = torch.autograd.grad((lin(x) * w).sum(), list(lin.network.parameters()))
        return torch.cat([t.flatten() for t in g])

    yield "linearize in parameters", in_parameters, lambda: torch.einsum("iop,io->p", j, w)


def _projected(net: nn.Module, x: Tensor, blocks: dict[str, Tensor]) -> Tensor:
    """Return the trace of projections on the directions that the kernel draws from its seed."""
    from ntklens.kernels.empirical.projections import _signs

    seeds = nl.empirical_kernel(net, projections=4)._snapshot.seeds
    assert seeds is not None
    columns = []
    for seed in seeds:
        u = _signs(dict(net.named_parameters()), seed)
        columns.append(sum(b @ u[name].flatten() for name, b in blocks.items()))
    p = torch.stack(columns, 2) / len(seeds) ** 0.5
    return torch.einsum("iok,jok->ij", p, p)


def verdicts(seed: int, blocks: int = 3) -> Iterator[tuple[str, str]]:
    """Yield the name of each comparison for one drawn network, and "right", "refused", or what is wrong."""
    names, net, x = draw(seed, blocks)
    try:
        cases = list(comparisons(net, x))
    except Exception as error:  # plain autograd itself cannot do it
        cases = []
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        try:
            nl.empirical_kernel(net)(x)
            yield "trace", f"wrong: plain autograd raises {reason}"
        except nl.NtklensError:
            yield "trace", "refused"
        except Exception as ours:
            yield "trace", f"trace: {type(ours).__name__}: {ours}".splitlines()[0]
    for what, ours, plainly in cases:
        try:
            got = ours()
        except nl.NtklensError as error:
            yield what, f"refused: {str(error).splitlines()[0][:300]}"
            continue
        except Exception as error:
            yield what, f"trace: {type(error).__name__}: {str(error).splitlines()[:1]}"
            continue
        try:
            want = plainly()
        except RuntimeError as error:
            yield what, f"wrong: plain autograd raises {str(error).splitlines()[0]}"
            continue
        size = float(want.abs().max())
        far = float((got - want).abs().max())
        yield what, "right" if far <= 1e-7 * size + 1e-9 else f"wrong: by {far:.2g} of {size:.2g} ({' + '.join(names)})"


def main() -> None:
    """Draw networks, and print what was not right and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="number of networks")
    parser.add_argument("--start", type=int, default=0, help="seed of the first")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time")
    options = parser.parse_args()
    begun, counts, networks = time.perf_counter(), Counter[str](), 0
    for seed in range(options.start, options.start + options.count):
        if time.perf_counter() - begun > options.seconds:
            break
        networks += 1
        for what, verdict in verdicts(seed):
            kind = verdict.partition(":")[0]
            counts[kind] += 1
            if kind != "right":
                print(f"{seed:5} {what:24} {' + '.join(draw(seed)[0]):50} {verdict}", flush=True)
    seconds = time.perf_counter() - begun
    figures = ", ".join(f"{counts[kind]} {kind}" for kind in ("right", "refused", "wrong", "trace"))
    print(f"{networks} networks of {len(BLOCKS)} kinds of blocks in {seconds:.0f} s: {figures}")


if __name__ == "__main__":
    main()
