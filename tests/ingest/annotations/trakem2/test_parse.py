"""The XML: compressed, malformed as TrakEM2 can write it, and hostile."""

import gzip

import pytest

from bench.errors import BenchError
from bench.ingest.annotations.trakem2 import parse
from bench.ingest.annotations.trakem2.project import read_project

AREA = (
    '<t2_area_list oid="{oid}" title="{title}"><t2_area layer_id="20">'
    '<t2_path d="M 0 0 L 9 0 L 9 9 z"/></t2_area></t2_area_list>'
)


def read_text(tmp_path, text: bytes | str, name="project.xml"):
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1") if isinstance(text, str) else text)
    return read_project(path)


def refused(tmp_path, text, name="project.xml") -> str:
    with pytest.raises(BenchError) as error:
        read_text(tmp_path, text, name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_compressed_project_is_the_same_whatever_its_name(write_project, tmp_path):
    path = write_project(objects=AREA.format(oid=1, title="m\u00fcsli"))
    plain = read_project(path)
    packed = read_text(tmp_path, gzip.compress(path.read_bytes()), "packed.xml")
    assert plain.objects[0].name == packed.objects[0].name == "area_list 1 'm\u00fcsli'"


@pytest.mark.parametrize(
    "title", ["a & b", "R&D;", "a < b", "<soma>", "x=' & < ' & &lt; &#65;", "&nbsp;&", "a &amp b"]
)
def test_titles_that_were_not_escaped_are_repaired(make_project, title):
    project = make_project(
        objects=AREA.format(oid=1, title=title) + AREA.format(oid=2, title="two")
    )
    assert [item.name.split()[1] for item in project.objects] == ["1", "2"]
    expected = title.replace("&lt;", "<").replace("&#65;", "A")
    assert project.objects[0].name.startswith(("area_list 1 '", 'area_list 1 "'))
    assert project.objects[0].name[13:-1] == expected
    assert project.warnings[0].startswith("& or < in it were not escaped")


def test_a_repair_may_span_the_pieces_of_a_file(make_project, monkeypatch):
    monkeypatch.setattr(parse, "CHUNK_BYTES", 7)
    project = make_project(objects=AREA.format(oid=1, title="a & <b>"))
    assert project.objects[0].name == "area_list 1 'a & <b>'"


def test_notes_with_an_ampersand_are_repaired(make_project):
    note = "<t2_annot>R&D said x &lt; y</t2_annot>"
    project = make_project(
        objects=AREA.format(oid=1, title="t").replace("<t2_area ", f"{note}<t2_area ")
    )
    assert len(project.objects) == 1


def test_what_cannot_be_repaired_is_refused_with_its_line(write_project, tmp_path):
    text = write_project().read_text()
    broken = text.replace("<t2_layer_set", "<t2_layer_set <", 1)
    line = broken[: broken.index("<t2_layer_set <")].count("\n") + 1
    message = refused(tmp_path, broken)
    assert "must be whole XML" in message
    assert f"line {line}," in message
    assert "save it again" in message


def test_a_file_cut_short_is_refused(write_project, tmp_path):
    text = write_project(objects=AREA.format(oid=1, title="t")).read_bytes()
    assert "must be whole XML" in refused(tmp_path, text[:-30])
    assert "must be a whole gzip file" in refused(tmp_path, gzip.compress(text)[:-30])


@pytest.mark.parametrize(
    "declaration",
    [
        '<!ENTITY a "aaaa"> <!ENTITY b "&a;&a;&a;&a;">',
        '<!ENTITY a SYSTEM "secret.txt">',
        '<!ENTITY % a SYSTEM "secret.txt"> %a;',
    ],
)
def test_entities_are_refused(write_project, tmp_path, declaration):
    (tmp_path / "secret.txt").write_text("secret")
    text = write_project(objects=AREA.format(oid=1, title="&a;")).read_text()
    message = refused(tmp_path, text.replace("<!ELEMENT", declaration + "<!ELEMENT", 1))
    assert "must declare no entities" in message


def test_an_external_document_type_is_not_opened(write_project, tmp_path):
    text = write_project().read_text()
    start, end = text.index("<!DOCTYPE"), text.index("<trakem2>")
    declaration = '<!DOCTYPE trakem2 SYSTEM "/dev/zero">\n'
    assert read_text(tmp_path, text[:start] + declaration + text[end:]).size == (48, 64)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    bomb = gzip.compress(b"<trakem2>" + b" " * (parse.FREE_XML_BYTES + 1))
    assert "must hold at most 8 MB" in refused(tmp_path, bomb, "bomb.xml.gz")


def test_a_plain_file_has_a_limit_too(write_project, tmp_path, monkeypatch):
    monkeypatch.setattr(parse, "ANNOTATION_BYTES", 100)
    assert "must hold at most" in refused(tmp_path, write_project().read_bytes())


def test_elements_nest_only_so_deep(tmp_path):
    assert "must nest at most" in refused(tmp_path, "<trakem2>" + "<a>" * 60_000)


def test_a_deep_area_tree_is_read(make_project):
    deep = 20_000
    area = '<t2_area><t2_path d="M 0 0 L 9 0 L 9 9 L 0 9 z"/></t2_area>'
    nodes = '<t2_node lid="20">' * deep + area + "</t2_node>" * deep
    assert len(make_project(objects=f'<t2_areatree oid="1">{nodes}</t2_areatree>').objects) == 1


def test_attributes_that_a_document_type_supplies_do_not_count(write_project, tmp_path):
    text = write_project(objects=AREA.format(oid=1, title="t")).read_text()
    hidden = '<!ATTLIST t2_area_list visible CDATA "false">'
    project = read_text(tmp_path, text.replace("<!ELEMENT", hidden + "<!ELEMENT", 1))
    assert project.objects[0].visible


def test_a_document_type_declares_only_so_many_attributes(tmp_path):
    many = "".join(f"<!ATTLIST a x{n} CDATA #REQUIRED>" for n in range(200))
    assert "at most 150 attributes" in refused(tmp_path, f"<!DOCTYPE t [{many}]><trakem2/>")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be whole XML"),
        ("<svg/>", "must be a TrakEM2 project"),
        ("<trakem2/>", "must hold a layer set with layers"),
        ('<?xml version="1.0" encoding="utf-7"?><trakem2/>', "in an encoding that can be read"),
        ('<?xml version="1.0" encoding="nope"?><trakem2/>', "in an encoding that can be read"),
        ("\x00\x01\x02", "must be whole XML"),
    ],
)
def test_other_files_are_refused(tmp_path, text, reason):
    assert reason in refused(tmp_path, text)


@pytest.mark.parametrize("size", [(0, 64), (-1, 64), ("nan", 64), (48, "1e300"), (48, "")])
def test_a_layer_set_has_a_size(make_project, size):
    with pytest.raises(BenchError, match="must be from 1 to 10000000 px"):
        make_project(size=size)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BenchError, match="must be a file that can be read"):
        read_project(tmp_path / "none.xml")
    with pytest.raises(BenchError, match="must be a file that can be read"):
        read_project(tmp_path)


def test_a_path_of_megabytes_is_read(make_project):
    corners = " L ".join(f"{n % 60} {n % 40}.25" for n in range(400_000))
    area = AREA.replace("M 0 0 L 9 0 L 9 9 z", f"M {corners} z")
    (item,) = make_project(objects=area.format(oid=1, title="t")).objects
    assert len(item.shapes[0][0].rings[0]) == 400_000
