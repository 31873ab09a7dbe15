"""All steps from images to a segmented montage, one command after the other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_grid import check_undisturbed, images_and_tables, scores, step_runs

from bench.tracking.store import Store

MODEL = "synapse-bench-mitochondria-prepared"
# The steps beside a benchmark.
ALONE = ("phantom", "prepare", "promote", "segment", "compare", "export")
# Synthetic data as small as they may be.
PHANTOM = {"size_px": 128, "montage_px": 128}
# Of these the command that is repeated after its end only says that it overwrites nothing.
WRITE_ONCE = ("segment", "export")


@dataclass(frozen=True)
class Chain:
    """The commands, in a store and a folder of their own.

    Attributes:
        store: Where their runs go.
        folder: Where their output goes.
        images: What is prepared.
        grid: The settings of the benchmark.
    """

    store: Store
    folder: Path
    images: Path
    grid: dict[str, Any]

    def steps(self):
        """The names and settings of the commands, in their order."""
        prepared = self.folder / "prepared"
        pixels = {"pixel_size_nm": 5.0}
        settings = {
            "phantom": PHANTOM,
            "prepare": {"input": self.images} | pixels,
            "benchmark": self.grid | {"dataset": prepared},
            "promote": {"structure": "mito"},
            "segment": {"input": self.images / "val" / "raw", "device": "cpu"} | pixels,
            "compare": {"split": self.grid["split"]},
            "export": {"dataset": prepared, "format": "tiff"},
        }
        return [(step, own | self.output(step)) for step, own in settings.items()]

    def output(self, step):
        """The setting that names the folder of a step, which promote has not."""
        names = {"prepare": "prepared"}
        return {} if step == "promote" else {"output": self.folder / names.get(step, step)}

    def is_done(self, step):
        """Whether a step has published what it would not overwrite."""
        return step in WRITE_ONCE and (self.folder / step).exists()

    def scores(self):
        """Its table."""
        return scores(self.folder / "benchmark")

    def check_like(self, calm):
        """Asserts that nothing tells it from one that nothing happened to."""
        check_undisturbed(self.store, step_runs(calm.store))
        assert self.scores() == calm.scores() == scores(self.folder / "compare")
        for step in ("phantom", "segment", "export"):
            assert images_and_tables(self.folder / step) == images_and_tables(calm.folder / step)
        versions = self.store.client.search_model_versions(f"name = '{MODEL}'")
        champion = self.store.client.get_model_version_by_alias(MODEL, "champion")
        assert [each.version for each in versions] == [champion.version]


def grid_runs(calm):
    """The runs of the benchmark, of those of all steps."""
    return {key: count for key, count in step_runs(calm.store).items() if key[0] not in ALONE}
