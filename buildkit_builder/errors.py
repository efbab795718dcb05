"""Everything this package raises on purpose.

```
BuildKitError
├── ConfigError                 a setting is unknown, of the wrong type, or contradicts another
├── EndpointError               no BuildKit could be reached, or its address makes no sense
│   └── DaemonLostError         the connection broke, or the daemon went away, in mid-build
├── CapabilityError             the daemon cannot do what the image needs
├── ImageError                  the image asks for something that cannot be built
│   ├── UnsupportedLayerError   a layer of a kind this version does not build
│   ├── MissingSourceError      a file or folder named by a layer is not there
│   ├── MissingSecretError      a secret named by a layer has no value
│   └── BaseImageError          the base image is missing, or has no such platform
├── SourceError                 a file could not be sent to the daemon
│   ├── SourceNameError         its name is not UTF-8
│   └── SourceChangedError      it changed or vanished while it was being sent
├── SolveError                  the daemon reported a failure
│   ├── StepFailedError         a step of the image ended with an error
│   ├── RegistryError           a registry refused or could not be reached
│   │   └── CredentialsError    … because of the credentials
│   └── DiskFullError           the daemon has no room left
└── BuildCancelledError         the build was cancelled before it finished
```

Messages are whole sentences for the user: which part of the image, what was being done, what was said, what to do
next. They never hold the value of a secret.
"""

from __future__ import annotations

import re
from typing import Any

# What a terminal would obey. Words of others come without it, see `terminal`; this is for what slipped through, and is
# replaced, so that nothing grows together.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_HALVES = re.compile("[\ud800-\udfff]")


class BuildKitError(Exception):
    """Base of every error of this package.

    Args:
        message: Sentences for the user.
    """

    def __init__(self, message: str = "") -> None:
        # Bytes of names that are not UTF-8 stand in a text as halves of characters, which no stream would take.
        message = _HALVES.sub(lambda half: f"\\x{ord(half[0]) & 0xFF:02x}", message)
        super().__init__(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", message))

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are made again from `args` alone, which leaves out what a subclass wants beside the message.
        return _made_again, (type(self), self.args, vars(self))


def _made_again(kind: type[BuildKitError], args: tuple[Any, ...], attributes: dict[str, Any]) -> BuildKitError:
    """The error as it was, in another process or as a copy."""
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(attributes)
    return error


class ConfigError(BuildKitError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class EndpointError(BuildKitError):
    """No BuildKit could be reached, or its address makes no sense."""


class DaemonLostError(EndpointError):
    """The connection to the daemon broke while it was building."""


class CapabilityError(BuildKitError):
    """The daemon cannot do what the image needs."""


class ImageError(BuildKitError):
    """The image asks for something that cannot be built."""


class UnsupportedLayerError(ImageError):
    """A layer is of a kind this version does not build."""


class MissingSourceError(ImageError):
    """A file or folder that a layer names is not there."""


class MissingSecretError(ImageError):
    """A secret that a layer names has no value."""


class BaseImageError(ImageError):
    """The base image is missing, or is not there for the platform."""


class SourceError(BuildKitError):
    """A local file could not be sent to the daemon."""


class SourceNameError(SourceError):
    """A file's name is not UTF-8, which the protocol cannot carry."""


class SourceChangedError(SourceError):
    """A file changed or vanished while it was being sent."""


class SolveError(BuildKitError):
    """The daemon reported a failure."""


class StepFailedError(SolveError):
    """A step of the image ended with an error.

    Attributes:
        step: The step's name as progress shows it.
        command: The command it ran, or `None` for steps that run none, or none but words of this package.
        exit_code: What the command ended with, or `None` where the daemon did not say.
        log_tail: The last lines that the step printed, oldest first.
    """

    def __init__(
        self,
        message: str,
        *,
        step: str,
        command: str | None = None,
        exit_code: int | None = None,
        log_tail: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.step = step
        self.command = command
        self.exit_code = exit_code
        self.log_tail = log_tail


class RegistryError(SolveError):
    """A registry refused a request or could not be reached."""


class CredentialsError(RegistryError):
    """A registry refused the credentials it was given, or asked for some that are not there."""


class DiskFullError(SolveError):
    """The daemon has no room left on its disk."""


class BuildCancelledError(BuildKitError):
    """The build was cancelled before it finished."""
