"""What a request can end with other than success. Each dialect gives it the body of its contract.

::

    Problem               status, a message for the caller, and what a dialect may want besides
    ├── Invalid           400, with the fields that are wrong
    ├── Unauthenticated   401
    ├── Forbidden         403
    ├── Missing           404
    ├── Taken             409, something of that name exists
    ├── Owned             409, somebody else manages the field
    └── Unavailable       503, with Retry-After
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that is wrong."""

    field: str
    message: str


class Problem(Exception):
    """A request that cannot be served.

    :param message: what is wrong, for the caller; nothing that he may not know.
    """

    status = 400
    code = "invalid_request"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status if status is not None else type(self).status
        self.code = code if code is not None else type(self).code
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class Invalid(Problem):
    """What was sent is wrong."""


class Unauthenticated(Problem):
    """Nobody knows who is asking."""

    status = 401
    code = "unauthenticated"

    def __init__(self, message: str = "Not authenticated") -> None:
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Problem):
    """The caller may not do that."""

    status = 403
    code = "forbidden"


class Missing(Problem):
    """It is not there, or the caller may not know of it."""

    status = 404
    code = "not_found"


class Taken(Problem):
    """Something of that name exists already."""

    status = 409
    code = "conflict"


class Owned(Problem):
    """Somebody else manages the field: GitOps, or a person with kubectl."""

    status = 409
    code = "conflict"


class Unavailable(Problem):
    """The API server is away, or overloaded."""

    status = 503
    code = "unavailable"

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after)})
