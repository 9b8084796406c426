"""The memory promise: the top 5 of a GPT-2-small shape on 16 x 64 tokens, within 4 GiB and without a limit.

    python benchmarks/memory.py [--row ID] [--quick] [--threads N]

Both runs are ours, each in a process of its own with the settings that the card asks for; the model is
trained for a few minutes from a seed on this project's own pages (each word hashed into the vocabulary),
so that nothing need be downloaded and its spectrum has the outliers of a trained model; its training is a
process of its own, neither watched nor timed. The limited run is held to its limit by the kernel, in a
memory control group of version 2 without swap, where this user may make one below /sys/fs/cgroup; the
resident anonymous memory is sampled from /proc twenty times a second either way.
`--quick` takes a small shape and writes to a file of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curvature import SEED, TOP_K, TUNED
from rows import RESULTS, result_row, write

GIB = 1 << 30
ITEMS, TOKENS = 16, 64
STEPS, RATE = 150, 6e-4
"""Of Adam, on 4 x 64 words each."""
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
    parser.add_argument("--model", type=Path, help="a folder to train the model into, or one that holds it")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.quick, arguments.threads, arguments.model)
        return 0
    if arguments.side:
        print(json.dumps(measured(arguments.quick, arguments.threads, arguments.limit, arguments.model)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.model or Path(scratch) / "model"
        if not (folder / "config.json").is_file():
            command = [sys.executable, __file__, "--train", "--model", str(folder)]
            command += ["--threads", str(arguments.threads), *(["--quick"] if arguments.quick else [])]
            subprocess.run(command, check=True)
        limited = _side(arguments.quick, arguments.threads, LIMITS[arguments.quick], folder)
        print(json.dumps({"limited": limited}), file=sys.stderr, flush=True)
        free = _side(arguments.quick, arguments.threads, None, folder)
    row = _row(limited, free, quick=arguments.quick, threads=arguments.threads)
    write([row], RESULTS / ("memory-quick.json" if arguments.quick else "memory.json"))
    print(json.dumps({"row": row, "limited": limited, "free": free}, indent=2))
    return 0


# The model, in its own process


def words(vocabulary: int) -> Any:
    """Return the words of the project's pages, each hashed into the vocabulary: `[W]` int64."""
    import torch

    pages = sorted((Path(__file__).resolve().parent.parent / "docs").glob("*.md"))
    text = " ".join(page.read_text("utf-8") for page in pages)
    found = re.findall(r"\w+|[^\w\s]", text.lower())
    return torch.tensor([zlib.crc32(word.encode()) % vocabulary for word in found])


def train(quick: bool, threads: int, folder: Path) -> None:
    """Train the model a little and save it."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    shape = {"n_embd": 256, "n_layer": 4, "n_head": 4, "vocab_size": 8000} if quick else {}
    shape |= {"bos_token_id": 0, "eos_token_id": 0} if quick else {}
    config = transformers.GPT2Config(**shape)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    stream = words(config.vocab_size)[ITEMS * TOKENS :]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    draws = torch.Generator().manual_seed(SEED)
    for step in range(STEPS):
        starts = torch.randint(0, len(stream) - TOKENS, (4,), generator=draws)
        ids = torch.stack([stream[start : start + TOKENS] for start in starts.tolist()])
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    model.save_pretrained(folder)


# The measurement, in its own process


def measured(quick: bool, threads: int, limit: float | None, folder: Path) -> dict[str, Any]:
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
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    tokens = words(model.config.vocab_size)[: ITEMS * TOKENS].reshape(ITEMS, TOKENS)
    target = _Target(model, tokens)
    card = yaml.safe_load((Path(atlas_pyhessian.__file__).parent / "atlas-plugin.yaml").read_text("utf-8"))
    asked: dict[str, Any] = {"top_k": TOP_K, "fresh_starts": 0, "trace": False}
    if limit is not None:
        asked["memory_gb"] = limit
    params = fill(card["provides"]["instruments"]["pyhessian"]["params"], asked)
    settings = Settings.from_params(params)
    items = [StimulusItem(str(i), "") for i in range(ITEMS)]
    with prepared(model) as parameters, tempfile.TemporaryDirectory() as scratch:
        provision = Provision(
            settings, target, parameters, Path(scratch), lambda text: print(text, file=sys.stderr)
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


def _side(quick: bool, threads: int, limit: float | None, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", "--threads", str(threads), "--model", str(folder)]
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
    pairs = zip(sorted(limited["values"]), sorted(free["values"]), strict=True)
    gap = max(abs(one - other) for one, other in pairs) / free["norm"]
    ratio = limited["seconds"] / free["seconds"]
    limit = LIMITS[quick]
    within = limited["peaks"]["RssAnon"] <= limit * GIB and limited["peaks"]["VmSwap"] == 0
    sound = limited["converged"] and free["converged"] and gap <= AGREEMENT
    shape = "a small GPT-2" if quick else "GPT-2-small shape, 124M parameters"
    model = f"{shape}, {STEPS} steps trained"
    what = (
        f"{model}, {ITEMS}x{TOKENS} tokens: seconds for the certified top {TOP_K} and both ends, "
        f"{_story(limited)}, with `memory_gb: {limit:g}` and {limited['held_by']}; without a limit "
        f"{_story(free)}; worst residual {max(limited['residuals']):.1e}, values agree to {gap:.1e} of ||H||"
    )
    return result_row(
        "curvature.memory_4gib",
        what,
        limited["seconds"],
        unit="s",
        baseline=free["seconds"],
        baseline_version="ours without a limit",
        target=f"<= {limit:g} GiB, and <= 3x the time without a limit",
        met=None if quick else bool(within and sound and ratio <= 3),
        threads=f"{threads} threads",
        packages=("atlas-pyhessian", "torch", "transformers"),
    )


if __name__ == "__main__":
    sys.exit(main())
