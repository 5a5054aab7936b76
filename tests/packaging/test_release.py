"""What a package index shows, and what continuous integration calls."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.check_wheel import quick_start
from tools.release_urls import absolute_links, main

from prefixsim import __version__

TOP = Path(__file__).resolve().parents[2]
URL = "https://host.test/owner/prefixsim"


def text(name: str) -> str:
    return (TOP / name).read_text(encoding="utf-8")


def workflows() -> list[Path]:
    return sorted((TOP / ".github/workflows").glob("*.yml"))


def test_a_release_has_no_relative_link_and_says_where_it_comes_from(tmp_path: Path) -> None:
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(TOP / name, tmp_path)
    main(URL + "/", "v1.0.0", tmp_path)
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]*)\)", readme)
    assert len(links) > 5
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    urls = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "urls"
    ]
    assert set(urls) == {"Homepage", "Documentation", "Changelog", "Issues"}
    assert all(url.startswith(URL) for url in urls.values())
    with pytest.raises(SystemExit, match="already"):
        main(URL, "v1.0.0", tmp_path)


def test_pictures_become_raw_files_and_the_rest_pages() -> None:
    page = "[a](docs/a.md#part) ![b](docs/b.png) [c](https://x.test/y) [d](#e)"
    assert absolute_links(page, URL, "v1") == (
        f"[a]({URL}/blob/v1/docs/a.md#part) ![b]({URL}/raw/v1/docs/b.png) "
        "[c](https://x.test/y) [d](#e)"
    )


def test_relative_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text("README.md"))
    assert [link for link in links if not (TOP / link).exists()] == []


def test_the_version_is_the_same_everywhere() -> None:
    cargo = tomllib.loads(text("Cargo.toml"))["package"]["version"]
    citation = yaml.safe_load(text("CITATION.cff"))["version"]
    changes = re.search(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)
    assert changes is not None
    assert {cargo, citation, changes[1]} == {__version__}


def test_the_extra_all_is_every_extra() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    everything = extras.pop("all")
    # Ray is for clusters, and larger than all the rest.
    assert everything == [f"prefixsim[{','.join(name for name in extras if name != 'ray')}]"]
    assert all(extras.values())
    named = re.findall(r'extra="(\w+)"', "".join(f.read_text() for f in TOP.glob("python/**/*.py")))
    assert set(named) == set(extras)


def test_the_quick_start_has_commands() -> None:
    commands = quick_start(text("README.md"))
    assert [command.split()[1] for command in commands] == ["generate", "replay", "curve"]


@pytest.mark.parametrize("path", workflows(), ids=lambda p: p.name)
def test_workflows_call_only_what_runs_here(path: Path) -> None:
    jobs: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    makefile = text("Makefile")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert lines
    for line in lines:
        command, *words = line.split()
        if command == "make":
            assert {word for word in words if "=" not in word} <= targets, line
        else:
            assert line.startswith("python tools/"), line
            assert (TOP / words[0]).is_file()


ACTIONLINT = shutil.which("actionlint", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(ACTIONLINT is None, reason="actionlint has no package for this system")
def test_workflows_are_valid() -> None:
    command = [str(ACTIONLINT), *map(str, workflows())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
