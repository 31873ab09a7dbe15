"""Objects: what is drawn of them, and their classes."""

import numpy as np
import pytest

from bench.errors import BenchError
from bench.ingest.annotations.rasterise import draw_labels

SQUARE = "M 0 0 L 10 0 L 10 10 L 0 10 z"
TWO_LAYERS = '<t2_layer oid="21" thickness="10" z="10" /><t2_layer oid="20" thickness="10" z="0" />'


def area_list(areas, oid=100, title="area_list", more="", matrix="1,0,0,1,5,7"):
    return (
        f'<t2_area_list oid="{oid}" transform="matrix({matrix})" title="{title}" {more}>'
        f"{areas}</t2_area_list>"
    )


def area(*paths, layer=20):
    inside = "".join(f'<t2_path d="{path}" />' for path in paths)
    return f'<t2_area layer_id="{layer}">{inside}</t2_area>'


def draw(project, number=0) -> np.ndarray:
    return draw_labels(project.objects, number, project.size).labels


def test_repeated_areas_of_a_layer_are_united(make_project):
    # As one area the overlap of 5 x 10 px would be a hole.
    project = make_project(objects=area_list(area(SQUARE) + area("M 5 0 L 15 0 L 15 10 L 5 10 z")))
    labels = draw(project)
    assert np.count_nonzero(labels) == 150
    assert labels[7:17, 5:20].all()


def test_all_paths_of_an_area_are_one_shape(make_project):
    hole = "M 2 2 L 8 2 L 8 8 L 2 8 z"
    island = "M 4 4 L 5 4 L 5 5 L 4 5 z"
    labels = draw(make_project(objects=area_list(area(SQUARE, hole, island))))
    assert np.count_nonzero(labels) == 100 - 36 + 1
    assert labels[11, 9]


def test_the_transform_of_an_object_counts(make_project):
    labels = draw(make_project(objects=area_list(area(SQUARE), matrix="0,2,-1,0,30,4")))
    # x' = 30 - y, y' = 2x + 4
    assert labels[4:24, 20:30].all()
    assert np.count_nonzero(labels) == 200


def test_paths_that_are_not_closed_are_dropped_with_a_warning(make_project):
    project = make_project(objects=area_list(area(SQUARE, "M 20 0 L 30 0 L 30 9 L 20 9")))
    assert np.count_nonzero(draw(project)) == 100
    assert "left out: 1 paths that are not closed" in project.warnings


def test_sections_are_layers_in_the_order_of_depth(make_project):
    project = make_project(
        objects=area_list(area(SQUARE, layer=21) + area("M 0 0 L 3 0 L 3 3 z", layer=99)),
        layers=TWO_LAYERS,
    )
    assert [layer.z_px for layer in project.layers] == [0, 10]
    assert [np.count_nonzero(draw(project, number)) for number in (0, 1)] == [0, 100]
    assert "left out: 1 areas in layers that the project does not have" in project.warnings


def test_every_ball_is_an_object(make_project):
    project = make_project(
        objects='<t2_ball oid="7" title="pool" transform="matrix(2,0,0,2,1,0)">'
        '<t2_ball_ob x="5" y="6" layer_id="20" r="2"/>'
        '<t2_ball_ob x="20" y="6" layer_id="21" r="3"/>'
        '<t2_ball_ob x="20" y="6" layer_id="20" r="0"/></t2_ball>',
        layers=TWO_LAYERS,
    )
    names = ["ball 7 'pool' part 1", "ball 7 'pool' part 2"]
    assert [item.name for item in project.objects] == names
    ys, xs = np.mgrid[:48, :64] + 0.5
    expected = (xs - 11) ** 2 + (ys - 12) ** 2 <= 16
    np.testing.assert_array_equal(draw(project) != 0, expected)
    assert "left out: 1 balls without a radius" in project.warnings


CIRCLE = (  # of radius 10 around 20, 20, to a thousandth, by four arcs
    "M 30,20 C 30,25.5228 25.5228,30 20,30 C 14.4772,30 10,25.5228 10,20 "
    "C 10,14.4772 14.4772,10 20,10 C 25.5228,10 30,14.4772 30,20 z"
)
OPEN = "M 0,0 C 1,1 2,1 3,0"


