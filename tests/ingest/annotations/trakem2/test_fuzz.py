"""Damaged files: they are read, or refused in a sentence, in no time."""

import gzip
import time

import numpy as np
import pytest

from bench.errors import BenchError
from bench.ingest.annotations.rasterise import draw_labels
from bench.ingest.annotations.trakem2.layers import read_layer
from bench.ingest.annotations.trakem2.project import read_project
from bench.ingest.annotations.trakem2.regions import find_regions

CASES = 100
SPLICES = (
    b"&", b"<", b'"', b"NaN", b"1e999", b"-1", b"99999999999999999999", b"z", b"/>", b"\x00",
    b"<t2_layer_set>", b"</t2_layer>", b"<t2_area>", b"<project>", b"visible",
    b"matrix(0,0,0,0,0,0)",
)  # fmt: skip


@pytest.fixture
def whole(write_project, write_image) -> bytes:
    write_image("a.tif", (20, 30))
    square = '<t2_path d="M 0 0 L 10 0 L 10 10 L 0 10 z" />'
    curve = "M 30,20 C 30,25.5 25.5,30 20,30 C 14.4,30 10,25.5 30,20 z"
    path = write_project(
        tree='<mito id="2"><area_list id="3" oid="100"/><profile_list><profile oid="102"/>'
        "</profile_list></mito>",
        objects='<t2_area_list oid="100" transform="matrix(1.0,0.0,0.0,1.0,5.0,7.0)" title="m" '
        f'visible="false"><t2_area layer_id="20">{square}</t2_area></t2_area_list>'
        '<t2_ball oid="101" transform="matrix(1.5,0,0,1,9,2)"><t2_ball_ob x="5" y="6" r="4" '
        'layer_id="20"/></t2_ball><t2_areatree oid="103"><t2_node lid="20"><t2_area>'
        f"{square}</t2_area></t2_node></t2_areatree>",
        layers='<t2_layer oid="20" thickness="10.0" z="0.0"><t2_patch oid="1" width="30" '
        'height="20" transform="matrix(0.9,0.1,-0.1,0.9,3,4)" file_path="a.tif"/>'
        f'<t2_profile oid="102" transform="matrix(1,0,0,1,2,2)" d="{curve}"/></t2_layer>',
    )
    return path.read_bytes()


def damage(text: bytes, random: np.random.Generator) -> bytes:
    """Cuts, flips bits, writes over numbers, splices or compresses, one after the other."""
    for _ in range(int(random.integers(1, 4))):
        at, to = np.sort(random.integers(0, len(text) + 1, 2)).tolist()
        kind = random.integers(6)
        if kind == 0:
            text = text[:to]
        elif kind == 1:
            flipped = np.frombuffer(text, np.uint8).copy()
            places = random.integers(0, max(len(text), 1), 3) if text else []
            flipped[places] ^= np.uint8(1) << random.integers(0, 8, len(places), np.uint8)
            text = flipped.tobytes()
        elif kind == 2:
            text = text[:at] + SPLICES[random.integers(len(SPLICES))] + text[at:]
        elif kind == 3:
            text = text[:at] + text[at : at + 60] * int(random.integers(2, 50)) + text[at:]
        elif kind == 4:
            digits = [n for n, byte in enumerate(text) if chr(byte).isdigit()]
            place = digits[random.integers(len(digits))] if digits else 0
            number = SPLICES[random.integers(3, 7)]
            text = text[:place] + number + text[place + 1 :]
        elif random.integers(4) == 0:
            text = gzip.compress(text)
    return text


def read_all(path) -> None:
    """What prepare does with a project."""
    project = read_project(path)
    for number in range(len(project.layers))[:3]:
        draw_labels(project.objects, number, (48, 64))
        read_layer(project, number, 0, 0, 48, 64)
    find_regions(project, project.objects, 5)


def test_the_whole_project_is_read(whole, tmp_path):
    read_all(tmp_path / "project.xml")


def test_damaged_projects_are_read_or_refused(whole, tmp_path):
    random = np.random.default_rng(4)
    read = 0
    for case in range(CASES):
        path = tmp_path / "damaged.xml"
        path.write_bytes(damage(whole, random))
        start = time.process_time()
        try:
            read_all(path)
            read += 1
        except BenchError as error:
            lines = str(error).count("\n") + 1
        else:
            lines = 1
        assert lines == 1, case
        assert time.process_time() - start < 5, case
    # Both outcomes are tested.
    assert 5 < read < CASES - 5
