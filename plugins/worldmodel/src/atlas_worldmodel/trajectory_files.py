"""Trajectories in files: .npz, and Parquet with a row for each step.

Both hold a header, JSON of the format's name, the facts of the making and the digest of the data, and the
digest is checked when a file is read. In .npz each array stands under its name in `Trajectories` and the
header under `header`. In Parquet the columns are `trajectory`, `step`, `observation`, `action`, `reward`,
`terminated` and `truncated`; the last row of a trajectory holds the observation after its last action, and
neither action nor reward. The header is in the schema's metadata under `atlas`.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from atlas.errors import BadInput
from atlas_worldmodel.spaces import Box, decode_space
from atlas_worldmodel.trajectories import Episode, Trajectories

__all__ = ["FORMAT", "encode_npz", "encode_parquet", "read_trajectories", "write_trajectories"]

FORMAT = "atlas-trajectories-1"
_ARRAYS = ("observations", "actions", "rewards", "lengths", "terminated", "truncated")


def write_trajectories(data: Trajectories, path: Path) -> None:
    """Write a file of the kind that its ending says, `.npz` or `.parquet`.

    Raises:
        BadInput: The ending says neither, or pyarrow is missing.
    """
    encoders = {".npz": encode_npz, ".parquet": encode_parquet}
    path.write_bytes(encoders[_kind(path)](data))


def read_trajectories(path: Path) -> Trajectories:
    """Read a file that `write_trajectories` wrote.

    Raises:
        BadInput: It is missing, damaged, of another format, changed since it was written, or holds what
            `Trajectories` refuses.
    """
    readers = {".npz": _read_npz, ".parquet": _read_parquet}
    kind = _kind(path)
    if not path.is_file():
        raise BadInput("there is no such file", where=str(path))
    data, digest = readers[kind](path)
    if data.digest != digest:
        raise BadInput(
            f"the data are not those that were written: digest {data.digest[:12]}, expected {digest[:12]}",
            where=str(path),
            fix="write the file again from its environment and seed, or fetch it again",
        )
    return data


def _kind(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in (".npz", ".parquet"):
        raise BadInput(
            f"the ending {ending!r} is of no kind of trajectory file",
            where=str(path),
            fix="end the name in .npz or .parquet",
        )
    return ending


def _header(data: Trajectories) -> str:
    head = {"format": FORMAT, "digest": data.digest, **data.facts()}
    return json.dumps(head, sort_keys=True)


def _opened(text: str | bytes | None, path: Path) -> dict[str, Any]:
    try:
        head: dict[str, Any] = json.loads(text or "{}")
    except ValueError as error:
        raise BadInput(f"the header cannot be read: {error}", where=str(path)) from error
    if head.get("format") != FORMAT:
        raise BadInput(
            f"the file is no {FORMAT}: it has no header of that format",
            where=str(path),
            fix="put your own arrays together with `Trajectories.of` and write them by `write_trajectories`",
        )
    return head


def encode_npz(data: Trajectories) -> bytes:
    """Return the bytes of an .npz; equal data give equal bytes."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: getattr(data, name) for name in _ARRAYS}
    np.savez_compressed(buffer, header=np.array(_header(data)), **arrays)
    return buffer.getvalue()


def _read_npz(path: Path) -> tuple[Trajectories, str]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"the file cannot be read: {error}", where=str(path)) from error
    head = _opened(str(arrays.pop("header", "{}")), path)
    missing = sorted(set(_ARRAYS) - set(arrays))
    if missing:
        raise BadInput(f"there is no array {missing[0]!r}", where=str(path))
    return Trajectories(**{name: arrays[name] for name in _ARRAYS}, **_facts(head, path)), head["digest"]


def _facts(head: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        return {
            "action_space": decode_space(head["action_space"], str(path)),
            "environment": head["environment"],
            "generator": head["generator"],
            "seed": head["seed"],
        }
    except KeyError as error:
        raise BadInput(f"the header says nothing of {error}", where=str(path)) from error


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise BadInput(
            "Parquet needs pyarrow, which is not installed",
            fix='pip install "atlas-worldmodel[parquet]", or write .npz',
        ) from error
    return pyarrow, parquet


def encode_parquet(data: Trajectories) -> bytes:
    """Return the bytes of a Parquet file.

    Raises:
        BadInput: pyarrow is not installed.
    """
    arrow, parquet = _arrow()
    number = arrow.float32() if isinstance(data.action_space, Box) else arrow.int64()
    fields = [
        ("trajectory", arrow.int64()),
        ("step", arrow.int64()),
        ("observation", arrow.list_(arrow.float32(), data.observation_size)),
        ("action", arrow.list_(number)),
        ("reward", arrow.float32()),
        ("terminated", arrow.bool_()),
        ("truncated", arrow.bool_()),
    ]
    columns: dict[str, list[Any]] = {name: [] for name, _ in fields}
    for row, length in enumerate(data.lengths.tolist()):
        columns["trajectory"] += [row] * (length + 1)
        columns["step"] += range(length + 1)
        columns["observation"] += list(data.observations[row, : length + 1])
        columns["action"] += [*data.actions[row, :length].tolist(), None]
        columns["reward"] += [*data.rewards[row, :length].tolist(), None]
        for name in ("terminated", "truncated"):
            columns[name] += [False] * length + [bool(getattr(data, name)[row])]
    schema = arrow.schema(fields, metadata={"atlas": _header(data)})
    buffer = io.BytesIO()
    parquet.write_table(arrow.table(columns, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()


def _read_parquet(path: Path) -> tuple[Trajectories, str]:
    arrow, parquet = _arrow()
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowInvalid) as error:
        raise BadInput(f"the file cannot be read: {error}", where=str(path)) from error
    head = _opened((table.schema.metadata or {}).get(b"atlas"), path)
    expected = ["trajectory", "step", "observation", "action", "reward", "terminated", "truncated"]
    if table.column_names != expected:
        raise BadInput(f"expected the columns {', '.join(expected)}", where=str(path))
    facts = _facts(head, path)
    rows = table.column("trajectory").to_numpy()
    observations = np.stack(table.column("observation").to_numpy(zero_copy_only=False)).astype(np.float32)
    actions, rewards = table.column("action").to_pylist(), table.column("reward").to_pylist()
    ends = {name: table.column(name).to_numpy(zero_copy_only=False) for name in ("terminated", "truncated")}
    edges = np.flatnonzero(np.diff(rows)) + 1
    episodes = []
    for first, last in zip([0, *edges.tolist()], [*(edges - 1).tolist(), len(rows) - 1], strict=True):
        if None in actions[first:last] or None in rewards[first:last]:
            raise BadInput(f"trajectory {rows[first]} lacks an action or a reward", where=str(path))
        episodes.append(
            Episode(
                observations[first : last + 1],
                np.array(actions[first:last]),
                np.array(rewards[first:last], dtype=np.float32),
                bool(ends["terminated"][last]),
                bool(ends["truncated"][last]),
            )
        )
    return Trajectories.of(episodes, **facts), head["digest"]
