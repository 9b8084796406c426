"""The adapter, and the hook that offers it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

from atlas.contracts import Answer, Interaction, Package, SynthesisAdapter
from atlas.errors import BadInput, InstrumentFailed
from atlas.hookspecs import hookimpl


class Program:
    """Puts a package before a program, once."""

    def submit(self, package: Package, params: Mapping[str, Any], interaction: Interaction) -> Answer:
        """Return what the program printed.

        Raises:
            BadInput: The program cannot be started; nothing was uploaded.
            InstrumentFailed: It failed, took too long, or printed no text. It is not asked again.
        """
        command = params["command"]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise BadInput(
                f"{command[0]} cannot be started: {error.strerror or error}",
                fix="name a program of this machine as `command`",
            ) from error
        interaction.note("upload", f"{len(package.upload)} bytes to {command[0]}")
        interaction.begun(f"{command[0]} was given the package")
        try:
            printed, said = process.communicate(package.upload, timeout=params["seconds"])
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise InstrumentFailed(f"{command[0]} printed no answer in {params['seconds']:g} s") from error
        if process.returncode != 0:
            last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise InstrumentFailed(f"{command[0]} ended with {process.returncode}: {' '.join(last)}")
        try:
            text = printed.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InstrumentFailed(f"{command[0]} printed bytes that are no UTF-8") from error
        if not text.strip():
            raise InstrumentFailed(f"{command[0]} printed nothing")
        return Answer(text, {"program": command[0]}, {"answer.bytes": printed})


@hookimpl
def atlas_synthesis_adapters() -> Mapping[str, SynthesisAdapter]:
    """Offer the adapter under the name that the card gives it."""
    return {"newcomer-name": Program()}
