"""Which group, animal and region every section is of, by what the user wrote and by its name."""

import fnmatch
from collections.abc import Mapping, Sequence

from bench.core.names import first_names, place_in_series
from bench.errors import BenchError
from bench.structures import split_names

# The group of all sections, where others are named beside it.
ALL = "all"


def parse_groups(name: str, text: str, sections: Sequence[str]) -> dict[str, str]:
    """Reads ``ctrl:s01-s09;ko:s10-s18``.

    After a group's name come sections, separated by commas: names, patterns (``ctrl_*``), or runs
    of a series (``s01-s09``), by the numbers that the names end with.

    Args:
        name: What the setting is called.
        text: What the user wrote.
        sections: The sections that there are.

    Returns:
        The group of each section that is in one.

    Raises:
        BenchError: If a group has no name or sections, or a section is in two of them.

    Examples:
        >>> parse_groups("groups", "a:s1-s2;b:t*", ["s1", "s2", "s3", "t9"])
        {'s1': 'a', 's2': 'a', 't9': 'b'}
    """
    found: dict[str, str] = {}
    for part in filter(str.strip, text.split(";")):
        group, colon, members = (piece.strip() for piece in part.partition(":"))
        if not (group and colon and members) or group == ALL:
            raise BenchError(
                f"{name} are NAME:SECTIONS, separated by semicolons, and NAME is not {ALL}, "
                f"received {part!r}: write {name}=ctrl:s01-s09;ko:s10-s18"
            )
        for member in split_names(members):
            for section in _find_members(name, member, sections):
                if found.setdefault(section, group) != group:
                    raise BenchError(
                        f"a section is of one of {name}, received {section} in {found[section]} "
                        f"and in {group}: take it out of one"
                    )
    return found


def _find_members(name: str, member: str, sections: Sequence[str]) -> list[str]:
    """The sections that a name, pattern or run names."""
    found = [section for section in sections if section == member]
    found = found or [section for section in sections if fnmatch.fnmatchcase(section, member)]
    found = found or _find_run(member, sections)
    if not found:
        raise BenchError(
            f"{name} must name sections that were segmented, received {member!r}, which none of "
            f"{first_names(sections)} is: correct it"
        )
    return found


def _find_run(member: str, sections: Sequence[str]) -> list[str]:
    """The sections of a series from one number to another; a name may have hyphens itself."""
    pieces = member.split("-")
    for cut in range(1, len(pieces)):
        first, last = (
            place_in_series("-".join(part).strip()) for part in (pieces[:cut], pieces[cut:])
        )
        if first and last and last[0] in (first[0], ""):
            numbers = range(first[1], last[1] + 1)
            places = {section: place_in_series(section) for section in sections}
            found = [s for s, at in places.items() if at and at[0] == first[0] and at[1] in numbers]
            if found:
                return found
    return []


def region_of(section: str, volume: str) -> str:
    """The region of a section: the stack that it is a plane of, else the series of its name.

    Examples:
        >>> region_of("ctrl_m1_s03", ""), region_of("montage", ""), region_of("a_z01", "a")
        ('ctrl_m1_s', 'montage', 'a')
    """
    place = place_in_series(section)
    return volume or (place[0] if place and place[0] else section)


def choose_clusters(
    sections: Sequence[str], groups: Mapping[str, str], animals: Mapping[str, str]
) -> dict[str, str]:
    """The animal of each section of a group; empty where animals are not named.

    Raises:
        BenchError: If a section of a group has no animal, or an animal is in two groups.
    """
    if not animals:
        return {}
    left = [section for section in sections if section not in animals]
    if left:
        raise BenchError(
            f"animals must have every section that is measured, received none of "
            f"{first_names(left)}: add them, or leave animals out"
        )
    homes: dict[str, set[str]] = {}
    for section in sections:
        homes.setdefault(animals[section], set()).add(groups.get(section, ""))
    if twice := sorted(animal for animal, found in homes.items() if len(found) > 1):
        raise BenchError(
            f"an animal is of one group, received {twice[0]} in "
            f"{' and '.join(sorted(filter(None, homes[twice[0]])))}: name the animals of each "
            "group apart"
        )
    return {section: animals[section] for section in sections}
