"""The command ``token``: a short-lived token of a ServiceAccount.

Source: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/
"""

from __future__ import annotations

from collections.abc import Sequence

from tenantry_operator.cli import units
from tenantry_operator.cli.cluster import Cluster
from tenantry_operator.cli.ending import Code, Trouble
from tenantry_operator.cli.output import note, say
from tenantry_operator.kube import NotFound, Resource

SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
_SHORTEST = 600
"""Seconds: the API server refuses less."""


async def show(cluster: Cluster, account: str, *, seconds: float, audiences: Sequence[str]) -> int:
    """Prints a token, and nothing else, on standard output.

    :param seconds: how long it is to be valid; the API server may give less, which is told on standard error.
    :param audiences: whom it is for; none: the API server itself.
    """
    if seconds < _SHORTEST:
        raise Trouble(
            f"--duration {units.span(seconds)} is too short; the API server gives tokens of 10m and longer"
        )
    spec = {"expirationSeconds": int(seconds), **({"audiences": list(audiences)} if audiences else {})}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    path = SERVICE_ACCOUNTS.path(cluster.namespace, account, "token")
    try:
        answer = await cluster.request("POST", path, body)
    except NotFound:
        hint = "create it, or name another with --service-account"
        raise cluster.missing(SERVICE_ACCOUNTS, account, hint) from None
    status = answer["status"]
    left = units.until(status.get("expirationTimestamp"), units.now())
    if left and left < 0.9 * seconds:
        note(f"the API server gives it for {units.span(left)} only, instead of {units.span(seconds)}")
    say(status["token"])
    return Code.DONE
