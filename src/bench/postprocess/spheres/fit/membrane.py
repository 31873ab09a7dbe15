"""Radius and thickness of a membrane: a blurred model of it, fitted to the profile of a vesicle.

Seen from its centre a vesicle is lumen, a dark membrane, a halo and what lies outside: four levels
with three edges between them, blurred by the microscope. The largest slope or bend of a profile
lies a few tenths of a voxel beside an edge, as the membrane is hardly thicker than the blur, and as
a blurred sphere is a smaller one. The model has both in it, so that its radius, which is the outer
edge of the membrane, has no bias.

Blur of a radial function f in n dimensions acts on rho^q f, q = (n - 1) / 2, as on a line: exactly
in three, to second order in two. What is 1 within a radius b and 0 beyond becomes, with Phi and phi
of the normal distribution and z = (b - rho) / blur,

    f_b(rho) = Phi(z) - q blur / rho phi(z)

Thickness, blur and width of the halo are roughly known before: that decides where noise hides them.
"""

import math

import numba
import numpy as np

from bench.postprocess.spheres.fit.correlation import find_peak, span_voxels

# Distance between two places of a profile, and deviation of its smoothing, in voxels.
STEP = 0.5
_SMOOTHING = 0.5
# Known before (voxels): blur with that smoothing, width of the halo. Of the membrane's place and of
# the logarithms of thickness, blur and halo: deviations.
_BLUR, _HALO = 1.1, 2.0
_DEVIATIONS = np.array([1.5, 0.5, 0.5, 0.7])
# A profile deviates by this share of its range from any model.
_LEAST_NOISE = 0.01
# Farther from the steepest place (voxels) no edge is believed.
_FARTHEST_EDGE = 1.5
_MOST_STEPS, _NUDGE, _ENOUGH = 40, 1e-5, 1e-4
_MOST_DAMPING, _RIDGE = 1e6, 1e-9


@numba.njit(cache=True, nogil=True)
def measure_profile(
    block: np.ndarray, centre: np.ndarray, radius: float, power: float
) -> tuple[np.ndarray, float]:
    """Mean grey value by distance, every half voxel, smoothed as if on a line.

    Args:
        block: Image (z, y, x), float32; one plane is of a circle.
        centre: Of the vesicle (z, y, x), float64.
        radius: The largest distance.
        power: q of above: 1 for spheres, 0.5 for circles.

    Returns:
        Means at 0, STEP .. radius, float64; and how far single voxels deviate from them.
    """
    size = int(radius / STEP) + 8
    sums, weights, ranks = np.zeros(size), np.zeros(size), np.zeros((size, 3))
    for z in range(*span_voxels(centre[0], radius + 1, block.shape[0])):
        for y in range(*span_voxels(centre[1], radius + 1, block.shape[1])):
            flat = (z - centre[0]) ** 2 + (y - centre[1]) ** 2
            if flat > (radius + 1) ** 2:
                continue
            reach = math.sqrt((radius + 1) ** 2 - flat)
            for x in range(*span_voxels(centre[2], reach, block.shape[2])):
                distance = math.sqrt(flat + (x - centre[2]) ** 2)
                place = min(int(distance / STEP), size - 2)
                if place == 0:
                    continue
                outward = distance / STEP - place
                value = float(block[z, y, x])
                # All distances count alike, lest the many voxels farther out pull.
                scaled = 1 / distance if power == 1 else 1 / math.sqrt(distance)
                sums[place] += (1 - outward) * scaled * value
                sums[place + 1] += outward * scaled * value
                weights[place] += (1 - outward) * scaled * scaled
                weights[place + 1] += outward * scaled * scaled
                ranks[place, 0] += 1
                ranks[place, 1] += value
                ranks[place, 2] += value * value
    return _smooth_profile(sums, weights, power)[: int(radius / STEP) + 1], _find_spread(ranks)


@numba.njit(cache=True, nogil=True)
def _smooth_profile(sums: np.ndarray, weights: np.ndarray, power: float) -> np.ndarray:
    """Means of places that are smoothed by a Gaussian: where none is near, that of before."""
    profile = np.zeros(sums.size)
    reach = int(4 * _SMOOTHING / STEP)
    for place in range(sums.size - 1, -1, -1):
        total = weight = 0.0
        for other in range(max(1, place - reach), min(sums.size, place + reach + 1)):
            near = math.exp(-0.5 * ((other - place) * STEP / _SMOOTHING) ** 2)
            total += near * sums[other]
            weight += near * weights[other]
        distance = max(place, 1) * STEP
        profile[place] = total / weight / distance**power if weight > 1e-12 else 0.0
    return profile


