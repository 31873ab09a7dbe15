import pytest

from bench.models.scales import find_size_warnings


@pytest.mark.parametrize(
    ("size", "told"), [(0.04, True), (0.05, False), (5.0, False), (1000.0, False), (1001.0, True)]
)
def test_sizes_that_no_micrograph_has(size, told):
    found = find_size_warnings([size, size])
    assert len(found) == told
    if told:
        assert found[0].startswith(f"pixels of {size:g} nm are not plausible in electron")
