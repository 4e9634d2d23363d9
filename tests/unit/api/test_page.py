"""The status page: in a browser, with hostile names, and at the size of a full host."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from ipaddress import IPv4Interface, ip_network
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underlay.api.page.page import page
from underlay.api.page.picture import WIDTH, draw
from underlay.model import Endpoint, Network, Notice, Subnet, Uplink
from underlay.model.ports import PORTS_OPTION
from underlay.records import Records

HEALTH = {"ok": True, "error": "", "unwritten": [], "started": 1772356364.0, "pid": 7}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "a\nb\x1b[2J\u202e\x00\udc80",
    "</style></svg><h1>x",
    "&lt;b&gt; é 网络",
    "x" * 1_000_000,
]


def network(name="lan", identity="n" * 64, parent="eth0", **options):
    subnet = Subnet(ip_network("10.16.0.0/16"))
    chosen = {"parent": parent, **options}
    return Network(identity, chosen, False, (subnet,), Uplink(parent), name, 1.0)


def endpoint(number, container, owner="n" * 64):
    address = IPv4Interface((0x0A100001 + number, 16))
    mac = f"02:00:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    identity = f"{number:064x}"
    return Endpoint(identity, owner, address, mac=mac, container=container, created=1.0)


def fill(records, networks, endpoints):
    with records.transaction():
        for one in networks:
            records.networks.add(one)
        for one in networks:
            records.networks.rename(one.id, one.name)
        for one in endpoints:
            records.endpoints.add(one)
            records.endpoints.name_container(one.id, one.container)


class Elements(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


def shown(records, refusals=(), health=HEALTH):
    answer = page(records, health, refusals)
    return answer.body.decode(), answer.headers


def refusal(text):
    return {
        "at": 1.0, "id": "E-101", "error": text, "times": 1, "method": "x",
        "network": text, "container": text, "endpoint": "", "pool": text,
        "address": text, "call": "0a1b2c3d",
    }  # fmt: skip


PLAIN = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "p", "ul", "li",
    "b", "main", "section", "h2", "div", "svg", "path", "g", "rect", "text", "table",
    "tr", "th", "td", "code", "footer",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(t[:12]) for t in HOSTILE])
def test_hostile_text_stays_text_and_is_cut(records, text):
    stored = text.replace("\udc80", "")  # SQLite stores no half of a surrogate pair
    fill(records, [network(stored, note=stored)], [endpoint(1, stored)])
    with records.transaction():
        records.repairs.note_failure("underlay:x", stored, 1.0)
        records.host.set_notices([Notice("mac-budget", stored, stored, 1.0)])
    html, _ = shown(records, [refusal(text)])
    found = Elements(html)
    assert set(found.tags) <= PLAIN
    assert not [name for name in found.attributes if name.startswith(("on", "style"))]
    assert len(html) < 40_000
    assert {c for c in html if not c.isprintable()} <= {"\n"}
    if text.startswith("a\n"):
        assert r"a\nb\x1b[2J\u202e\x00\udc80" in found.text
    if text.startswith("{{"):
        assert "{{ 7 * 7 }}" in found.text


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_in_facts_leaves_the_page_well_formed(text, tmp_path_factory):
    records = Records(tmp_path_factory.mktemp("fuzz") / "underlay.db")
    try:
        fill(records, [network(text)], [endpoint(1, text)])
        html, _ = shown(records, [refusal(text)])
    finally:
        records.close()
    found = Elements(html)
    assert set(found.tags) <= PLAIN
    pictures = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert pictures
    for picture in pictures:
        ET.fromstring(picture)  # noqa: S314 - the page's own
    assert {c for c in html if not c.isprintable()} <= {"\n"}


def test_policy_allows_the_page_s_style_and_nothing_else(records):
    html, headers = shown(records)
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert headers["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )
    assert "<script" not in html
    assert "://" not in html
    assert not re.search(r"\b(src|href|style)=", html)


def test_page_of_ten_thousand_endpoints_is_small_and_quick(records):
    networks = [network(f"net{n}", f"{n:064x}", f"eth{n % 30}") for n in range(100)]
    endpoints = [endpoint(n, f"c{n}", f"{n % 100:064x}") for n in range(10_000)]
    fill(records, networks, endpoints)
    shown(records)
    began = time.perf_counter()
    html, _ = shown(records)
    took = time.perf_counter() - began
    assert len(html) < 300_000
    assert "<b>10,000</b> endpoints" in html
    assert "40 more" in html
    assert "92 more" in html
    assert took < 1.0


def test_page_of_two_thousand_networks_is_bounded(records):
    networks = [network(f"net{n}", f"{n:064x}", f"eth{n % 500}") for n in range(2_000)]
    fill(records, networks, [endpoint(n, f"c{n}", f"{n:064x}") for n in range(2_000)])
    html, _ = shown(records)
    assert len(html) < 100_000
    assert "<b>2,000</b> networks" in html
    assert "1,940 more" in html


def test_failing_networks_and_endpoints_come_first(records):
    networks = [network(f"net{n}", f"{n:064x}") for n in range(80)]
    bad = f"{79:064x}"
    endpoints = [endpoint(n, f"c{n}", bad) for n in range(50)]
    fill(records, networks, endpoints)
    with records.transaction():
        records.repairs.note_failure(f"underlay:{bad}", "E-400 no", 1.0)
        mark = f"underlay:{bad}:{endpoints[49].id}"
        records.repairs.note_failure(mark, "E-400 no way", 2.0)
    html, _ = shown(records)
    table = html.partition("<th>Network</th>")[2]
    assert table.index("net79") < table.index("net0<")
    assert ">c49<" in html
    assert "<title>underlay: 2 failing</title>" in html


def test_policies_and_published_ports_of_drawn_containers_are_shown(records):
    plain, closed = network(), network("dmz", "d" * 64, policy="closed")
    ports = " ".join(f"{n}:80/tcp" for n in range(1000, 1020))
    web = replace(endpoint(1, "web"), options={PORTS_OPTION: ports})
    shut = endpoint(2, "<b>shut", "d" * 64)
    fill(records, [plain, closed], [web, shut, endpoint(3, "db")])
    html, _ = shown(records)
    table = Elements(html.partition("<h2>Ports</h2>")[2].partition("</table>")[0])
    assert "1000/tcp leads to 80: open as every port is; 1001/tcp" in table.text
    assert "1012/tcp" not in table.text
    assert "<b>shut" in table.text
    assert "db" not in table.text
    assert "<h2>Ports</h2>" not in shown(records_of_open_containers(records, web))[0]


def records_of_open_containers(records, web):
    with records.transaction():
        for number, owner in ((1, web.network), (2, "d" * 64)):
            records.endpoints.remove(owner, f"{number:064x}")
    return records


def test_picture_has_a_line_from_each_network_to_its_parent():
    def one(name, parent):
        return {
            "name": name, "id": name, "parent": parent, "mode": "macvlan",
            "subnets": [], "health": "ok", "error": "", "endpoints": 0, "drawn": [],
        }  # fmt: skip

    parents = [{"name": "eth0", "health": "ok", "error": ""}]
    found = draw(parents, [one("a", "eth0"), one("b", "eth0"), one("c", "")])
    assert [box.first for box in found.boxes] == ["a", "b", "eth0", "c", "no parent"]
    starts = [line[:2] for line in found.lines]
    assert starts[0] == starts[1] != starts[2]
    assert all(box.x + box.width <= WIDTH for box in found.boxes)
    assert all(box.y + box.height <= found.height for box in found.boxes)


def test_service_that_does_not_answer_is_said(records):
    assert "The service does not answer" in shown(records, health=None)[0]
    sick = {**HEALTH, "ok": False, "error": "E-504 the disk"}
    assert "failing: E-504 the disk" in shown(records, health=sick)[0]
