"""A model that was written, tested by ourselves and as those who receive it test it."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.errors import BenchError
from bench.handover.contents import HandoverModel
from bench.handover.folder import DESCRIPTION_FILE, FILES
from bench.handover.weights import SCRIPT_FILE, TORCHSCRIPT
from bench.inference.feeding import Moments
from bench.inference.prediction import fixed_moments

# How far the prediction of what was written may be from ours, of probabilities from 0 to 1.
_LARGEST_DIFFERENCE = 1e-4
# Trees step: the last bits of a feature may decide. So many values of theirs may be further away:
# as many as in the test of bioimageio.core.
_SHARE_OF_STEPS = 1e-4
_PACKAGE = "bioimageio.core"


def compare_script(folder: Path, model: HandoverModel) -> dict[str, float]:
    """How far TorchScript, read from its file, is from our own prediction of the test image.

    Returns:
        The largest difference, by the name of the format.

    Raises:
        BenchError: If it is above 1e-4.
    """
    window = np.load(folder / FILES.test_input)[0, 0]
    ours = np.load(folder / FILES.test_output)[0]
    fed = (fixed_moments(model.info) or Moments.of(window)).apply(window)
    with warnings.catch_warnings(), torch.inference_mode():
        # It is deprecated in favour of formats that bioimage.io does not have.
        warnings.simplefilter("ignore")
        script = torch.jit.load(str(folder / SCRIPT_FILE))
        theirs = script(torch.from_numpy(fed[None, None]))
        if model.plain:
            theirs = theirs.softmax(1) if model.info.classes else theirs.sigmoid()
    return _check({TORCHSCRIPT: _find_largest(ours, theirs[0].numpy(), model)})


def check_by_package(folder: Path, model: HandoverModel) -> dict[str, float]:
    """Tests a model by bioimageio.core.

    Args:
        folder: Where it was written.
        model: What was written.

    Returns:
        The largest difference from our own prediction, by format of the weights.

    Raises:
        BenchError: If its test fails, or a difference is above 1e-4.
    """
    from bioimageio.core import load_description_and_test

    with _silence():
        described: Any = load_description_and_test(
            folder / DESCRIPTION_FILE, devices=["cpu"], expected_type="model"
        )
    summary = described.validation_summary
    if summary.status != "passed":
        first = next((error.msg for part in summary.details for error in part.errors), "")
        raise BenchError(
            f"a model must pass the test of {_PACKAGE}, received {summary.status} ({first}): "
            "correct what it names"
        )
    formats = [name for name, entry in described.weights if entry is not None]
    return _check({name: _measure_difference(described, name, model) for name in formats})


def _check(differences: dict[str, float]) -> dict[str, float]:
    """Returns differences from our prediction, if they are small."""
    for name, difference in differences.items():
        if not difference <= _LARGEST_DIFFERENCE:
            raise BenchError(
                "a model that is handed over must predict as ours does to "
                f"{_LARGEST_DIFFERENCE:g}, its weights as {name} differ by {difference:.2g}: its "
                "network computes what that format cannot hold, give run_id of another model"
            )
    return differences


def _find_largest(ours: np.ndarray, theirs: np.ndarray, model: HandoverModel) -> float:
    """The largest difference; of trees without the few values that may step."""
    found = np.abs(ours.astype(np.float64) - theirs)
    share = 1 - _SHARE_OF_STEPS if model.has_trees else 1
    return float(np.quantile(found, share, method="higher"))


def _measure_difference(described: Any, weights_format: Any, model: HandoverModel) -> float:
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
    return _find_largest(ours, theirs, model)


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
