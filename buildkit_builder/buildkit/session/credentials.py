"""What a registry is shown."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What to show a registry; all empty for an anonymous request.

    A byte of a password that is no UTF-8 stands in it as Python's `surrogateescape` has it.

    Attributes:
        username: The user, empty with an identity token.
        password: The password.
        identity_token: A refresh token, used instead of a password.
        registry_token: A bearer token to send as it is.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def secret(self) -> str:
        """The identity token if there is one, else the password."""
        return self.identity_token or self.password


ANONYMOUS = Credentials()
