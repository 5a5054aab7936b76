"""Write the address of the repository into what a package index shows.

    python tools/release_urls.py https://example.org/owner/prefixsim v0.2.0

The sources name no host: links in README.md are relative, and pyproject.toml has no URLs. A release
is built from a known address, which this script puts into both before the wheels are made, so that
the links work on a package index and the project's page there leads back to the sources.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

__all__ = ["absolute_links", "main", "with_urls"]

_LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?:|#|mailto:)([^)\s]+)(\))")
_PICTURE = re.compile(r"\.(png|svg|gif|jpe?g)$")
_URLS = """[project.urls]
Homepage = "{url}"
Documentation = "{url}/tree/{ref}/docs"
Changelog = "{url}/blob/{ref}/CHANGELOG.md"
Issues = "{url}/issues"

"""


def absolute_links(text: str, url: str, ref: str) -> str:
    """Return Markdown with every relative link made absolute, pictures as raw files."""

    def absolute(link: re.Match[str]) -> str:
        before, path, after = link.groups()
        kind = "raw" if _PICTURE.search(path) else "blob"
        return f"{before}{url}/{kind}/{ref}/{path}{after}"

    return _LINK.sub(absolute, text)


def with_urls(pyproject: str, url: str, ref: str) -> str:
    """Return ``pyproject.toml`` with a table of URLs."""
    if "[project.urls]" in pyproject:
        msg = "pyproject.toml has URLs already: start from a clean checkout"
        raise SystemExit(msg)
    return pyproject.replace(
        "[project.scripts]", _URLS.format(url=url, ref=ref) + "[project.scripts]"
    )


def main(url: str, ref: str, top: Path) -> None:
    """Rewrite ``README.md`` and ``pyproject.toml`` of a checkout."""
    url = url.removesuffix("/")
    for name, change in (("README.md", absolute_links), ("pyproject.toml", with_urls)):
        file = top / name
        file.write_text(change(file.read_text(encoding="utf-8"), url, ref), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: release_urls.py URL REF")
    main(sys.argv[1], sys.argv[2], Path(__file__).resolve().parents[1])
