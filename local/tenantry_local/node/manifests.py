"""What the node needs in the cluster: its rights, and the storage class ``local``."""

from __future__ import annotations

from typing import Any

USER = "system:node:local"
CLASS = "local"
PROVISIONER = "tenantry.dev/local"
NAME = "tenantry-local-node"


def objects() -> list[dict[str, Any]]:
    """The objects, to be applied by an administrator.

    The node has a kubelet's rights (ClusterRole ``system:node``), and those of a scheduler and of a provisioner of
    volumes, for it is both.
    """
    group = "rbac.authorization.k8s.io"
    subjects = [{"apiGroup": group, "kind": "User", "name": USER}]

    def binding(name: str, role: str) -> dict[str, Any]:
        return {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": subjects,
        }

    rules = [
        {"apiGroups": [""], "resources": ["pods/binding"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["list", "watch"]},
        {
            "apiGroups": [""],
            "resources": ["persistentvolumes"],
            "verbs": ["get", "list", "watch", "create", "patch", "delete"],
        },
        {"apiGroups": [""], "resources": ["persistentvolumeclaims/status"], "verbs": ["patch"]},
    ]
    return [
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": NAME}, "rules": rules},
        binding(NAME, NAME),
        binding(f"{NAME}-kubelet", "system:node"),
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
            "allowVolumeExpansion": True,
        },
    ]
