"""A stranger on the network, who knows every digest: asks the coordinator and the members' PCs.

    ip netns exec NAMESPACE python -m tests.system.strange_asking COORDINATOR PEERS DIGESTS

Prints what it got that is not a refusal, as a list of JSON.
"""

from __future__ import annotations

import json
import sys

import httpx

_PATHS = (
    "/projects/{}/metadata",
    "/projects/{}/metadata/1",
    "/projects/{}/status",
    "/projects/{}/events",
    "/projects/{}/log-head",
    "/projects/{}/log-entries",
    "/projects/{}/log.jsonl",
    "/projects/{}/versions/0/newest",
    "/projects/{}",
    "/projects/{}/live",
    "/join/{}",
)


def main() -> None:
    """Ask for everything."""
    coordinator, peers, digests = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    got: list[str] = []
    with httpx.Client(verify=False, timeout=10, trust_env=False) as http:
        for path in _PATHS:
            ours = http.get(coordinator + path.format("tiny"))
            none = http.get(coordinator + path.format("none"))
            if ours.status_code != 404 or ours.text.replace("tiny", "none") != none.text:
                got.append(path)
        listed = http.get(f"{coordinator}/coordinator")
        if "tiny" in listed.text + http.get(coordinator).text:
            got.append("the list of projects")
        for digest in digests:
            for server in (coordinator, *peers):
                for kind in ("blobs", "parts"):
                    answer = http.get(f"{server}/{kind}/{digest}", headers={"pleb-peer": "0" * 16})
                    if answer.status_code < 400:
                        got.append(f"{server}/{kind}/{digest}")
        for peer in peers:
            body = json.dumps({"digests": digests[:1]})
            if http.post(f"{peer}/have", content=body).status_code < 400:
                got.append(f"{peer}/have")
    print(json.dumps(got))


if __name__ == "__main__":
    main()
