"""The colours of the page, light, dark and printed, by the contrast that WCAG 2 asks for."""

import re
from pathlib import Path

import pytest

import bench.report.page

CSS = Path(bench.report.page.__file__).with_name("page.css").read_text()
THEMES = [
    dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    for block in re.findall(r":root {(.*?)}", CSS, re.S)
]


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_known_colours():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    # The lightest grey that passes 4.5 on white.
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def test_there_are_three_themes():
    assert len(THEMES) == 3
    assert all({"ink", "paper", "faint", "tint", "link", "best"} <= set(theme) for theme in THEMES)


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark", "print"])
@pytest.mark.parametrize("ground", ["paper", "tint"])
@pytest.mark.parametrize(("text", "least"), [("ink", 7), ("faint", 4.5), ("link", 4.5)])
def test_text_can_be_read(theme, ground, text, least):
    assert contrast(theme[text], theme[ground]) >= least


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark", "print"])
def test_best_values_can_be_read(theme):
    assert contrast(theme["ink"], theme["best"]) >= 7
