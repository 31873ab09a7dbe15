"""The spheres at work: what is known of each so far, and what was removed on the way."""

from dataclasses import dataclass, field, replace

import numpy as np

from bench.postprocess.spheres.fit.fitting import FIT_FIELDS
from bench.postprocess.spheres.found import FittedSpheres, RemovedSphere
from bench.postprocess.spheres.objects import VesicleObject

# What may have happened to a sphere.
_STATUSES = ("missed by the mask", "refitted", "shrunk")
_COLUMN = {name: place for place, name in enumerate(FIT_FIELDS)}


@dataclass(eq=False)
class SphereTable:
    """FittedSpheres at work; a row is one of them in all of these.

    Attributes:
        axes: 3, or 2 for circles.
        starts: Where refinement begins: centre and radius, float64 (n, 4), voxels (z, y, x).
        fits: What was found, rows as FIT_FIELDS names them, float64 (n, 10).
        small: Whether the object was smaller than a vesicle, bool (n,).
        p: Probability among the others, NaN where it is not known, float64 (n,).
        refitted: Whether it took a second chance, bool (n,).
        shrunk: Whether it was made smaller, bool (n,).
        late: Whether the mask missed it, bool (n,).
        removed: Rows that were taken out, with reasons; their ids are not yet known.
    """

    axes: int
    starts: np.ndarray
    fits: np.ndarray
    small: np.ndarray
    p: np.ndarray
    refitted: np.ndarray
    shrunk: np.ndarray
    late: np.ndarray
    removed: list[RemovedSphere] = field(default_factory=list)

    def column(self, name: str) -> np.ndarray:
        """One of FIT_FIELDS of all spheres: a view, which may be written."""
        return self.fits[:, _COLUMN[name]]

    @property
    def centres(self) -> np.ndarray:
        """Centres, float64 (n, 3): a view."""
        return self.fits[:, :3]

    def remove(self, reasons: list[str]) -> None:
        """Takes out the rows that have a reason, "" being none."""
        for row, reason in enumerate(reasons):
            if reason:
                self.removed.append(self._describe(row, reason))
        kept = np.array([not reason for reason in reasons], bool)
        for name in ("starts", "fits", "small", "p", "refitted", "shrunk", "late"):
            setattr(self, name, getattr(self, name)[kept])

    def add(self, starts: np.ndarray, fits: np.ndarray, p: np.ndarray) -> None:
        """Adds rows that were fitted elsewhere: where they began, what was found, and their p."""
        none = np.zeros(len(fits), bool)
        new = {"starts": starts, "fits": fits, "p": p}
        new |= dict.fromkeys(("small", "refitted", "shrunk"), none)
        for name, rows in new.items():
            setattr(self, name, np.concatenate([getattr(self, name), rows]))
        self.late = np.concatenate([self.late, ~none])

    def _describe(self, row: int, reason: str) -> RemovedSphere:
        fit = dict(zip(FIT_FIELDS, self.fits[row].tolist(), strict=True))
        # What was never fitted is where it began.
        place, radius = (
            (self.fits[row, :3], fit["radius"])
            if fit["ok"]
            else (self.starts[row, :3], float(self.starts[row, 3]))
        )
        return RemovedSphere(
            id=0,
            centre=tuple(float(each) for each in place[3 - self.axes :]),
            radius=float(radius),
            thickness=fit["thickness"] if fit["ok"] else float("nan"),
            density=fit["density"] if fit["ok"] else float("nan"),
            p=float(self.p[row]),
            reason=reason,
        )

    def finish(self) -> tuple[FittedSpheres, tuple[RemovedSphere, ...]]:
        """Numbers the spheres, and after them what was removed."""
        count = len(self.fits)
        words = [
            "+".join(word for word, so in zip(_STATUSES, each, strict=True) if so)
            for each in zip(self.late, self.refitted, self.shrunk, strict=True)
        ]
        spheres = FittedSpheres(
            ids=np.arange(1, count + 1),
            centres=self.centres[:, 3 - self.axes :].copy(),
            radii=self.column("radius").copy(),
            thickness=self.column("thickness").copy(),
            density=self.column("density").copy(),
            p=self.p,
            status=tuple(words),
        )
        removed = (
            replace(row, id=number) for number, row in enumerate(self.removed, start=count + 1)
        )
        return spheres, tuple(removed)


def begin_table(
    objects: list[VesicleObject], odd: list[tuple[VesicleObject, str]], least: float, axes: int
) -> SphereTable:
    """A table of objects: spheres about their centres, as wide as their boxes' longest edges.

    Args:
        objects: What may be vesicles.
        odd: What was removed already, with reasons.
        least: Voxels of the smallest vesicle.
        axes: 3, or 2 for circles.
    """
    every = objects + [each for each, _ in odd]
    starts = [(*each.centre, each.longest_edge / 2) for each in every]
    table = SphereTable(
        axes=axes,
        starts=np.array(starts, np.float64).reshape(len(every), 4),
        fits=np.zeros((len(every), len(FIT_FIELDS))),
        small=np.array([each.volume < least for each in every], bool),
        p=np.full(len(every), np.nan),
        refitted=np.zeros(len(every), bool),
        shrunk=np.zeros(len(every), bool),
        late=np.zeros(len(every), bool),
    )
    table.remove([""] * len(objects) + [reason for _, reason in odd])
    return table
