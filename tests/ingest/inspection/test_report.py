import json
from dataclasses import replace

import numpy as np
import pytest

from bench.ingest.annotations.rasterise import DrawnLabels
from bench.ingest.inspection.findings import group_findings
from bench.ingest.inspection.report import inspect_tree

DISC_PX = 529  # pixels within 13 px of a pixel's centre


def kinds_of(report, section=None):
    found = [f for f in report.findings if section is None or f.section == section]
    return {finding.kind for finding in found}


def find(report, kind):
    (finding,) = [finding for finding in report.findings if finding.kind == kind]
    return finding


def test_a_clean_tree_has_no_findings(make_source, clean):
    report = inspect_tree(make_source(*clean()))
    assert [group.sentence for group in group_findings(report.findings)] == []
    assert (report.errors, report.warnings) == (0, 0)


def test_counts_are_those_of_what_was_drawn(make_source, clean):
    counts = {entry.split: entry for entry in inspect_tree(make_source(*clean())).counts}
    assert (counts["train"].sections, counts["train"].instances) == (4, 24)
    assert counts["train"].areas_px == (DISC_PX,) * 5
    assert counts["val"].foreground == pytest.approx(6 * DISC_PX / (96 * 128))
    assert counts["val"].balance == pytest.approx(96 * 128 / (6 * DISC_PX) - 1)


def test_an_unreadable_section_leaves_the_rest_checked(make_source, clean):
    report = inspect_tree(make_source(*clean(s1={"raw": "s1 is damaged: copy it again"})))
    assert find(report, "unusable").section == "train-s1"
    assert "s1 is damaged" in find(report, "unusable").fact
    assert report.counts[0].instances == 24
    assert report.errors == 1


