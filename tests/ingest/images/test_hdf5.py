import random
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from bench.errors import BenchError
from bench.ingest.images import hdf5
from bench.ingest.images.hdf5 import list_arrays, read_header, read_offset, read_plane

VOLUME = np.random.default_rng(0).integers(0, 200, (5, 40, 50))
CHUNKED = {"chunks": (2, 16, 16), "compression": "gzip"}


def save(path: Path, *, attributes: dict | None = None, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for key, pixels in arrays.items():
            file.create_dataset(key, data=pixels).attrs.update(attributes or {})
    return path


def write(path: Path, fill: Callable[[h5py.File], object], **options: object) -> Path:
    with h5py.File(path, "w", **options) as file:
        fill(file)
    return path


@pytest.fixture
def cremi(tmp_path) -> Path:
    def fill(file: h5py.File) -> None:
        raw = file.create_dataset("volumes/raw", data=VOLUME.astype("u1"), **CHUNKED)
        raw.attrs["resolution"] = (40.0, 4.0, 4.0)
        ids = VOLUME[1:4].astype("u8")
        labels = file.create_dataset("volumes/labels/neuron_ids", data=ids, compression="lzf")
        labels.attrs.update(resolution=(40.0, 4.0, 4.0), offset=(40.0, 0.0, 8.0))
        file["annotations/locations"] = np.zeros((9, 3))
        file["annotations/ids"] = np.zeros(9)
        file["annotations/types"] = ["a", "b"]

    return write(tmp_path / "cremi.h5", fill)


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i4", ">f4", "f2", "f8", "bool"])
@pytest.mark.parametrize(
    "options", [{}, CHUNKED, {"chunks": True, "shuffle": True, "fletcher32": True}]
)
def test_depth_is_kept_and_byte_order_native(tmp_path, dtype, options):
    pixels = (VOLUME > 99 if dtype == "bool" else VOLUME).astype(dtype)
    path = write(tmp_path / "a.h5", lambda file: file.create_dataset("a", data=pixels, **options))
    for page in (0, 4):
        read = read_plane(path, page)
        assert read.dtype == np.dtype(dtype).newbyteorder("=")
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, pixels[page])


def test_szip(tmp_path):
    options = {"chunks": (1, 16, 16), "compression": "szip"}
    constant = np.repeat(VOLUME // 50, 2, axis=2).astype("u1")
    for name, pixels in {"a.h5": constant, "noise.h5": VOLUME.astype("u1")}.items():
        path = write(tmp_path / name, lambda f, p=pixels: f.create_dataset("a", data=p, **options))
        np.testing.assert_array_equal(read_plane(path, 3), pixels[3])


def test_only_the_chunks_of_a_section_are_read(tmp_path):
    path = write(tmp_path / "a.h5", lambda f: f.create_dataset("a", data=VOLUME, **CHUNKED))
    with h5py.File(path, "r") as file:
        stored = file["a"].id.get_chunk_info_by_coord((2, 0, 0))
    content = bytearray(path.read_bytes())
    content[stored.byte_offset : stored.byte_offset + stored.size] = bytes(stored.size)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_plane(path, 1), VOLUME[1])
    with pytest.raises(BenchError, match=r"a\.h5 must be a whole HDF5 file"):
        read_plane(path, 2)


def test_cremi_layout(cremi):
    header = read_header(cremi)
    assert (header.shape, header.pages) == ((40, 50), 5)
    assert (header.pixel_sides_nm, header.section_nm) == ((4, 4), 40)
    np.testing.assert_array_equal(read_plane(cremi, 4), VOLUME[4])
    assert list(list_arrays(cremi)) == ["volumes/labels/neuron_ids", "volumes/raw"]
    labels = list_arrays(cremi)["volumes/labels/neuron_ids"]
    assert (labels.shape, labels.pages, labels.section_nm) == ((40, 50), 3, 40)
    assert read_offset(cremi, "volumes/labels/neuron_ids") == (40, 0, 8)
    assert read_offset(cremi, "volumes/raw") == (0, 0, 0)


