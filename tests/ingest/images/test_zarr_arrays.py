import json
import random
import shutil
import time
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from bench.errors import BenchError
from bench.ingest.images import zarr_arrays
from bench.ingest.images.zarr_arrays import (
    choose_level,
    list_arrays,
    read_header,
    read_offset,
    read_plane,
)
from bench.ingest.images.zarr_metadata import LARGEST_METADATA

VOLUME = np.random.default_rng(0).integers(0, 200, (5, 40, 50))
V2 = [
    None,
    numcodecs.Blosc(),
    numcodecs.Zlib(),
    numcodecs.GZip(),
    numcodecs.Zstd(),
    numcodecs.LZ4(),
]
V3 = [None, BloscCodec(), GzipCodec(), ZstdCodec()]
CHUNKS = (2, 16, 16)


def save(path: Path, pixels: np.ndarray, key: str = "", **options: object) -> Path:
    options = {"chunks": CHUNKS, **options} if pixels.ndim == 3 else options
    array = zarr.create_array(
        path, name=key or None, shape=pixels.shape, dtype=pixels.dtype, **options
    )
    array[...] = pixels
    return path


def patch(path: Path, **fields: object) -> Path:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | fields))
    return path


def multiscales(
    levels: dict[str, float], unit: str | None = "nanometer", zoom: float = 1.0
) -> list:
    named = {"unit": unit} if unit else {}
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", **named} for name in "zyx"]
    return [
        {
            "axes": axes,
            "datasets": [
                {
                    "path": path,
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [1, 40, side, side]},
                        {"type": "translation", "translation": [0, 80, side / 2, side / 2]},
                    ],
                }
                for path, side in levels.items()
            ],
            "coordinateTransformations": [{"type": "scale", "scale": [1, 1, zoom, zoom]}],
        }
    ]


def write_image(group: zarr.Group, image: list, pixels: np.ndarray) -> None:
    if group.metadata.zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": image}
    else:
        group.attrs["multiscales"] = image
    for number, dataset in enumerate(image[0]["datasets"]):
        level = pixels[None, :, :: 2**number, :: 2**number]
        array = group.create_array(
            dataset["path"], shape=level.shape, dtype=level.dtype, chunks=(1, *CHUNKS)
        )
        array[...] = level


@pytest.fixture(params=[2, 3])
def ome(tmp_path, request) -> Path:
    root = zarr.open_group(tmp_path / "a.ome.zarr", mode="w", zarr_format=request.param)
    write_image(root, multiscales({"0": 4, "1": 8, "2": 16}), VOLUME.astype("u1"))
    mito = root.create_group("labels/mito")
    write_image(mito, multiscales({"0": 8, "s1": 16}), VOLUME[:, ::2, ::2].astype("u4"))
    return tmp_path / "a.ome.zarr"


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i4", ">f4", "f2", "f8", "bool"])
@pytest.mark.parametrize("version", [2, 3])
def test_depth_is_kept_and_byte_order_native(tmp_path, dtype, version):
    pixels = (VOLUME > 99 if dtype == "bool" else VOLUME).astype(dtype)
    path = save(tmp_path / "a.zarr", pixels, zarr_format=version)
    for page in (0, 4):
        read = read_plane(path, page)
        assert read.dtype == np.dtype(dtype).newbyteorder("=")
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, pixels[page])


@pytest.mark.parametrize("compressor", V2)
@pytest.mark.parametrize("separator", [".", "/"])
def test_chunks_of_version_2(tmp_path, compressor, separator):
    path = save(
        tmp_path / "a.zarr",
        VOLUME,
        zarr_format=2,
        compressors=compressor,
        chunk_key_encoding={"name": "v2", "separator": separator},
        order="F",
    )
    np.testing.assert_array_equal(read_plane(path, 3), VOLUME[3])


@pytest.mark.parametrize("compressor", V3)
@pytest.mark.parametrize("shards", [None, (4, 32, 32)])
@pytest.mark.parametrize(
    "names", [{"name": "default", "separator": "."}, {"name": "v2", "separator": "/"}, None]
)
def test_chunks_of_version_3(tmp_path, compressor, shards, names):
    options = {"compressors": compressor, "shards": shards, "chunk_key_encoding": names}
    path = save(tmp_path / "a.zarr", VOLUME, **options)
    np.testing.assert_array_equal(read_plane(path, 3), VOLUME[3])


def test_chunk_without_a_file_is_empty(tmp_path):
    pixels = VOLUME.copy()
    pixels[:, 16:32, :16] = 7
    path = save(tmp_path / "a.zarr", pixels, fill_value=7)
    assert not (path / "c" / "0" / "1" / "0").exists()
    np.testing.assert_array_equal(read_plane(path, 0), pixels[0])


