import logging

import mrcfile
import numpy as np

from bench.config.data import PrepareConfig
from bench.dataset.prepared import PreparedDataset
from bench.steps.prepare import prepare


def test_tomograms_are_written_drawn_and_prepared(run_entry_point, store, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "tomograms"
    sizes = ("--tomograms", "1", "--planes", "32", "--size_px", "128", "--vesicles", "6")
    status, _ = run_entry_point("phantom", "--domain", "tomogram", "--output", str(folder), *sizes)
    assert status == 0
    assert (folder / "planes.png").is_file()
    assert f"picture: {folder / 'planes.png'}" in caplog.text
    assert "next, to make a dataset of it" in caplog.text
    prepare(PrepareConfig(input=str(folder), output=str(tmp_path / "prepared")))
    dataset = PreparedDataset.open(tmp_path / "prepared")
    assert set(dataset.structures) == {"vesicles", "mitochondria", "active_zone"}
    for split in ("train", "val", "test"):
        sections = dataset.sections(split)
        raw = np.stack([dataset.read_raw(section) for section in sections])
        assert np.array_equal(raw, mrcfile.read(folder / split / "raw" / "tomo1.mrc"))
        read = np.stack([dataset.read_labels(section, "vesicles") for section in sections])
        stored = mrcfile.read(folder / split / "vesicles" / "tomo1.mrc")
        assert np.array_equal(read > 0, stored > 0)
