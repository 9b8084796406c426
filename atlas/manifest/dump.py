"""Writing a resolved manifest, so that reading it gives the same values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from atlas.manifest.scalars import NUMBER_1_2

__all__ = ["dump"]


class _Dumper(yaml.SafeDumper):
    """Writes no aliases, and quotes what YAML 1.2 would read as a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if NUMBER_1_2.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump(data: Mapping[str, Any]) -> bytes:
    """Write resolved data as a manifest; equal data give equal bytes."""
    text = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=110
    )
    return str(text).encode("utf-8")
