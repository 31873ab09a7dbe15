"""OME-TIFF as Bio-Formats and Micro-Manager write it: https://docs.openmicroscopy.org/ome-model."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bench.errors import BenchError
from bench.ingest.images.images import read_header, read_section
from bench.ingest.images.planes import list_planes

VOLUME = np.random.default_rng(0).integers(0, 255, (6, 5, 7), dtype=np.uint8)
SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
NM = 'PhysicalSizeX="5" PhysicalSizeXUnit="nm" PhysicalSizeY="5" PhysicalSizeYUnit="nm"'


@dataclass(frozen=True)
class Block:
    """A TiffData: planes of a file, by the number of the file and its name."""

    file: int
    name: str
    plane: str = 'IFD="0" FirstZ="0" FirstC="0" FirstT="0" PlaneCount="1"'


def uuid_of(number: int) -> str:
    return f"urn:uuid:00000000-0000-0000-0000-{number:012}"


def describe(own: int | None, blocks: list[Block], sizes: str, more: str = "") -> str:
    uuid = "" if own is None else f' UUID="{uuid_of(own)}"'
    data = "".join(
        f'<TiffData {block.plane}><UUID FileName="{block.name}">{uuid_of(block.file)}</UUID>'
        "</TiffData>"
        for block in blocks
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{SCHEMA}"{uuid}><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" Type="uint8" SizeX="7" SizeY="5" {sizes} {more}>{data}</Pixels>'
        "</Image></OME>"
    )


def save(path: Path, pixels: np.ndarray, description: str, **options: object) -> Path:
    tifffile.imwrite(
        path, pixels, description=description, metadata=None, photometric="minisblack", **options
    )
    return path


def write_set(folder: Path, own: bool = True, names: str = "sec_{}.ome.tif") -> list[Path]:
    """A set of one section a file; its XML names sec_N.ome.tif whatever the files are called."""
    sizes = 'DimensionOrder="XYZCT" SizeZ="6" SizeC="1" SizeT="1"'
    blocks = [Block(n, f"sec_{n}.ome.tif", f'IFD="0" FirstZ="{n}"') for n in range(6)]
    return [
        save(
            folder / names.format(n),
            VOLUME[n],
            describe(n if own else None, blocks, sizes, NM + ' PhysicalSizeZ="0.05"'),
        )
        for n in range(6)
    ]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("names", ["sec_{}.ome.tif", "renamed_{}.ome.tif", "plain_{}.tif"])
def test_every_file_of_a_set_is_its_own_section(tmp_path, capsys, caplog, own, names):
    with caplog.at_level(logging.DEBUG):
        for path, section in zip(write_set(tmp_path, own, names), VOLUME, strict=True):
            header = read_header(path)
            assert (header.shape, header.pages, header.channels) == ((5, 7), 1, 1)
            assert header.pixel_sides_nm == (5, 5)
            assert header.section_nm == 50
            assert (header.notes, header.size_note) == ((), "")
            np.testing.assert_array_equal(read_section(path), section)
    assert "tifffile" not in {record.name for record in caplog.records}
    assert capsys.readouterr().err == ""


def test_a_set_is_the_input_of_segment(tmp_path):
    write_set(tmp_path)
    planes = list_planes(str(tmp_path), None)
    assert [plane.name for plane in planes] == [f"sec_{n}" for n in range(6)]
    for plane, section in zip(planes, VOLUME, strict=True):
        np.testing.assert_array_equal(plane.read(), section)
    (alone,) = list_planes(str(tmp_path / "sec_3.ome.tif"), None)
    np.testing.assert_array_equal(alone.read(), VOLUME[3])


def test_a_file_that_is_left_of_a_set_is_whole(tmp_path):
    for path in write_set(tmp_path):
        if path.name != "sec_4.ome.tif":
            path.unlink()
    np.testing.assert_array_equal(read_section(tmp_path / "sec_4.ome.tif"), VOLUME[4])


def test_each_file_of_a_set_may_be_a_stack(tmp_path):
    sizes = 'DimensionOrder="XYZCT" SizeZ="6" SizeC="1" SizeT="1"'
    blocks = [Block(n, f"{n}.ome.tif", f'FirstZ="{3 * n}" PlaneCount="3"') for n in (0, 1)]
    for number in (0, 1):
        path = tmp_path / f"{number}.ome.tif"
        stack = VOLUME[3 * number : 3 * number + 3]
        save(path, stack, describe(number, blocks, sizes))
        assert read_header(path).pages == 3
        for page in range(3):
            np.testing.assert_array_equal(read_section(path, page), stack[page])


def test_planes_are_in_the_order_of_the_sections(tmp_path):
    """Stored from the last to the first, as a stage that goes down does it."""
    sizes = 'DimensionOrder="XYZCT" SizeZ="6" SizeC="1" SizeT="1"'
    blocks = [Block(0, "a.ome.tif", f'IFD="{n}" FirstZ="{5 - n}"') for n in range(6)]
    path = save(tmp_path / "a.ome.tif", VOLUME[::-1], describe(0, blocks, sizes))
    for page in range(6):
        np.testing.assert_array_equal(read_section(path, page), VOLUME[page])


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"bigtiff": True}])
@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
def test_a_stack_in_one_file(tmp_path, axes, options):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": axes, "PhysicalSizeX": 5, "PhysicalSizeY": 5, "PhysicalSizeZ": 50}
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"}
    photometric = {"photometric": "minisblack"}
    tifffile.imwrite(path, VOLUME, ome=True, metadata=metadata | units, **photometric, **options)
    for renamed in (path, path.rename(tmp_path / "b.tif")):
        if not renamed.exists():
            continue
        header = read_header(renamed)
        assert (header.pages, header.channels, header.notes) == (6, 1, ())
        assert header.pixel_sides_nm == (5, 5)
        assert header.section_nm == (50 if axes == "ZYX" else None)
        for page in range(6):
            np.testing.assert_array_equal(read_section(renamed, page), VOLUME[page])


def test_a_stack_that_is_called_a_part_of_a_set_but_is_all_of_it(tmp_path):
    """The XML names six files, all planes lie in the first."""
    sizes = 'DimensionOrder="XYZCT" SizeZ="6" SizeC="1" SizeT="1"'
    blocks = [Block(n, f"sec_{n}.ome.tif", f'IFD="0" FirstZ="{n}"') for n in range(6)]
    path = save(tmp_path / "sec_0.ome.tif", VOLUME, describe(0, blocks, sizes))
    header = read_header(path)
    assert header.pages == 6
    assert header.notes == (
        "its OME-XML tells of 1 of its 6 pages: all are taken, in the order stored",
    )
    np.testing.assert_array_equal(read_section(path, 5), VOLUME[5])


def test_a_stack_that_was_cut_short_says_so(tmp_path):
    sizes = 'DimensionOrder="XYZCT" SizeZ="9" SizeC="1" SizeT="1"'
    path = save(tmp_path / "a.ome.tif", VOLUME, describe(0, [Block(0, "a.ome.tif", "")], sizes))
    header = read_header(path)
    assert header.pages == 6
    assert "tells of 9 planes and it holds 6" in header.notes[0]


def test_pages_that_are_named_over_and_over_are_an_error(tmp_path):
    sizes = 'DimensionOrder="XYZCT" SizeZ="6" SizeC="1" SizeT="1"'
    text = describe(0, [Block(0, "a.ome.tif", "")] * 200, sizes)
    with pytest.raises(BenchError, match="names pages many times over"):
        read_header(save(tmp_path / "a.ome.tif", VOLUME, text))


def test_reduced_copies_are_no_sections(tmp_path):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        options = {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}
        file.write(np.kron(VOLUME, np.ones((1, 4, 4), np.uint8)), subifds=1, **options)
        file.write(np.kron(VOLUME, np.ones((1, 2, 2), np.uint8)), subfiletype=1)
    header = read_header(path)
    assert (header.shape, header.pages) == ((20, 28), 6)
    np.testing.assert_array_equal(read_section(path, 2)[::4, ::4], VOLUME[2])


def pointer(number: int, to: str) -> str:
    return (
        f'<OME xmlns="{SCHEMA}" UUID="{uuid_of(number)}">'
        f'<BinaryOnly MetadataFile="{to}" UUID="{uuid_of(9)}"/></OME>'
    )


def test_metadata_in_a_companion(tmp_path):
    """All planes of a file are sections without it, and their size is then unknown."""
    sizes = 'DimensionOrder="XYZCT" SizeZ="6" SizeC="1" SizeT="1"'
    blocks = [Block(n, f"{n}.ome.tif", f'FirstZ="{3 * n}" PlaneCount="3"') for n in (0, 1)]
    for number in (0, 1):
        stack = VOLUME[3 * number : 3 * number + 3]
        save(tmp_path / f"{number}.ome.tif", stack, pointer(number, "set.companion.ome"))
    assert read_header(tmp_path / "1.ome.tif").pages == 3
    assert read_header(tmp_path / "1.ome.tif").pixel_sides_nm is None
    (tmp_path / "set.companion.ome").write_text(describe(9, blocks, sizes, NM))
    for number in (0, 1):
        path = (tmp_path / f"{number}.ome.tif").rename(tmp_path / f"s{number}.ome.tif")
        assert read_header(path).pixel_sides_nm == (5, 5)
        np.testing.assert_array_equal(read_section(path, 2), VOLUME[3 * number + 2])
    assert len(list_planes(str(tmp_path), None)) == 6


def test_metadata_in_the_first_file_of_a_set(tmp_path):
    sizes = 'DimensionOrder="XYZCT" SizeZ="2" SizeC="1" SizeT="1"'
    blocks = [Block(n, f"{n}.ome.tif", f'IFD="0" FirstZ="{n}"') for n in (0, 1)]
    save(tmp_path / "0.ome.tif", VOLUME[0], describe(0, blocks, sizes, NM))
    path = save(tmp_path / "1.ome.tif", VOLUME[1], pointer(1, "0.ome.tif"))
    assert read_header(path).pixel_sides_nm == (5, 5)
    np.testing.assert_array_equal(read_section(path), VOLUME[1])


def test_channels_of_one_section_are_not_sections_unseen(tmp_path):
    path = tmp_path / "a.ome.tif"
    options = {"ome": True, "photometric": "minisblack"}
    tifffile.imwrite(path, VOLUME[:2], metadata={"axes": "CYX"}, **options)
    header = read_header(path)
    assert (header.pages, header.channels, header.section_nm) == (2, 2, None)
    assert "calls its 2 pages channels" in header.notes[0]
    tifffile.imwrite(path, VOLUME.reshape(3, 2, 5, 7), metadata={"axes": "ZCYX"}, **options)
    with pytest.raises(BenchError, match="received 2 channels, 3 sections and 1 time points: save"):
        read_header(path)


def test_a_file_of_one_channel_says_which(tmp_path):
    sizes = 'DimensionOrder="XYZCT" SizeZ="3" SizeC="2" SizeT="1"'
    blocks = [Block(n, f"c{n}.ome.tif", f'FirstC="{n}" PlaneCount="3"') for n in (0, 1)]
    path = save(tmp_path / "c1.ome.tif", VOLUME[3:], describe(1, blocks, sizes))
    header = read_header(path)
    assert (header.pages, header.channels) == (3, 1)
    assert header.notes == ("is channel 2 of the 2 of its OME-XML",)


def test_colours_are_no_channels(tmp_path):
    path = tmp_path / "a.ome.tif"
    grey = np.repeat(VOLUME[0][..., None], 3, axis=-1)
    tifffile.imwrite(path, grey, ome=True, photometric="rgb", metadata={"axes": "YXS"})
    assert (read_header(path).pages, read_header(path).channels) == (1, 1)
    np.testing.assert_array_equal(read_section(path), VOLUME[0])


@pytest.mark.parametrize("second", [VOLUME[3:], VOLUME[3:, :4]])
def test_several_images_in_a_file_are_an_error(tmp_path, second):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(VOLUME[:3], photometric="minisblack", metadata={"axes": "ZYX"})
        file.write(second, photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(BenchError, match="must be of one image, received 2 images in its OME-XML"):
        read_header(path)


def test_a_position_a_file_is_an_image_each(tmp_path):
    """Micro-Manager describes every position in each file, and stores one."""
    one = describe(0, [Block(0, "p0.ome.tif", 'IFD="0"')], 'SizeZ="1" SizeC="1" SizeT="1"')
    two = describe(0, [Block(1, "p1.ome.tif", 'IFD="0"')], 'SizeZ="1" SizeC="1" SizeT="1"', NM)
    both = one.replace("</OME>", two[two.index("<Image") :])
    path = save(tmp_path / "p1.ome.tif", VOLUME[1], both.replace(uuid_of(0), uuid_of(1), 1))
    assert read_header(path).pixel_sides_nm == (5, 5)
    np.testing.assert_array_equal(read_section(path), VOLUME[1])


@pytest.mark.parametrize(
    "text", ["<OME", "<OME></OME>", "<!DOCTYPE a [<!ENTITY b 'c'>]><OME>&b;</OME>"]
)
def test_xml_that_says_nothing_leaves_the_pages(tmp_path, text):
    path = save(tmp_path / "a.ome.tif", VOLUME, text + " " * (not text.endswith("OME>")))
    assert read_header(path).pages == 6
    np.testing.assert_array_equal(read_section(path, 4), VOLUME[4])


@pytest.mark.parametrize(
    ("x", "y", "z", "unit", "expected"),
    [
        ("0.005", "0.005", "0.05", "", (5, 5, 50)),
        ("0.005", "0.01", "0.05", "\u00b5m", (10, 5, 50)),
        ("0.005", "0.005", "0.05", "\u03bcm", (5, 5, 50)),
        ("0.005", "0.005", "0.05", "um", (5, 5, 50)),
        ("5", "5", "50", "nm", (5, 5, 50)),
        ("50", "50", "500", "\u00c5", (5, 5, 50)),
        ("5000", "5000", "50000", "pm", (5, 5, 50)),
        ("5e-6", "5e-6", "5e-5", "mm", (5, 5, 50)),
        ("5e-7", "5e-7", "5e-6", "cm", (5, 5, 50)),
        ("5e-9", "5e-9", "5e-8", "m", (5, 5, 50)),
        ("5e-12", "5e-12", "5e-11", "km", (5, 5, 50)),
        ("1", "1", "1", "in", (None, None, None)),
        ("5e-6", "5e-6", "5e-5", "Mm", (None, None, None)),
        ("5", "5", "5", "pixel", (None, None, None)),
        ("5", "5", "5", "reference frame", (None, None, None)),
        ("0", "0", "0", "nm", (None, None, None)),
        ("nan", "5", "x", "nm", (None, None, None)),
        ("5", "5", "-50", "nm", (5, 5, None)),
    ],
)
def test_physical_sizes(tmp_path, x, y, z, unit, expected):
    sizes = 'DimensionOrder="XYZCT" SizeZ="6" SizeC="1" SizeT="1"'
    more = "".join(
        f'PhysicalSize{axis}="{size}" ' + (f'PhysicalSize{axis}Unit="{unit}" ' if unit else "")
        for axis, size in zip("XYZ", (x, y, z), strict=True)
    )
    text = describe(0, [Block(0, "a.ome.tif", "")], sizes, more)
    # An XML of another encoding than ASCII is stored in UTF-8.
    path = save(tmp_path / "a.ome.tif", VOLUME, text.encode())
    header = read_header(path)
    assert header.pixel_sides_nm == (None if expected[0] is None else expected[:2])
    assert header.section_nm == expected[2]


def test_ome_xml_goes_before_the_resolution_tag_and_says_so(tmp_path):
    sizes = 'DimensionOrder="XYZCT" SizeZ="1" SizeC="1" SizeT="1"'
    text = describe(0, [Block(0, "a.ome.tif")], sizes, NM)
    tag = {"resolution": (1e6, 1e6), "resolutionunit": "CENTIMETER"}
    header = read_header(save(tmp_path / "a.ome.tif", VOLUME[0], text, **tag))
    assert header.pixel_sides_nm == (5, 5)
    assert "states 5 nm per pixel in its OME-XML and 10 nm in its resolution" in header.size_note
    for agreeing in ((2e6, 2e6), (72, 72)):
        tag["resolution"] = agreeing
        assert read_header(save(tmp_path / "a.ome.tif", VOLUME[0], text, **tag)).size_note == ""


def test_a_size_that_no_micrograph_has_is_told(tmp_path):
    sizes = 'DimensionOrder="XYZCT" SizeZ="1" SizeC="1" SizeT="1"'
    text = describe(0, [Block(0, "a.ome.tif")], sizes, 'PhysicalSizeX="5" PhysicalSizeY="5"')
    header = read_header(save(tmp_path / "a.ome.tif", VOLUME[0], text))
    assert header.pixel_sides_nm is None
    assert header.size_note.startswith("states 5000 nm per pixel, which no electron micrograph has")
