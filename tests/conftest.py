import warnings

import pytest


@pytest.fixture(autouse=True)
def our_warnings_are_errors():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module=r"bench(\.|$)")
        yield
