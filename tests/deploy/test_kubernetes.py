"""deploy/kubernetes: overlays build, every object is valid, and says what keeps a server safe."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.deployment import DEPLOY, check_variables, documents, program, run

OVERLAYS = DEPLOY / "kubernetes" / "overlays"
NAMES = sorted(folder.name for folder in OVERLAYS.iterdir())


@cache
def built(overlay: str) -> str:
    """The manifests of an overlay as one text."""
    return run(program("kubectl"), "kustomize", OVERLAYS / overlay)


def objects(overlay: str, kind: str) -> list[dict[str, Any]]:
    """The objects of a kind."""
    return [one for one in documents(built(overlay)) if one["kind"] == kind]


def pods(overlay: str) -> list[dict[str, Any]]:
    """The templates of pods."""
    return [one["spec"]["template"] for kind in ("Deployment", "StatefulSet") for one in objects(overlay, kind)]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


@pytest.mark.parametrize("overlay", NAMES)
def test_every_object_is_valid(overlay: str, tmp_path: Path) -> None:
    (tmp_path / "built.yaml").write_text(built(overlay))
    run(program("kubernetes-validate", "kubernetes-validate"), "--strict", "--no-warn", tmp_path / "built.yaml")


@pytest.mark.parametrize("overlay", NAMES)
def test_pods_are_confined(overlay: str) -> None:
    for pod in pods(overlay):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        # Otherwise XTRACE_PORT would be the address of the Service.
        assert spec["enableServiceLinks"] is False
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]) == {"requests", "limits"}
            assert not container["image"].endswith(("xtrace", ":latest"))
        for container in spec["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= set(container)


@pytest.mark.parametrize("overlay", NAMES)
def test_settings_exist_and_secrets_are_referred_to(overlay: str) -> None:
    assert objects(overlay, "Secret") == []
    for one in objects(overlay, "ConfigMap"):
        check_variables(set(one["data"]))
    for pod in pods(overlay):
        for container in containers(pod):
            variables = {one["name"]: one for one in container.get("env", [])}
            check_variables(set(variables))
            secret = [one for name, one in variables.items() if re.search("URL|PASSWORD|TOKEN|KEY", name)]
            assert all("secretKeyRef" in one["valueFrom"] for one in secret)


@pytest.mark.parametrize("overlay", NAMES)
def test_every_pod_has_a_policy_and_every_selector_finds_pods(overlay: str) -> None:
    labels = [pod["metadata"]["labels"] for pod in pods(overlay)]
    policies = objects(overlay, "NetworkPolicy")
    selectors = [one["spec"]["podSelector"]["matchLabels"] for one in policies]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in objects(overlay, "PodDisruptionBudget")]
    selectors += [one["spec"]["selector"] for one in objects(overlay, "Service")]
    assert all(any(selector.items() <= one.items() for one in labels) for selector in selectors)
    for direction in ("Ingress", "Egress"):
        chosen = [
            one["spec"]["podSelector"]["matchLabels"] for one in policies if direction in one["spec"]["policyTypes"]
        ]
        assert all(any(selector.items() <= one.items() for selector in chosen) for one in labels)


@pytest.mark.parametrize("overlay", NAMES)
def test_one_server_over_a_file_and_several_over_postgresql(overlay: str) -> None:
    server = next(one for one in objects(overlay, "Deployment") if one["metadata"]["name"] == "xtrace")
    if overlay == "sqlite":
        assert (server["spec"]["replicas"], server["spec"]["strategy"]["type"]) == (1, "Recreate")
        assert objects(overlay, "PersistentVolumeClaim")[0]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    else:
        assert server["spec"]["replicas"] >= 2
        assert server["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert objects(overlay, "PodDisruptionBudget")[0]["spec"]["maxUnavailable"] == 1


def test_a_ray_cluster_asks_for_a_token_and_is_closed_to_others() -> None:
    nodes = [one for pod in pods("ray") for one in containers(pod) if one.get("command", [])[:2] == ["ray", "start"]]
    assert len(nodes) == 3
    for node in nodes:
        variables = {one["name"]: one.get("value") for one in node["env"]}
        assert (variables["RAY_AUTH_MODE"], variables["RAY_USAGE_STATS_ENABLED"]) == ("token", "0")
        assert variables["RAY_AUTH_TOKEN"] is None
    assert all(pod["metadata"]["labels"]["xtrace/cluster"] == "ray" for pod in pods("ray"))
    (policy,) = [one for one in objects("ray", "NetworkPolicy") if one["metadata"]["name"] == "xtrace-ray"]
    inside = [{"podSelector": {"matchLabels": {"xtrace/cluster": "ray"}}}]
    assert policy["spec"]["ingress"] == [{"from": inside}]
    # The head sends its folder to the other nodes: it is the one that the server shares with the node beside it.
    (head,) = [node for node in nodes if "--head" in node["command"]]
    assert "--temp-dir=/ray" in head["args"]
    (server,) = [one for pod in pods("ray") for one in containers(pod) if one["name"] == "xtrace"]
    assert {"/ray", "/dev/shm"} <= {one["mountPath"] for one in server["volumeMounts"]}  # noqa: S108
