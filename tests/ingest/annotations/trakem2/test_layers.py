"""Layers: patches against a loop over pixels, and which files may be opened."""

import unicodedata

import numpy as np
import pytest

from bench.errors import BenchError
from bench.ingest.annotations.trakem2.layers import read_layer
from bench.ingest.annotations.trakem2.project import read_project


def patch(name="a.tif", matrix="1,0,0,1,0,0", size=(20, 30), more="", inside=""):
    sides = f'o_height="{size[0]}" o_width="{size[1]}"' if size else ""
    return (
        f'<t2_patch oid="1" transform="matrix({matrix})" title="tile" type="0" {sides} '
        f'file_path="{name}" {more}>{inside}</t2_patch>'
    )


def layer(*patches, oid=20, z=0):
    return f'<t2_layer oid="{oid}" thickness="1" z="{z}">{"".join(patches)}</t2_layer>'


def lay_by_loop(canvas, pixels, matrix):
    """For every pixel of the canvas, the pixel of the image that its centre lies in."""
    a, b, c, d, e, f = matrix
    for row, column in np.ndindex(canvas.shape):
        centre = np.array([column + 0.5 - e, row + 0.5 - f])
        x, y = np.linalg.solve(np.array([[a, c], [b, d]], float), centre)
        if 0 <= x < pixels.shape[1] and 0 <= y < pixels.shape[0]:
            canvas[row, column] = pixels[int(y), int(x)]


@pytest.mark.parametrize("seed", range(6))
def test_patches_are_laid_over_each_other(make_project, write_image, seed):
    random = np.random.default_rng(seed)
    expected = np.zeros((48, 64), np.uint8)
    patches = []
    for name, shape in (("a.tif", (20, 30)), ("bb.tif", (33, 17)), ("ccc.tif", (9, 9))):
        linear = np.eye(2) + random.uniform(-0.6, 0.6, (2, 2))
        matrix = [*linear.ravel().tolist(), *random.uniform(-10, 40, 2).tolist()]
        lay_by_loop(expected, write_image(name, shape), matrix)
        patches.append(patch(name, ",".join(map(str, matrix)), shape))
    project = make_project(layers=layer(*patches))
    np.testing.assert_array_equal(read_layer(project, 0, 0, 0, 48, 64), expected)
    window = read_layer(project, 0, 13, 5, 20, 41)
    np.testing.assert_array_equal(window, expected[13:33, 5:46])


@pytest.mark.parametrize("corner", [(0, 0), (-7, -3), (50, 40), (63, 47)])
def test_whole_pixels_are_copied(make_project, write_image, corner):
    pixels = write_image("a.tif", (20, 30))
    x, y = corner
    project = make_project(layers=layer(patch(matrix=f"1.0,0.0,0.0,1.0,{x}.0,{y}.0")))
    expected = np.zeros((48, 64), np.uint8)
    lay_by_loop(expected, pixels, (1, 0, 0, 1, x, y))
    np.testing.assert_array_equal(read_layer(project, 0, 0, 0, 48, 64), expected)


def test_a_window_may_reach_beyond_the_layer_set(make_project, write_image):
    pixels = write_image("a.tif", (20, 30))
    window = read_layer(make_project(layers=layer(patch())), 0, -2, -3, 5, 6)
    np.testing.assert_array_equal(window[2:, 3:], pixels[:3, :3])
    assert not window[:2].any()
    assert not window[:, :3].any()


def test_depths_are_kept_and_joined(make_project, write_image):
    deep = write_image("deep.tif", (20, 30), np.uint16)
    write_image("a.tif", (20, 30))
    one = make_project(layers=layer(patch("deep.tif")))
    assert read_layer(one, 0, 0, 0, 48, 64).dtype == np.uint16
    both = make_project(layers=layer(patch(matrix="1,0,0,1,30,0"), patch("deep.tif")))
    joined = read_layer(both, 0, 0, 0, 48, 64)
    assert joined.dtype == np.uint16
    np.testing.assert_array_equal(joined[:20, :30], deep)


def test_an_empty_layer_is_black(make_project):
    assert not read_layer(make_project(), 0, 0, 0, 48, 64).any()


def test_slices_of_a_stack_count_from_one(make_project, write_image):
    stack = write_image("stack.tif", (5, 20, 30))
    project = make_project(layers=layer(patch("stack.tif-----#slice=3")))
    assert project.layers[0].patches[0].path.name == "stack.tif"
    np.testing.assert_array_equal(read_layer(project, 0, 0, 0, 20, 30), stack[2])
    beyond = make_project(layers=layer(patch("stack.tif-----#slice=6")))
    with pytest.raises(BenchError, match=r"stack\.tif"):
        read_layer(beyond, 0, 0, 0, 20, 30)


def test_an_image_is_found_in_the_other_form_of_unicode(make_project, write_image, tmp_path):
    (tmp_path / "Blo\N{COMBINING DIAERESIS}ck").mkdir()
    name = "Blo\N{COMBINING DIAERESIS}ck/Pra\N{COMBINING DIAERESIS}parat.tif"
    pixels = write_image(name, (20, 30))
    project = make_project(layers=layer(patch(unicodedata.normalize("NFC", name))))
    np.testing.assert_array_equal(read_layer(project, 0, 0, 0, 20, 30), pixels)