def test_profiles_of_a_list_are_one_object_of_several_layers(make_project):
    def profile(oid, path):
        return f'<t2_profile oid="{oid}" transform="matrix(1,0,0,1,4,0)" title="p" d="{path}" />'

    project = make_project(
        tree='<nucleus id="2"><profile_list id="3"><profile id="4" oid="50"/>'
        '<profile id="5" oid="51"/></profile_list></nucleus>'
        '<cell id="6"><profile_list id="7"><profile id="8" oid="52"/></profile_list></cell>',
        layers=f'<t2_layer oid="20" z="0">{profile(50, CIRCLE)}{profile(53, OPEN)}'
        f'</t2_layer><t2_layer oid="21" z="1">{profile(51, CIRCLE)}{profile(52, CIRCLE)}'
        "</t2_layer>",
    )
    assert [(item.kind, sorted(item.shapes)) for item in project.objects] == [
        ("nucleus", [0, 1]),
        ("cell", [1]),
    ]
    ys, xs = np.mgrid[:48, :64] + 0.5
    expected = (xs - 24) ** 2 + (ys - 20) ** 2 <= 100
    np.testing.assert_array_equal(draw(project) != 0, expected)
    assert "left out: 1 profiles that are not closed" in project.warnings


def test_nodes_of_an_area_tree_carry_areas(make_project):
    def node(lid, inside, path):
        shape = f'<t2_area><t2_path d="{path}" /></t2_area>' if path else ""
        return f'<t2_node x="1" y="1" lid="{lid}">{shape}{inside}</t2_node>'

    branch = node(20, "", "M 20 0 L 25 0 L 25 5 L 20 5 z")
    inner = node(21, branch, SQUARE) + node(20, "", None)
    project = make_project(
        objects='<t2_areatree oid="5" transform="matrix(1,0,0,1,2,3)" title="axon">'
        f"{node(20, inner, SQUARE)}</t2_areatree>",
        tree='<axon id="2"><areatree id="3" oid="5"/></axon>',
        layers=TWO_LAYERS,
    )
    (item,) = project.objects
    assert (item.name, item.kind) == ("areatree 5 'axon'", "axon")
    assert [np.count_nonzero(draw(project, number)) for number in (0, 1)] == [125, 100]


@pytest.mark.parametrize(
    ("tree", "title", "kind"),
    [
        ('<cell id="2"><mito id="3"><area_list id="4" oid="100"/></mito></cell>', "x", "mito"),
        ('<mito id="3" title="wrong"><area_list id="4" oid="100"/></mito>', "vesicle 5", "mito"),
        ('<mito id="3"><area_list id="4" oid="100"/></mito>', "area_list", "mito"),
        # The tree's own name, used again for a class.
        ('<project id="3"><area_list id="4" oid="100"/></project>', "x", "project"),
        # Nothing but the root: the title, without its number.
        ('<area_list id="4" oid="100"/>', "vesicle 12", "vesicle"),
        ('<area_list id="4" oid="100"/>', "mito_#3", "mito"),
        ('<area_list id="4" oid="100"/>', "area_list", "root"),
        # Not in the tree.
        ("", "vesicle", "vesicle"),
        ("", "area_list", "area_list"),
    ],
)
def test_the_class_is_the_nearest_tag_of_the_user(make_project, tree, title, kind):
    (item,) = make_project(tree=tree, objects=area_list(area(SQUARE), title=title)).objects
    assert item.kind == kind
    assert item.name == f"area_list 100 '{title}'"


def test_what_is_not_in_the_tree_is_said(make_project):
    project = make_project(objects=area_list(area(SQUARE), title="mito"))
    assert project.warnings == (
        "1 objects are not in the project tree, so their titles are their classes: "
        "area_list 100 'mito'",
    )


