"""Attach links: what people paste."""

from __future__ import annotations

import re

import pytest

from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol.ids import AttachLink, parse_attach_link

ROOT, CERTIFICATE = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("text", "link"),
    [
        (
            f"https://pleb.example.org/join/digits#{ROOT}",
            AttachLink("https://pleb.example.org", "digits", ROOT),
        ),
        (
            f"  pleb://pleb.example.org/lab/join/digits#{ROOT}\n",
            AttachLink("https://pleb.example.org/lab", "digits", ROOT),
        ),
        (
            f"pleb+http://127.0.0.1:7532/join/digits#{ROOT}",
            AttachLink("http://127.0.0.1:7532", "digits", ROOT),
        ),
        (
            f"https://192.168.1.5:7532/join/my-gpt#{ROOT}+{CERTIFICATE}",
            AttachLink("https://192.168.1.5:7532", "my-gpt", ROOT, CERTIFICATE),
        ),
    ],
)
def test_a_link_is_read_and_written(text: str, link: AttachLink) -> None:
    assert parse_attach_link(text) == link
    assert parse_attach_link(str(link)) == link
    assert parse_attach_link(link.pleb) == link


@pytest.mark.parametrize(
    "text",
    [
        "",
        "digits",
        "https://pleb.example.org/join/digits",
        f"https://pleb.example.org/join/digits#{ROOT[:-1]}",
        f"https://pleb.example.org/join/digits#{ROOT}+{CERTIFICATE}0",
        f"https://pleb.example.org/join/Not A Name#{ROOT}",
        f"https://pleb.example.org/join/..#{ROOT}",
        f"ftp://pleb.example.org/join/digits#{ROOT}",
        f"https:///join/digits#{ROOT}",
        f"https://[::1/join/digits#{ROOT}",
        f"https://127.0.0.1:99999/join/digits#{ROOT}",
        f"https://127.0.0.1:port/join/digits#{ROOT}",
        f"https://pleb.example.org@evil.example/join/digits#{ROOT}",
        f"https://{'a' * 64}.example/join/digits#{ROOT}",
        f"https://pleb..example/join/digits#{ROOT}",
        f"https://pleb example/join/digits#{ROOT}",
        f"https://pleb\\.example/join/digits#{ROOT}",
        f"https://\u202eelpmaxe.example/join/digits#{ROOT}",
    ],
)
def test_anything_else_gets_a_sentence_that_shows_a_link(text: str) -> None:
    with pytest.raises(InputError, match="https://HOST/join/PROJECT#FINGERPRINT"):
        parse_attach_link(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("https://h.example/join/digits", "it ends before the # and the fingerprint"),
        (f"https://h.example/join/digits#{ROOT[:40]}", "the fingerprint has 40 of 64 digits"),
        (f"https://h.example/join/digits#{ROOT}0", "has 65 digits instead of 64"),
        (f"https://h.example/join/digits#{ROOT[:9]}x{ROOT[10:]}", "after 9 of its 64 digits"),
        (f"https://h.example/join/digits#{ROOT}+{CERTIFICATE[:7]}", "after the + has 7 of 64"),
        (f"https://h.example/digits#{ROOT}", "it has no /join/PROJECT after the host"),
        (f"https://h.example/join/#{ROOT}", "it ends before the project's name"),
        (f"https://h.example/join/D!#{ROOT}", "what follows /join/ is not a project's name"),
        (f"h.example/join/digits#{ROOT}", "it begins with none of https://"),
        (f"https://h..example/join/digits#{ROOT}", "no host that can be asked, but 'h..example'"),
        (f"pleb://h.example/join/digits#{ROOT}&account=5", "the account's key at its end"),
    ],
)
def test_a_broken_link_is_told_what_is_missing(text: str, fault: str) -> None:
    with pytest.raises(InputError, match=re.escape(fault)):
        parse_attach_link(text)


@pytest.mark.parametrize("host", ["[::1]:7532", "localhost", "my_pc:80", "10.0.0.1:65535"])
def test_a_host_may_be_a_name_or_an_address(host: str) -> None:
    text = f"http://{host}/join/digits#{ROOT}"
    assert str(parse_attach_link(text)) == text


def test_a_host_whose_letters_look_like_others_is_spelled_out() -> None:
    link = parse_attach_link(f"https://ex\u0430mple.org:7532/join/digits#{ROOT}")
    assert link.base_url == "https://xn--exmple-4nf.org:7532"


@pytest.mark.parametrize("code", RefusalCode)
def test_every_refusal_has_a_client_or_server_error_status(code: RefusalCode) -> None:
    assert 400 <= Refusal(code, "").http_status < 600


SEED = "5" * 64


@pytest.mark.parametrize("base", ["https://coordinator.example", "http://10.0.0.1:7532"])
@pytest.mark.parametrize("certificate", [None, "c" * 64])
def test_an_account_travels_in_a_pleb_link_and_nowhere_else(base, certificate):
    link = AttachLink(base, "words", "a" * 64, certificate)
    text = link.with_account(SEED)
    assert text.startswith("pleb")
    joined = parse_attach_link(text)
    assert joined.account == SEED
    assert (joined.base_url, joined.project, joined.root) == (base, "words", "a" * 64)
    assert joined.certificate == certificate
    for shown in (str(joined), repr(joined), joined.pleb):
        assert SEED not in shown
    assert parse_attach_link(str(joined)).account is None


@pytest.mark.parametrize(
    "text",
    [
        f"https://coordinator.example/join/words#{'a' * 64}&account={SEED}",
        f"http://coordinator.example/join/words#{'a' * 64}&account={SEED}",
        f"pleb://coordinator.example/join/words#{'a' * 63}&account={SEED}",
        f"pleb://coordinator.example/join/words#{'a' * 64}&account={SEED}5",
        f"pleb://coordinator.example/join/words#&account={SEED}",
        f"pleb://coordinator.example/join/words?account={SEED}#{'a' * 64}",
    ],
)
def test_a_link_that_carries_an_account_wrongly_is_refused_without_telling_it(text):
    with pytest.raises(InputError) as caught:
        parse_attach_link(text)
    assert SEED not in str(caught.value)