def test_a_patch_without_a_size_has_that_of_its_file(make_project, write_image):
    pixels = write_image("a.tif", (20, 30))
    project = make_project(layers=layer(patch(size=None)))
    np.testing.assert_array_equal(read_layer(project, 0, 0, 0, 20, 30), pixels)


def test_another_size_than_the_project_says_is_refused(make_project, write_image):
    write_image("a.tif", (20, 30))
    with pytest.raises(BenchError, match=r"20 x 31 px \(height x width\), received 20 x 30"):
        read_layer(make_project(layers=layer(patch(size=(20, 31)))), 0, 0, 0, 20, 30)


@pytest.mark.parametrize(
    ("more", "inside"),
    [
        ('ct_id="77"', ""),
        ("", '<ict_transform class="mpicbg.trakem2.transform.CubicBSplineTransform" data="1"/>'),
        ("", "<ict_transform_list></ict_transform_list>"),
    ],
)
def test_non_linear_transforms_are_refused_when_the_layer_is_read(
    make_project, write_image, more, inside
):
    write_image("a.tif", (20, 30))
    bent = layer(patch(more=more, inside=inside), oid=21, z=5)
    project = make_project(layers=layer(patch()) + bent)
    assert read_layer(project, 0, 0, 0, 20, 30).any()
    with pytest.raises(BenchError, match="export the layers as flat images"):
        read_layer(project, 1, 0, 0, 20, 30)


def test_a_transform_that_cannot_be_undone_is_refused(make_project, write_image):
    write_image("a.tif", (20, 30))
    with pytest.raises(BenchError, match="can be undone"):
        read_layer(make_project(layers=layer(patch(matrix="1,1,1,1,0,0"))), 0, 0, 0, 20, 30)


def test_hidden_patches_are_left_out_where_others_are_shown(make_project, write_image):
    pixels = write_image("a.tif", (20, 30))
    write_image("bb.tif", (20, 30))
    hidden = patch("bb.tif", more='visible="false"')
    project = make_project(layers=layer(patch(), hidden))
    np.testing.assert_array_equal(read_layer(project, 0, 0, 0, 20, 30), pixels)
    assert project.warnings == ("1 images are hidden in TrakEM2 below others and left out",)
    assert read_layer(make_project(layers=layer(hidden)), 0, 0, 0, 20, 30).any()


def test_filters_are_said(make_project):
    inside = '<t2_filter class="ini.trakem2.imaging.filters.Invert" />'
    project = make_project(layers=layer(patch(more='alpha_mask_id="9" ct_id="0"', inside=inside)))
    assert project.warnings == (
        "1 images are read without an alpha mask, which TrakEM2 shows them with",
        "1 images are read without filters, which TrakEM2 shows them with",
    )
    assert not project.layers[0].patches[0].bent


@pytest.mark.parametrize(
    "name", ["/of/another/computer/a.tif", "C:\\\\emdata\\\\a.tif", "../elsewhere/a.tif"]
)
def test_a_file_that_is_elsewhere_is_taken_from_beside_the_project(make_project, write_image, name):
    pixels = write_image("a.tif", (20, 30))
    project = make_project(layers=layer(patch(name)))
    np.testing.assert_array_equal(read_layer(project, 0, 0, 0, 20, 30), pixels)
    assert project.warnings == (
        "1 images are not where the project says, or not in a folder that was named; those "
        "beside the project are taken: a.tif",
    )


def test_only_files_in_named_folders_are_opened(write_project, write_image, tmp_path):
    other = tmp_path / "other"
    (other / "sub").mkdir(parents=True)
    pixels = write_image("other/sub/x.tif", (20, 30))
    path = write_project(layers=layer(patch("../x.tif"), patch(f"{other}/sub/x.tif")))
    inner = tmp_path / "project"
    inner.mkdir()
    path = path.rename(inner / "project.xml")
    with pytest.raises(BenchError, match="may only name files in"):
        read_layer(read_project(path), 0, 0, 0, 20, 30)
    text = path.read_text().replace(patch("../x.tif"), "")
    path.write_text(text)
    with pytest.raises(BenchError, match="may only name files in"):
        read_layer(read_project(path), 0, 0, 0, 20, 30)
    project = read_project(path, (other,))
    np.testing.assert_array_equal(read_layer(project, 0, 0, 0, 20, 30), pixels)


def test_a_link_out_of_the_folder_is_not_followed(write_project, write_image, tmp_path):
    write_image("a.tif", (20, 30))
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "a.tif").symlink_to(tmp_path / "a.tif")
    path = write_project(layers=layer(patch())).rename(folder / "project.xml")
    with pytest.raises(BenchError, match="may only name files in"):
        read_layer(read_project(path), 0, 0, 0, 20, 30)


@pytest.mark.parametrize("name", ["none.tif", "", ".", "x" * 5000, "http://localhost/a.tif"])
def test_a_missing_image_is_refused(make_project, name):
    project = make_project(layers=layer(patch(name)))
    with pytest.raises(BenchError, match="must be there, received") as error:
        read_layer(project, 0, 0, 0, 20, 30)
    assert len(str(error.value)) < 600


def test_a_window_far_larger_than_its_images_is_refused(make_project, write_image):
    write_image("a.tif", (20, 30))
    project = make_project(size=(10**6, 10**6), layers=layer(patch()))
    with pytest.raises(BenchError, match="must not decode to more"):
        read_layer(project, 0, 0, 0, *project.size)