@numba.njit(cache=True, nogil=True)
def _find_spread(ranks: np.ndarray) -> float:
    """Deviation of values from the mean of their place, of (places, 3) number, sum, squares."""
    total = number = 0.0
    for place in range(ranks.shape[0]):
        if ranks[place, 0] > 1:
            total += ranks[place, 2] - ranks[place, 1] ** 2 / ranks[place, 0]
            number += ranks[place, 0] - 1
    return math.sqrt(max(total, 0.0) / number) if number else 0.0


@numba.njit(cache=True, nogil=True)
def find_darkest(profile: np.ndarray, nearest: float, farthest: float, power: float) -> float:
    """Distance of the most telling minimum of a profile between two distances; 0 without any.

    Minima tell more the deeper they are and the more voxels they are a mean of.

    Args:
        profile: Means at distances 0, STEP .. from the centre.
        nearest: Where the search begins (voxels).
        farthest: Where it ends.
        power: q of above.
    """
    first = max(1, math.ceil(nearest / STEP))
    last = min(profile.size - 2, int(farthest / STEP))
    level = profile[first : last + 1].mean() if last >= first else 0.0
    darkest = most = 0.0
    for place in range(first, last + 1):
        depth = (place * STEP) ** power * (level - profile[place])
        if profile[place - 1] > profile[place] <= profile[place + 1] and depth > most:
            peak = find_peak(-profile[place - 1], -profile[place], -profile[place + 1])
            darkest, most = STEP * (place + peak), depth
    return darkest


@numba.njit(cache=True, nogil=True)
def _find_steepest(profile: np.ndarray, darkest: float, farthest: float, power: float) -> float:
    """Distance beyond the darkest at which rho^q times the slope is largest, up to another.

    Of a sphere that is blurred this is the edge, where it is no membrane but all dark.
    """
    first = int(darkest / STEP) + 1
    last = min(profile.size - 3, int(farthest / STEP))
    slopes = np.zeros(profile.size)
    for place in range(first, last + 2):
        slopes[place] = (profile[place + 1] - profile[place - 1]) * (place * STEP) ** power
    best = first + int(np.argmax(slopes[first : last + 1])) if last >= first else first
    if best <= first or best > last:
        return best * STEP
    return STEP * (best + find_peak(slopes[best - 1], slopes[best], slopes[best + 1]))


@numba.njit(cache=True, nogil=True)
def fit_membrane(
    profile: np.ndarray, darkest: float, thickness: float, noise: float, power: float
) -> tuple[float, float]:
    """Fits the model to a profile.

    Args:
        profile: Means at distances 0, STEP .. from the centre.
        darkest: Where it is lowest, about the middle of the membrane.
        thickness: Of a membrane, as it is known before (voxels).
        noise: Deviation of the profile, in the profile's unit.
        power: q of above.

    Returns:
        Radius of the outer edge and thickness (voxels). Where the profile is like no dark membrane,
        the steepest place is the edge, and the darkest the middle.
    """
    steepest = _find_steepest(profile, darkest, darkest + thickness / 2 + 2, power)
    otherwise = steepest, 2 * (steepest - darkest)
    first = max(2, int((darkest - thickness / 2 - 2.5) / STEP))
    last = min(profile.size - 1, int((darkest + thickness / 2 + 3.5) / STEP))
    if last - first < 8:
        return otherwise
    places = STEP * np.arange(first, last + 1)
    spread = profile[first : last + 1].max() - profile[first : last + 1].min()
    values = (profile[first : last + 1] - profile[first]) / spread
    known = np.array([darkest, math.log(thickness), math.log(_BLUR), math.log(_HALO)])
    weights = max(_LEAST_NOISE, noise / spread) / _DEVIATIONS
    guess = _descend(places, values, known, weights, power)
    levels = _compare(guess, places, values, known, weights, power)[1]
    edge = guess[0] + math.exp(guess[1]) / 2
    # A dark membrane: the profile falls on the way to it, and rises on the way out.
    if not levels[1] > 0 > levels[2] or abs(edge - steepest) > _FARTHEST_EDGE:
        return otherwise
    return edge, math.exp(guess[1])


