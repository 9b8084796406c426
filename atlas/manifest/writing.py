"""Writing manifests and values so that reading them gives the same values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from atlas.manifest.scalars import NUMBER_1_2

__all__ = ["dump", "flow"]

_NO_FOLDING = 1 << 30


class _Dumper(yaml.SafeDumper):
    """Writes no aliases, and quotes what YAML 1.2 would read as a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if NUMBER_1_2.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump(data: Mapping[str, Any]) -> bytes:
    """Write resolved data as a manifest; equal data in the same order give equal bytes."""
    text = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=110
    )
    return str(text).encode("utf-8")


def flow(value: Any) -> str:
    """Write a value on one line, as the right side of `--set` takes it."""
    text = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=_NO_FOLDING
    )
    return str(text).removesuffix("\n").removesuffix("\n...")
