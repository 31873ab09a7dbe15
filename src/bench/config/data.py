"""The settings of the steps that make data and give it back."""

from dataclasses import dataclass

from bench.config.settings import (
    AUGMENTATION_CHOICES,
    PIXEL_SIZE,
    RAW_KEY,
    SECTION,
    StepConfig,
    setting,
)
from bench.words import AUTO, NONE


@dataclass(frozen=True)
class PhantomConfig(StepConfig):
    """Settings of the synthetic data set: of sections, or of the tomograms of domain tomogram."""

    output: str = setting("data/phantom", "Folder to write.", identity=False)
    domain: str = setting(
        "resin",
        "Sections with the contrast of resin or cryo, or tomogram: cryo tomograms of a presynapse.",
        choices=("resin", "cryo", "tomogram"),
    )
    regions: int = setting(3, "Annotated regions, each followed through the sections.", minimum=1)
    sections: int = setting(3, "Serial sections of each region.", minimum=3)
    size_px: int | None = setting(
        None,
        "Edge in px of an annotated region or a tomogram; auto is 512 or 160.",
        minimum=128,
        maximum=8192,
    )
    montage_px: int = setting(1024, "Edge of a montage in px.", minimum=128, maximum=16384)
    pixel_size_nm: float | None = setting(
        None, "Pixel size in nm; auto is 5, of tomograms 2.2.", minimum=0.5, maximum=20
    )
    seed: int = setting(0, "Random seed.", minimum=0)
    tomograms: int = setting(3, "Tomograms of each split.", minimum=1, maximum=99)
    planes: int = setting(96, "Planes of a tomogram.", minimum=32, maximum=1024)
    vesicles: int | None = setting(
        None, "Vesicles of a tomogram; auto fills a quarter of the room.", minimum=1, maximum=9999
    )
    min_diameter_nm: float = setting(
        30.0, "Outer diameter of the smallest vesicles of a tomogram in nm.", minimum=5, maximum=500
    )
    max_diameter_nm: float = setting(
        40.0, "Outer diameter of the largest vesicles of a tomogram in nm.", minimum=5, maximum=500
    )
    tilt_deg: float = setting(
        60.0, "Largest tilt of a tomogram to both sides, in degrees.", minimum=10, maximum=90
    )
    noise: float = setting(
        0.7, "Deviation of a tomogram's noise over that of its grey values.", minimum=0, maximum=100
    )
    voxel_type: str = setting(
        "int16", "Type of a tomogram's grey values.", choices=("int16", "float32")
    )


@dataclass(frozen=True)
class PrepareConfig(StepConfig):
    """Settings of prepare."""

    input: str = setting(
        "phantom",
        "Folder {train,val,test}/{raw,<structure>...}/, images with annotation files beside them, "
        "a TrakEM2 project, an HDF5 or Zarr volume; dataset:NAME is a public data set "
        "(docs/datasets.md), 'phantom' makes synthetic data.",
        identity=False,
    )
    output: str = setting("data/prepared", "Folder of the prepared dataset.", identity=False)
    pixel_size_nm: float | None = setting(None, PIXEL_SIZE, minimum=0.01)
    section_nm: float | None = setting(None, SECTION, minimum=0.01)
    splits: str = setting(
        AUTO,
        "auto keeps the folders; or train=0-15;val=16;test=18 by section number, "
        "regions:train=0;val=1;test=2, kfold=5/0, or paper.",
    )
    volumes: str = setting(
        AUTO,
        "Whether stacks are volumes, whose objects are followed and scored through the sections: "
        "auto where pixel size and distance of sections are known and no objects end at each.",
        choices=(AUTO, "true", "false"),
    )
    min_gap_nm: float = setting(
        100.0,
        "Neighbours in different splits that are closer are reported.",
        minimum=0,
        identity=False,
    )
    structures: str = setting(
        "all",
        "all takes folders of any name and known classes; name more, or map: all,ribbon,er*=er.",
    )
    ignore: str = setting(
        NONE,
        "What is not annotated, and counts for nothing: names of classes or mask folders, values "
        "of label images, or unlabelled, which is all that has no label (docs/partial.md).",
        added=True,
    )
    raw_key: str = setting(AUTO, RAW_KEY)
    rows: str = setting(
        AUTO,
        "From which row of the image annotation counts: the first stored, the last (reversed), or "
        "auto by format and fit.",
        choices=(AUTO, "stored", "reversed"),
    )
    scale: str = setting(
        "none",
        "auto scales polygons of a COCO file that is about smaller or larger copies of the images.",
        choices=("none", AUTO),
    )
    margin_px: int = setting(
        64, "Margin in px around the annotated regions of a TrakEM2 project.", minimum=0
    )
    roots: str = setting(
        "none",
        "Further folders in which a project's images may lie, comma-separated.",
        identity=False,
    )
    add_to: str = setting(
        NONE,
        "Prepared dataset whose sections are kept, and to which those of input are added: as "
        "training sections, unless folders or splits say otherwise.",
        identity=False,
    )
    check: bool = setting(False, "Report on the data and write no dataset.", identity=False)
    overwrite: bool = setting(
        False, "Replace a prepared dataset of other content in output.", identity=False
    )