def test_only_the_chunks_of_a_section_are_read_in_bands(tmp_path, monkeypatch):
    path = save(tmp_path / "a.zarr", VOLUME)
    for file in (path / "c" / "1").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    # A row of chunks takes 2 x 16 x 64 x 8 bytes.
    monkeypatch.setattr(zarr_arrays, "FREE_BYTES", 20_000)
    np.testing.assert_array_equal(read_plane(path, 1), VOLUME[1])
    with pytest.raises(BenchError, match=r"a\.zarr must be a whole Zarr folder"):
        read_plane(path, 2)


def test_levels_and_labels_of_an_image(ome):
    headers = list_arrays(ome)
    assert list(headers) == ["0", "1", "2", "labels/mito/0", "labels/mito/s1"]
    assert [header.pixel_sides_nm[0] for header in headers.values()] == [4, 8, 16, 8, 16]
    assert {header.section_nm for header in headers.values()} == {40}
    assert (headers["1"].shape, headers["1"].pages) == ((20, 25), 5)
    assert read_offset(ome, "1") == (80, 4, 4)
    np.testing.assert_array_equal(read_plane(ome, 2), VOLUME[2])
    np.testing.assert_array_equal(read_plane(ome, 2, "1"), VOLUME[2, ::2, ::2])
    np.testing.assert_array_equal(read_plane(ome, 2, "labels/mito"), VOLUME[2, ::2, ::2])


@pytest.mark.parametrize(
    ("size", "key"),
    [(None, "0"), (1, "0"), (5.6, "0"), (5.7, "1"), (9, "1"), (1e6, "2"), (32**0.5, "0")],
)
def test_level_is_the_nearest_by_ratio(ome, size, key):
    assert choose_level(ome, size) == key


def test_level_of_labels(ome):
    assert choose_level(ome, None, "labels/mito") == "labels/mito/0"
    assert choose_level(ome, 20, "labels/mito") == "labels/mito/s1"
    assert choose_level(ome, 20, "labels") == "labels/mito/s1"
    assert choose_level(ome, 20, "labels/mito/0") == "labels/mito/0"


@pytest.mark.parametrize(
    ("unit", "zoom", "expected"),
    [
        ("micrometer", 1, 4),
        ("nanometer", 1, None),  # 0.004 nm is no pixel
        ("nanometer", 1000, 4),
        ("angstrom", 1000, 0.4),
        ("parsec", 1, None),
        (None, 1, None),
    ],
)
def test_units_and_scale_of_all_levels(tmp_path, unit, zoom, expected):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    write_image(root, multiscales({"0": 0.004}, unit, zoom), VOLUME)
    sides = read_header(tmp_path / "a.zarr").pixel_sides_nm
    assert sides == (expected and pytest.approx((expected, expected)))


