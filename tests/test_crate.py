"""The crate of a bundle, by the validator of its own community."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from atlas.bundle.bag import pack
from atlas.record import RunView

VALIDATE = Path(__file__).parent / "crate" / "validate.py"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the validator, which does not go together with the linters."""
    folder = tmp_path_factory.mktemp("validator")
    venv.create(folder, with_pip=True)
    binary = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    subprocess.run([binary, "-m", "pip", "install", "--quiet", "roc-validator==0.13.*"], check=True)
    return binary


@pytest.mark.slow
def test_the_crate_meets_every_required_check_of_its_profile(
    python: Path, governed: RunView, tmp_path: Path
) -> None:
    bundle = pack(governed, tmp_path)
    with zipfile.ZipFile(bundle) as opened:
        opened.extractall(tmp_path / "out")
    crate = tmp_path / "out" / governed.run_id / "data"

    sound = subprocess.run([python, VALIDATE, crate], capture_output=True, text=True, check=False)
    assert (sound.returncode, sound.stdout) == (0, "47 checks\n"), sound.stderr[-2000:]

    metadata = crate / "ro-crate-metadata.json"
    content = json.loads(metadata.read_text("utf-8"))
    root = next(entity for entity in content["@graph"] if entity["@id"] == "./")
    del root["datePublished"]
    metadata.write_text(json.dumps(content), "utf-8")
    broken = subprocess.run([python, VALIDATE, crate], capture_output=True, text=True, check=False)
    assert broken.returncode >= 1
    assert "datePublished" in broken.stdout
