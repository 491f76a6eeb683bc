"""The page of packages and licences names each package of the project, and no other."""

import re

from tests.docs.pages import PROJECT, TEXTS

NAME = re.compile(r"^[\w-]+")


def rows(title):
    section = TEXTS["docs/dependencies.md"].split(f"## {title}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| `.*\|$", section, re.M)]


def names(requirements):
    return {NAME.match(one)[0] for one in requirements}


def test_the_core_is_listed_with_reasons_and_licences():
    found = rows("Core")
    assert {cells[0].strip("`") for cells in found} == names(PROJECT["dependencies"])
    assert all(len(cells) == 3 and all(cells) for cells in found)


def test_each_extra_is_listed_with_its_packages():
    """The developers' extra names those that no other extra has."""
    extras, found = PROJECT["optional-dependencies"], {cells[0].strip("`"): cells for cells in rows("Extras")}
    assert set(found) == set(extras) and all(len(cells) == 4 and all(cells) for cells in found.values())
    listed = {extra: set(re.findall(r"`([\w-]+)`", cells[1])) for extra, cells in found.items()}
    others = set().union(*(names(extras[extra]) for extra in extras if extra != "dev"))
    for extra, packages in listed.items():
        assert packages == names(extras[extra]) - (others if extra == "dev" else set()), extra
