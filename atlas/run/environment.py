"""What a step's process is given of this machine's environment, and what the record keeps of it."""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from atlas.errors import PluginFault
from atlas.run.inventory import cpu_name

__all__ = ["GRANTABLE", "child_environment", "machine_facts", "peak_memory"]

GRANTABLE = ("CUBLAS_", "CUDA_", "GOMP_", "MALLOC_", "MKL_", "OMP_", "PYTORCH_")
"""Prefixes of the variables that a card may ask for: settings of allocators and numerical libraries."""

_KEPT = {
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "XDG_CACHE_HOME"),
    *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "USERNAME"),
    *("APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES", "NUMBER_OF_PROCESSORS"),
    *("ATLAS_CACHE", "HF_HOME", "CUDA_VISIBLE_DEVICES"),
}
_KEPT_WITH_NETWORK = {
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HF_ENDPOINT", "HF_HUB_CACHE"),
}
_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    *("NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
)


def child_environment(
    granted: Mapping[str, str], *, threads: int, network: bool, who: str, variables: Iterable[str] = ()
) -> dict[str, str]:
    """Return the whole environment of a child process.

    The child gets what an interpreter needs to start, the places of caches, the thread count, and what
    its card asks for. It gets no key, token or password that this process may hold, but for the `variables`
    that the step's parameters name; with network, the settings of proxies, certificates and pip come along.

    Raises:
        PluginFault: The card asks for a variable outside `GRANTABLE`.
    """
    refused = sorted(name for name in granted if not name.startswith(GRANTABLE))
    if refused:
        raise PluginFault(
            f"the card asks for the environment variable {', '.join(refused)}",
            who=who,
            fix=f"a card may set {', '.join(prefix + '*' for prefix in GRANTABLE)}",
        )
    result = {}
    for name, value in os.environ.items():
        upper = name.upper()
        connects = upper in _KEPT_WITH_NETWORK or upper.startswith("PIP_")
        if upper in _KEPT or upper.startswith("LC_") or (network and connects):
            result[name] = value
    result |= {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    result |= granted
    result |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    result |= {
        "PYTHONFAULTHANDLER": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(_search_path()),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }
    result |= {name: os.environ[name] for name in variables if name in os.environ and name not in result}
    if not network:
        result |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return result


def _search_path() -> list[str]:
    """Return this interpreter's import path, absolute, so that the child finds the same plugins."""
    absolute = (str(Path(entry or ".").resolve()) for entry in sys.path)
    return [entry for entry in dict.fromkeys(absolute) if os.pathsep not in entry]


def machine_facts() -> dict[str, str]:
    """Return what the record must hold of the process that this runs in, as text.

    Libraries are asked only if the step has imported them.
    """
    facts = {
        "python": sys.version.replace("\n", " "),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cpu_count": str(os.cpu_count()),
    }
    peak = peak_memory(os.getpid())
    if peak is not None:
        facts["peak_memory_bytes"] = str(peak)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # some libraries now want to be asked otherwise
        for name, module in sorted(sys.modules.items()):
            version = getattr(module, "__version__", None)
            if "." not in name and name not in sys.stdlib_module_names and isinstance(version, str):
                facts[f"module.{name}"] = version
    if "torch" in sys.modules:
        facts |= _torch_facts()
    return facts


def _torch_facts() -> dict[str, str]:
    import torch

    facts = {
        "torch.git": str(torch.version.git_version),
        "torch.build": " ".join(torch.__config__.show().split()),
        "torch.threads": str(torch.get_num_threads()),
        "torch.interop_threads": str(torch.get_num_interop_threads()),
        "torch.deterministic": str(torch.are_deterministic_algorithms_enabled()).lower(),
        "torch.default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "torch.matmul_precision": torch.get_float32_matmul_precision(),
        "torch.cpu_capability": str(torch.backends.cpu.get_cpu_capability()),
        "torch.cuda": str(torch.version.cuda or "none"),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call] # torch leaves it untyped
        facts |= {
            "torch.cuda.device": torch.cuda.get_device_name(),
            "torch.cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call] # same
            "torch.cudnn.benchmark": str(torch.backends.cudnn.benchmark).lower(),
            "torch.tf32": str(torch.backends.cuda.matmul.allow_tf32).lower(),
        }
    return facts


def peak_memory(pid: int) -> int | None:
    """Return the peak resident memory of a living process in bytes, where the platform tells.

    Linux tells of any process, other POSIX systems of this one only.
    """
    try:
        for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux, or the process has just ended
    if sys.platform == "win32" or pid != os.getpid():
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
