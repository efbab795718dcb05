from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit.session.patterns import Matcher, PatternError, parse_dockerignore

names = st.text("ab.c", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
pieces = st.sampled_from(["a", "b", "c", ".", "/", "*", "**", "**/", "?", "[ab]", "[^a]", "[a-c]", "\\*"])
globs = st.lists(pieces, min_size=1, max_size=6).map("".join)


rules = st.tuples(st.booleans(), globs).filter(lambda rule: not rule[0] or cleaned("!" + rule[1]) != "!")


def slow_match(pattern: str, path: str) -> bool:
    """Matches one cleaned pattern by trying every way, character by character."""
    literal_after_stars = pattern.startswith("**") and not set("*?[\\") & set(pattern[2:])
    if literal_after_stars:
        return path.endswith(pattern[2:]) or "/" + path == pattern[2:]
    return _slow(pattern, path)


def _slow(pattern: str, path: str) -> bool:
    if not pattern:
        return not path
    if pattern.startswith("**"):
        rest = pattern[2:].removeprefix("/")
        if not rest:
            return True
        return _slow(rest, path) or any(
            _slow(rest, path[index + 1 :]) for index, char in enumerate(path) if char == "/"
        )
    if pattern[0] == "*":
        segment = len(path.split("/", 1)[0])
        return any(_slow(pattern[1:], path[length:]) for length in range(segment + 1))
    if not path:
        return False
    if pattern[0] == "?":
        return path[0] != "/" and _slow(pattern[1:], path[1:])
    if pattern[0] == "\\":
        return path[0] == pattern[1] and _slow(pattern[2:], path[1:])
    if pattern[0] == "[":
        inner, _, rest = pattern[1:].partition("]")
        members = {"ab": "ab", "^a": None, "a-c": "abc"}[inner]
        fits = path[0] != "a" if members is None else path[0] in members
        return fits and _slow(rest, path[1:])
    return path[0] == pattern[0] and _slow(pattern[1:], path[1:])


def cleaned(pattern: str) -> str:
    """The pattern without doubled slashes and parts that lead nowhere."""
    parts: list[str] = []
    for part in pattern.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part == ".." and pattern.startswith("/"):
            continue
        elif part not in ("", "."):
            parts.append(part)
    return ("/" if pattern.startswith("/") else "") + "/".join(parts) or "."


@given(globs, paths)
def test_single_patterns(pattern: str, path: str) -> None:
    """A pattern matches what a slow, plain reading of the rules says, for the path or a folder above it."""
    above = [path[:index] for index, char in enumerate(path) if char == "/"]

    expected = any(slow_match(cleaned(pattern), each) for each in (*above, path))

    assert expected is Matcher([pattern]).matches(path)


@given(st.lists(rules, max_size=5), names)
def test_the_last_pattern_that_applies_decides(given_rules: list[tuple[bool, str]], name: str) -> None:
    """With exceptions, the last rule that matches a name says whether it is matched."""
    expected = False
    for exception, pattern in given_rules:
        # "!" makes what follows it a plain name, so nothing before a slash is cleaned away there.
        text = cleaned("!" + pattern)[1:] if exception else cleaned(pattern)
        if slow_match(text, name):
            expected = not exception
    patterns = ["!" * exception + pattern for exception, pattern in given_rules]

    assert expected is Matcher(patterns).matches(name)


@given(st.lists(rules, max_size=5), paths, names)
def test_pruning_is_safe(given_rules: list[tuple[bool, str]], folder: str, name: str) -> None:
    """What a folder is said not to hold, it does not hold."""
    matcher = Matcher("!" * exception + pattern for exception, pattern in given_rules)
    below = matcher.matches(f"{folder}/{name}")
    here = matcher.matches(folder)

    assert not (below and not here and not matcher.may_match_below(folder))
    assert not (here and not below and not matcher.may_except_below(folder))


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        (["**"], "file", True),
        (["**/"], "dir/file", True),
        (["**/**"], "dir/file", True),
        (["dir/**"], "dir/file", True),
        (["dir/**"], "dir", False),
        (["dir/"], "dir/file", True),
        (["**/dir2/*"], "dir/dir2/file", True),
        (["**/dir2/**"], "dir/dir2/dir2/file", True),
        (["**file"], "dir/file", True),
        (["**/file*txt"], "dir/dir/file.txt", True),
        (["**/**/*.txt"], "dir/file.txt", True),
        (["**/**/*.txt2"], "dir/file.txt", False),
        (["a**b"], "axb", False),
        (["a**/*.txt"], "a/file.txt", True),
        (["*"], "dir/dir/file.txt", True),
        (["*.go"], "dir/file.go", False),
        (["foo.*"], "foozbar", False),
        (["a[b-d]e"], "ace", True),
        (["[^a]"], "a", False),
        (["a\\*b"], "a*b", True),
        (["a\\*b"], "acb", False),
        (["**/foo/bar"], "foo/bar", True),
        (["abc/**"], "abc/def/ghi", True),
        (["**/.foo"], "bar.foo", False),
        (["*", "!.env"], ".env", False),
        (["*", "!docs"], "docs/a/b", False),
        (["docs", "!docs/README.md"], "docs/README.md", False),
        (["docs", "!docs/README.md"], "docs/other", True),
        (["docs", "!docs/a", "docs/a/x"], "docs/a/x", True),
        (["**", "!util/docker/web"], "util/docker/web/foo", False),
        (["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", True),
        (["config", "!config/**/*.yaml", "config/secret"], "config/secret/db.yaml", True),
        (["config", "!config/**/*.yaml", "config/secret"], "config/app.yaml", False),
        (["config", "!config/**/*.yaml", "config/secret", "!config/secret/a*"], "config/secret/a/b.yaml", False),
        (["*", "!*.yaml", "!**/*.yaml", "secret*"], "secrets/db.yaml", True),
        (["a", "!a/b", "a"], "a/b/c", True),
        (["**", "!a/**/*.txt", "**/x"], "a/x/y/z.txt", True),
        (["**", "!a/**/*.txt", "**/x"], "a/y/z.txt", False),
        # An exception from what is not matched does not hold for what is in the folder, as with Docker's clients.
        (["docs/*.md", "!docs"], "docs/a.md", True),
        (["./a/../b//c"], "b/c", True),
        (["/a"], "a", False),
        (["  a  ", ""], "a", True),
        (["Ünïcode*"], "Ünïcode-dir/x", True),
    ],
)
def test_cases(patterns: list[str], path: str, expected: bool) -> None:
    """Cases that users meet come out as upstream documents them."""
    assert expected is Matcher(patterns).matches(path)


@pytest.mark.parametrize("pattern", ["[", "[]", "a[", "[^]", "[-x]", "[a-", "a\\", "!", "\\q"])
def test_malformed_patterns(pattern: str) -> None:
    """A malformed pattern is refused, and named."""
    with pytest.raises(PatternError):
        Matcher([pattern])


def test_dockerignore() -> None:
    """Comments and blank lines go, slashes and blanks at the ends too, exceptions stay exceptions."""
    text = "\ufeff# comment\n\n*.pyc\n  build/  \n/dist\n!/dist/keep\n! spaced\n#not\n\\#file\n./x/../y\r\n/\n"

    assert ["*.pyc", "build", "dist", "!dist/keep", "!spaced", "\\#file", "y", "/"] == parse_dockerignore(text)
