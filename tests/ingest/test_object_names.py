import pytest

from bench.ingest.classes import class_of_name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("vesicle 12", "vesicle"),
        ("vesicle-0001-0002", "vesicle"),
        ("active zone #3", "active zone"),
        ("mito", "mito"),
        ("sv2", "sv2"),
        ("0003-0012-0345-1", ""),
        ("e2b6a3a0-6d5c-11ee-b962-0242ac120002", ""),
    ],
)
def test_a_class_is_a_name_without_its_number(name, kind):
    assert class_of_name(name) == kind
