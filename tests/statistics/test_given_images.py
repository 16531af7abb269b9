"""Images that the user gives: which are taken, and what becomes of them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.errors import BadInput, BadPipeline, MissingExtra, Skipped
from redir.io import image_files
from redir.io.image_files import Album
from redir.ir import Graph, Value
from redir.ir.tensor import Tensor, TensorType
from redir.pipeline import Pipeline
from redir.statistics import source
from tests.helpers import placeholder

Image: Any = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
RNG = np.random.default_rng(0)


def reading(*shape: int | str, dtype: str = "float32") -> Graph:
    x = Value(TensorType(np.dtype(dtype), shape))
    return Graph({"x": x}, {"y": ops.Neg(x) if dtype != "uint8" else ops.Identity(x)})


MODEL = reading("n", 3, 4, 4)


def with_weight() -> Graph:
    """A model of images whose weight, of nine channels, may be overridden."""
    x, weight = placeholder("n", 3, 4, 4), placeholder(9, 3, 1, 1)
    held = Tensor(np.ones((9, 3, 1, 1), np.float32))
    return Graph({"x": x, "w": weight}, {"y": ops.Conv(x, weight)}, defaults={"w": held})


def saved(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of one colour each, in folders."""
    for number in range(6):
        pixels = np.full((9, 7, 3), 40 * number, np.uint8)
        saved(tmp_path / "photos" / str(number % 2) / f"{number}.PNG", pixels)
    return tmp_path / "photos"


def taken(path: Path, count: int = 9, seed: int = 0, how: str = "bytes") -> np.ndarray:
    (batch,) = source(str(path), how).batches(MODEL, count, seed)
    return batch["x"]


def test_a_weight_that_may_be_overridden_is_no_batch(folder: Path) -> None:
    (batch,) = source(str(folder), "bytes").batches(with_weight(), 2, 0)
    assert batch["x"].shape == (2, 3, 4, 4)