@numba.njit(cache=True, nogil=True)
def _descend(
    places: np.ndarray, values: np.ndarray, known: np.ndarray, weights: np.ndarray, power: float
) -> np.ndarray:
    """Fits by Levenberg's and Marquardt's steps from what is known before.

    Args:
        places: Distances from the centre.
        values: The profile there.
        known: The membrane's middle, and logarithms of thickness, blur and halo.
        weights: Of deviations from these, beside deviations from the profile.
        power: q of above.

    Returns:
        The same four of the best fit.
    """
    guess, damping = known.copy(), 1e-3
    residuals, _ = _compare(guess, places, values, known, weights, power)
    slopes = np.empty((residuals.size, 4))
    for _ in range(_MOST_STEPS):
        for each in range(4):
            beside = guess.copy()
            beside[each] += _NUDGE
            nudged, _ = _compare(beside, places, values, known, weights, power)
            for row in range(residuals.size):
                slopes[row, each] = (nudged[row] - residuals[row]) / _NUDGE
        curvature, gradient = _multiply(slopes, residuals)
        step = np.zeros(4)
        while damping < _MOST_DAMPING:
            damped = curvature.copy()
            for each in range(4):
                damped[each, each] *= 1 + damping
            step = _solve(damped, gradient)
            there = np.empty(4)
            for each in range(4):
                there[each] = guess[each] - step[each]
            tried, _ = _compare(there, places, values, known, weights, power)
            if _square(tried) <= _square(residuals):
                guess, residuals, damping = there, tried, damping / 10
                break
            damping *= 10
        if damping >= _MOST_DAMPING or _square(step) < _ENOUGH**2:
            break
    return guess


@numba.njit(cache=True, nogil=True)
def _compare(
    guess: np.ndarray,
    places: np.ndarray,
    values: np.ndarray,
    known: np.ndarray,
    weights: np.ndarray,
    power: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Deviations from a profile and from what is known before; and the model's best levels.

    Returns:
        Deviations, float64 (places + 4); the level outside and the rises inwards at the edges of
        lumen, membrane and halo, float64 (4,).
    """
    middle, blur = guess[0], math.exp(guess[2])
    outer = middle + math.exp(guess[1]) / 2
    edges = (2 * middle - outer, outer, outer + math.exp(guess[3]))
    model, seen = np.empty((places.size, 4)), np.empty(places.size)
    for place in range(places.size):
        # As many voxels count as there are at a distance.
        share = (places[place] / middle) ** power
        model[place, 0], seen[place] = share, share * values[place]
        for each in range(3):
            far = (edges[each] - places[place]) / blur
            density = math.exp(-0.5 * far * far) / math.sqrt(2 * math.pi)
            below = 0.5 * math.erfc(-far / math.sqrt(2)) - power * blur / places[place] * density
            model[place, each + 1] = share * below
    normal, right = _multiply(model, seen)
    ridge = _RIDGE * (normal[0, 0] + normal[1, 1] + normal[2, 2] + normal[3, 3])
    for each in range(4):
        normal[each, each] += ridge
    levels = _solve(normal, right)
    residuals = np.empty(places.size + 4)
    for place in range(places.size):
        residuals[place] = -seen[place]
        for each in range(4):
            residuals[place] += model[place, each] * levels[each]
    for each in range(4):
        residuals[places.size + each] = weights[each] * (guess[each] - known[each])
    return residuals, levels


@numba.njit(cache=True, nogil=True)
def _multiply(columns: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Products of four columns with each other, (4, 4), and with values, (4,)."""
    square, right = np.zeros((4, 4)), np.zeros(4)
    for row in range(values.size):
        for one in range(4):
            right[one] += columns[row, one] * values[row]
            for other in range(one + 1):
                square[one, other] += columns[row, one] * columns[row, other]
    for one in range(4):
        for other in range(one):
            square[other, one] = square[one, other]
    return square, right


@numba.njit(cache=True, nogil=True)
def _solve(square: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solves four equations of a positive definite matrix, by Cholesky's roots."""
    root, found = np.zeros((4, 4)), right.copy()
    for one in range(4):
        for other in range(one + 1):
            rest = square[one, other]
            for before in range(other):
                rest -= root[one, before] * root[other, before]
            if one == other:
                root[one, one] = math.sqrt(max(rest, 1e-30))
            else:
                root[one, other] = rest / root[other, other]
    for one in range(4):
        for before in range(one):
            found[one] -= root[one, before] * found[before]
        found[one] /= root[one, one]
    for one in range(3, -1, -1):
        for after in range(one + 1, 4):
            found[one] -= root[after, one] * found[after]
        found[one] /= root[one, one]
    return found


@numba.njit(cache=True, nogil=True)
def _square(values: np.ndarray) -> float:
    """Sum of the squares of values."""
    total = 0.0
    for value in values:
        total += value * value
    return total
