"""Puts the registry into the wheel: its one source is registry.yaml at the root of the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRegistry(build_py):
    """Copies registry.yaml into the package; an editable installation reads it at its source."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        source = Path(__file__).with_name("registry.yaml")
        if not self.editable_mode and source.is_file():
            shutil.copyfile(source, Path(self.build_lib) / "atlas" / source.name)


setup(cmdclass={"build_py": BuildWithRegistry})
