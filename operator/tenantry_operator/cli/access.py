"""Which API server, and as whom: what the kubeconfig says, or else the pod that the command runs in.

Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from tenantry_operator.cli.ending import Trouble, one_line
from tenantry_operator.cli.options import Where

_HOME = "~/.kube/config"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Access:
    """The way to an API server."""

    configuration: Any
    """The :class:`kubernetes.aio.client.Configuration` with host and credentials."""
    context: str
    """What is used, in words, for messages: ``context kind-dev``."""
    namespace: str
    """Where a command works that names no namespace."""


class _Heard(logging.Handler):
    """Keeps what the kubeconfig's loader only logs: that a login plugin failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(record.getMessage())


async def find(where: Where, configuration: Any = None) -> Access:
    """Finds the way, running the login plugin of the context if it has one.

    :param configuration: one to bring up to date, as when its token has expired; None: a new one.
    :raises Trouble: when there is no kubeconfig, or none that can be used.
    """
    configuration = Configuration() if configuration is None else configuration
    files = _files(where.kubeconfig)
    if files is None:
        return _pod(configuration)
    heard, logger = _Heard(), logging.getLogger("kubernetes.aio.config.kube_config")
    logger.addHandler(heard)
    try:
        loader = await load_kube_config(files, where.context, configuration, persist_config=False)  # type: ignore[no-untyped-call]
        context = loader.current_context
    # Whatever a broken file makes the loader stumble over, the file is what is to be mended.
    except Exception as error:
        # In the loader's words a mistyped context looks like a broken file.
        if where.context and f"name {where.context} in " in str(error) and "/contexts list" in str(error):
            raise Trouble(
                f"kubeconfig {files} has no context {where.context}; `kubectl config get-contexts` shows those "
                "there are"
            ) from error
        raise Trouble(
            f"kubeconfig {files} cannot be used: {_words(error)}; mend it, or name another one"
        ) from error
    finally:
        logger.removeHandler(heard)
    if heard.words:
        raise Trouble(f"the login of context {context['name']} failed: {heard.words[0]}")
    if context["context"].get("user") and loader._user is None:
        # The loader would go on without a login, and the API server's refusal would not tell why.
        raise Trouble(
            f"context {context['name']} names the user {context['context']['user']}, which is not in {files}; "
            "mend it, or give another --context"
        )
    return Access(configuration, f"context {context['name']}", context["context"].get("namespace") or "default")


def _files(named: str | None) -> str | None:
    """The kubeconfigs to read, separated as in ``KUBECONFIG``; None: there are none, but a pod's account."""
    if named is not None:
        if not Path(named).is_file():
            raise Trouble(f"there is no kubeconfig {named}; give another --kubeconfig")
        return named
    chosen = os.environ.get("KUBECONFIG", "")
    found = [path for path in (chosen or _HOME).split(os.pathsep) if path and Path(path).expanduser().is_file()]
    if found:
        return os.pathsep.join(found)
    if chosen:
        raise Trouble(f"KUBECONFIG names {chosen}, where there is no file; set it right, or give --kubeconfig")
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return None
    raise Trouble(f"there is no kubeconfig: {_HOME} does not exist; set KUBECONFIG or give --kubeconfig")


def _pod(configuration: Any) -> Access:
    try:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        namespace = _POD_NAMESPACE.read_text(encoding="utf-8").strip()
    except (ConfigException, OSError) as error:
        raise Trouble(
            f"there is no kubeconfig, and the pod's ServiceAccount cannot be used: {error}; set KUBECONFIG, or "
            "mount the token"
        ) from error
    return Access(configuration, "the pod's ServiceAccount", namespace or "default")


def _words(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    return one_line(str(error)) or type(error).__name__
