from __future__ import annotations

from collections.abc import Mapping

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.errors import ImageError
from tests.buildkit.llb.graphs import DIGEST, capabilities, last_op


def described(state: llb.State) -> tuple[str, Mapping[str, str]]:
    """Identifier and attributes of a source."""
    source = last_op(state).source
    return source.identifier, dict(source.attrs)


def test_an_image_is_named_in_full() -> None:
    """An image's short name is completed, and without options it has no attributes."""
    state = llb.image("python:3.12")

    assert ("docker-image://docker.io/library/python:3.12", {}) == described(state)
    assert {"source.image"} == capabilities(state)


def test_an_image_may_be_limited_and_checked() -> None:
    """Options of an image are attributes, and each demands an ability."""
    state = llb.image("ghcr.io/a/b@" + DIGEST, resolve_mode="pull", layer_limit=3, checksum=DIGEST)

    assert (
        f"docker-image://ghcr.io/a/b@{DIGEST}",
        {"image.resolvemode": "pull", "image.layerlimit": "3", "image.checksum": DIGEST},
    ) == described(state)
    assert {
        "source.image",
        "source.image.resolvemode",
        "source.image.layerlimit",
        "source.image.checksum",
    } == capabilities(state)


def test_preferring_the_daemons_image_demands_nothing() -> None:
    """Only `pull` must be understood by the daemon."""
    state = llb.image("python", resolve_mode="local")

    assert {"image.resolvemode": "local"} == described(state)[1]
    assert {"source.image"} == capabilities(state)


def test_a_directory_of_the_client_is_filtered() -> None:
    """Lists are JSON arrays byte for byte as Go writes them."""
    state = llb.local(
        "code",
        session="s",
        include=["a", 'b"\\\n'],
        exclude=["<é>&\u2028"],
        follow=["l"],
        shared_key="key",
        unique="u",
        differ="none",
        metadata_only=True,
    )

    assert (
        "local://code",
        {
            "local.session": "s",
            "local.includepattern": '["a","b\\"\\\\\\n"]',
            "local.excludepatterns": '["\\u003cé\\u003e\\u0026\\u2028"]',
            "local.followpaths": '["l"]',
            "local.sharedkeyhint": "key",
            "local.differ": "none",
            "local.metadatatransfer": "true",
        },
    ) == described(state)
    assert {
        "source.local",
        "source.local.sessionid",
        "source.local.includepatterns",
        "source.local.excludepatterns",
        "source.local.followpaths",
        "source.local.sharedkeyhint",
        "source.local.metadatatransfer",
    } == capabilities(state)


def test_a_directory_without_a_session_may_be_unique() -> None:
    """The word that keeps builds apart counts where no session is given."""
    state = llb.local("code", unique="u")

    assert {"local.unique": "u"} == described(state)[1]
    assert {"source.local", "source.local.unique"} == capabilities(state)


GIT_SECRETS = {"git.authtokensecret": "GIT_AUTH_TOKEN", "git.authheadersecret": "GIT_AUTH_HEADER"}


@pytest.mark.parametrize(
    ("url", "identifier", "full"),
    [
        ("https://github.com/a/b.git", "git://github.com/a/b.git", "https://github.com/a/b.git"),
        ("HTTPS://u:p@h:8443/a//b", "git://h:8443/a/b", "https://u:p@h:8443/a//b"),
        ("github.com/a/b", "git://github.com/a/b", "https://github.com/a/b"),
        ("git://h/a#v1:dir/", "git://h/a#v1:dir", "git://h/a"),
        ("https://h/a#:dir", "git://h/a#:dir", "https://h/a"),
    ],
)
def test_a_repository_is_named_apart_from_its_address(url: str, identifier: str, full: str) -> None:
    """The identifier is the same for every protocol; the address is an attribute."""
    assert (identifier, {"git.fullurl": full, **GIT_SECRETS}) == described(llb.git(url))