def test_finest_level_where_units_are_unknown_or_the_order_is_odd(tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    write_image(root, multiscales({"coarse": 8, "fine": 4}, unit=None), VOLUME)
    assert choose_level(tmp_path / "a.zarr", 100) == "fine"
    assert choose_level(tmp_path / "a.zarr", None) == "fine"


def test_missing_level_is_not_chosen(ome):
    shutil.rmtree(ome / "0")
    assert choose_level(ome, None) == "1"


def test_image_in_a_group_below(tmp_path):
    # As bioformats2raw writes it.
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    write_image(root.create_group("0"), multiscales({"0": 4, "1": 8}), VOLUME)
    assert choose_level(tmp_path / "a.zarr", 8) == "0/1"
    assert read_header(tmp_path / "a.zarr").pixel_sides_nm == (4, 4)
    write_image(root.create_group("1"), multiscales({"0": 4, "1": 8}), VOLUME)
    with pytest.raises(
        BenchError, match=r"must name one array .* received no key and the arrays 0/0"
    ):
        choose_level(tmp_path / "a.zarr", 8)


def test_other_channels_are_refused(tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    write_image(root, multiscales({"0": 4}), VOLUME)
    array = root.create_array("two", shape=(2, 5, 40, 50), dtype="u1")
    array[...] = 1
    patch(tmp_path / "a.zarr" / "0" / "zarr.json", shape=[2, 5, 40, 50])
    with pytest.raises(BenchError, match=r"must be grey sections .* a single channel and time"):
        read_plane(tmp_path / "a.zarr", 0, "two")
    with pytest.raises(BenchError, match=r"received 2 channels: name the one .* raw_key=0:0"):
        read_plane(tmp_path / "a.zarr", 0, "0")


def test_plain_arrays(tmp_path):
    path = save(tmp_path / "a.zarr", VOLUME, "volumes/raw", attributes={"resolution": [40, 4, 4]})
    assert choose_level(path, None) == "volumes/raw"
    save(path, VOLUME[:2], "volumes/labels/mito", attributes={"offset": [40, 0, 8]})
    save(path, np.zeros((9, 3)), "points")
    assert list(list_arrays(path)) == ["volumes/labels/mito", "volumes/raw"]
    header = read_header(path)
    assert (header.shape, header.pages) == ((40, 50), 5)
    assert (header.pixel_sides_nm, header.section_nm) == ((4, 4), 40)
    assert read_offset(path, "volumes/labels/mito") == (40, 0, 8)
    assert read_offset(path, "volumes/raw") == (0, 0, 0)
    with pytest.raises(BenchError, match="received key 'nope' and the arrays volumes/labels/mito"):
        read_header(path, "nope")
    with pytest.raises(BenchError, match="section must be 0 to 1"):
        read_plane(path, 2, "volumes/labels/mito")


def test_strings_beside_do_not_disturb(tmp_path):
    path = save(tmp_path / "a.zarr", VOLUME, "raw", zarr_format=2)
    save(path, VOLUME, "names", zarr_format=2)
    patch(path / "names" / ".zarray", dtype="|O", filters=[{"id": "pickle"}])
    assert list(list_arrays(path)) == ["raw"]
    np.testing.assert_array_equal(read_plane(path, 0), VOLUME[0])


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "|O"},
        {"dtype": "|O", "filters": [{"id": "pickle"}]},
        {"filters": [{"id": "pickle"}]},
        {"filters": [{"id": "delta", "dtype": "<i8"}]},
        {"compressor": {"id": "bz2"}},
        {"dtype": [["a", "<i4"]]},
        {"dtype": "<U5"},
        {"dtype": "<c16"},
    ],
)
def test_what_only_other_code_decodes_is_refused_in_version_2(tmp_path, fields):
    path = save(tmp_path / "a.zarr", VOLUME, zarr_format=2)
    patch(path / ".zarray", **fields)
    for read in (lambda path: read_plane(path, 0), read_header):
        with pytest.raises(
            BenchError, match="must hold numbers, compressed with one of blosc, gzip"
        ):
            read(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"data_type": "string"},
        {"data_type": {"name": "numpy.datetime64"}},
        {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]},
        {"codecs": [{"name": "bytes"}, {"name": "gzip"}, {"name": "gzip"}]},
        {"codecs": [{"name": "vlen-utf8"}]},
    ],
)
def test_what_only_other_code_decodes_is_refused_in_version_3(tmp_path, fields):
    path = save(tmp_path / "a.zarr", VOLUME)
    patch(path / "zarr.json", **fields)
    with pytest.raises(BenchError, match="must hold numbers, compressed with one of blosc, gzip"):
        read_plane(path, 0)


def test_links_out_of_the_folder_are_refused(tmp_path):
    elsewhere = save(tmp_path / "b.zarr", VOLUME)
    chunk = save(tmp_path / "chunk.zarr", VOLUME)
    (chunk / "c/0/0/0").unlink()
    (chunk / "c/0/0/0").symlink_to(elsewhere / "c/0/0/0")
    metadata = save(tmp_path / "metadata.zarr", VOLUME)
    (metadata / "zarr.json").unlink()
    (metadata / "zarr.json").symlink_to(elsewhere / "zarr.json")
    zarr.open_group(tmp_path / "array.zarr", mode="w")
    (tmp_path / "array.zarr" / "raw").symlink_to(elsewhere)
    for path in (chunk, metadata, tmp_path / "array.zarr"):
        with pytest.raises(BenchError, match="may only name files in"):
            read_plane(path, 0)
    for key in ("../b.zarr", "raw", "raw/x"):
        with pytest.raises(BenchError, match="may only name files in"):
            read_plane(tmp_path / "array.zarr", 0, key)
    # Within the folder, and to the folder itself, links are fine.
    inner = save(tmp_path / "inner.zarr", VOLUME, "a")
    (inner / "again").symlink_to(inner)
    (inner / "same").symlink_to(inner / "a")
    (tmp_path / "link.zarr").symlink_to(inner)
    assert len(list_arrays(tmp_path / "link.zarr")) == 1
    np.testing.assert_array_equal(read_plane(tmp_path / "link.zarr", 0, "same"), VOLUME[0])


