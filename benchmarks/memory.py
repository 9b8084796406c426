"""The memory promise: the top 5 of a GPT-2-small shape on 16 x 64 tokens, within 4 GiB and without a limit.

    python benchmarks/memory.py [--row ID] [--quick] [--threads N]

Both runs are ours, each in a process of its own with the settings that the card asks for; the model is
randomly initialised from a seed, so that nothing need be downloaded. The limited run is held to its limit by
the kernel, in a memory control group of version 2 without swap, where this user may make one below
/sys/fs/cgroup; the resident anonymous memory is sampled from /proc twenty times a second either way.
`--quick` takes a small shape and writes to a file of its own.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from curvature import RESULTS, SEED, TOP_K, TUNED, write

GIB = 1 << 30
ITEMS, TOKENS = 16, 64
LIMITS = {False: 4.0, True: 0.75}
AGREEMENT = 2e-3
"""Of ||H||: both residuals may be 1e-3 of it."""
INTERVAL = 0.05


def main() -> int:
    """Run both sides and write the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--row", default="curvature.memory_4gib", choices=["curvature.memory_4gib"])
    parser.add_argument("--quick", action="store_true", help="a small model, minutes to seconds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measured(arguments.quick, arguments.threads, arguments.limit)))
        return 0
    limited = _side(arguments.quick, arguments.threads, LIMITS[arguments.quick])
    free = _side(arguments.quick, arguments.threads, None)
    row = _row(limited, free, quick=arguments.quick, threads=arguments.threads)
    write([row], RESULTS / ("memory-quick.json" if arguments.quick else "memory.json"))
    print(json.dumps({"row": row, "limited": limited, "free": free}, indent=2))
    return 0


# The measurement, in its own process


def measured(quick: bool, threads: int, limit: float | None) -> dict[str, Any]:
    """Measure the top 5, by a memory plan."""
    import atlas_pyhessian
    import torch
    import transformers
    import yaml
    from atlas_pyhessian.measurement import measure_curvature
    from atlas_pyhessian.memory.provision import Provision
    from atlas_pyhessian.operators import target_operator
    from atlas_pyhessian.preparation import prepared
    from atlas_pyhessian.probes import Probes
    from atlas_pyhessian.settings import Settings

    from atlas.contracts import StimulusItem
    from atlas.manifest.structure import fill
    from atlas.randomness import RandomStreams

    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    shape = {"n_embd": 256, "n_layer": 4, "n_head": 4, "vocab_size": 8000} if quick else {}
    shape |= {"bos_token_id": 0, "eos_token_id": 0} if quick else {}
    config = transformers.GPT2Config(**shape)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    tokens = torch.randint(0, config.vocab_size, (ITEMS, TOKENS))
    target = _Target(model, tokens)
    card = yaml.safe_load((Path(atlas_pyhessian.__file__).parent / "atlas-plugin.yaml").read_text("utf-8"))
    asked: dict[str, Any] = {"top_k": TOP_K, "fresh_starts": 0, "trace": False}
    if limit is not None:
        asked["memory_gb"] = limit
    params = fill(card["provides"]["instruments"]["pyhessian"]["params"], asked)
    settings = Settings.from_params(params)
    items = [StimulusItem(str(i), "") for i in range(ITEMS)]
    with prepared(model) as parameters, tempfile.TemporaryDirectory() as folder:
        provision = Provision(
            settings, target, parameters, Path(folder), lambda text: print(text, file=sys.stderr)
        )
        plan = provision.take(items)
        assert plan is not None
        print(plan, plan.arithmetic(), f"{plan.seconds:.1f} s", file=sys.stderr, flush=True)
        operator = target_operator(
            settings.operator,
            parameters,
            target,
            provision.batches(items, plan.batch_size),
            retain_graph=plan.retain_graph,
        )
        probes = Probes(
            RandomStreams(SEED), parameters.names, parameters.sizes, operator.dtype, operator.device
        )
        started = time.perf_counter()

        def report(what: str, products: int, error: float) -> None:
            print(
                f"{time.perf_counter() - started:7.1f} s  {what} {products} {error:.2e}",
                file=sys.stderr,
                flush=True,
            )

        result = measure_curvature(
            operator, probes, settings, purpose="all", report=report, make_basis=provision.make_basis(plan)
        )
        seconds = time.perf_counter() - started
        provision.learn(plan, seconds=seconds, products=operator.num_matvecs)
    spectrum = result.spectrum
    return {
        "plan": str(plan),
        "arithmetic": plan.arithmetic(),
        "expected_peak": plan.peak_bytes,
        "expected_seconds_per_product": plan.seconds,
        "parameters": parameters.size,
        "values": spectrum.values,
        "residuals": [r / spectrum.norm for r in spectrum.residual_norms],
        "converged": all(spectrum.converged),
        "norm": spectrum.norm,
        "products": operator.num_matvecs,
        "seconds": seconds,
    }


class _Target:
    """A causal language model on fixed tokens, one item a row."""

    facts: Mapping[str, str] = {}

    def __init__(self, module: Any, tokens: Any) -> None:
        self.module = module
        self._tokens = tokens

    def batches(self, items: Sequence[Any], *, batch_size: int, max_tokens: int | None) -> list[Any]:
        from atlas.contracts import Batch

        rows = self._tokens[[int(item.id) for item in items]]
        parts = rows.split(batch_size)
        return [Batch({"input_ids": part}, float(part.shape[0] * (part.shape[1] - 1))) for part in parts]

    def loss_sum(self, batch: Any) -> Any:
        from atlas_huggingface.cross_entropy import cross_entropy_sum

        ids = batch.inputs["input_ids"]
        logits = self.module(input_ids=ids, use_cache=False).logits
        return cross_entropy_sum(logits[:, :-1], ids[:, 1:], ignore_index=-100)


# The process, held and watched


def _side(quick: bool, threads: int, limit: float | None) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", "--threads", str(threads)]
    command += ["--quick"] if quick else []
    command += [] if limit is None else ["--limit", str(limit)]
    environment = {**os.environ, **TUNED, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    group = None if limit is None else _control_group(int(limit * GIB))

    def hold() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=hold)
    peaks = {"RssAnon": 0, "VmHWM": 0, "VmSwap": 0, "VmData": 0}
    while process.poll() is None:
        for name, size in _status(process.pid).items():
            if name in peaks:
                peaks[name] = max(peaks[name], size)
        time.sleep(INTERVAL)
    assert process.stdout is not None
    output = process.stdout.read()
    if group is not None:
        group.rmdir()
    if process.returncode:
        raise SystemExit(f"the run with limit {limit} ended with {process.returncode}; peaks {peaks}")
    held = "a control group without swap" if group is not None else "no control group (none can be made here)"
    return {**json.loads(output.splitlines()[-1]), "peaks": peaks, "held_by": held}


def _control_group(limit: int) -> Path | None:
    """Make a control group of version 2 for one process, if this user may."""
    group = Path("/sys/fs/cgroup") / f"atlas-benchmark-{os.getpid()}"
    if not (group.parent / "cgroup.controllers").is_file():
        return None
    try:
        group.mkdir()
        (group / "memory.max").write_text(str(limit))
        (group / "memory.swap.max").write_text("0")
    except OSError:
        if group.is_dir():
            group.rmdir()
        return None
    return group


def _status(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return {}
    fields = (line.split(":", 1) for line in lines)
    return {name: int(value.split()[0]) * 1024 for name, value in fields if value.strip().endswith(" kB")}


def _story(side: Mapping[str, Any]) -> str:
    peak, expected = side["peaks"]["RssAnon"] / GIB, side["expected_peak"] / GIB
    return f"{side['products']} products, {side['plan']}, {peak:.2f} GiB resident ({expected:.2f} expected)"


def _row(limited: Mapping[str, Any], free: Mapping[str, Any], *, quick: bool, threads: int) -> dict[str, Any]:
    import platform

    pairs = zip(sorted(limited["values"]), sorted(free["values"]), strict=True)
    gap = max(abs(one - other) for one, other in pairs) / free["norm"]
    ratio = limited["seconds"] / free["seconds"]
    limit = LIMITS[quick]
    within = limited["peaks"]["RssAnon"] <= limit * GIB and limited["peaks"]["VmSwap"] == 0
    sound = limited["converged"] and free["converged"] and gap <= AGREEMENT
    model = "small random GPT-2" if quick else "GPT-2-small shape, 124M parameters, random"
    what = (
        f"{model}, {ITEMS}x{TOKENS} tokens: seconds for the certified top {TOP_K} and both ends, "
        f"{_story(limited)}, with `memory_gb: {limit:g}` and {limited['held_by']}; without a limit "
        f"{_story(free)}; worst residual {max(limited['residuals']):.1e}, values agree to {gap:.1e} of ||H||"
    )
    return {
        "id": "curvature.memory_4gib",
        "what": what,
        "value": limited["seconds"],
        "sd": None,
        "n": 1,
        "unit": "s",
        "baseline": free["seconds"],
        "baseline_version": "ours without a limit",
        "target": f"<= {limit:g} GiB, and <= 3x the time without a limit",
        "met": None if quick else bool(within and sound and ratio <= 3),
        "machine": f"{platform.machine()}, {threads} threads, {platform.system()}",
        "versions": {n: importlib.metadata.version(n) for n in ("atlas-pyhessian", "torch", "transformers")},
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


if __name__ == "__main__":
    sys.exit(main())