@pytest.mark.parametrize(
    ("attributes", "sides", "section"),
    [
        ({"resolution": (40, 8, 4)}, (8, 4), 40),
        ({"element_size_um": (0.04, 0.008, 0.004)}, (8, 4), 40),
        ({"voxel_size": np.array([40, 8, 4])}, (8, 4), 40),
        ({"voxel_size": (8, 4)}, (8, 4), None),
        ({"resolution": (0, 0, 0)}, None, None),
        ({"resolution": (np.nan, np.inf, 4)}, None, None),
        ({"resolution": "4 nm"}, None, None),
        ({"resolution": 4.0}, None, None),
        ({"resolution": np.full(100, 4.0)}, None, None),
        ({}, None, None),
    ],
)
def test_pixel_size(tmp_path, attributes, sides, section):
    header = read_header(save(tmp_path / "a.h5", a=VOLUME, attributes=attributes))
    assert header.pixel_sides_nm == (sides and pytest.approx(sides))
    assert header.section_nm == (section and pytest.approx(section))


@pytest.mark.parametrize(
    ("shape", "pages"),
    [((6, 7), 1), ((1, 6, 7), 1), ((5, 6, 7), 5), ((1, 5, 6, 7), 5), ((5, 6, 7, 1), 5),
     ((1, 1, 5, 6, 7), 5), ((5, 1, 6, 7), 5), ((6, 7, 1), 1), ((2, 6, 7), 2)],
)  # fmt: skip
def test_axes_of_one_element_are_left_out(tmp_path, shape, pages):
    pixels = np.arange(np.prod(shape)).reshape(shape)
    path = save(tmp_path / "a.h5", a=pixels)
    assert (read_header(path).shape, read_header(path).pages) == ((6, 7), pages)
    read = [read_plane(path, page) for page in range(pages)]
    np.testing.assert_array_equal(np.ravel(read), np.arange(pixels.size))


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (5, 6, 7, 3), (64, 64, 3), (9,), (2, 3, 4, 5, 6)])
def test_channels_are_refused(tmp_path, shape):
    path = save(tmp_path / "a.h5", a=np.zeros(shape, "u1"))
    with pytest.raises(
        BenchError, match=r"must be grey sections \(y, x\) or \(z, y, x\), received"
    ):
        read_plane(path, 0, "a")


def test_key_must_be_clear(tmp_path):
    path = save(tmp_path / "a.h5", **{"b": VOLUME, "c/d": VOLUME})
    with pytest.raises(BenchError, match="received no key and the arrays b, c/d: give its key"):
        read_header(path)
    with pytest.raises(BenchError, match="received key 'c' and the arrays b, c/d: give its key"):
        read_header(path, "c")
    with pytest.raises(BenchError, match="received key 'b/e' and the arrays b, c/d"):
        read_plane(path, 0, "b/e")
    np.testing.assert_array_equal(read_plane(path, 1, "/c/d"), VOLUME[1])
    with pytest.raises(BenchError, match=r"section must be 0 to 4 in .*, received 5"):
        read_plane(path, 5, "b")
    with pytest.raises(BenchError, match="must hold integers or real numbers"):
        read_plane(save(tmp_path / "b.h5", a=np.ones((5, 6), complex)), 0, "a")


def test_group_that_holds_itself(tmp_path):
    def fill(file: h5py.File) -> None:
        file["a/b"] = VOLUME
        file["a/again"] = file["a"]

    assert list(list_arrays(write(tmp_path / "a.h5", fill))) == ["a/b"]


def test_links_are_followed_within_the_file(tmp_path):
    save(tmp_path / "other.h5", a=VOLUME)

    def fill(file: h5py.File) -> None:
        file["a/b"] = VOLUME
        file["soft"] = h5py.SoftLink("/a")
        file["a/near"] = h5py.SoftLink("b")
        file["loop"] = h5py.SoftLink("loop")
        file["longer"] = h5py.SoftLink("longer/longer")
        file["away"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
        file["roundabout"] = h5py.SoftLink("away/a")

    path = write(tmp_path / "a.h5", fill)
    assert list(list_arrays(path)) == ["a/b"]
    for key in ("soft/b", "soft/near", "a/near"):
        np.testing.assert_array_equal(read_plane(path, 2, key), VOLUME[2])
    for key in ("loop", "longer"):
        with pytest.raises(BenchError, match="must lead to an array in 16 links or less"):
            read_plane(path, 0, key)
    for key in ("away/a", "roundabout", "away"):
        with pytest.raises(
            BenchError, match=r"must be stored in that file, received a link to '.*other"
        ):
            read_plane(path, 0, key)


def test_values_in_other_files_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(range(200)))
    save(tmp_path / "other.h5", a=VOLUME)
    layout = h5py.VirtualLayout((5, 40, 50), "i8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", VOLUME.shape)
    outside = [(str(tmp_path / "secret"), 0, 200)]
    virtual = write(tmp_path / "a.h5", lambda file: file.create_virtual_dataset("a", layout))
    external = write(
        tmp_path / "b.h5", lambda file: file.create_dataset("a", (10, 20), "u1", external=outside)
    )
    for path, what in ((virtual, "a view of other arrays"), (external, "values in '.*secret'")):
        for read in (lambda path: read_plane(path, 0), list_arrays):
            with pytest.raises(BenchError, match=f"stored in that file, received {what}"):
                read(path)


