"""Training steps of a TopoEncoder on a CUDA device: images a second, compiled against eager.

    python benchmarks/topoencoder_gpu.py [--batch N] [--out FILE]

The model is that of manifests/topoencoder-mnist.yaml, the loss its default terms but for `anchoring`, the
images random. A step is: encode, decode, encode a view, all terms, backward, AdamW, the refresh. Both
sides run in one process on one device; a time is the median over windows of ten synchronised steps. The
share of a step in which the device does nothing is one less the device time of its kernels, by torch's
profiler, over the step's wall time without it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.companions import Companions
from atlas_topoencoder.losses.terms import SLOT, TERMS
from atlas_topoencoder.model import TopoEncoder
from atlas_topoencoder.outputs import ModelOutputs
from rows import result_row, write

from atlas.objective import Objective
from atlas.randomness import RandomStreams

STEPS, WINDOWS = 10, 12

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def main() -> None:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/topoencoder-gpu.json"))
    arguments = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    device = torch.device(arguments.device)
    eager = measured(device, arguments.batch, lambda loss: loss)
    compiled = measured(device, arguments.batch, torch.compile)
    graphed = measured(device, arguments.batch, lambda loss: torch.compile(loss, mode="reduce-overhead"))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(json.dumps({"eager": eager, "compiled": compiled, "graphed": graphed, "device": name}))
    best = max((compiled, graphed), key=lambda side: side["rate"])
    mode = "as CUDA graphs" if best is graphed else "by default"
    rows = [
        result_row(
            f"topoencoder.gpu.images_{arguments.batch}",
            f"Images a second in training at batch {arguments.batch}, compiled {mode}; the baseline is eager",
            best["rate"],
            sd=best["sd"],
            n=WINDOWS,
            unit="images/s",
            baseline=eager["rate"],
            baseline_version="the same step, eager",
            target=">= 3x eager",
            met=best["rate"] >= 3 * eager["rate"],
            packages=("torch",),
            machine=name,
        ),
        result_row(
            f"topoencoder.gpu.idle_{arguments.batch}",
            "Share of that step in which the device waits; the baseline is eager",
            best["idle"],
            unit="1",
            baseline=eager["idle"],
            baseline_version="the same step, eager",
            target="< 0.2",
            met=best["idle"] < 0.2,
            packages=("torch",),
            machine=name,
        ),
    ]
    write(rows, arguments.out)


def measured(device: torch.device, batch: int, prepare: Callable[[Loss], Loss]) -> dict[str, float]:
    """Return rate, its scatter and the idle share of steps whose loss is prepared in some way."""
    streams = RandomStreams(7)
    architecture = Architecture(shape=(1, 28, 28), lipschitz=6.0, max_radius=3.0)
    model = TopoEncoder(architecture, streams).to(device)
    companions = Companions(charts=10, latent=16, classes=10, streams=streams).to(device)
    active = [term for name, term in TERMS.items() if term.default_weight and name != "anchoring"]
    objective = Objective(active)

    def total(x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        encoding, decoding = model(x)
        views = {"view": model.encode(seen)}
        outputs = ModelOutputs(x, encoding, decoding, model, views=views, companions=companions)
        return objective({SLOT: outputs}).total

    loss = prepare(total)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    x = torch.rand(batch, 1, 28, 28, device=device)
    seen = (x + 0.02 * torch.randn_like(x)).clamp(0, 1)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(x, seen).backward()  # type: ignore[no-untyped-call] # torch's own
        optimizer.step()
        model.refresh()

    for _ in range(15):
        step()
    times = []
    for _ in range(WINDOWS):
        _wait(device)
        began = time.perf_counter()
        for _ in range(STEPS):
            step()
        _wait(device)
        times.append((time.perf_counter() - began) / STEPS)
    middle = statistics.median(times)
    rates = [batch / seconds for seconds in times]
    return {
        "rate": batch / middle,
        "sd": statistics.stdev(rates),
        "ms": 1e3 * middle,
        "idle": max(0.0, 1 - _busy(device, step) / middle) if device.type == "cuda" else 0.0,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _busy(device: torch.device, step: Callable[[], None]) -> float:
    """Return the device seconds of one step's kernels."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(STEPS):
            step()
        _wait(device)
    spent = sum(event.self_device_time_total for event in profiler.key_averages())
    return float(spent) / 1e6 / STEPS


if __name__ == "__main__":
    main()
