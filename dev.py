"""Makes the development environment once, then runs the quickstart or the checks inside it.

python dev.py run     the quickstart: a real model's curvature, manifests/quickstart.yaml
python dev.py test    the test suite, but for the slow tests (further arguments go to pytest)
python dev.py slow    the tests that take more than ten seconds each; CI runs them too
python dev.py lint    style, types and import contracts
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
MOST_PROCESSES = 4
"""Of the test suite, which each hold a model or two in memory."""
PUBLIC = [
    str(path.relative_to(ROOT))
    for path in sorted((ROOT / "plugins").glob("*/src/*"))
    if path.suffix != ".egg-info"  # an older installation leaves them beside the packages
]


def install() -> None:
    """Install host and plugins, unless the stamp says that exactly these are installed."""
    inputs = [ROOT / "requirements-dev.txt", ROOT / "constraints.txt", ROOT / "pyproject.toml"]
    inputs += sorted((ROOT / "plugins").glob("*/pyproject.toml"))
    digest = hashlib.sha256(sys.version.encode())
    for path in inputs:
        digest.update(path.read_bytes())
    stamp = VENV / "atlas-stamp"
    if stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "setuptools>=77", "wheel"], cwd=ROOT, check=True)
    subprocess.run([*pip, "--no-build-isolation", "-r", "requirements-dev.txt"], cwd=ROOT, check=True)
    stamp.write_text(digest.hexdigest())


def run(*command: str) -> int:
    """Run a command of the environment in the repository root; Ctrl-C is the command's to answer."""
    with subprocess.Popen([str(BIN / command[0]), *command[1:]], cwd=ROOT) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def lint() -> int:
    """Run every static check, all of them even if one fails."""
    checks = [
        ("ruff", "check"),
        ("ruff", "format", "--check"),
        ("mypy",),
        ("mypy", *PUBLIC),
        ("lint-imports",),
    ]
    return max([run(*check) for check in checks])


def main(action: str = "", *rest: str) -> int:
    """Carry out one action and return its exit code."""
    if action not in ("run", "test", "slow", "lint"):
        print(__doc__)
        return 2
    install()
    if action == "run":
        return run("atlas", "run", "manifests/quickstart.yaml", *rest)
    if action == "lint":
        return lint()
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    chosen = "slow" if action == "slow" else "not slow"
    return run("pytest", f"--numprocesses={processes}", "--dist=loadfile", "-m", chosen, *rest)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
