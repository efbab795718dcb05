"""What the daemon and Docker's clients read as true and as false (Go: `strconv.ParseBool`)."""

from __future__ import annotations

TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")
