"""What a public data set is: its files, which of them are what, and the published split."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# A series that was published for one split.
TRAIN: Mapping[str, float] = {"train": 1.0}
VAL: Mapping[str, float] = {"val": 1.0}
TEST: Mapping[str, float] = {"test": 1.0}
# A training part of which nobody published what validates: the last fifth does.
TRAIN_AND_VAL: Mapping[str, float] = {"train": 0.8, "val": 0.2}


@dataclass(frozen=True)
class PublicFile:
    """A file as it is published.

    Attributes:
        name: Its name here. What is in an archive lies in a folder of that name without ending.
        sha256: Of the file; None where nobody whose word we have says it.
        addresses: Where it is fetched from, the first that answers; none if a browser is needed.
        page: Where a person finds it, if not at the addresses.
        firm: Whether the hash stays; GitHub packs a branch anew when it is asked for.
    """

    name: str
    sha256: str | None = None
    addresses: tuple[str, ...] = ()
    page: str = ""
    firm: bool = True

    @property
    def is_archive(self) -> bool:
        """Whether it is unpacked before it is read."""
        return self.name.endswith(".zip")

    @property
    def folder(self) -> str:
        """The folder that an archive's content lies in."""
        return self.name.removesuffix(".zip")


@dataclass(frozen=True)
class PublicLabels:
    """The labels of a structure in a series.

    Attributes:
        files: Their files, a pattern relative to the data set's folder.
        key: The array in them, in a container of several.
        values: The values that are the structure; none where all but 0 are.
        above: Pixels above it are the structure, in masks whose rims are smoothed; None elsewhere.
        ids: Whether values number objects.
        nothing: Values other than 0 that are not the structure.
        doubtful: What some of these mean that is no background, by the value as it is told.
    """

    files: str
    key: str = ""
    values: tuple[int, ...] = ()
    above: int | None = None
    ids: bool = False
    nothing: tuple[int, ...] = ()
    doubtful: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PublicSeries:
    """A volume, a series of sections, or images that stand for themselves.

    Attributes:
        name: Its name.
        raw: Its raw images, a pattern relative to the data set's folder: one stack, or a file a
            section, which goes with the labels of its number.
        labels: Its labels by structure.
        shares: What part of it is of which split, as blocks in this order.
        key: The raw array, in a container of several.
        first_row: The row that it begins with; of those above data lack in places.
        partly: Whether only some of the raw images have labels; the others are left out.
        ordered: Whether neighbours in it are neighbours in tissue.
    """

    name: str
    raw: str
    labels: Mapping[str, PublicLabels]
    shares: Mapping[str, float]
    key: str = ""
    first_row: int = 0
    partly: bool = False
    ordered: bool = True


@dataclass(frozen=True)
class Edition:
    """One of the forms in which a data set is published.

    Attributes:
        files: Its files.
        series: What is in them.
        unlabelled: Further images without labels, a pattern; empty where there are none.
    """

    files: tuple[PublicFile, ...]
    series: tuple[PublicSeries, ...]
    unlabelled: str = ""


@dataclass(frozen=True)
class PublicDataset:
    """A row of DATASETS.

    Attributes:
        name: What follows ``dataset:``.
        title: What it shows.
        citation: What to cite.
        licence: Its terms, as far as they are stated.
        commercial: Whether they allow commercial use; None where they do not say.
        voxel_nm: Edges of a voxel along z, y, x; of images that stand for themselves y and x
            count. None where they are not known for sure.
        extent: How large it is, for readers.
        volumes: Whether its published use is that of volumes, else of sections.
        split: The published split, and what is ours of it.
        editions: Its forms, the one that is fetched first.
        apart: Whether each structure is annotated in images of its own.
        notes: What to know of it: traps, and what was not verified.
        home: The folder of its files in the cache, if another row has some of them; else empty.
    """

    name: str
    title: str
    citation: str
    licence: str
    commercial: bool | None
    voxel_nm: tuple[float, float, float] | None
    extent: str
    volumes: bool
    split: str
    editions: tuple[Edition, ...]
    apart: bool = False
    notes: tuple[str, ...] = ()
    home: str = ""

    @property
    def structures(self) -> tuple[str, ...]:
        """Its structures, in the order of its row."""
        series = self.editions[0].series
        return tuple(dict.fromkeys(name for each in series for name in each.labels))
