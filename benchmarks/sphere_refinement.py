"""Refinement of spheres, beside the same algorithm written per vesicle with numpy and scipy.

PYTHONPATH=src python benchmarks/sphere_refinement.py [--vesicles 500]
"""

import argparse
import os

import numpy as np
from measuring import Line, report, time_in_turns
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import least_squares
from scipy.signal import correlate
from scipy.special import erfc
from sphere_scenes import draw_scene, move_starts

from bench.postprocess.spheres.fit.fitting import FIT_FIELDS
from bench.postprocess.spheres.fit.refinement import FitJob, refine_spheres

MARGIN, THICKNESS = 5.0, 4.5 / 2.2
SHIFTS = 4
COMPARED = [FIT_FIELDS.index(name) for name in ("z", "y", "x", "radius")]


def refine_by_scipy(
    raw: np.ndarray,
    start: np.ndarray,
    radius: float,
    *,
    margin: float = MARGIN,
    thickness: float = THICKNESS,
) -> np.ndarray | None:
    """Centre (one number an axis), radius and thickness of one vesicle; None without a membrane.

    It is the algorithm of `bench.postprocess.spheres.fit.fitting`, for spheres and circles.
    """
    power, farthest = (raw.ndim - 1) / 2, radius / 2 + 2
    outer = 1.2 * max(2.0, radius + margin - 3)
    mean, deviation = _scale(raw, start, farthest, radius, margin, outer, thickness)
    image = (raw - mean) / deviation
    wide = max(2.0, radius + margin - 2)
    steps = np.stack(np.meshgrid(*[np.arange(-2, 3)] * raw.ndim, indexing="ij"), -1)
    steps = steps.reshape(-1, raw.ndim)
    places = [start + thickness * step for step in steps if step @ step <= 4]
    centre = max(places, key=lambda place: explain(image, place, wide))

    def move(by: np.ndarray) -> np.ndarray:
        away = centre + by - start
        return start + away * min(1, farthest / max(1e-9, np.linalg.norm(away)))

    for _ in range(10):
        shift = find_shift_by_fft(image, centre, radius + margin)
        centre = move(shift)
        if np.abs(shift).max() < 0.25:
            break
    for _ in range(10):
        profile, _ = take_profile(image, centre, outer + 1, power)
        darkest = take_darkest(profile, 0.35 * radius, outer, power)
        if not darkest:
            return None
        shift = find_shift_by_fft(image, centre, darkest + thickness / 2 + 1)
        centre = move(shift)
        if np.abs(shift).max() < 0.02:
            break
    profile, _ = take_profile(image, centre, outer + 1, power)
    darkest = take_darkest(profile, 0.35 * radius, outer, power)
    if not darkest:
        return None
    profile, spread = take_profile(image, centre, darkest + thickness / 2 + 4.5, power)
    ring = 1.5 * (4 * np.pi * darkest**2 if raw.ndim == 3 else 2 * np.pi * darkest)
    return np.append(centre, fit(profile, darkest, thickness, spread / np.sqrt(ring), power))


def _scale(
    raw: np.ndarray,
    start: np.ndarray,
    farthest: float,
    radius: float,
    margin: float,
    outer: float,
    thickness: float,
) -> tuple[float, float]:
    """Mean and deviation of what is looked at."""
    reach = farthest + max(radius + margin, outer + thickness) + 5.5
    low = np.maximum(np.floor(start - reach), 0).astype(int)
    high = np.ceil(start + reach).astype(int) + 1
    block = raw[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float64)
    return block.mean(), block.std()


