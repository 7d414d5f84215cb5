"""Tokens: those that the facade gives, and those of an identity provider.

An algorithm decides by which key a token is checked, and no key is ever used with another kind of algorithm:
neither ``none`` nor a public key taken for a shared secret is accepted.

Source: RFC 8725, https://www.rfc-editor.org/rfc/rfc8725
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import jwt
import structlog

from tenantry_api.auth.principal import Principal
from tenantry_api.problems import Unauthenticated, Unavailable
from tenantry_api.settings import Settings

ISSUER = "tenantry"
_SHARED = ("HS256",)
_PUBLIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_LEEWAY = 30
_LONGEST = 8192
_KEPT = 300.0
_REMEMBERED = 10_000
_log = structlog.get_logger(__name__)


class Tokens:
    """Gives tokens and checks them."""

    def __init__(self, settings: Settings) -> None:
        """:raises ValueError: for a key that could be guessed."""
        self._settings = settings
        self._secret = settings.jwt_secret.get_secret_value()
        if self._secret and len(self._secret) < 32:
            raise ValueError("TENANTRY_API_JWT_SECRET must have 32 characters or more")
        self._checked: dict[str, tuple[Principal, float]] = {}
        """Tokens that were found valid, and until when that is believed."""
        self._keys = (
            # Not one by one, which is for ever: what the provider takes back is not to be believed.
            jwt.PyJWKClient(settings.jwks_url, cache_keys=False, lifespan=_KEPT, timeout=5)
            if settings.jwks_url
            else None
        )

    @property
    def gives(self) -> bool:
        """Whether there is a key to sign with."""
        return bool(self._secret)

    def issue(self, subject: str, role: str, *, tenant: str = "", lifetime: float | None = None) -> str:
        """A new token.

        :param lifetime: seconds; None: as the settings say.
        """
        now = int(time.time())
        seconds = lifetime if lifetime is not None else self._settings.token_lifetime
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "sub": subject,
            "role": role,
            "iat": now,
            "exp": now + int(seconds),
        }
        if tenant:
            claims["tenant_id"] = tenant
        return jwt.encode(claims, self._secret, algorithm="HS256")

    async def check(self, token: str) -> Principal:
        """Whose token it is.

        :raises Unauthenticated: for one that is not valid, or was never given.
        """
        known = self._checked.get(token)
        if known is not None and known[1] > time.time():
            return known[0]
        try:
            if len(token) > _LONGEST:
                raise jwt.InvalidTokenError("too long")
            algorithm = jwt.get_unverified_header(token).get("alg")
            if algorithm in _SHARED and self._secret:
                claims = self._decode(token, self._secret, _SHARED)
            elif algorithm in _PUBLIC and self._keys is not None:
                key = await asyncio.to_thread(self._keys.get_signing_key_from_jwt, token)
                claims = self._decode(token, key.key, _PUBLIC, provider=True)
            else:
                raise jwt.InvalidAlgorithmError("no key for its algorithm")
            until = min(float(claims["exp"]), time.time() + _KEPT)
        except jwt.PyJWKClientConnectionError as error:
            _log.warning("the keys of the identity provider were not read", error=str(error))
            raise Unavailable("the identity provider does not answer; try again") from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            _log.info("a token was refused", why=str(error)[:200])
            raise Unauthenticated from error
        principal = self.principal(claims)
        while len(self._checked) >= _REMEMBERED:
            self._checked.pop(next(iter(self._checked)))
        self._checked[token] = (principal, until)
        return principal

    def _decode(
        self, token: str, key: Any, algorithms: tuple[str, ...], *, provider: bool = False
    ) -> dict[str, Any]:
        settings = self._settings
        issuer = settings.jwt_issuer if provider else ""
        audience = settings.jwt_audience if provider else ""
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(algorithms),
            issuer=issuer or None,
            audience=audience or None,
            leeway=_LEEWAY,
            options={"require": ["exp"], "verify_aud": bool(audience), "verify_iss": bool(issuer)},
        )
        return claims

    def principal(self, claims: Mapping[str, Any]) -> Principal:
        """Who is meant by the claims of a token, or by a gateway."""
        named = claims.get("roles") if isinstance(claims.get("roles"), list) else []
        roles = frozenset(
            _plain(role) for role in [claims.get("role"), *(named or [])] if isinstance(role, str) and role
        )
        tenant = claims.get("tenant_id") or claims.get("tenantId") or ""
        tenant = _plain(tenant) if isinstance(tenant, str) else ""
        return Principal(
            subject=_plain(str(claims.get("sub") or claims.get("email") or tenant or "unknown")),
            roles=roles,
            tenant=tenant,
            is_admin=bool(roles & frozenset(self._settings.admin_roles)),
        )


def _plain(text: str) -> str:
    """Text that can be written anywhere: tokens may hold halves of surrogate pairs."""
    return text[:253].encode(errors="replace").decode()
