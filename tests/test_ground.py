"""The ground: one set of versions for every way to install, and commands that set up by themselves."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"[a-z0-9][a-z0-9.-]*==[0-9][0-9a-z.]*")


def pins() -> dict[str, Version]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in lines}


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    return [Requirement(text) for text in project["dependencies"] + extras]


def test_constraints_hold_names_and_exact_versions_only():
    for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]:
        assert PIN.fullmatch(line), line


def test_every_requirement_is_pinned_to_a_version_it_allows():
    pinned = pins()
    for requirement in requirements():
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} has no line in constraints.txt"
        assert version in requirement.specifier, f"{requirement} is pinned to {version}"


def test_build_tool_is_pinned_like_the_rest():
    requirement = Requirement(PROJECT["build-system"]["requires"][0])
    assert str(requirement.specifier) == f"=={pins()['setuptools']}"


def test_conda_environment_installs_what_the_makefile_installs():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    with_pip = next(entry for entry in environment["dependencies"] if isinstance(entry, dict))["pip"]
    makefile = (ROOT / "Makefile").read_text()
    arguments = re.search(r"pip install (.+)", makefile).group(1)
    assert " ".join(with_pip) == arguments
    python = next(entry for entry in environment["dependencies"] if str(entry).startswith("python="))
    assert Requirement(f"python{PROJECT['project']['requires-python']}").specifier.contains(python.split("=")[1])


def test_every_package_is_found():
    from setuptools import find_packages

    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("emibook/**/__init__.py")}
    options = PROJECT["tool"]["setuptools"]["packages"]["find"]
    assert packages == set(find_packages(str(ROOT), include=options["include"]))


def test_readme_names_the_makefile_targets_and_they_exist():
    makefile = (ROOT / "Makefile").read_text()
    readme = (ROOT / "README.md").read_text()
    for target in re.findall(r"(?:^    |`)make ([a-z-]+)", readme, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "make book" in readme and "make test" in readme


def test_versions_agree():
    import emibook

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == emibook.__version__
    assert f"## {emibook.__version__} " in (ROOT / "CHANGELOG.md").read_text()