def test_a_repository_over_ssh_has_an_agent_and_known_hosts() -> None:
    """SSH needs an agent of the client, and is told the hosts it may trust."""
    state = llb.git("git@h:a/b.git", ref="main", known_ssh_hosts="h ssh-ed25519 AAAA")

    assert (
        "git://h/a/b.git#main",
        {
            "git.fullurl": "git@h:a/b.git",
            **GIT_SECRETS,
            "git.knownsshhosts": "h ssh-ed25519 AAAA\n",
            "git.mountsshsock": "default",
        },
    ) == described(state)
    assert {
        "source.git",
        "source.git.fullurl",
        "source.git.knownsshhosts",
        "source.git.mountsshsock",
    } == capabilities(state)


def test_a_repository_may_be_pinned_and_partial() -> None:
    """Options of a repository are attributes, and each demands an ability."""
    state = llb.git(
        "https://h/a",
        ref="main",
        subdir="/x/y",
        keep_git_dir=True,
        auth_token_secret="token",
        auth_header_secret="",
        ssh="ignored",
        checksum="abc",
    )

    assert (
        "git://h/a#main:x/y",
        {
            "git.fullurl": "https://h/a",
            "git.keepgitdir": "true",
            "git.authtokensecret": "token",
            "git.checksum": "abc",
        },
    ) == described(state)
    assert {
        "source.git",
        "source.git.fullurl",
        "source.git.subdir",
        "source.git.keepgitdir",
        "source.git.httpauth",
        "source.git.checksum",
    } == capabilities(state)


@pytest.mark.parametrize("url", ["ftp://h/a", "https:///a", "file:///a"])
def test_other_addresses_of_repositories_are_refused(url: str) -> None:
    """Only protocols that the daemon speaks are accepted."""
    with pytest.raises(ValueError, match="not the address of a git repository"):
        llb.git(url)


def test_a_repository_is_not_described_twice() -> None:
    """A ref in the address and one beside it contradict each other, and a query would be lost."""
    with pytest.raises(ValueError, match="ends in `#v1`"):
        llb.git("https://h/a#v1", ref="v2")
    with pytest.raises(ValueError, match="has a query"):
        llb.git("https://h/a?ref=v1")


def test_a_download_is_described() -> None:
    """Options of a download are attributes; the misspelt id is the one that daemons know."""
    state = llb.http(
        "https://h/f",
        checksum=DIGEST,
        filename="file",
        mode=0o644,
        uid=1,
        gid=2,
        auth_header_secret="header",
        accept="text/plain",
        user_agent="me",
    )

    assert (
        "https://h/f",
        {
            "http.checksum": DIGEST,
            "http.filename": "file",
            "http.perm": "0644",
            "http.uid": "1",
            "http.gid": "2",
            "http.authheadersecret": "header",
            "http.header.accept": "text/plain",
            "http.header.user-agent": "me",
        },
    ) == described(state)
    assert {
        "source.http",
        "source.http.checksum",
        "source.http.perm",
        "soruce.http.uidgid",
        "source.http.auth",
        "source.http.header",
    } == capabilities(state)


def test_senseless_downloads_are_refused() -> None:
    """Only HTTP is downloaded, and mode 0 would mean the default."""
    with pytest.raises(ValueError, match="not an HTTP address"):
        llb.http("ftp://h/f")
    with pytest.raises(ValueError, match="0o0 is not a mode"):
        llb.http("https://h/f", mode=0)


def test_an_oci_layout_is_named_by_store_and_digest() -> None:
    """The name has a host because daemons insist on one; the store is found by its id."""
    state = llb.oci_layout("store", DIGEST, session="s", layer_limit=2)

    assert (
        f"oci-layout://docker.io/library/store@{DIGEST}",
        {"oci.session": "s", "oci.store": "store", "oci.layerlimit": "2"},
    ) == described(state)
    assert {"source.ocilayout"} == capabilities(state)


def test_an_oci_layout_needs_a_digest() -> None:
    """A tag cannot be looked up in a content store."""
    with pytest.raises(ImageError, match="`latest` is not a digest"):
        llb.oci_layout("store", "latest")
