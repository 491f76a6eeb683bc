"""Where the user's package index has a wheel: their settings for pip and uv, and the index's own answer."""

from __future__ import annotations

import configparser
import os
import ssl
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from editbench.fetch.download import TIMEOUT, DownloadError

_KEYS = ("index-url", "extra-index-url", "find-links", "trusted-host", "cert", "no-index")
_TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class IndexSettings:
    """The user's package indexes; without an index URL the standard one is asked."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    cert: str | None = None
    no_index: bool = False

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> IndexSettings:
        """Variables of uv go before pip's, and these before pip's configuration files."""
        variables = os.environ if environment is None else environment
        found = _configured(variables)
        names = {key: f"PIP_{key.upper().replace('-', '_')}" for key in _KEYS}
        found |= {key: variables[name] for key, name in names.items() if name in variables}
        default = variables.get("UV_DEFAULT_INDEX") or variables.get("UV_INDEX_URL") or found.get("index-url")
        extra = " ".join(variables.get(name, "") for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL"))
        links = variables.get("UV_FIND_LINKS", "").replace(",", " ")
        return cls(
            index_url=_address(default) if default else None,
            extra_index_urls=tuple(map(_address, f"{extra} {found.get('extra-index-url', '')}".split())),
            find_links=tuple(f"{links} {found.get('find-links', '')}".split()),
            trusted_hosts=tuple(f"{variables.get('UV_INSECURE_HOST', '')} {found.get('trusted-host', '')}".split()),
            cert=variables.get("SSL_CERT_FILE") or found.get("cert") or None,
            no_index=(variables.get("UV_NO_INDEX") or found.get("no-index", "")).lower() in _TRUE,
        )


def find_wheel(name: str, version: str, settings: IndexSettings) -> tuple[str, httpx2.Client]:
    """Address of the wheel of this version, and the client to read it with, which the caller closes."""
    from unearth import PackageFinder
    from unearth.auth import MultiDomainBasicAuth
    from unearth.fetchers.sync import PyPIClient

    verify = ssl.create_default_context(cafile=settings.cert) if settings.cert else True
    client = PyPIClient(trusted_hosts=settings.trusted_hosts, verify=verify, timeout=TIMEOUT, follow_redirects=True)
    indexes = [] if settings.no_index else [settings.index_url or _standard_index(), *settings.extra_index_urls]
    client.auth = MultiDomainBasicAuth(index_urls=indexes)
    links = [link for link in settings.find_links if "://" in link or Path(link).exists()]
    asked = []
    for places in (*({"find_links": [link]} for link in links), *({"index_urls": [url]} for url in indexes)):
        finder, place = PackageFinder(client, ignore_compatibility=True, **places), next(iter(places.values()))[0]
        try:
            for package in finder.find_matches(f"{name}=={version}"):
                if package.link.is_wheel:
                    return str(package.link.url_without_fragment), client
            asked.append(_without_password(place))
        except (httpx2.HTTPError, OSError) as error:
            asked.append(f"{_without_password(place)} ({error})")
    client.close()
    where = ", ".join(asked) or "any place: there is no index"
    raise DownloadError(f"no wheel of {name} {version} at {where}; correct the index's settings, or give --from FILE")


def _standard_index() -> str:
    from unearth import PackageFinder

    return str(PackageFinder().sources[0]["url"])


def _without_password(place: str) -> str:
    scheme, separator, rest = place.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _address(value: str) -> str:
    """The address of uv's "name=https://…"."""
    name, equals, url = value.partition("=")
    return url if equals and "/" not in name and ":" not in name else value


def _configured(variables: Mapping[str, str]) -> dict[str, str]:
    """Values of pip's configuration files, later files over earlier ones, of the sections that `pip download` reads."""
    found: dict[str, str] = {}
    for file in _files(variables):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            raise DownloadError(f"pip's configuration {file} cannot be read: {error}") from error
        for section in ("global", "download"):
            if parser.has_section(section):
                found |= {key: value for key, value in parser.items(section) if key in _KEYS}
    return found


def _files(variables: Mapping[str, str]) -> Iterator[Path]:
    """Configuration files of pip in its order: the site's, the user's, the environment's, the one that is named."""
    from platformdirs import site_config_path, user_config_path

    named = variables.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    folders = [site_config_path("pip", appauthor=False)]
    if sys.platform != "win32":
        folders.append(Path("/etc"))
    folders += [Path.home() / ("pip" if sys.platform == "win32" else ".pip")]
    folders += [user_config_path("pip", appauthor=False, roaming=True), Path(sys.prefix)]
    yield from (folder / name for folder in folders if (folder / name).is_file())
    if named:
        yield Path(named)
