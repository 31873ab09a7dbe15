"""An image with its pixel size and where it came from."""

from dataclasses import dataclass, replace

import numpy as np

from bench.errors import BenchError


@dataclass(frozen=True)
class Volume:
    """A section (y, x) or a stack of sections (z, y, x).

    Attributes:
        data: The pixels, at the bit depth of the file.
        pixel_size_nm: Edge of a pixel in nm within the section; None where it is not known. It
            is never guessed.
        source: The file it was read from, for messages and the manifest.
    """

    data: np.ndarray
    pixel_size_nm: float | None
    source: str

    def crop(self, y: slice, x: slice) -> "Volume":
        """Cuts a rectangle (px) out of every section."""
        return replace(self, data=self.data[..., y, x])

    def resample(self, pixel_size_nm: float) -> "Volume":
        """Resamples a single section to another pixel size, linearly, smoothed when shrinking.

        Args:
            pixel_size_nm: The wanted edge of a pixel in nm.

        Raises:
            BenchError: If the pixel size of the image is not known.
        """
        if self.pixel_size_nm is None:
            raise BenchError(
                f"resampling needs a pixel size and {self.source} has none: "
                "give it to prepare with -P pixel_size_nm=..."
            )
        scale = self.pixel_size_nm / pixel_size_nm
        shape = tuple(max(1, round(side * scale)) for side in self.data.shape[-2:])
        return replace(
            self, data=resize_section(self.data, shape), pixel_size_nm=float(pixel_size_nm)
        )


def resize_section(section: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resizes a section (y, x) to a shape (px); float32, smoothed first when it shrinks."""
    from skimage.transform import resize

    shrinks = any(new < old for new, old in zip(shape, section.shape, strict=True))
    resized = resize(
        section.astype(np.float32), shape, order=1, anti_aliasing=shrinks, preserve_range=True
    )
    return np.asarray(resized, dtype=np.float32)