@dataclass(frozen=True)
class LabelsConfig(StepConfig):
    """Which labels a step is about: the settings of export and correct have them."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    run_id: str = setting(
        AUTO,
        "Whose labels: an evaluation's, what a search (optimize) or models:/NAME@ALIAS segments "
        "in the dataset, or segmentations (segment), comma-separated; auto or none: the dataset's "
        "annotation.",
    )
    input: str = setting(
        NONE,
        "Output folders of segment, comma-separated, in place of run_id.",
        identity=False,
    )
    split: str = setting(
        AUTO, "Split; auto is the run's, of annotation val.", choices=(AUTO, "train", "val", "test")
    )
    structure: str = setting(
        AUTO, "Structures of the annotation, comma-separated; auto takes the run's, or all."
    )
    device: str = setting(
        AUTO, "Where a search or registered model runs: auto, cpu, cuda or cuda:N."
    )


@dataclass(frozen=True)
class ExportConfig(LabelsConfig):
    """Settings of export."""

    format: str = setting(
        "trakem2",
        "What to write: a TrakEM2 project, an IMOD model, Pyto's label volume, Fiji ROIs, label "
        "images, OME-Zarr 0.4 or 0.5, Neuroglancer's precomputed volumes, or a data set of nnU-Net "
        "(of the annotation: all splits).",
        choices=(
            *("trakem2", "imod", "imod_spheres", "pyto", "rois", "tiff", "ome_zarr"),
            *("ome_zarr_05", "precomputed", "nnunet"),
        ),
    )
    output: str = setting("data/export", "New folder to write.", identity=False)


@dataclass(frozen=True)
class ExportModelConfig(StepConfig):
    """Settings of export_model."""

    structure: str = setting(
        AUTO, "Structure whose champion is written; auto: that of run_id, or the only champion."
    )
    run_id: str = setting(
        AUTO,
        "What is written: a search (optimize), training or evaluation, or models:/NAME@ALIAS; "
        "auto is the champion of the structure.",
    )
    member: str = setting(NONE, "One model of a combination, by its name; none: all of them.")
    augmentations: str = setting(
        AUTO,
        "Symmetries that are averaged within the model; auto follows the search or evaluation.",
        choices=(AUTO, *AUGMENTATION_CHOICES),
    )
    input: str = setting(
        NONE,
        "Image of which the middle is the test image; none: a validation section of the model's "
        "data set.",
        identity=False,
    )
    pixel_size_nm: float | None = setting(None, PIXEL_SIZE, minimum=0.01)
    name: str = setting(AUTO, "Name of the model; auto: structure and data set.", identity=False)
    authors: str = setting(
        AUTO,
        "Who made it: NAME (AFFILIATION), several with semicolons; auto is unknown.",
        identity=False,
    )
    cite: str = setting(
        NONE, "Works to cite: TEXT with a DOI, several with semicolons.", identity=False
    )
    licence: str = setting(
        NONE, "Licence of the model, an SPDX identifier such as CC-BY-4.0.", identity=False
    )
    check: bool = setting(
        True, "Test the model by bioimageio.core; false writes it untested.", identity=False
    )
    output: str = setting("data/model", "New folder to write.", identity=False)


@dataclass(frozen=True)
class CorrectConfig(LabelsConfig):
    """Settings of correct."""

    volume: str = setting(
        AUTO,
        "What is corrected: name of a volume or of a section; auto is the only volume, or all "
        "sections of one size.",
    )
    output: str = setting(
        "data/corrected", "New folder for the annotation, which prepare reads.", identity=False
    )


@dataclass(frozen=True)
class AnnotateConfig(StepConfig):
    """Settings of annotate."""

    run_id: str = setting(
        AUTO, "Run of microsam whose model answers clicks; auto: the published vit_b_em_organelles."
    )
    structure: str = setting(AUTO, "Structure that is annotated; auto is the model's.")
    input: str = setting(
        NONE, "Images, or a folder of them; none: the sections of dataset.", identity=False
    )
    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    split: str = setting(
        "train", "Split of the dataset; its annotation is shown.", choices=("train", "val", "test")
    )
    pixel_size_nm: float | None = setting(None, PIXEL_SIZE, minimum=0.01)
    output: str = setting(
        "data/annotated",
        "Folder for the annotation, which prepare reads; sections that are in it are left out.",
        identity=False,
    )
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")


@dataclass(frozen=True)
class PhantomModelsConfig(StepConfig):
    """Settings of the small source models of demo and tests."""

    dataset: str = setting("data/prepared", "Prepared dataset to train on.", identity=False)
    output: str = setting("data/phantom_models", "Folder to write.", identity=False)
    iterations: int = setting(100, "Training iterations of a U-Net.", minimum=1)
    lr: float = setting(2e-3, "Learning rate, falling to zero.", minimum=1e-8, maximum=1)
    features: int = setting(16, "Features of the U-Net's first level.", minimum=2, maximum=256)
    patch_px: int = setting(128, "Edge of a patch in px, a multiple of 16.", minimum=32)
    batch_size: int = setting(8, "Patches in a batch.", minimum=1)
    tile_px: int = setting(384, "Tile the network is applied to, without halo, in px.", minimum=16)
    halo_px: int = setting(64, "Halo around a tile in px.", minimum=0)
    sam_iterations: int = setting(100, "Training iterations of a SAM.", minimum=1)
    sam_lr: float = setting(2e-3, "Learning rate of a SAM.", minimum=1e-8, maximum=1)
    seed: int = setting(0, "Random seed.", minimum=0)
