"""What was found, as the rows of spheres.csv."""

from collections.abc import Sequence
from dataclasses import replace

from bench.export.sphere_table import SphereRow
from bench.postprocess.spheres.found import SphereResult


def list_rows(result: SphereResult, volume: str, voxel_nm: float) -> list[SphereRow]:
    """The vesicles of a volume, the most doubtful first, then what was removed.

    Args:
        result: What was found in a volume; circles of a section lie in its section 0.
        volume: Its name.
        voxel_nm: Edge of a voxel.
    """

    def begin(number: int, centre: Sequence[float], radius: float) -> SphereRow:
        z, y, x = [0.0] * (3 - len(centre)) + [float(value) for value in centre]
        return SphereRow(volume, number, z, y, x, radius, radius * voxel_nm)

    found = result.spheres
    kept = [
        replace(
            begin(int(number), found.centres[place], float(found.radii[place])),
            thickness=float(found.thickness[place]),
            density=float(found.density[place]),
            p=float(found.p[place]),
            status=found.status[place],
        )
        for place, number in sorted(enumerate(found.ids), key=lambda each: found.p[each[0]])
    ]
    removed = [
        replace(
            begin(each.id, each.centre, each.radius),
            thickness=each.thickness,
            density=each.density,
            p=each.p,
            kept=False,
            reason=each.reason,
        )
        for each in result.removed
    ]
    return kept + removed