def take_ball(
    image: np.ndarray, centre: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Grey values within a radius, and their distances."""
    low = np.maximum(np.ceil(centre - radius), 0).astype(int)
    high = np.minimum(np.floor(centre + radius) + 1, image.shape).astype(int)
    box = tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))
    axes = np.ix_(*(np.arange(s.start, s.stop) - c for s, c in zip(box, centre, strict=True)))
    distances = np.sqrt(sum(axis**2 for axis in axes))
    inside = distances <= radius
    return image[box][inside].astype(np.float64), distances[inside]


def explain(image: np.ndarray, centre: np.ndarray, radius: float) -> float:
    """Share of the variance of a ball that its rotational average explains."""
    values, distances = take_ball(image, centre, radius)
    places = (distances + 0.5).astype(int)
    numbers, sums = np.bincount(places), np.bincount(places, values)
    explained = (sums**2 / np.maximum(numbers, 1)).sum() - values.sum() ** 2 / values.size
    return explained / ((values**2).sum() - values.sum() ** 2 / values.size)


def _share_out(
    places: np.ndarray, weights: np.ndarray, values: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums and weights of whole places, which a value between two shares."""
    inner = places.astype(int)
    outward = places - inner
    both = np.concatenate([inner, inner + 1])
    shares = np.concatenate([(1 - outward) * weights, outward * weights])
    return (
        np.bincount(both, shares * np.concatenate([values, values]), size),
        np.bincount(both, shares, size),
    )


def find_shift_by_fft(image: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Where a ball is most like its own rotational average: Pearson's correlation by FFT."""
    values, distances = take_ball(image, centre, radius)
    sums, weights = _share_out(distances, np.ones(values.size), values, int(np.ceil(radius)) + 2)
    seen = weights > 1e-9
    profile = np.interp(np.arange(sums.size), np.flatnonzero(seen), sums[seen] / weights[seen])
    low, high = np.ceil(centre - radius).astype(int), np.floor(centre + radius).astype(int)
    axes = np.ix_(*(np.arange(a, b + 1) - c for a, b, c in zip(low, high, centre, strict=True)))
    distances = np.sqrt(sum(axis**2 for axis in axes))
    ball = (distances <= radius).astype(np.float64)
    average = ball * np.interp(distances, np.arange(profile.size), profile)
    window, there = _take_window(image, low - SHIFTS, high + SHIFTS + 1)

    def slide(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return correlate(first, second, mode="valid", method="fft")

    total, squares = slide(window, ball), slide(window**2, ball)
    if there.all():
        number, averages, average_squares = ball.sum(), average.sum(), (average**2).sum()
    else:
        number, averages = slide(there, ball), slide(there, average)
        average_squares = slide(there, average**2)
    products = slide(window, average) - total * averages / number
    spread = (squares - total**2 / number) * (average_squares - averages**2 / number)
    likeness = products / np.sqrt(spread)
    best = np.full(image.ndim, SHIFTS)
    while True:
        beside = [best + way * step for step in np.eye(image.ndim, dtype=int) for way in (-1, 1)]
        beside = [place for place in beside if np.abs(place - SHIFTS).max() <= SHIFTS]
        highest = max(beside, key=lambda place: likeness[tuple(place)])
        if likeness[tuple(highest)] <= likeness[tuple(best)]:
            break
        best = highest
    shift = best - SHIFTS + 0.0
    for axis, step in enumerate(np.eye(image.ndim, dtype=int)):
        if abs(best[axis] - SHIFTS) < SHIFTS:
            one, middle, other = (likeness[tuple(best + way * step)] for way in (-1, 0, 1))
            shift[axis] += 0.5 * (one - other) / (one - 2 * middle + other)
    return shift


def _take_window(
    image: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A window of an image, 0 beyond its border, and where there is an image."""
    inside = tuple(
        slice(max(a, 0), max(0, min(b, size)))
        for a, b, size in zip(low, high, image.shape, strict=True)
    )
    around = [(s.start - a, b - s.stop) for s, a, b in zip(inside, low, high, strict=True)]
    window = np.pad(image[inside].astype(np.float64), around)
    return window, np.pad(np.ones(image[inside].shape), around)


def take_profile(
    image: np.ndarray, centre: np.ndarray, radius: float, power: float
) -> tuple[np.ndarray, float]:
    """Mean grey values every half voxel, smoothed along a line, and the voxels' deviation."""
    values, distances = take_ball(image, centre, radius + 1)
    values, distances = values[distances >= 0.5], distances[distances >= 0.5]
    size = int(radius / 0.5) + 8
    sums, weights = _share_out(
        distances / 0.5, distances ** (-2 * power), values * distances**power, size
    )
    sums, weights = (
        gaussian_filter1d(each[:size], 1.0, mode="constant", truncate=4) for each in (sums, weights)
    )
    rho = np.maximum(np.arange(size), 1) * 0.5
    profile = sums / np.maximum(weights, 1e-12) / rho**power
    places = (distances / 0.5).astype(int)
    numbers, means = np.bincount(places), np.bincount(places, values)
    within = (values**2).sum() - (means**2 / np.maximum(numbers, 1)).sum()
    spread = np.sqrt(within / np.maximum(numbers - 1, 0).sum())
    return profile[: int(radius / 0.5) + 1], spread


def take_darkest(profile: np.ndarray, nearest: float, farthest: float, power: float) -> float:
    """The minimum that is deepest by its depth and the voxels it is a mean of."""
    first, last = max(1, int(np.ceil(nearest / 0.5))), min(profile.size - 2, int(farthest / 0.5))
    places = np.arange(first, last + 1)
    before, here, after = (profile[places + way] for way in (-1, 0, 1))
    depths = (0.5 * places) ** power * (here.mean() - here)
    depths[~((before > here) & (here <= after))] = -1
    best = int(np.argmax(depths))
    if depths[best] <= 0:
        return 0.0
    one, middle, other = before[best], here[best], after[best]
    return 0.5 * (places[best] + 0.5 * (one - other) / (one - 2 * middle + other))


def fit(
    profile: np.ndarray, darkest: float, thickness: float, noise: float, power: float
) -> np.ndarray:
    """Radius and thickness by least squares of a blurred membrane."""
    first = max(2, int((darkest - thickness / 2 - 2.5) / 0.5))
    last = min(profile.size - 1, int((darkest + thickness / 2 + 3.5) / 0.5))
    rho, seen = 0.5 * np.arange(first, last + 1), profile[first : last + 1]
    known = np.array([darkest, np.log(thickness), np.log(1.1), np.log(2.0)])
    weights = max(0.01, noise / np.ptp(seen)) / np.array([1.5, 0.5, 0.5, 0.7])
    seen = (seen - seen[0]) / np.ptp(seen)

    def deviate(guess: np.ndarray) -> np.ndarray:
        blur, half = np.exp(guess[2]), np.exp(guess[1]) / 2
        columns = [np.ones(rho.size)]
        for edge in (guess[0] - half, guess[0] + half, guess[0] + half + np.exp(guess[3])):
            z = (edge - rho) / blur
            density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
            columns.append(erfc(-z / np.sqrt(2)) / 2 - power * blur / rho * density)
        shares = (rho / guess[0]) ** power
        model = np.stack(columns, axis=1) * shares[:, None]
        levels = np.linalg.lstsq(model, seen * shares, rcond=None)[0]
        return np.concatenate([model @ levels - seen * shares, weights * (guess - known)])

    found = least_squares(deviate, known, method="lm", xtol=1e-8).x
    return np.array([found[0] + np.exp(found[1]) / 2, np.exp(found[1])])


def main() -> None:
    """Measures as many vesicles as asked for, on all cores and on one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vesicles", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3, help="of ours; the peer runs once")
    parser.add_argument("--peers", type=int, default=100, help="how many of them the peer refines")
    options = parser.parse_args()
    side = round(96 * (options.vesicles / 30) ** (1 / 3))
    scene = draw_scene((side, side, side), options.vesicles, seed=0, tilt_deg=60)
    centres, radii = move_starts(scene, shift=3, resize=2, seed=1)
    margins = np.full(radii.size, MARGIN)
    cores = len(os.sched_getaffinity(0))

    def refine(workers: int) -> np.ndarray:
        job = FitJob(scene.raw, THICKNESS, False, 0.0, workers)
        return refine_spheres(job, centres, radii, margins)[:, COMPARED]

    def refine_each() -> np.ndarray:
        pairs = zip(centres[: options.peers], radii[: options.peers], strict=True)
        return np.array([refine_by_scipy(scene.raw, *pair)[:4] for pair in pairs])

    ours, found = time_in_turns(
        {"all": lambda: refine(cores), "one": lambda: refine(1)}, repeats=options.repeats
    )
    assert np.array_equal(found["all"], found["one"])
    peer, expected = time_in_turns({"scipy": refine_each}, repeats=1, warm_up=False)
    apart = np.abs(found["all"][: options.peers] - expected["scipy"])
    times = radii.size / len(apart)
    off = np.linalg.norm(found["all"][:, :3] - scene.centres, axis=1)
    bias = float((found["all"][:, 3] - scene.radii).mean())
    compared = (
        f"centres and radii within {apart.max():.2g} voxel; on average {off.mean():.3f} voxel off "
        f"the truth, radii {bias:+.3f}"
    )
    size = f"{side} x {side} x {side}, {radii.size} vesicles"
    peer_name = f"scipy per vesicle, {len(apart)} vesicles x {times:g}"
    lines = [
        Line(
            f"sphere refinement, {note}",
            size,
            ours[name],
            peer_name,
            times * peer["scipy"],
            10,
            compared,
            f"{1000 * ours[name] / radii.size:.2g} ms a vesicle, the peer's "
            f"{1000 * peer['scipy'] / len(apart):.3g}",
        )
        for name, note in (("all", f"{cores} threads"), ("one", "one thread"))
    ]
    report(__file__, lines)


if __name__ == "__main__":
    main()