def zipped(folder: Path) -> Path:
    made = folder.with_suffix(".zip")
    with zipfile.ZipFile(made, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return made


@pytest.mark.parametrize(
    ("how", "colour"),
    [
        ("bytes", (255, 0, 51)),
        ("unit", (1, 0, 0.2)),
        ("symmetric", (1, -1, -0.6)),
        ("unit+bgr", (0.2, 0, 1)),
        ("mean=0.5", (0.5, -0.5, -0.3)),
        ("mean=0.5:0.1:0+std=0.5:1:2+bgr", (0.1, -0.1, 1)),
        ("bytes+std=255", (1, 0, 0.2)),
        ("imagenet", ((1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225)),
        ("", ((1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225)),
    ],
)
def test_a_colour_becomes_numbers(tmp_path: Path, how: str, colour: tuple[float, ...]) -> None:
    saved(tmp_path / "a.png", np.full((8, 8, 3), (255, 0, 51), np.uint8))
    found = taken(tmp_path, how=how)
    assert found.dtype == np.float32
    assert found.shape == (1, 3, 4, 4)
    assert np.allclose(found, np.reshape(colour, (3, 1, 1)), atol=1e-6)


def test_an_image_of_the_size_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (4, 4, 3), np.uint8)
    saved(tmp_path / "a.png", pixels)
    assert np.array_equal(taken(tmp_path)[0], np.moveaxis(pixels, 2, 0))
    given = taken(tmp_path, how="imagenet") * np.reshape((0.229, 0.224, 0.225), (3, 1, 1))
    assert np.allclose(
        255 * (given + np.reshape((0.485, 0.456, 0.406), (3, 1, 1))), taken(tmp_path), atol=1e-3
    )


def test_the_middle_of_a_long_image_is_taken(tmp_path: Path) -> None:
    pixels = np.zeros((8, 32, 3), np.uint8)
    pixels[:, 12:20] = 100
    saved(tmp_path / "a.png", pixels)
    assert (taken(tmp_path)[..., 1:-1] == 100).all()


def test_imagenet_is_a_resize_to_256_and_the_middle_224(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", RNG.integers(0, 256, (512, 512, 3), np.uint8))
    (batch,) = source(str(tmp_path), "imagenet").batches(reading("n", 3, 224, 224), 1, 0)
    with Image.open(tmp_path / "a.png") as image:
        middle = image.resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
    usual = (np.asarray(middle) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    assert np.allclose(np.moveaxis(usual, 2, 0), batch["x"], atol=1e-5)


def test_channels_may_come_last(folder: Path) -> None:
    (last,) = source(str(folder)).batches(reading("n", 4, 4, 3), 9, 0)
    assert np.array_equal(np.moveaxis(last["x"], 3, 1), taken(folder, how=""))


def test_a_model_of_one_channel_reads_grey(folder: Path) -> None:
    (grey,) = source(str(folder)).batches(reading("n", 1, 4, 4), 9, 0)
    assert np.allclose(grey["x"], taken(folder, how="unit")[:, :1])


def test_a_model_of_bytes_reads_bytes(folder: Path) -> None:
    model = reading("n", 3, 4, 4, dtype="uint8")
    (batch,) = source(str(folder)).batches(model, 9, 0)
    assert batch["x"].dtype == np.uint8
    assert np.array_equal(batch["x"], taken(folder))
    with pytest.raises(BadInput, match="reads uint8"):
        source(str(folder), "unit").batches(model, 9, 0)


def test_open_sizes_are_those_that_fit(folder: Path) -> None:
    (batch,) = source(str(folder)).batches(reading("n", 3, "h", "w"), 2, 0)
    assert batch["x"].shape == (2, 3, 64, 64)


def test_a_zip_gives_what_its_folder_gives(folder: Path) -> None:
    assert np.array_equal(taken(zipped(folder)), taken(folder))


def test_only_images_that_are_drawn_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, was = list[str](), Album._decoded

    def noted(self: Album, name: str, *how: Any) -> Any:
        read.append(name)
        return was(self, name, *how)

    monkeypatch.setattr(Album, "_decoded", noted)
    assert len(taken(folder, 2)) == len(read) == 2
    assert len({float(taken(folder, 1, seed).max()) for seed in range(20)}) > 2


def test_a_fixed_batch_is_filled(folder: Path) -> None:
    fixed = reading(2, 3, 4, 4)
    assert [len(b["x"]) for b in source(str(folder)).batches(fixed, 5, 0)] == [2, 2]
    with pytest.raises(BadInput, match="1 examples are too few: the model takes 2 at once"):
        source(str(folder)).batches(fixed, 1, 0)


def test_what_is_no_image_is_skipped_and_said(folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.png").write_text("hello")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 hello")
    whole = (folder / "0" / "0.PNG").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(Skipped, match=r"3 of 9 files skipped, first notes.txt \(of another kind\)"):
        assert len(taken(folder)) == 6
    with pytest.warns(Skipped, match="3 of 9 files"):
        taken(zipped(folder))


def test_another_kind_under_an_image_s_name_is_skipped(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder / "a.gif")
    (folder / "a.gif").rename(folder / "a.png")
    with pytest.warns(Skipped, match="broken, or no image"):
        assert len(taken(folder)) == 6


@pytest.mark.parametrize(
    ("where", "most"), [((image_files, "_LARGEST"), 500), ((Image, "MAX_IMAGE_PIXELS"), 10_000)]
)
def test_what_is_too_large_is_skipped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str], most: int
) -> None:
    saved(folder / "bomb.png", RNG.integers(0, 256, (120, 120, 3), np.uint8))
    monkeypatch.setattr(*where, most)
    with pytest.warns(Skipped, match=r"1 of 7 files skipped, first bomb.png \(too large\)"):
        assert len(taken(folder)) == 6


def test_a_long_line_of_pixels_takes_no_memory(tmp_path: Path) -> None:
    saved(tmp_path / "line.png", np.full((1, 2_000_000, 3), 7, np.uint8))
    assert (taken(tmp_path) == 7).all()


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no image"):
        taken(tmp_path)
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(BadInput, match=r"of 1 files the first is a.png \(broken, or no image\)"):
        taken(tmp_path)


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        taken(tmp_path / "none.zip")
    (tmp_path / "x.zip").write_text("hello")
    with pytest.raises(BadInput, match="not a zip archive"):
        taken(tmp_path / "x.zip")


@pytest.mark.parametrize(
    "model", [reading("n", 8), reading("n", 16, 9, 9), reading("n", 3, 4, 4, dtype="int32")]
)
def test_a_model_that_reads_no_images_is_refused(folder: Path, model: Graph) -> None:
    with pytest.raises(BadInput, match="images"):
        source(str(folder)).batches(model, 2, 0)


def test_a_model_that_reads_more_than_images_is_refused(folder: Path) -> None:
    x, y = placeholder("n", 3, 4, 4), placeholder("n", 3, 4, 4)
    with pytest.raises(BadInput, match="alone"):
        source(str(folder)).batches(Graph({"x": x, "y": y}, {"z": ops.Add(x, y)}), 2, 0)


@pytest.mark.parametrize(
    "how",
    [
        "caffe",
        "unit+bytes",
        "bgr+bgr",
        "imagenet+std=1",
        "mean=1:2",
        "mean=nan",
        "mean=",
        "std=0",
        "unit+",
    ],
)
def test_a_preprocessing_that_there_is_not_is_refused(folder: Path, how: str) -> None:
    with pytest.raises(BadPipeline, match="preprocess"):
        source(str(folder), how)


def test_three_numbers_are_not_for_one_channel(folder: Path) -> None:
    with pytest.raises(BadInput, match="is for 3 channels"):
        source(str(folder), "imagenet").batches(reading("n", 1, 4, 4), 2, 0)


@pytest.mark.parametrize("given", ["synthetic", "x.npz"])
def test_only_images_are_preprocessed(given: str) -> None:
    with pytest.raises(BadPipeline, match=f"and {given} are none"):
        source(given, "unit")


def test_a_pipeline_says_it(folder: Path) -> None:
    text = f"factorize{{statistics={folder},preprocess=mean=0.5:0.4:0.3+std=0.2+bgr}}"
    assert str(Pipeline.parse(text)) == text


def test_images_need_pillow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "Image", None)
    with pytest.raises(MissingExtra, match="reading images needs redir's extra 'images'"):
        taken(folder)
