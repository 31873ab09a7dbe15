"""Pictures as JPEG that keep to a size in bytes."""

import io

from PIL import Image

# The overlays of a section are three panels side by side: wide enough for a screen.
LONGEST_SIDE_PX = 1500
SMALLEST_SIDE_PX = 60
QUALITIES = (80, 65, 50, 35)
SHRINKING = 0.75
# Of all pictures of a page, and of one, before base64, which adds a third.
PAGE_BYTES = 5_400_000
PICTURE_BYTES = 130_000


def picture_budget(pictures: int) -> int:
    """Bytes that each of so many pictures of a page may take."""
    return min(PICTURE_BYTES, PAGE_BYTES // max(1, pictures))


def encode_jpeg(image: Image.Image, limit: int) -> tuple[bytes, int, int]:
    """Writes an image as JPEG of at most ``limit`` bytes.

    Quality is lowered before the image is made smaller. An image of SMALLEST_SIDE_PX is kept
    whatever its size.

    Returns:
        The JPEG, its width and its height in px.
    """
    image = image.convert("RGB")
    side = min(LONGEST_SIDE_PX, max(image.size))
    while True:
        smaller = image.copy()
        smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            written = io.BytesIO()
            smaller.save(written, format="JPEG", quality=quality, optimize=True)
            if written.tell() <= limit:
                break
        if written.tell() <= limit or side <= SMALLEST_SIDE_PX:
            return written.getvalue(), *smaller.size
        side = max(SMALLEST_SIDE_PX, round(side * SHRINKING))
