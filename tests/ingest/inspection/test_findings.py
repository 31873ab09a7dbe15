from bench.ingest.inspection.findings import KINDS, Finding, group_findings, sort_findings


def test_errors_come_first():
    levels = [level for level, _ in KINDS.values()]
    assert levels == sorted(levels)  # error before warning
    found = [Finding("tiny", "a", "b", section="s1"), Finding("leak", "a", "b", section="s2")]
    assert [finding.kind for finding in sort_findings(found)] == ["leak", "tiny"]


def test_the_same_in_many_sections_is_one_line_with_three_names():
    found = [
        Finding("tiny", f"{n} of 9", "delete them", "train", f"s{n}", "vesicles", count=n)
        for n in range(20, 0, -1)
    ]
    (group,) = group_findings(found)
    assert group.sentence == (
        "tiny fragments: vesicles of s1, s2, s3 and 17 more: 210 in all; in the first, 1 of 9: "
        "delete them"
    )


def test_structures_and_kinds_have_lines_of_their_own():
    found = [
        Finding("tiny", "1 of 9", "delete it", "train", "s1", "vesicles"),
        Finding("tiny", "1 of 9", "delete it", "train", "s1", "membrane"),
        Finding("large", "1 of 9", "look at it", "train", "s1", "vesicles"),
    ]
    assert [group.sentence for group in group_findings(found)] == [
        "suspiciously large instances: vesicles of s1: 1 of 9: look at it",
        "tiny fragments: membrane of s1: 1 of 9: delete it",
        "tiny fragments: vesicles of s1: 1 of 9: delete it",
    ]


def test_messages_that_concern_no_section_stay_apart():
    found = [Finding("noticed", "there is no test split"), Finding("noticed", "no pixel size")]
    assert [group.sentence for group in group_findings(found)] == [
        "noticed: no pixel size",
        "noticed: there is no test split",
    ]


def test_a_whole_message_names_its_file_itself():
    message = "raw.png must hold finite numbers, received NaN: fill them"
    (group,) = group_findings([Finding("unusable", message, section="train-s1")])
    assert group.sentence == f"cannot be used: {message}"
