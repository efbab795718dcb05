"""Words of a Dockerfile, against what BuildKit's own lexer makes of them."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buildkit_builder.image.lower.dockerfile_words import WordError, expand, expand_value, join_lines

VARIABLES = {
    "HOME": "/root",
    "EMPTY": "",
    "A_1": "one",
    "PATH": "/bin",
    "é": "accent",
    "SPACED": "a  b",
    "Q": "'\"$HOME",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a=b:c,d", "a=b:c,d"),
        # quotes
        ("'$HOME'", "$HOME"),
        ('"$HOME"', "/root"),
        ("'a'b\"c\"", "abc"),
        ("'a\\'", "a\\"),
        ('"a\\"b"', 'a"b'),
        ('"a\\\\b"', "a\\b"),
        ('"a\\$HOME"', "a$HOME"),
        ('"a\\nb"', "a\\nb"),
        ("\"it's\"", "it's"),
        ("'a b'", "a b"),
        ('""', ""),
        # escapes
        ("\\$HOME", "$HOME"),
        ("a\\bc", "abc"),
        ("a\\ b", "a b"),
        ("\\\\", "\\"),
        ("\\'", "'"),
        ("\\\\$HOME", "\\/root"),
        # variables
        ("$HOME", "/root"),
        ("$HOME/bin", "/root/bin"),
        ("$HOME_", ""),
        ("${HOME}_x", "/root_x"),
        ("$A_1.x", "one.x"),
        ("$NONE", ""),
        ("a$NONE-b", "a-b"),
        ("$", "$"),
        ("a$/b", "a$/b"),
        ("$=", "$="),
        ("$é", "accent"),
        ("$SPACED", "a  b"),
        # the shell's own parameters have no value in a Dockerfile
        ("$1HOME", "HOME"),
        ("a$12b", "ab"),
        ("a$$HOME", "aHOME"),
        ("$?$#$@$*$!$-", ""),
        ("${1}", ""),
        # what a value holds is not looked into again
        ("$Q", "'\"$HOME"),
        # modifiers
        ("${HOME:-x}", "/root"),
        ("${NONE:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${NONE-x}", "x"),
        ("${HOME:+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${NONE+x}", ""),
        ("${HOME:?gone}", "/root"),
        ("${EMPTY?gone}", ""),
        ("${NONE:-$HOME/x}", "/root/x"),
        ("${NONE:-${EMPTY:-${HOME}}}", "/root"),
        ("${NONE:-'a}b'}", "a}b"),
        ("${NONE:-\"$HOME\"}", "/root"),
        ("${NONE:-\\}}", "}"),
        ("${NONE-}", ""),
        ("${HOME}}", "/root}"),
        # what Flyte's images are made with
        ("${VIRTUALENV-/opt/venv}", "/opt/venv"),
        ("${UV_PYTHON-${VIRTUALENV-/opt/venv}/bin/python}", "/opt/venv/bin/python"),
        ("/opt/venv/bin:$PATH", "/opt/venv/bin:/bin"),
    ],
)  # fmt: skip
def test_a_word(text: str, expected: str) -> None:
    """Quotes go, escapes are resolved, variables are put in; a value that is one word is processed alike."""
    assert expected == expand(text, VARIABLES)
    assert expected == expand_value(text, VARIABLES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("'a", "a ' is not closed"),
        ('"a', 'a " is not closed'),
        ('"a\\"', 'a " is not closed'),
        ("${", "no name"),
        ("${}", "no name"),
        ("${:-x}", "no name"),
        ("${HOME", "not closed"),
        ("${HOME:", "not closed"),
        ("${HOME:-x", "not closed"),
        ("${HOME:-'x}", "a ' is not closed"),
        ("${HOME:x}", "HOME:x is not a modifier"),
        ("${HOME x}", "modifier"),
        ("${HOME%t}", "modifier"),
        ("${NONE?}", "NONE: is not set"),
        ("${NONE:?please set it}", "NONE: please set it"),
        ("${EMPTY:?}", "EMPTY: is not set"),
        ("${A:-" * 5000, "nested too deeply"),
    ],
)
def test_a_word_that_a_dockerfile_refuses(text: str, message: str) -> None:
    """The error says what is wrong in words."""
    with pytest.raises(WordError, match=re.escape(message)):
        expand(text, VARIABLES)


@pytest.mark.parametrize("text", ["${", "${HOME", "a ${HOME:x} b", "it's ${NONE:?gone}"])
def test_a_value_that_a_dockerfile_refuses(text: str) -> None:
    """Spaces or a lone quote do not make a bad variable a good one."""
    with pytest.raises(WordError):
        expand_value(text, VARIABLES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello world", "hello world"),
        ("  padded  ", "  padded  "),
        ("it's $HOME here", "it's /root here"),
        ("it's", "it's"),
        ('say "$HOME" now', 'say "/root" now'),
        ("cost \\$5 for 'two'", "cost $5 for 'two'"),
        ("C:\\Users and more", "C:\\Users and more"),
        ("a\nb", "a\nb"),
        ("'a b' c", "'a b' c"),
        ('{"a": "$HOME"}', '{"a": "/root"}'),
        # one word, spaces and all
        ("'a b'", "a b"),
        ('"a b"c', "a bc"),
        ("a\\ b", "a b"),
    ],
)
def test_a_value_with_spaces(text: str, expected: str) -> None:
    """What `ENV` would cut or refuse is taken as it is, but for its variables."""
    assert expected == expand_value(text, VARIABLES)


ANYTHING = st.text() | st.text(alphabet="${}'\"\\:-+?# aHOME")


@given(ANYTHING, st.dictionaries(st.text(max_size=3), ANYTHING, max_size=3))
@example("$" + "²", {})
@example("${²}", {})
@example("\\", {})
@example('"\\', {})
def test_nothing_else_is_ever_raised(text: str, variables: dict[str, str]) -> None:
    """Any text gives text or a `WordError`."""
    for read in (expand, expand_value):
        with contextlib.suppress(WordError):
            assert isinstance(read(text, variables), str)


@given(st.text(st.characters(exclude_characters="$'\"\\")))
def test_text_without_special_characters_is_left_alone(text: str) -> None:
    """Only `$`, quotes and backslashes mean anything."""
    assert text == expand(text, VARIABLES)
    assert text == expand_value(text, VARIABLES)


@given(st.text(st.characters(exclude_characters="'")))
def test_single_quotes_keep_everything(text: str) -> None:
    """Between them nothing is special."""
    assert text == expand(f"'{text}'", VARIABLES)
    assert text == expand_value(f"'{text}'", VARIABLES)


@given(st.text())
def test_what_is_escaped_is_meant_as_it_is(text: str) -> None:
    """A backslash before every character gives the characters."""
    assert text == expand("".join(f"\\{char}" for char in text), VARIABLES)


@given(st.text())
def test_a_variable_is_put_in_unchanged(value: str) -> None:
    """Quotes and dollars in a variable's value are not read again."""
    assert f"<{value}>" == expand("<$NAME>", {"NAME": value})
    assert f"< {value} >" == expand_value("< ${NAME} >", {"NAME": value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo one", "echo one"),
        ("echo one\n", "echo one"),
        ("echo one \\\n  two", "echo one   two"),
        ("echo one \\ \t\n  two\n", "echo one   two"),
        ("echo one \\\n# no\n  # nor this\n two", "echo one  two"),
        ("echo one \\\n\n \n two", "echo one  two"),
        ("echo 'one \\\ntwo'", "echo 'one two'"),
        # a backslash that stands for itself, an instruction of its own, and one that would take in the next
        ("echo one \\\\\ntwo", "echo one \\\\\ntwo"),
        ("echo one\necho two \\\n three", "echo one\necho two \\\n three"),
        ("echo one \\\n", "echo one \\\n"),
        ("cat <<END\na \\\nb\nEND", "cat <<END\na \\\nb\nEND"),
    ],
)
def test_joins_lines_as_a_dockerfile_does(text: str, expected: str) -> None:
    """Continued lines are one, without comments; anything else is left to the shell."""
    assert expected == join_lines(text)
