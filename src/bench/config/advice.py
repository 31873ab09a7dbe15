"""The settings of the steps that say where annotation is doubtful, and what to annotate next."""

from dataclasses import dataclass

from bench.config.settings import MINUTES, PIXEL_SIZE, RAW_KEY, StepConfig, setting
from bench.words import AUTO, NONE


@dataclass(frozen=True)
class SuspectsConfig(StepConfig):
    """Settings of suspects."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    structure: str = setting("mitochondria", "Structure to check; aliases such as mito work.")
    folds: int = setting(
        5,
        "Parts of neighbouring sections; each is judged by a model that saw none of it.",
        minimum=3,
        maximum=50,
    )
    method: str = setting("pixel_classifier", "Row of METHODS, trained once for each part.")
    minutes: float | None = setting(None, f"Of each model. {MINUTES}", minimum=0.05)
    training: str = setting(
        NONE, "Further settings of finetune: iterations=1000,features=16; or none."
    )
    share: float = setting(
        0.2,
        "Share of the list that is written for TrakEM2 and Fiji.",
        minimum=0.001,
        maximum=1,
    )
    pictures: int = setting(60, "Pictures of the first of the list.", minimum=0, maximum=10000)
    formats: str = setting(
        "trakem2,rois",
        "Formats of export in which doubtful objects are written, comma-separated; or none.",
    )
    seed: int = setting(0, "Random seed.", minimum=0)
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
    output: str = setting("data/suspects", "New folder to write.", identity=False)


@dataclass(frozen=True)
class SuggestConfig(StepConfig):
    """Settings of suggest."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    structure: str = setting(
        "mitochondria", "Structure that is to be annotated; aliases such as mito work."
    )
    budget: int = setting(3, "Sections, or pieces of montages, to suggest.", minimum=1)
    input: str = setting(
        NONE,
        "Images without annotation, or a folder of them; none: those of the dataset.",
        identity=False,
    )
    raw_key: str = setting(AUTO, RAW_KEY)
    pixel_size_nm: float | None = setting(None, f"input: {PIXEL_SIZE}", minimum=0.01)
    piece_px: int | None = setting(
        None,
        "Edge of a piece in px; auto is that of the annotated sections. Smaller images are whole.",
        minimum=64,
    )
    models: str = setting(
        AUTO,
        "Runs of trainings that are asked, comma-separated; auto: the best on validation, of each "
        "method and seed the newest, four at most.",
    )
    formats: str = setting(
        "tiff,trakem2,rois", "Formats of export that are written, comma-separated."
    )
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
    output: str = setting("data/suggested", "New folder to write.", identity=False)