def test_foreign_and_repeated_filters_are_refused(tmp_path):
    def create(file: h5py.File, *filters: tuple) -> None:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((40, 50))
        for code, *options in filters:
            properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL, *options)
        space = h5py.h5s.create_simple((40, 50))
        h5py.h5d.create(file.id, b"a", h5py.h5t.NATIVE_UINT8, space, properties)

    gzip, shuffle = (h5py.h5z.FILTER_DEFLATE, (4,)), (h5py.h5z.FILTER_SHUFFLE, (1,))
    for number, filters in enumerate([[(32001, ())], [gzip, gzip], [gzip, shuffle]]):
        path = write(tmp_path / f"{number}.h5", lambda f, filters=filters: create(f, *filters))
        with pytest.raises(BenchError, match="must be compressed once, with gzip, lzf or szip"):
            read_plane(path, 0)
    path = write(tmp_path / "a.h5", lambda f: create(f, shuffle, gzip))
    assert read_plane(path, 0).shape == (40, 50)


@pytest.mark.parametrize(
    ("shape", "chunks", "message"),
    [
        ((10**9, 10**9), (100, 100), "must not decode to more than"),
        ((10**6, 100, 100), (1, 100, 100), "must have no more than 100000 sections"),
        ((4, 8000, 8000), (4, 1, 1), "in no more than 250000 chunks"),
        ((2**15, 2**12, 64), (2**15, 2**12, 64), "must not decode to more than"),
    ],
)
def test_absurd_shapes_are_refused(tmp_path, shape, chunks, message):
    path = write(tmp_path / "a.h5", lambda f: f.create_dataset("a", shape, "u1", chunks=chunks))
    with pytest.raises(BenchError, match=message):
        read_plane(path, 0)


@pytest.mark.parametrize("filters", [{}, {"shuffle": True, "fletcher32": True}])
def test_chunk_that_unpacks_to_more_than_it_should(tmp_path, monkeypatch, filters):
    monkeypatch.setattr(hdf5, "FREE_BYTES", 10**5)
    options = {"chunks": (20, 50), "compression": "gzip", **filters}
    pixels = VOLUME[0].astype("u1")

    def fill(file: h5py.File, content: bytes | None = None) -> None:
        dataset = file.create_dataset("a", data=pixels, **options)
        if content is not None:
            dataset.id.write_direct_chunk((20, 0), content)

    np.testing.assert_array_equal(read_plane(write(tmp_path / "a.h5", fill), 0), pixels)
    bomb = zlib.compress(bytes(10**6))
    path = write(tmp_path / "b.h5", lambda file: fill(file, bomb))
    with pytest.raises(
        BenchError, match=r"chunks of .* must unpack to 1004 bytes, received one that"
    ):
        read_plane(path, 0)


def test_other_files(tmp_path):
    (tmp_path / "a.h5").write_text("no HDF5")
    with pytest.raises(BenchError, match=r"a\.h5 must be a whole HDF5 file, received one that"):
        read_header(tmp_path / "a.h5")
    with pytest.raises(BenchError, match=r"b\.h5 must be readable, received 'No such file or dire"):
        read_header(tmp_path / "b.h5")


def test_damaged_files_are_read_or_refused_in_time(cremi, tmp_path):
    whole = cremi.read_bytes()
    used = np.flatnonzero(np.frombuffer(whole, "u1"))
    generator, refused, start = random.Random(0), [], time.process_time()
    for _ in range(100):
        cut = generator.choice([len(whole), len(whole), generator.randrange(len(whole))])
        content = bytearray(whole[:cut])
        for place in generator.choices(
            used[used < cut] if cut else [], k=generator.randrange(1, 9)
        ):
            content[place] = generator.choice([0, 1, 127, 255])
        path = tmp_path / "b.h5"
        path.write_bytes(content)
        try:
            header = read_header(path)
            assert read_plane(path, header.pages - 1).shape == header.shape
            for key in list_arrays(path):
                read_offset(path, key)
        except BenchError as error:
            refused.append(str(error))
    assert 20 < len(refused) < 100
    assert not [message for message in refused if "\n" in message]
    assert time.process_time() - start < 6
