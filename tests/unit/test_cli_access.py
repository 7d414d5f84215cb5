"""The way to the API server: whatever is wrong with it is told in one line that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.cli_standin import Cli, Object, Result, Standin, rollout, write_kubeconfig

EVERY = [
    ("rollout", "list"),
    ("rollout", "status", "shop-1.1"),
    ("rollout", "status", "shop-1.1", "--watch"),
    ("rollout", "pause", "shop-1.1"),
    ("rollout", "resume", "shop-1.1"),
    ("rollout", "cancel", "shop-1.1", "--yes"),
    ("tenants",),
    ("diff", "acme"),
    ("token",),
]
each_command = pytest.mark.parametrize("command", EVERY, ids=" ".join)


def complaint(result: Result) -> str:
    """The one line on standard error of a command that could not do its work."""
    assert result.code == 2
    assert result.out == ""
    assert result.err.count("\n") == 1
    assert result.err.startswith("error: ")
    assert "bug" not in result.err
    return result.err.removeprefix("error: ").rstrip("\n")


@each_command
def test_a_login_that_is_not_accepted_is_told(api: Standin, cli: Cli, command: tuple[str, ...]) -> None:
    api.tokens.clear()
    assert complaint(cli(*command)) == "the API server does not accept the login of context dev; log in again"


@each_command
def test_an_api_server_that_cannot_be_reached_is_told(
    api: Standin, cli: Cli, tmp_path: Path, command: tuple[str, ...]
) -> None:
    write_kubeconfig(tmp_path / "config", "http://127.0.0.1:9")
    said = complaint(cli(*command))
    assert said.startswith("cannot reach the API server http://127.0.0.1:9 of context dev: ")
    assert said.endswith("; is it the right --context?")


@pytest.mark.parametrize(
    ("plural", "command"), [("rollouts", EVERY[0]), ("rollouts", EVERY[1]), ("tenants", EVERY[6])]
)
def test_what_is_not_allowed_is_told_in_the_words_of_the_api_server(
    api: Standin, cli: Cli, plural: str, command: tuple[str, ...]
) -> None:
    words = f'{plural}.tenantry.dev is forbidden: User "jane" cannot get it'
    api.refusals["GET", plural] = (403, words)
    assert complaint(cli(*command)) == f"not allowed for context dev: {words}; ask for a role that allows it"


@pytest.mark.parametrize(("method", "command"), [("PATCH", EVERY[3]), ("PATCH", EVERY[4]), ("DELETE", EVERY[5])])
def test_who_may_only_read_is_told_so(api: Standin, cli: Cli, method: str, command: tuple[str, ...]) -> None:
    api.put("rollouts", rollout())
    api.refusals[method, "rollouts"] = (403, "only reading")
    assert "not allowed for context dev: only reading; " in complaint(cli(*command))


@pytest.mark.parametrize("command", [EVERY[0], EVERY[1], EVERY[6], EVERY[7]], ids=" ".join)
@pytest.mark.parametrize(
    "words", ["404 page not found", "the server could not find the requested resource"], ids=["go", "status"]
)
def test_a_cluster_without_the_operator_is_told_to_install_it(
    api: Standin, cli: Cli, command: tuple[str, ...], words: str
) -> None:
    for plural in ("rollouts", "tenants"):
        api.refusals["GET", plural] = (404, words)
    said = complaint(cli(*command))
    assert said == "the cluster of context dev does not know the kinds of tenantry.dev; install the chart"


def test_a_fault_of_the_api_server_is_told_with_its_number(api: Standin, cli: Cli) -> None:
    api.refusals["GET", "rollouts"] = (500, "etcd is\nslow")
    assert complaint(cli("rollout", "list")) == "the API server of context dev answered 500: etcd is slow"


def test_no_kubeconfig_at_all_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    said = complaint(cli("tenants"))
    assert said == ("there is no kubeconfig: ~/.kube/config does not exist; set KUBECONFIG or give --kubeconfig")


def test_the_kubeconfig_in_the_home_is_used(
    api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".kube").mkdir()
    (tmp_path / "config").rename(tmp_path / ".kube" / "config")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG")
    assert cli("tenants").err == "no Tenants in namespace shop\n"


def test_a_kubeconfig_variable_that_names_nothing_is_told(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    said = complaint(cli("tenants"))
    assert said.startswith(f"KUBECONFIG names {tmp_path}/missing, where there is no file; ")


def test_a_kubeconfig_option_that_names_nothing_is_told(api: Standin, cli: Cli, tmp_path: Path) -> None:
    said = complaint(cli("tenants", "--kubeconfig", f"{tmp_path}/missing"))
    assert said == f"there is no kubeconfig {tmp_path}/missing; give another --kubeconfig"


def test_the_kubeconfig_option_goes_before_the_variable(api: Standin, cli: Cli, tmp_path: Path) -> None:
    write_kubeconfig(tmp_path / "other", "http://127.0.0.1:9")
    assert "127.0.0.1:9" in complaint(cli("tenants", "--kubeconfig", f"{tmp_path}/other"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1\nb: }", "in line 2"),
        ("", "cannot be used"),
        ("just words", "cannot be used"),
        ("- a\n- b\n", "cannot be used"),
        ("current-context: dev\ncontexts: []\nclusters: []\nusers: []\n", "dev"),
        ("contexts: []\nclusters: []\nusers: []\n", "current-context"),
        ("\x00\x01", "cannot be used"),
    ],
)
def test_a_broken_kubeconfig_is_named(api: Standin, cli: Cli, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config").write_text(text, encoding="utf-8")
    said = complaint(cli("tenants"))
    assert said.startswith(f"kubeconfig {tmp_path}/config cannot be used: ")
    assert words in said
    assert said.endswith("; mend it, or name another one")


@pytest.mark.parametrize("what", ["cluster", "user"])
def test_a_context_that_leads_nowhere_is_told(api: Standin, cli: Cli, tmp_path: Path, what: str) -> None:
    value = yaml.safe_load((tmp_path / "config").read_text())
    value["contexts"][0]["context"][what] = "lost"
    (tmp_path / "config").write_text(yaml.safe_dump(value))
    assert "lost" in complaint(cli("tenants"))


def test_a_context_that_there_is_not_is_named(api: Standin, cli: Cli) -> None:
    said = complaint(cli("tenants", "--context", "prod"))
    assert "/config has no context prod; `kubectl config get-contexts` shows those there are" in said
    assert api.asked == []


def test_the_namespace_is_that_of_the_context_unless_one_is_named(api: Standin, cli: Cli) -> None:
    assert cli("tenants").err == "no Tenants in namespace shop\n"
    assert cli("tenants", "--context", "bare").err == "no Tenants in namespace default\n"
    assert cli("tenants", "--context", "bare", "-n", "zoo").err == "no Tenants in namespace zoo\n"


def plugin(command: str, *arguments: str) -> Object:
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": command,
            "args": list(arguments),
            "interactiveMode": "Never",
        }
    }


def give_login(tmp_path: Path, api: Standin, user: Object) -> None:
    write_kubeconfig(tmp_path / "config", f"http://127.0.0.1:{api.port}", user=user)


def test_a_login_plugin_gives_the_token(api: Standin, cli: Cli, tmp_path: Path) -> None:
    credential = (
        '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"from-plugin"}}'
    )
    api.tokens = {"from-plugin"}
    give_login(tmp_path, api, plugin("echo", credential))
    assert cli("tenants").code == 0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("sh", "-c", "echo please log in >&2; exit 7"), "7"),
        (("no-such-login-plugin",), "no-such-login-plugin"),
        (("echo", "this is not JSON"), ""),
    ],
    ids=["fails", "missing", "nonsense"],
)
def test_a_login_plugin_that_fails_is_told(
    api: Standin, cli: Cli, tmp_path: Path, command: tuple[str, ...], words: str
) -> None:
    give_login(tmp_path, api, plugin(*command))
    said = complaint(cli("tenants"))
    assert "context dev" in said
    assert words in said
    assert api.asked == []


def test_a_token_that_has_expired_is_asked_for_anew(api: Standin, cli: Cli, tmp_path: Path) -> None:
    # The plugin gives a worse token first, and the good one when it is asked again.
    script = (
        f"if [ -e {tmp_path}/asked ]; then token=new; else token=old; touch {tmp_path}/asked; fi; "
        'echo "{\\"apiVersion\\":\\"client.authentication.k8s.io/v1\\",\\"kind\\":\\"ExecCredential\\",'
        '\\"status\\":{\\"token\\":\\"$token\\"}}"'
    )
    api.tokens = {"new"}
    give_login(tmp_path, api, plugin("sh", "-c", script))
    result = cli("tenants")
    assert (result.code, result.err) == (0, "no Tenants in namespace shop\n")
    assert [asked.headers["Authorization"] for asked in api.asked] == ["Bearer old", "Bearer new"]


def test_a_certificate_that_cannot_be_read_is_told(api: Standin, cli: Cli, tmp_path: Path) -> None:
    value: dict[str, Any] = yaml.safe_load((tmp_path / "config").read_text())
    value["clusters"][0]["cluster"] = {
        "server": "https://127.0.0.1:9",
        "certificate-authority-data": "bm90IG9uZQ==",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(value))
    said = complaint(cli("tenants"))
    assert said.startswith("the certificates of context dev cannot be used: ")
    assert said.endswith("; mend the kubeconfig")


def test_in_a_pod_without_a_token_it_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    said = complaint(cli("tenants"))
    assert said.startswith("there is no kubeconfig, and the pod's ServiceAccount cannot be used: ")
    assert said.endswith("; set KUBECONFIG, or mount the token")
