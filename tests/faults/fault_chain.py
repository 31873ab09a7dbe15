"""All steps from images to a segmented montage, one command after the other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_grid import check_undisturbed, scores, segmented, step_runs

from bench.tracking.store import Store

MODEL = "synapse-bench-mitochondria"
# The steps beside a benchmark.
ALONE = ("prepare", "promote", "segment")


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
        prepared, output = self.folder / "prepared", self.folder / "table"
        sections = {"input": self.images / "val" / "raw", "device": "cpu"}
        return [
            ("prepare", {"input": self.images, "output": prepared, "pixel_size_nm": 5.0}),
            ("benchmark", self.grid | {"dataset": prepared, "output": output}),
            ("promote", {"structure": "mito"}),
            ("segment", sections | {"output": self.folder / "segmented", "pixel_size_nm": 5.0}),
        ]

    def scores(self):
        """Its table."""
        return scores(self.folder / "table")

    def check_like(self, calm):
        """Asserts that nothing tells it from one that nothing happened to."""
        check_undisturbed(self.store, step_runs(calm.store))
        assert self.scores() == calm.scores()
        assert segmented(self.folder / "segmented") == segmented(calm.folder / "segmented")
        assert {path.name for path in self.folder.iterdir()} >= {"prepared", "segmented", "table"}
        versions = self.store.client.search_model_versions(f"name = '{MODEL}'")
        champion = self.store.client.get_model_version_by_alias(MODEL, "champion")
        assert [each.version for each in versions] == [champion.version]


def grid_runs(calm):
    """The runs of the benchmark, of those of all steps."""
    return {key: count for key, count in step_runs(calm.store).items() if key[0] not in ALONE}
