"""Masks that lie mirrored or turned on their images are found; right ones are not accused."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bench.ingest.images.images import read_section
from bench.ingest.inspection.orientation import (
    AS_IT_IS,
    Fit,
    choose_orientation,
    judge_orientation,
    measure_fits,
)
from bench.ingest.inspection.report import inspect_tree
from bench.ingest.writing import write_prepared

TURNS = {
    AS_IT_IS: lambda mask: mask,
    "mirrored in y": np.flipud,
    "mirrored in x": np.fliplr,
    "turned by 180 degrees": lambda mask: np.rot90(mask, 2),
    "transposed": np.transpose,
    # What np.rot90 turned to the right fits after a turn to the left.
    "turned by 90 degrees to the left": lambda mask: np.rot90(mask, -1),
    "turned by 90 degrees to the right": np.rot90,
    "transposed and turned by 180 degrees": lambda mask: np.rot90(np.transpose(mask), 2),
}


def make_scene(seed: int, shape: tuple[int, int] = (160, 160)) -> tuple[np.ndarray, np.ndarray]:
    """Noise in which some discs are a little darker, and their mask."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, bool)
    for _ in range(6):
        y, x = random.uniform(12, np.array(shape) - 12)
        mask |= (rows - y) ** 2 + (columns - x) ** 2 < random.integers(5, 11) ** 2
    grey = gaussian_filter(random.normal(size=shape), 1)
    return np.asarray(120 + 60 * grey - 25 * mask), mask


@pytest.mark.parametrize("turn", TURNS)
def test_the_way_back_is_found(turn):
    raw, mask = make_scene(0)
    (fit,) = measure_fits(raw, {"mitochondria": TURNS[turn](mask)}).values()
    assert choose_orientation(fit) == turn


def test_what_is_not_square_is_not_transposed():
    raw, mask = make_scene(1, (120, 160))
    (fit,) = measure_fits(raw, {"mitochondria": mask[:, ::-1]}).values()
    assert list(fit.shares) == list(TURNS)[:4]
    assert choose_orientation(fit) == "mirrored in x"


def test_a_share_is_that_of_a_regression():
    _, mask = make_scene(2)
    # An image that is its mask explains all of it, and one that knows nothing next to nothing.
    (fit,) = measure_fits(100.0 * mask, {"m": mask}).values()
    assert fit.shares[AS_IT_IS] == pytest.approx(1, abs=1e-3)
    noise = np.random.default_rng(3).normal(size=mask.shape)
    (fit,) = measure_fits(noise, {"m": mask}).values()
    assert max(fit.shares.values()) < 0.02
    assert choose_orientation(fit) is None


def test_noise_accuses_nobody():
    fits = {}
    for seed in range(60):
        _, mask = make_scene(seed)
        grey = gaussian_filter(np.random.default_rng(seed + 1000).normal(size=mask.shape), 3)
        (fits[str(seed)],) = measure_fits(grey, {"m": mask}).values()
    chosen = Counter(map(choose_orientation, fits.values()))
    assert chosen[None] >= 58, chosen
    # Nor does one that seems turned by chance.
    assert judge_orientation({"m": fits}) == []


def test_what_says_nothing_has_no_fit():
    raw, mask = make_scene(4)
    assert measure_fits(np.ones_like(raw), {"m": mask}) == {}
    assert measure_fits(raw, {"m": np.zeros_like(mask), "n": np.ones_like(mask)}) == {}


def test_a_finding_names_the_sections_and_the_way():
    fits = {
        "a": Fit({AS_IT_IS: 0.01, "mirrored in y": 0.4}, 0.01),
        "b": Fit({AS_IT_IS: 0.5, "mirrored in y": 0.02}, 0.01),
    }
    (finding,) = judge_orientation({"vesicles": fits})
    assert finding.level == "error"
    assert finding.fact.startswith("1 of 2 masks (a) fit their images mirrored in y: grey values")
    assert "40.0% of them so, 1.0% as they are" in finding.fact
    assert judge_orientation({"vesicles": {"b": fits["b"]}}) == []


def test_sections_that_say_little_say_it_together():
    """None is clear by itself, as chance explains as much, but not always in the same way."""
    ways = ("mirrored in y", "mirrored in x")
    unclear = [
        Fit(
            {AS_IT_IS: 0.005, ways[0]: 0.08, ways[1]: 0.04 * (number % 2)}, 0.04 * (number % 2 == 0)
        )
        for number in range(6)
    ]
    assert {choose_orientation(fit) for fit in unclear} == {None}
    (finding,) = judge_orientation({"vesicles": {str(n): fit for n, fit in enumerate(unclear)}})
    assert finding.fact.startswith("6 of 6 masks")


def test_check_and_prepare_say_it(make_source, make_section, tmp_path):
    sections = []
    for number, split in enumerate(("train", "train", "val", "test")):
        raw, mask = make_scene(number, (96, 128))
        turned = mask[::-1] if number == 1 else mask
        pixels = raw.clip(0, 255).astype(np.uint8)
        sections.append(make_section(split, f"s{number}", pixels, mitochondria=turned))
    tree = make_source(*sections)
    (finding,) = [f for f in inspect_tree(tree).findings if f.kind == "orientation"]
    assert finding.fact.startswith("1 of 4 masks (train-s1) fit their images mirrored in y")
    for section in sections:
        for image in section.images.values():
            for name in image.files:
                path = tmp_path / "files" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                image.files[name] = path
    dataset = write_prepared(tree, tmp_path / "prepared")
    (warning,) = [text for text in dataset.manifest["warnings"] if "mirrored in y" in text]
    assert "mitochondria" in warning
    assert "-P rows=reversed" in warning


def test_real_sections_as_they_are_and_turned(shared):
    """Of every structure of the real data: never accused, and every turn of it is found."""
    for dataset, split in (("epfl6", "test"), ("vnc", "val"), ("isbi2012", "val")):
        folder = shared / dataset / split
        for masks in sorted(folder.iterdir()):
            if masks.name == "raw":
                continue
            for file in sorted(masks.iterdir())[:3]:
                check_real(folder / "raw" / file.name, file)


def check_real(raw: Path, file: Path) -> None:
    image, mask = read_section(raw), read_section(file)
    side = min(image.shape)
    square = image[:side, :side]
    for name, turn in TURNS.items():
        turned = np.ascontiguousarray(turn(mask[:side, :side]))
        (fit,) = measure_fits(square, {"m": turned}).values()
        assert choose_orientation(fit) == name, (file, name)