def change(raw, where, value):
    changed = raw.astype(np.float32)
    changed[where] = value
    return changed


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lambda raw: change(raw, (3, 3), np.nan), "unusable"),
        (lambda raw: change(raw, (3, 3), 1e30), "unusable"),
        (lambda raw: np.full_like(raw, 7), "unusable"),
        (lambda raw: raw[None], "unusable"),
        (lambda raw: raw[:0], "unusable"),
        (lambda raw: raw[:50], "size-differs"),
        (lambda raw: 255 - raw, "raw-inverted"),
        (lambda raw: np.where(raw > 150, 255, raw), "saturated"),
        (lambda raw: np.where(raw < 60, 0, raw), "saturated"),
        (lambda raw: raw // 16, "few-levels"),
        (lambda raw: raw.astype(np.uint16), "depth"),
        (lambda raw: (raw // 3).astype(np.uint8), "contrast"),
        (lambda raw: raw[::-1, ::-1].copy(), None),
    ],
)
def test_faults_of_a_raw_image(make_source, clean, tissue, discs, fault, kind):
    report = inspect_tree(make_source(*clean(s2={"raw": fault(tissue(2, discs))})))
    if kind is None:  # the discs lie symmetrically, and nothing else tells
        assert report.errors == 0
    else:
        assert kind in kinds_of(report)
        assert kinds_of(report, "train-s1") == set()


def test_copies_within_a_split_and_across(make_source, clean, tissue, discs):
    report = inspect_tree(make_source(*clean(s2={"raw": tissue(1, discs)})))
    assert find(report, "copy").section == "train-s2"
    report = inspect_tree(make_source(*clean(s4={"raw": tissue(1, discs)})))
    assert find(report, "leak").section == "val-s4"
    assert "train-s1" in find(report, "leak").fact


def test_a_copy_with_other_grey_values_is_still_one(make_source, clean, tissue, discs):
    copy = (255 * (tissue(1, discs) / 255) ** 0.8).astype(np.uint8)
    report = inspect_tree(make_source(*clean(s3={"raw": copy})))
    assert find(report, "copy").section == "train-s3"
    assert "correlation" in find(report, "copy").fact


def test_a_shifted_section_is_said_once_with_its_shift(make_source, clean, tissue, discs):
    moved = tissue(2, np.roll(discs, (-9, 14), (0, 1)), y=9, x=-14)
    mask = np.roll(discs, (-9, 14), (0, 1))
    report = inspect_tree(make_source(*clean(s2={"raw": moved, "mitochondria": mask})))
    finding = find(report, "misaligned")
    assert finding.section == "train-s2"
    assert "-9 px in y and +14 px in x" in finding.fact


def test_a_series_that_goes_on_elsewhere_is_not_shifted(make_source, clean, tissue, discs):
    report = inspect_tree(make_source(*clean(s2={"raw": tissue(2, discs, y=-95, x=95)})))
    assert "misaligned" not in kinds_of(report)


def test_an_inverted_mask_is_an_error_and_its_image_is_not_inverted(make_source, clean, discs):
    report = inspect_tree(make_source(*clean(s2={"mitochondria": 255 - discs})))
    assert find(report, "mask-inverted").section == "train-s2"
    assert "raw-inverted" not in kinds_of(report)


def test_masks_that_are_all_mostly_foreground_are_a_warning(make_source, make_section, tissue):
    mask = np.full((96, 128), 255, np.uint8)
    mask[40:50] = 0
    sections = [
        make_section(s, s, tissue(n), mitochondria=mask) for n, s in enumerate(("train", "val"))
    ]
    report = inspect_tree(make_source(*sections))
    assert {f.split for f in report.findings if f.kind == "mostly-foreground"} == {"train", "val"}
    assert "mask-inverted" not in kinds_of(report)


def test_a_mask_of_another_image(make_source, clean, discs):
    report = inspect_tree(make_source(*clean(s2={"mitochondria": np.roll(discs, 20, 1)})))
    assert find(report, "mask-elsewhere").section == "train-s2"


def test_tiny_and_large_instances_are_counted_and_marked(make_source, clean, discs):
    mask = discs.copy()
    mask[47, 40] = mask[47, 44] = 255  # two specks
    mask[0, 0] = 255  # at the edge: the rest may be outside
    mask[24, :] = 255  # joins three discs
    report = inspect_tree(make_source(*clean(s2={"mitochondria": mask})))
    tiny, large = find(report, "tiny"), find(report, "large")
    assert tiny.count == 2
    assert {mark[:2] for mark in tiny.marks} == {(47, 40), (47, 44)}
    assert large.count == 1
    assert large.marks[0][0] == pytest.approx(24, abs=0.5)


def test_specks_do_not_become_the_norm(make_source, clean, discs):
    mask = discs.copy()
    mask[45:49:2, ::2] = 255
    report = inspect_tree(make_source(*clean(s2={"mitochondria": mask})))
    assert find(report, "tiny").count == 2 * 63  # one of each row touches the edge


def test_a_network_has_no_large_instances(make_source, make_section, tissue):
    net = np.zeros((96, 128), np.uint8)
    net[::16], net[:, ::16] = 255, 255
    net[5:8, 5:8] = net[22:25, 22:25] = net[38:41, 38:41] = 255
    sections = [
        make_section(s, f"s{n}", tissue(n, net, y=60 * n), membrane=net)
        for n, s in enumerate(("train", "val"))
    ]
    report = inspect_tree(make_source(*sections, structures=("membrane",)))
    assert "large" not in kinds_of(report)


def test_what_drawn_objects_lost_is_said(make_source, clean):
    labels = np.zeros((96, 128), np.uint8)
    labels[10:30, 10:30], labels[40:60, 40:60] = 1, 2
    drawn = DrawnLabels(labels, 30, {1: 20, 3: 10}, outside=[4, 5], cut=[2])
    report = inspect_tree(make_source(*clean(s2={"mitochondria": drawn})))
    assert find(report, "overlap").count == 30
    assert "drawn last" in find(report, "overlap").fact
    assert find(report, "overlap").marks[0][:2] == (19.5, 19.5)
    assert find(report, "hidden").fact.startswith("1 of 5 objects")
    assert find(report, "outside").fact.startswith("2 of 5 objects")
    assert find(report, "cut").marks[0][:2] == (49.5, 49.5)


def test_nothing_annotated(make_source, clean):
    nothing = np.zeros((96, 128), np.uint8)
    report = inspect_tree(make_source(*clean(s2={"mitochondria": nothing})))
    assert find(report, "empty").section == "train-s2"
    assert report.errors == 0
    report = inspect_tree(make_source(*clean(s4={"mitochondria": nothing})))
    assert find(report, "no-foreground").split == "val"
    report = inspect_tree(make_source(*clean(s5={"mitochondria": nothing})))
    assert find(report, "no-test").split == "test"
    assert report.errors == 0


def test_missing_masks_and_splits_are_said_as_prepare_says_them(make_source, clean, tissue):
    sections = clean()
    report = inspect_tree(make_source(*sections, structures=("mitochondria", "vesicles")))
    assert "no mask" not in find(report, "splits").fact
    assert "vesicles" in find(report, "splits").fact
    report = inspect_tree(make_source(*sections[:5], warnings=("said by the reader",)))
    noticed = {f.fact for f in report.findings if f.kind == "noticed"}
    assert noticed == {
        "said by the reader",
        "there is no test split, so that methods cannot be compared on sections that chose "
        "nothing: add a folder test, or give -P 'splits=train=0-2;val=3;test=4' (or kfold=5/0, "
        "paper)",
    }


def test_splits_that_differ_in_contrast(make_source, clean, tissue, discs):
    bright = tissue(5, discs, y=99, x=99) // 2 + 127
    report = inspect_tree(make_source(*clean(s5={"raw": bright.astype(np.uint8)})))
    assert find(report, "drift").split == "test"
    assert "contrast" not in kinds_of(report)


def test_a_rare_structure_needs_another_weight(make_source, make_section, tissue, discs):
    mask = np.zeros_like(discs)
    mask[40:44, 40:44] = 255
    sections = [
        make_section(s, f"s{n}", tissue(n, y=60 * n), mitochondria=mask)
        for n, s in enumerate(("train", "val"))
    ]
    finding = find(inspect_tree(make_source(*sections)), "weight")
    assert "-P foreground_weight=767" in finding.remedy  # 96 * 128 / 16 - 1


def test_neighbours_in_two_splits(make_source, clean, tissue, discs):
    # With little noise of its own, so that it looks like the section before it.
    raw = [tissue(seed, discs).astype(float) for seed in range(12)]
    smooth = [np.mean(raw[:6], axis=0).astype(np.uint8), np.mean(raw[6:], axis=0).astype(np.uint8)]
    report = inspect_tree(make_source(*clean(s3={"raw": smooth[0]}, s4={"raw": smooth[1]})))
    finding = find(report, "neighbours")
    assert "and val-s4 correlate with 0.9" in finding.fact
    assert finding.split == "train and val"


def test_one_section_at_a_time_is_read(make_source, clean, monkeypatch):
    reads = []
    sections = clean()
    for section in sections:
        for image in section.images.values():
            read = image.read
            object.__setattr__(
                image, "read", lambda read=read, f=image.file: reads.append(f) or read()
            )
    inspect_tree(make_source(*sections))
    assert reads == [
        f"{s.split}/{k}/{s.stem}.tif" for s in sections for k in ("raw", "mitochondria")
    ]


def test_the_record_is_strict_json(make_source, clean, tissue, discs):
    sections = clean(
        s2={"raw": change(tissue(2, discs), (0, 0), np.inf)}, s3={"raw": "gone: find it"}
    )
    record = json.loads(
        json.dumps(inspect_tree(make_source(*sections)).as_record(), allow_nan=False)
    )
    assert record["errors"] == 1
    assert {finding["section"] for finding in record["findings"]} >= {"train-s2", "train-s3"}
    assert [section["raw"] is None for section in record["sections"]] == [False] * 3 + [True] + [
        False
    ] * 2


def test_real_sections_have_no_errors(real_tree, read_tree):
    report = inspect_tree(read_tree(real_tree, pixel_size_nm=5.0))
    assert report.errors == 0
    assert kinds_of(report) <= {"tiny", "large"}


def test_a_crop_that_one_object_fills_is_not_inverted(make_source, clean):
    mask = np.zeros((96, 128), np.uint8)
    mask[:, :70] = 255
    report = inspect_tree(make_source(*clean(s2={"mitochondria": mask})))
    assert "mask-inverted" not in kinds_of(report)


def test_an_image_may_be_unlabelled_or_of_the_papers_split_too(
    make_source, make_section, clean, tissue, discs
):
    again = make_section("unlabelled", "montage", tissue(1, discs))
    report = inspect_tree(make_source(*clean(), unlabelled=(again,)))
    assert report.findings == ()
    tested = make_section("unlabelled", "montage", tissue(5, discs, y=99, x=99))
    report = inspect_tree(make_source(*clean(), unlabelled=(tested,)))
    assert find(report, "leak").section == "unlabelled-montage"
    in_both = clean(s4={"raw": tissue(1, discs)})
    assert inspect_tree(make_source(*in_both, rule="paper")).findings == ()


def test_regions_are_no_series(make_source, clean, tissue, discs):
    mask = np.roll(discs, (-9, 14), (0, 1))
    sections = clean(s2={"raw": tissue(2, mask, y=9, x=-14), "mitochondria": mask})
    apart = [replace(section, region=section.stem) for section in sections]
    assert "misaligned" in kinds_of(inspect_tree(make_source(*sections)))
    assert "misaligned" not in kinds_of(inspect_tree(make_source(*apart)))
