import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "tests" / "third_party" / "example"
TUTORIAL = ROOT / "docs" / "writing-an-instrument.md"


def printed():
    """Return the files that the tutorial prints: a name on a line of its own, then a block."""
    blocks = re.findall(r"^`([^`\n]+)`\n\n```\w+\n(.*?)^```$", TUTORIAL.read_text("utf-8"), re.M | re.S)
    return dict(blocks)


def test_the_tutorial_prints_the_files_of_the_example_as_they_are():
    kept = {
        path.relative_to(EXAMPLE).as_posix(): path.read_text("utf-8")
        for path in EXAMPLE.rglob("*")
        if path.suffix in (".py", ".toml", ".yaml") and "build" not in path.parts
    }

    assert printed() == kept


@pytest.mark.slow
def test_the_tutorials_files_install_pass_their_tests_and_run(tmp_path):
    project, site = tmp_path / "atlas-example", tmp_path / "site"
    for name, text in printed().items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(project)], check=True)
    shutil.rmtree(project / "build", ignore_errors=True)

    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(project / "tests")],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert tests.returncode == 0, tests.stdout + tests.stderr
