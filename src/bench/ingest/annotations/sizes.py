"""Whether annotation is about an image of the size that it is laid over, and its enlargement."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.errors import BenchError
from bench.ingest.annotations.drawing import Disc, DrawnObject, Outline, Shape


def fit_objects(
    objects: Sequence[DrawnObject],
    stated: tuple[int, int] | None,
    shape: tuple[int, int],
    *,
    scale: bool,
    where: str,
    image: str,
) -> tuple[DrawnObject, ...]:
    """Returns the objects of an annotation file in px of the image that they annotate.

    Args:
        objects: The objects.
        stated: Height and width of the image that the file is about; None where it does not say.
        shape: Height and width of the image.
        scale: Whether outlines of a smaller or larger copy of the image are scaled to it.
        where: The file, for messages.
        image: The image, for messages.

    Raises:
        BenchError: If the sizes differ and must not be scaled, or cannot be.
    """
    if stated is None or stated == shape:
        return tuple(objects)
    sizes = f"{shape[1]} x {shape[0]} px (width x height), received {stated[1]} x {stated[0]}"
    message = f"{where} must be about an image of the size of {image}, {sizes}"
    # A size is rounded to whole px.
    reach = [
        (side / (own + 1), side / (own - 1 or 1)) for side, own in zip(shape, stated, strict=True)
    ]
    alike = max(low for low, _ in reach) <= min(high for _, high in reach)
    if not alike:
        swapped = stated == shape[::-1]
        remedy = "correct its width and height" if swapped else "export it for this image"
        raise BenchError(f"{message}, of another shape: {remedy}")
    if not scale:
        raise BenchError(
            f"{message}: export it for the full image, or give -P scale=auto if it was drawn on a "
            "smaller or larger copy of it"
        )
    y, x = shape[0] / stated[0], shape[1] / stated[1]
    return tuple(_scale_object(item, x, y, message) for item in objects)


def _scale_object(item: DrawnObject, x: float, y: float, message: str) -> DrawnObject:
    return replace(
        item,
        shapes={
            section: tuple(_scale_shape(shape, x, y, message) for shape in shapes)
            for section, shapes in item.shapes.items()
        },
    )


def _scale_shape(shape: Shape, x: float, y: float, message: str) -> Shape:
    if isinstance(shape, Outline):
        return Outline(tuple(ring * np.array((x, y)) for ring in shape.rings))
    if isinstance(shape, Disc):
        return Disc(shape.x * x, shape.y * y, shape.radius * (x + y) / 2)
    raise BenchError(f"{message}, and holds pixels, which are not scaled: export polygons")
