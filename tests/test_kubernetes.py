"""The manifests in scripts/kubernetes: `scripts/lint` checks their schema, and here is what no schema knows."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli
import yaml
from cryptography import x509

from buildkit_builder.config import Settings
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "scripts" / "kubernetes"
ARCHITECTURES = ("amd64", "arm64")


def documents() -> Iterator[dict[str, Any]]:
    """Everything that the kustomization brings into a cluster."""
    for name in yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]:
        yield from yaml.safe_load_all((FOLDER / name).read_text())


def the(kind: str, name: str) -> dict[str, Any]:
    """One of them."""
    (found,) = [item for item in documents() if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def pod(architecture: str) -> dict[str, Any]:
    template: dict[str, Any] = the("StatefulSet", f"buildkitd-{architecture}")["spec"]["template"]
    return template


def chosen(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a selector takes what has these labels."""
    return selector.items() <= labels.items()


def test_every_file_is_used() -> None:
    """The kustomization names every manifest, and only the image that the manifests have."""
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}

    assert files == set(kustomization["resources"])
    images = {container["image"] for name in ARCHITECTURES for container in pod(name)["spec"]["containers"]}
    assert images == {image["name"] for image in kustomization["images"]}
    assert all(image["newTag"].endswith("-rootless") for image in kustomization["images"])
    assert kustomization["namespace"] == the("Namespace", "buildkit")["metadata"]["name"]


def test_architectures_are_alike() -> None:
    """The two architectures differ in nothing but their names."""
    amd64, arm64 = ((FOLDER / f"{name}.yaml").read_text() for name in ARCHITECTURES)
    first, _, rest = arm64.partition("\n")

    assert first.startswith("# ")
    assert amd64.replace("amd64", "arm64") == rest


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_everything_selects_the_pod(architecture: str) -> None:
    """The set, its disruption budget, its services and the network policy all mean the pods of the set."""
    name = f"buildkitd-{architecture}"
    labels = {**pod(architecture)["metadata"]["labels"], "statefulset.kubernetes.io/pod-name": f"{name}-0"}
    stateful = the("StatefulSet", name)["spec"]
    node, headless = the("Service", f"{name}-0")["spec"], the("Service", name)["spec"]

    assert chosen(stateful["selector"]["matchLabels"], labels)
    assert chosen(the("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"], labels)
    assert chosen(the("NetworkPolicy", "buildkitd")["spec"]["podSelector"]["matchLabels"], labels)
    assert chosen(node["selector"], labels)
    assert chosen(headless["selector"], labels)
    assert (name, "None", 1) == (stateful["serviceName"], headless["clusterIP"], stateful["replicas"])
    assert pod(architecture)["spec"]["nodeSelector"] == {"kubernetes.io/arch": architecture}


def test_daemon_is_rootless_and_behind_tls() -> None:
    """The daemon runs as a user, demands certificates, and finds its files where the volumes are mounted."""
    spec = pod("amd64")["spec"]
    (container,) = spec["containers"]
    options = dict(option.removeprefix("--").split("=", 1) for option in container["args"] if "=" in option)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    claims = the("StatefulSet", "buildkitd-amd64")["spec"]["volumeClaimTemplates"]

    assert "privileged" not in container["securityContext"]
    assert (True, 1000) == (container["securityContext"]["runAsNonRoot"], container["securityContext"]["runAsUser"])
    for option, file in (("tlscacert", "ca.pem"), ("tlscert", "cert.pem"), ("tlskey", "key.pem")):
        assert f"{mounts['certs']}/{file}" == options[option]
    assert f"{mounts['config']}/buildkitd.toml" == options["config"]
    assert set(mounts) == {*volumes, *(claim["metadata"]["name"] for claim in claims)}
    assert mounts["cache"] == "/home/user/.local/share/buildkit"
    assert the("ConfigMap", volumes["config"]["configMap"]["name"])


def test_daemon_settings() -> None:
    """What buildkitd is configured with is TOML."""
    settings = tomli.loads(the("ConfigMap", "buildkitd")["data"]["buildkitd.toml"])

    assert settings["worker"]["oci"]["gc"] is True


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the script makes for a pool that is also reached from outside, and what it says."""
    folder = tmp_path_factory.mktemp("certificates")
    command = [str(FOLDER / "certificates"), str(folder), "192.0.2.7", "pool.example"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return folder, said


def test_certificates_name_the_services(certificates: tuple[Path, str]) -> None:
    """The nodes' certificate holds for every service of a node, and for the names given."""
    folder, _ = certificates
    certificate = x509.load_pem_x509_certificate((folder / "daemon/cert.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    domains = names.get_values_for_type(x509.DNSName)
    for architecture in ARCHITECTURES:
        service = the("Service", f"buildkitd-{architecture}-0")["metadata"]["name"]
        assert {service, f"{service}.buildkit", f"{service}.buildkit.svc.cluster.local"} < set(domains)
    assert "pool.example" in domains
    assert ["192.0.2.7"] == [str(address) for address in names.get_values_for_type(x509.IPAddress)]


def test_certificates_are_private_and_stay(certificates: tuple[Path, str]) -> None:
    """Keys are for their owner alone, the authority's goes to neither side, and running it again changes nothing."""
    folder, _ = certificates
    before = {path: path.read_bytes() for path in folder.rglob("*.pem")}

    subprocess.run([str(FOLDER / "certificates"), str(folder)], check=True, capture_output=True)

    assert before == {path: path.read_bytes() for path in folder.rglob("*.pem")}
    assert {0o600} == {path.stat().st_mode & 0o777 for path in before}
    assert {"ca.pem", "cert.pem", "key.pem"} == {path.name for path in (folder / "client").iterdir()}
    assert len({before[folder / side / "key.pem"] for side in ("authority", "daemon", "client")}) == 3


def test_secret_is_the_one_that_is_mounted(certificates: tuple[Path, str]) -> None:
    """The commands that the script prints make the secret under the name and with the keys that the pods want."""
    folder, said = certificates
    volumes = {volume["name"]: volume for volume in pod("amd64")["spec"]["volumes"]}

    assert f"create secret generic {volumes['certs']['secret']['secretName']} " in said
    assert {"ca.pem", "cert.pem", "key.pem"} == set(re.findall(r"--from-file=\S+/daemon/(\S+)", said))
    assert f"--from-file={folder}/daemon/ca.pem" in said


def test_client_settings_of_the_page(certificates: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings that the page gives to clients are settings, and lead to the services."""
    folder, _ = certificates
    monkeypatch.chdir(folder)
    (example,) = re.findall(r"```yaml\n(image:.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)

    settings = Settings.load(yaml.safe_load(example), {})

    assert {f"linux/{name}" for name in ARCHITECTURES} == {item for node in settings.nodes for item in node.platforms}
    for node in settings.nodes:
        host, _, port = node.address.removeprefix("tcp://").partition(":")
        service, _, namespace = host.partition(".")
        assert "buildkit" == namespace
        assert [int(port)] == [entry["port"] for entry in the("Service", service)["spec"]["ports"]]
    assert folder / "client/key.pem" == settings.tls.key