@pytest.mark.parametrize(
    ("shape", "chunks", "message"),
    [
        ([10**9, 10**9], [100, 100], "in no more than 250000 chunks"),
        ([10**9, 10**9], [10**7, 10**7], "must not decode to more than"),
        ([10**6, 100, 100], [1, 100, 100], "must have no more than 100000 sections"),
        ([4, 100, 100], [2**20, 2**10, 2**10], "must not decode to more than"),
        ([4, 100, 100], [1, 0, 1], "must be a whole Zarr folder"),
        ([4, -1, 100], [1, 1, 1], "must be a whole Zarr folder"),
        ([4, 1.5, 100], [1, 1, 1], "must be a whole Zarr folder"),
        ([4, 100], [1, 1, 1], "must be a whole Zarr folder"),
        ([1] * 60, [1] * 60, "must be a whole Zarr folder"),
    ],
)
def test_absurd_shapes_are_refused(tmp_path, shape, chunks, message):
    path = save(tmp_path / "a.zarr", VOLUME, zarr_format=2)
    patch(path / ".zarray", shape=shape, chunks=chunks)
    with pytest.raises(BenchError, match=message):
        read_plane(path, 0)


@pytest.mark.parametrize("compressor", V2[1:])
def test_chunk_that_unpacks_to_more_than_it_should(tmp_path, monkeypatch, compressor):
    monkeypatch.setattr("bench.ingest.images.chunks.FREE_BYTES", 10**6)
    path = save(tmp_path / "a.zarr", VOLUME, zarr_format=2, compressors=compressor)
    (path / "0.0.0").write_bytes(compressor.encode(bytes(2 * 10**6)))
    with pytest.raises(
        BenchError, match=r"chunks of .* must unpack to 4096 bytes, received one that"
    ):
        read_plane(path, 0)


def test_chunk_of_a_shard_that_unpacks_to_more_than_it_should(tmp_path):
    path = save(tmp_path / "a.zarr", VOLUME, shards=(4, 32, 32), compressors=BloscCodec())
    content = bytearray((path / "c/0/0/0").read_bytes())
    content[4:8] = b"\0\0\0\x70"
    (path / "c/0/0/0").write_bytes(content)
    with pytest.raises(
        BenchError, match=r"chunks of .* must unpack to 4096 bytes, received one that"
    ):
        read_plane(path, 0)


def test_other_folders(tmp_path):
    for name in ("nothing.zarr", "empty.zarr"):
        if name == "empty.zarr":
            (tmp_path / name).mkdir()
        with pytest.raises(BenchError, match=rf"{name}"):
            read_header(tmp_path / name)
    path = save(tmp_path / "a.zarr", VOLUME)
    (path / "zarr.json").write_text("[" * 100_000)
    with pytest.raises(BenchError, match="must be a whole Zarr folder"):
        read_header(path)
    (path / "zarr.json").write_bytes(b" " * (LARGEST_METADATA + 1))
    with pytest.raises(BenchError, match=r"metadata of .* must have no more than 16 MB"):
        read_header(path)


def test_too_many_or_too_deep_folders(tmp_path, monkeypatch):
    zarr.open_group(tmp_path / "deep.zarr", mode="w")
    (tmp_path / "deep.zarr" / "/".join("a" * 40)).mkdir(parents=True)
    path = save(tmp_path / "wide.zarr", VOLUME, "a")
    monkeypatch.setattr("bench.ingest.images.keys.MOST_FOLDERS", 9)
    assert list(list_arrays(path)) == ["a"]  # chunks do not count
    for number in range(9):
        (path / f"group{number}").mkdir()
    for name in ("deep.zarr", "wide.zarr"):
        with pytest.raises(BenchError, match="must hold no more than 9 folders beside chunks"):
            list_arrays(tmp_path / name)


def damage(generator: random.Random, file: Path) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(generator.randrange(1, 5)):
        place = generator.randrange(len(content) + 1)
        new = generator.choice([b"", b"9" * 9, b"-1", b'"', b"[", b"null", b"\xff", b"\0" * 4])
        content[place : place + generator.randrange(5)] = new
    file.write_bytes(content[: generator.choice([len(content), generator.randrange(99)])])


def test_damaged_folders_are_read_or_refused_in_time(ome, tmp_path):
    shutil.rmtree(ome / "labels")
    generator, refused, start = random.Random(0), [], time.process_time()
    names = sorted(path.relative_to(ome) for path in ome.rglob("*") if path.is_file())
    metadata = [name for name in names if name.name == "zarr.json" or name.name.startswith(".z")]
    for number in range(50):
        path = tmp_path / f"{number}.zarr"
        shutil.copytree(ome, path)
        damage(generator, path / generator.choice(generator.choice([names, metadata])))
        try:
            header = read_header(path)
            assert read_plane(path, header.pages - 1).shape == header.shape
            assert list_arrays(path)[choose_level(path, 4)].shape == header.shape
        except BenchError as error:
            refused.append(str(error))
    assert 10 < len(refused) < 50
    assert not [message for message in refused if "\n" in message]
    assert time.process_time() - start < 6
