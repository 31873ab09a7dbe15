"""The settings of what is measured of segmented images."""

from dataclasses import dataclass

from bench.config.settings import StepConfig, setting
from bench.words import AUTO, NONE


@dataclass(frozen=True)
class MeasureConfig(StepConfig):
    """Settings of measure."""

    input: str = setting("data/segmented", "Output folder of segment.", identity=False)
    second: str = setting(
        NONE,
        "Output folder of segment of another structure of the same images, to which distances and "
        "contacts are measured; or none.",
        identity=False,
    )
    groups: str = setting(
        NONE,
        "Groups of sections or volumes, as ctrl:s01-s09;ko:s10-s18: names, patterns (ko_*) and "
        "runs of a series, separated by commas; or none.",
    )
    animals: str = setting(
        NONE,
        "Animals of the sections, written as groups are: each is then one value of its group; "
        "none: regions are, where each group has three or more, else sections.",
    )
    contact_nm: float = setting(
        0.0,
        "Up to this distance in nm both structures touch; 0 asks for pixels side by side.",
        minimum=0,
        maximum=10000,
    )
    held_out: str = setting(
        AUTO,
        "Evaluation whose sections say what the model misses and adds; auto: that of the "
        "segmentation's model on test, else on val; none gives raw values alone.",
    )
    dataset: str = setting(
        AUTO, "Prepared dataset of that evaluation; auto: where the run says it is.", identity=False
    )
    device: str = setting(
        AUTO,
        "Where a combination of models is applied to held-out sections: auto, cpu, cuda or cuda:N.",
    )
    output: str = setting("data/measured", "New folder to write.", identity=False)