def test_hidden_objects_count_and_are_said(make_project):
    project = make_project(objects=area_list(area(SQUARE), more='visible="false"'))
    assert not project.objects[0].visible
    assert "1 objects are hidden in TrakEM2; they count all the same" in project.warnings


def test_what_has_no_area_is_left_out_and_said(make_project):
    project = make_project(
        objects='<t2_pipe oid="1" d="M 0,0"/><t2_pipe oid="2"/><t2_treeline oid="3">'
        '<t2_node x="1" y="2" lid="20"/></t2_treeline>' + area_list("")
    )
    assert project.objects == ()
    assert project.warnings == (
        "left out: 2 objects of kind pipe, which has no area",
        "left out: 1 objects of kind treeline, which has no area",
        "left out: 1 objects without any area",
    )


def test_layer_sets_within_layers_are_left_out(make_project):
    inner = (
        '<t2_layer_set oid="30" layer_width="5.0" layer_height="5.0">'
        '<t2_calibration pixelWidth="1.0" unit="mm"/>'
        f'{area_list(area(SQUARE, layer=20), oid=31)}<t2_layer oid="32" z="0"/></t2_layer_set>'
    )
    project = make_project(
        objects=area_list(area(SQUARE)),
        layers=f'<t2_layer oid="20" z="0">{inner}<t2_patch oid="33" width="5" height="5" '
        'file_path="a.tif"/></t2_layer>',
    )
    assert len(project.objects) == len(project.layers) == len(project.layers[0].patches) == 1
    assert (project.size, project.pixel_sides_nm) == ((48, 64), (5.0, 5.0))
    assert "left out: 1 layer sets within layers, with all they hold" in project.warnings


@pytest.mark.parametrize(
    "path", ["M 0 0 L NaN 0 L 1 1 z", "M 0 0 L 1e300 0 L 1 1 z", "M 0 0 L 1 z", "a"]
)
def test_numbers_that_are_none_are_refused_by_name(make_project, path):
    with pytest.raises(BenchError, match=r"t2_path of area_list 100 in .* must hold") as error:
        make_project(objects=area_list(area(path)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("unit", "side", "expected"),
    [
        ("nm", "5.0", 5),
        ("um", "0.005", 5),
        ("\u00b5m", "0.005", 5),
        ("\\u00B5m", "0.005", 5),
        ("\u00c2\u00b5m", "0.005", 5),
        ("micron", "0.005", 5),
        ("Microns", "0.005", 5),
        ("Angstrom", "50", 5),
        ("\u00c5", "50", 5),
        ("mm", "5e-6", 5),
        ("cm", "5e-7", 5),
        ("m", "5E-9", 5),
        ("pixel", "1.0", None),
    ],
)
def test_pixel_sizes_are_in_nm(make_project, unit, side, expected):
    project = make_project(
        calibration=f'<t2_calibration pixelWidth="{side}" pixelHeight="{side}" unit="{unit}"/>'
    )
    if expected is None:
        assert project.pixel_sides_nm is None
        assert project.section_nm is None
    else:
        assert project.pixel_sides_nm == pytest.approx((expected, expected))
        assert project.section_nm == pytest.approx(10 * expected)
    assert project.warnings == ()


@pytest.mark.parametrize(
    ("unit", "side"), [("furlong", "1"), ("nm", "x"), ("nm", "-5"), ("mm", "1"), ("nm", "nan")]
)
def test_a_pixel_size_that_means_nothing_is_unknown_and_said(make_project, unit, side):
    project = make_project(calibration=f'<t2_calibration pixelWidth="{side}" unit="{unit}"/>')
    assert project.pixel_sides_nm is None
    assert project.warnings == (
        f"the pixel size is taken as unknown: the project states {side} x {side} {unit}, and no "
        "micrograph has such pixels",
    )


def test_height_and_width_of_pixels_may_differ(make_project):
    calibration = '<t2_calibration pixelWidth="4" pixelHeight="6" pixelDepth="50" unit="nm"/>'
    project = make_project(calibration=calibration)
    assert project.pixel_sides_nm == (6, 4)
    # A layer's depth is in px of the width.
    assert project.section_nm == 40
