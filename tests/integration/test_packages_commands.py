"""`pleb-coordinator packages`: what is added is what its publisher made, or nothing is."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest

from pleb_coordinator.cli import main
from pleb_coordinator.home.config import CoordinatorConfig, config_text
from pleb_coordinator.home.keys import make_secret_file
from pleb_coordinator.home.layout import Home
from tests.integration.steps_world import World
from tests.release_server import serving_releases

DEB = "pleb-agent_0.1.0-1_amd64.deb"
RPM = "pleb-agent-0.1.0-1.x86_64.rpm"
FILES = {DEB: b"!<arch>\ndebian-binary" + b"d" * 500_000, RPM: b"\xed\xab\xee\xdb" + b"r" * 900}
SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


@pytest.fixture
def releases():
    with serving_releases() as server:
        server.files = {f"/v1/{name}": content for name, content in FILES.items()}
        yield server


@pytest.fixture
def run(tmp_path, capsys):
    World(tmp_path)
    make_secret_file(Home(tmp_path).secret_file)
    make_secret_file(Home(tmp_path).online_key_file)
    (tmp_path / "coordinator.toml").write_text(config_text(CoordinatorConfig()))

    def command(*words):
        code = main(["packages", *map(str, words), "--home", str(tmp_path), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return command


@pytest.fixture(scope="module")
def publisher(tmp_path_factory):
    """A publisher's key, and what signs with it."""
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)

    def gpg(*words: object, given: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", home, "--batch", "--pinentry-mode", "loopback"]
        command += ["--passphrase", "", *words]
        return subprocess.run(
            list(map(str, command)), input=given, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, check=True,
        ).stdout  # fmt: skip

    gpg("--quick-generate-key", "Publisher <p@example.org>", "ed25519", "sign", "never")
    key = home / "publisher.asc"
    key.write_bytes(gpg("--armor", "--export"))
    listed = gpg("--with-colons", "--list-keys").decode()
    fingerprint = next(line for line in listed.splitlines() if line.startswith("fpr"))
    yield (
        key,
        fingerprint.split(":")[9].lower(),
        lambda data: gpg("--armor", "--detach-sign", given=data),
    )
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"], check=False)


def test_a_file_is_added_shown_replaced_and_removed(run, tmp_path):
    file = tmp_path / DEB
    file.write_bytes(FILES[DEB])
    assert run("list") == (0, [])
    code, kept = run("add", file, "--sha256", SUMS[DEB].upper())
    assert code == 0
    (package,) = kept["packages"]
    assert (package["sha256"], package["size"]) == (SUMS[DEB], len(FILES[DEB]))
    assert (package["version"], package["processor"]) == ("0.1.0", "x86_64")
    file.write_bytes(FILES[DEB] + b"newer")
    assert run("add", file)[0] == 0
    (found,) = run("list")[1]
    assert found["size"] == len(FILES[DEB]) + 5
    assert (tmp_path / "downloads" / DEB).read_bytes() == file.read_bytes()
    assert run("remove", DEB) == (0, {"removed": DEB})
    assert run("list") == (0, [])
    assert not (tmp_path / "downloads" / DEB).exists()
    assert "There is no package" in run("remove", DEB)[1]["message"]


@pytest.mark.parametrize(
    ("name", "content", "extra", "said"),
    [
        ("agent.deb", FILES[DEB], (), "is not the name of an agent's package"),
        (DEB, b"<!doctype html>", (), "is no Debian/Ubuntu package"),
        (DEB, b"", (), "is no Debian/Ubuntu package"),
        (DEB, FILES[DEB], ("--sha256", "0" * 64), "it is damaged or another release"),
        (DEB, FILES[DEB], ("--sha256", "12"), "has 64 hexadecimal digits"),
        (DEB, None, (), "cannot be read"),
    ],
)
def test_what_is_no_package_leaves_nothing(run, tmp_path, name, content, extra, said):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    code, found = run("add", file, *extra)
    assert code == 2
    assert said in found["message"]
    assert run("list") == (0, [])
    assert [path.name for path in (tmp_path / "downloads").glob("*pleb-agent*")] == []


def test_a_release_is_fetched_as_its_signed_sums_say(run, releases, publisher):
    key, fingerprint, sign = publisher
    sums = "".join(f"{digest}  {name}\n" for name, digest in SUMS.items())
    sums += f"{'1' * 64}  cpu-linux-x86_64-py3.11-torch2.13.0.tar.xz\n"
    releases.files["/v1/SHA256SUMS"] = sums.encode()
    releases.files["/v1/SHA256SUMS.asc"] = sign(sums.encode())
    code, kept = run("fetch", f"{releases.url}/v1/SHA256SUMS", "--key", key)
    assert code == 0
    assert {p["name"]: p["sha256"] for p in kept["packages"]} == SUMS
    assert {p["signed_by"] for p in kept["packages"]} == {fingerprint}
    assert {p["source"] for p in kept["packages"]} == {f"{releases.url}/v1/{n}" for n in FILES}

    releases.files["/v1/SHA256SUMS"] = sums.replace(SUMS[RPM], "2" * 64).encode()
    code, found = run("fetch", f"{releases.url}/v1/SHA256SUMS", "--key", key)
    assert code == 2
    assert "was not made by this key" in found["message"]
    code, found = run("fetch", f"{releases.url}/v1/SHA256SUMS")
    assert code == 2
    assert "it is damaged or another release" in found["message"]


def test_a_signature_of_the_file_itself_is_checked(run, releases, publisher, tmp_path):
    key, fingerprint, sign = publisher
    releases.files[f"/v1/{DEB}.asc"] = sign(FILES[DEB])
    code, kept = run("fetch", f"{releases.url}/v1/{DEB}", "--key", key)
    assert (code, kept["packages"][0]["signed_by"]) == (0, fingerprint)
    file = tmp_path / DEB
    file.write_bytes(FILES[DEB] + b"!")
    file.with_name(f"{DEB}.asc").write_bytes(sign(FILES[DEB]))
    code, found = run("add", file, "--key", key)
    assert code == 2
    assert "was not made by this key" in found["message"]
    assert run("list")[1][0]["sha256"] == SUMS[DEB], "the one before is still offered"


def test_an_address_is_followed_only_where_nobody_can_change_the_answer(run, releases):
    releases.files[f"/old/{DEB}"] = f"/v1/{DEB}"
    assert run("fetch", f"{releases.url}/old/{DEB}")[0] == 0
    releases.files[f"/old/{DEB}"] = f"http://releases.example.org/{DEB}"
    for url, said in (
        (f"{releases.url}/old/{DEB}", "has no HTTPS"),
        (f"http://releases.example.org/{DEB}", "has no HTTPS"),
        (f"file:///etc/{DEB}", "is not an address"),
        (f"{releases.url}/none/{DEB}", "is not there (HTTP 404)"),
    ):
        code, found = run("fetch", url)
        assert code == 2
        assert said in found["message"]
    releases.files[f"/old/{DEB}"] = f"/old/{DEB}"
    assert "redirects without end" in run("fetch", f"{releases.url}/old/{DEB}")[1]["message"]


def test_nobody_answers(run):
    code, found = run("fetch", f"http://127.0.0.1:9/{DEB}")
    assert code == 5
    assert "127.0.0.1:9" in found["message"]
