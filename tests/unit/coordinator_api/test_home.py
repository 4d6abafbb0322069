"""The coordinator's folder: one configuration, secrets for one reader."""

from __future__ import annotations

import dataclasses
import stat

import pytest

from pleb_coordinator.cli.setup import make_home
from pleb_coordinator.home.config import (
    CoordinatorConfig,
    Networks,
    Retention,
    config_text,
    read_config,
)
from pleb_coordinator.home.keys import (
    OnlineKeys,
    earlier_key_file,
    is_private,
    make_secret_file,
    read_online_key,
    read_secret,
    rotate_online_key,
)
from pleb_coordinator.home.layout import Home
from pleb_shared.errors import InputError, PlebError, Refusal
from pleb_shared.protocol.ids import fingerprint_of
from pleb_system.lock import hold_lock


def test_what_is_written_is_read(tmp_path):
    networks = Networks(own=("10.0.0.0/8", "2001:db8::/32"), unproven_hosts=7)
    config = dataclasses.replace(
        CoordinatorConfig(),
        url='https://a"b\\c.example',
        port=0,
        networks=networks,
        retention=Retention(0.25, 0, 3),
    )
    file = tmp_path / "coordinator.toml"
    file.write_text(config_text(config))
    assert read_config(file) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = 1\nprot = 3", "no setting 'prot'"),
        ("version = 1\nport = 'x'", "port"),
        ("version = 2", "version 2"),
        ("port = 3", "version None"),
        ("version = ", "not TOML"),
        ("version = 1\ntls = 'maybe'", "tls"),
        ("version = 1\nport = " + "9" * 5000, "64 bits"),
        ("version = " + "9" * 5000, "64 bits"),
        ("version = 1\nrequests_per_second = 1e999", "not finite"),
        ("version = 1\nrequests_per_second = nan", "not finite"),
        ("version = 1\nport = " + "[" * 9000, "16 levels"),
        ("version = 1\nnetworks.ours = []", "no setting 'networks.ours'"),
        ("version = 1\nnetworks = 3", "networks"),
        ("version = 1\nretention.days = 3", "no setting 'retention.days'"),
        ("version = 1\nretention.host_days = -3", "host_days"),
        ("version = 1\nnetworks.new_hosts_per_day = -1", "new_hosts_per_day"),
        ("version = 1\nnetworks.own = ['10.0.0.1/8']", "write 10.0.0.0/8"),
        ("version = 1\nnetworks.own = ['campus']", "'campus' is not a network"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, said):
    file = tmp_path / "coordinator.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        read_config(file)


def test_a_home_is_made_once(tmp_path):
    home = Home(tmp_path / "deep" / "home")
    assert make_home(home).url == ""
    key, secret = read_online_key(home.online_key_file).public, read_secret(home.secret_file)
    assert make_home(home, "https://a.example").url == "https://a.example"
    assert make_home(home).url == "https://a.example"
    assert make_home(home, own_networks=["10.0.0.0/8"]).networks.own == ("10.0.0.0/8",)
    with pytest.raises(InputError, match="--own-network: 'here' is not a network"):
        make_home(home, own_networks=["here"])
    assert make_home(home).networks.own == ("10.0.0.0/8",)
    assert read_online_key(home.online_key_file).public == key
    assert read_secret(home.secret_file) == secret
    assert all(is_private(path) for path in (home.online_key_file, home.secret_file))


def test_an_online_key_is_replaced_under_a_running_coordinator(tmp_path):
    home = Home(tmp_path)
    make_home(home)
    running = OnlineKeys(home)
    first = running.newest().public
    second = rotate_online_key(home).public
    assert running.newest().public == second
    assert [running.of(key).public for key in (first, second)] == [first, second]
    assert [key.public for key in OnlineKeys(home).all()] == [second, first]
    assert all(is_private(file) for file in home.online_key_file.parent.glob("*.key"))
    earlier_key_file(home, fingerprint_of(first)).unlink()
    with pytest.raises(Refusal, match="restore the folder keys/"):
        OnlineKeys(home).of(first)
    held = hold_lock(home.online_key_file.with_name("rotate.lock"), holder="one", remedy="wait")
    with held, pytest.raises(PlebError, match="wait"):
        rotate_online_key(home)
    assert running.newest().public == second


def test_an_empty_key_of_an_interrupted_first_start_is_made_again(tmp_path):
    home = Home(tmp_path)
    home.online_key_file.parent.mkdir()
    home.online_key_file.touch(0o600)
    make_home(home)
    assert len(read_secret(home.online_key_file)) == 32


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="another --home"):
        make_home(Home(tmp_path / "file" / "home"))


def test_secrets_are_for_one_reader_and_never_overwritten(tmp_path):
    file = tmp_path / "secret"
    assert make_secret_file(file)
    content = file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not make_secret_file(file)
    assert file.read_bytes() == content
    file.write_bytes(b"short")
    with pytest.raises(InputError, match="5 bytes"):
        read_secret(file)
    file.unlink()
    with pytest.raises(InputError, match="missing"):
        read_secret(file)
