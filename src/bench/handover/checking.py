"""A model that was written, tested by bioimageio.core as those who receive it test it."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.handover.folder import DESCRIPTION_FILE

# How far the prediction of what was written may be from ours, of probabilities from 0 to 1.
_LARGEST_DIFFERENCE = 1e-4


def check_model_folder(folder: Path) -> dict[str, float]:
    """Tests a model, and returns the largest difference from our own prediction by format.

    Raises:
        BenchError: If the package's test fails, or a difference is above 1e-4.
    """
    from bioimageio.core import load_description_and_test

    with _silence():
        described = load_description_and_test(
            folder / DESCRIPTION_FILE, devices=["cpu"], expected_type="model"
        )
    summary = described.validation_summary
    if summary.status != "passed":
        first = next((error.msg for part in summary.details for error in part.errors), "")
        raise BenchError(
            f"a model that is handed over must pass the test of bioimageio.core, received "
            f"{summary.status} ({first}): report it, with the run"
        )
    formats = [name for name, entry in described.weights if entry is not None]
    found = {name: _measure_difference(described, name) for name in formats}
    for name, difference in found.items():
        if not difference <= _LARGEST_DIFFERENCE:
            raise BenchError(
                "a model that is handed over must predict as ours does to "
                f"{_LARGEST_DIFFERENCE:g}, its weights as {name} differ by {difference:.2g}: its "
                "network computes what "
                "depends on more than the values of a window, and cannot be handed over"
            )
    return found


def _measure_difference(described: object, weights_format: str) -> float:
    """The largest difference of the test output, as weights of a format predict it, from ours."""
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.core.digest_spec import get_test_input_sample, get_test_output_sample

    with (
        _silence(),
        create_prediction_pipeline(
            described, devices=["cpu"], weights_format=weights_format
        ) as pipeline,
    ):
        predicted = pipeline.predict_sample_without_blocking(
            get_test_input_sample(described), skip_input_padding=True, skip_output_cropping=True
        )
    (ours,) = get_test_output_sample(described).as_arrays().values()
    (theirs,) = predicted.as_arrays().values()
    return float(np.abs(ours.astype(np.float64) - theirs).max())


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps the package's own lines from the terminal: what is wrong is told in one of ours."""
    from loguru import logger

    logger.disable("bioimageio")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.enable("bioimageio")
