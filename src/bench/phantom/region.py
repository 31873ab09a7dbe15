"""One annotated region: images of its sections and the truth."""

from dataclasses import dataclass, replace

import numpy as np

from bench.errors import BenchError, unknown_name
from bench.phantom.render import DOMAINS, membrane_half_nm, render_section, stain_section
from bench.phantom.scene import Scene, Section, build_scene
from bench.phantom.vesicles import list_disk_pixels


@dataclass(frozen=True)
class PhantomRegion:
    """Serial sections with known truth.

    Attributes:
        raw: Images (z, y, x), uint8.
        labels: Instance ids (z, y, x) per structure, uint32; 0 is background. An id is the same
            object in every section; the membrane network is one object.
        pixel_size_nm: Pixel size in nm.
        section_nm: Distance of sections in nm.
        domain: Contrast of the images.
        drift_nm: Displacement of every section (z, 2) as y, x, relative to the middle one.
    """

    raw: np.ndarray
    labels: dict[str, np.ndarray]
    pixel_size_nm: float
    section_nm: float
    domain: str
    drift_nm: np.ndarray

    def crop(self, y: slice, x: slice) -> "PhantomRegion":
        """Cuts a rectangle (px) out of every section and numbers its instances from 1."""
        labels = {}
        for name, ids in self.labels.items():
            cut = ids[:, y, x]
            _, numbers = np.unique(np.append(cut, 0), return_inverse=True)
            labels[name] = numbers[:-1].reshape(cut.shape).astype(np.uint32)
        return replace(self, raw=self.raw[:, y, x], labels=labels)


def make_region(
    *,
    shape: tuple[int, int, int],
    pixel_size_nm: float,
    section_nm: float = 50.0,
    domain: str,
    seed: int,
) -> PhantomRegion:
    """Makes synthetic serial sections of neuropil with a ribbon synapse in the middle.

    The same seed gives the same truth in every domain.

    Args:
        shape: Sections, height and width in px; height and width at least 32.
        pixel_size_nm: Pixel size in nm.
        section_nm: Distance of sections in nm.
        domain: Row of `DOMAINS`.
        seed: Random seed.

    Raises:
        BenchError: If the domain is unknown or a size is not positive.
    """
    if domain not in DOMAINS:
        raise unknown_name("domain", domain, DOMAINS)
    if shape[0] < 1 or min(shape[1:]) < 32:
        raise BenchError(f"a region needs 1 x 32 x 32 px or more, received {shape}: enlarge it")
    if not (pixel_size_nm > 0 and section_nm > 0):
        raise BenchError(
            f"pixel and section size must be over 0 nm, received {pixel_size_nm} and {section_nm}"
        )
    scene = build_scene(shape=shape, pixel_nm=pixel_size_nm, section_nm=section_nm, seed=seed)
    rng = np.random.default_rng([seed, 1, sorted(DOMAINS).index(domain)])
    raw = [
        render_section(stain_section(scene, section), DOMAINS[domain], pixel_size_nm, rng)
        for section in scene.sections
    ]
    truth = [_label_section(scene, section) for section in scene.sections]
    labels = {name: np.stack([section[name] for section in truth]) for name in truth[0]}
    region = PhantomRegion(np.stack(raw), labels, pixel_size_nm, section_nm, domain, scene.drift_nm)
    return region.crop(slice(None), slice(None))


def _label_section(scene: Scene, section: Section) -> dict[str, np.ndarray]:
    """The truth of a section: instance ids (y, x) per structure, none of which overlap."""
    boundary = section.cells.boundary_nm
    membrane = boundary < membrane_half_nm(section, scene.pixel_nm)
    mitochondria = np.where(membrane, 0, section.mitochondria.number)
    vesicles = np.where(membrane | (mitochondria > 0), 0, _label_vesicles(scene, section))
    return {
        "vesicles": vesicles.astype(np.uint32),
        "mitochondria": mitochondria.astype(np.uint32),
        "membrane": membrane.astype(np.uint32),
    }


def _label_vesicles(scene: Scene, section: Section) -> np.ndarray:
    """Ids (y, x) of the vesicles' profiles: the pixels whose centre lies inside."""
    shape = section.cells.owner.shape
    profiles = scene.spheres.cut(section.z_nm, section.drift_nm)
    cut = np.flatnonzero(profiles.radius_nm)
    pixels, rows, depth = list_disk_pixels(
        shape, profiles.centre_nm[cut], profiles.radius_nm[cut], scene.pixel_nm
    )
    inside = depth >= 0
    ids = np.zeros(shape, np.uint32)
    ids.ravel()[pixels[inside]] = cut[rows[inside]] + 1
    return ids
