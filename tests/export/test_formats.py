import dataclasses

from bench.config.data import ExportConfig
from bench.export.formats import FORMATS


def test_every_format_can_be_chosen():
    (field,) = (f for f in dataclasses.fields(ExportConfig) if f.name == "format")
    assert field.metadata["choices"] == tuple(FORMATS)
