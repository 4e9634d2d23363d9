"""The documentation: links and names lead somewhere, and statements hold."""

from __future__ import annotations

import ast
import io
import re
import time
import tokenize
from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_network
from pathlib import Path

import pytest

from tests.architecture.words import IN_CODE, PRIVATE
from tests.lab.rootfs import ENGINES
from underlay.api import status
from underlay.api.leases import leases
from underlay.cli import last_look, tables
from underlay.cli.commands import main
from underlay.errors import UnderlayError
from underlay.ipam.lease_states import STATES
from underlay.model import DhcpLease, Network, Subnet
from underlay.modes import mode_of
from underlay.modes.options import DHCP_KEYS, ENDPOINT_KEYS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "driver/underlay"
PAGES = [
    *(
        ROOT / f"{name}.md"
        for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
# These speak of modules, and so of what is renamed and moved.
ON_THE_SOURCE = [ROOT / "CONTRIBUTING.md", ROOT / "docs/architecture.md"]
SOURCES = sorted(p for top in ("driver", "tests") for p in (ROOT / top).rglob("*.py"))
BLOCKS = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def name_of(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCKS.sub("", page.read_text()), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def in_code(page):
    """Return what a page has in backticks."""
    return re.findall(r"`([^`\n]+)`", BLOCKS.sub("", page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_documents_lead_somewhere(page):
    text = BLOCKS.sub("", page.read_text())
    for path, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", text):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", ON_THE_SOURCE, ids=name_of)
def test_paths_that_a_page_names_are_there(page):
    """A path is from the root or from the package, a name without a folder from any."""
    folders = ("driver", "tests", "script", "docs")
    names = {path.name for folder in folders for path in (ROOT / folder).rglob("*")}
    for word in in_code(page):
        if re.fullmatch(r"\w[\w.]*(/[\w.]+)+|\w+\.(py|md|toml)", word):
            ways = (ROOT / word, PACKAGE / word, PACKAGE / f"{word}.py")
            assert word in names or any(way.exists() for way in ways), word


@pytest.mark.parametrize("page", ON_THE_SOURCE, ids=name_of)
def test_classes_and_constants_that_a_page_names_are_there(page):
    files = [*(ROOT / "tests").rglob("*.py"), ROOT / "script/test"]
    program = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    around = "\n".join(path.read_text() for path in files)
    for word in in_code(page):
        if re.fullmatch(r"[A-Z][A-Za-z]+(_[A-Z]+)*", word):
            text = around if word.startswith("UNDERLAY_") else program
            assert re.search(rf"\b{word}\b", text), word


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_samples_are_there(page):
    for block in BLOCKS.findall(page.read_text()):
        for word in re.findall(r"^(?:\$ )?underlay ([a-z]+)", block, re.MULTILINE):
            assert word in main.commands, word


# Statements that were once made without their limits: what a paragraph that makes one
# has to say as well.
LIMITS = [
    (r"E-103\b", "probe", "nothing else is refused with it"),
    (
        r"unknown (`-o` )?option|option that is (not|un)known",
        r"com\.docker\.",
        "keys that begin so pass, known or not",
    ),
    (r"20\.10 to 29", "recorded", "no container was run on engine 29"),
    (r"at any point", "third", "each commit is tested at a third of the points"),
]


def paragraphs(page):
    """Return paragraphs, items of lists and rows of tables, each in one line."""
    parts = re.split(r"\n\s*\n|\n(?=#|- |\d\. |\|)", page.read_text())
    return [" ".join(part.split()) for part in parts if not part.startswith("#")]


@pytest.mark.parametrize(
    ("statement", "limit", "why"), LIMITS, ids=[x[1] for x in LIMITS]
)
def test_documented_claim_comes_with_its_limit(statement, limit, why):
    for page in PAGES:
        for paragraph in paragraphs(page):
            if re.search(statement, paragraph, re.IGNORECASE):
                assert re.search(limit, paragraph), (
                    f"{name_of(page)}: {paragraph} ({why})"
                )


def test_features_the_readme_says_are_missing_are_missing_and_explained():
    text = (ROOT / "README.md").read_text()
    said = text.partition("It does **not** have:")[2].partition("\n## ")[0]
    assert not set(re.findall(r"`(\w+)`", said)) & set(main.commands)
    modes = (ROOT / "docs/modes.md").read_text()
    explained = modes.partition("## What comes later")[2]
    for word in ("DHCP", "SLAAC", "firewall", "Swarm"):
        assert word in said, word
        assert word in explained, word


def combinations():
    """Return the rows of the table of options that do not go together."""
    text = (ROOT / "docs/modes.md").read_text()
    table = text.partition("### Options that do not go together")[2].partition("\n#")[0]
    return re.findall(r"^\| (`.+`) \| (E-\d+) \|$", table, re.MULTILINE)


@pytest.mark.parametrize(("words", "identity"), combinations())
def test_options_that_do_not_go_together_are_refused_as_documented(words, identity):
    given = re.findall(r"`([^`]+)`", words)
    options = dict(word.split("=") for word in given if not word.startswith("--"))
    subnet = Subnet(ip_network("10.5.0.0/24"), ip_address("10.5.0.1"), pooled=True)
    network = Network("n" * 64, options, "--internal" in given, (subnet,))
    with pytest.raises(UnderlayError) as refused:
        mode_of(options).check(network)
    assert refused.value.id == identity


def test_the_table_of_options_that_do_not_go_together_has_every_id():
    assert {identity for _, identity in combinations()} == {"E-104", "E-109", "E-115"}


@pytest.mark.parametrize("options", [{"parent": "eth0"}, {"bridge": "br0"}], ids=str)
def test_docker_s_own_option_keys_pass_as_documented(options):
    options = {**options, "com.docker.network.no_such_thing": "1"}
    mode_of(options).check(Network("n" * 64, options))


def test_every_option_of_one_endpoint_is_in_its_table():
    text = (ROOT / "docs/modes.md").read_text()
    table = text.partition("## Options of one endpoint")[2].partition("```")[0]
    documented = set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE))
    assert documented == set(ENDPOINT_KEYS)


# What the samples in the docs are made of.
REPAIRS = [
    {
        "at": 1772356364.0,
        "object": f"underlay:{'5b' * 32}:{'c4' * 32}",
        "container": "web",
        "network": "lan",
        "place": "/var/run/docker/netns/5f0c2a81d3e7",
        "before": "",
        "step": "nsenter --net=/var/run/docker/netns/5f0c2a81d3e7"
        " ip addr add 192.168.1.50/24 dev eth0",
        "seconds": 0.068,
        "error": "",
    },
    {
        "at": 1772355961.0,
        "object": f"underlay:{'5b' * 32}",
        "container": "",
        "network": "lan",
        "place": "",
        "before": "parent eth0",
        "step": "follow parent lan0",
        "seconds": 0.142,
        "error": "",
    },
]


@pytest.fixture
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
def test_history_sample_is_what_the_command_prints(capsys):
    tables.print_table(REPAIRS, tables.REPAIRS)
    printed = capsys.readouterr().out
    assert f"$ underlay history\n{printed}```" in (ROOT / "docs/repair.md").read_text()


def exposed(number, change="", since=None, **facts):
    found = {
        "container": "web",
        "network": "lan",
        "policy": "published",
        "protocol": "tcp",
        "port": number,
        "leads_to": number,
        "addresses": ["192.168.1.50"],
        "allow_from": [],
        **dict.fromkeys(("lan", "host", "containers"), "all"),
        "listens": True,
    }
    return {**found, "change": change, "since": since, **facts}


def shut(who="none"):
    return {"lan": "none", "host": who, "containers": "none"}


EXPOSED = [
    exposed(2, container="db", port=5432, leads_to=5432, addresses=[], listens=False),
    exposed(22, **shut()),
    exposed(443),
    exposed(8443, leads_to=443),
    exposed(9000, "changed", 1772356364.0, **shut("all")),
    exposed(53, "new", 1772356364.0, protocol="udp", **shut()),
]


@pytest.mark.usefixtures("utc")
def test_exposure_sample_is_what_the_command_prints(capsys):
    tables.print_table(EXPOSED, tables.EXPOSURE)
    tables.say()
    tables.say(f"compared with the look of {tables.when(1772355961.0)}")
    sample = f"$ underlay exposure\n{capsys.readouterr().out}```"
    assert sample in (ROOT / "docs/policy.md").read_text()


def test_every_fact_and_column_of_exposure_is_documented():
    text = (ROOT / "docs/policy.md").read_text()
    heads = re.findall(r"^\| ([A-Z, ]+) \|", text, re.MULTILINE)
    assert ", ".join(heads).split(", ") == [*tables.EXPOSURE]
    text = (ROOT / "docs/cli.md").read_text()
    table = text.partition("**`underlay exposure --json`**")[2].partition("\n**")
    cells = re.findall(r"^\| (`.+?`) \|", table[0], re.MULTILINE)
    documented = [word for cell in cells for word in re.findall(r"`(\w+)`", cell)]
    assert sorted(documented) == sorted(EXPOSED[0]) == sorted(last_look.FIELDS)


LEASE = {
    "name": "web",
    "kind": "name",
    "container": "web",
    "parent": "eth0",
    "network": "lan",
    "address": "192.168.1.61/24",
    "mac": "3e:19:cd:fd:a3:51",
    "client_id": "01:3e:19:cd:fd:a3:51",
    "hostname": "web",
    "server": "192.168.1.1",
    "router": "192.168.1.1",
    "family": 4,
    "iaid": None,
    "state": "bound",
    "since": 1772356364.0,
    "renew": 1772397850.0,
    "expires": 1772442764.0,
}


def recorded_lease():
    """Return the lease of the sample as it is on record."""
    facts = {key: LEASE[key] for key in ("kind", "mac", "hostname", "since", "renew")}
    return DhcpLease(
        id=0,
        uplink="eth0",
        value="web",
        client_id=bytes.fromhex(LEASE["client_id"].replace(":", "")),
        address=IPv4Interface(LEASE["address"]),
        server=IPv4Address(LEASE["server"]),
        **facts,
    )


@pytest.mark.usefixtures("utc")
def test_lease_sample_is_what_the_command_prints(capsys, records):
    with records.transaction():
        records.dhcp_leases.save(recorded_lease())
    (stored,) = leases(records, 0.0)
    facts = {**LEASE, "reservation": stored["reservation"]}
    tables.print_facts(tables.lease_in_words(facts))
    printed = capsys.readouterr().out
    sample = f"$ underlay lease show web\n{printed}```"
    assert sample in (ROOT / "docs/dhcp.md").read_text()


def test_every_fact_and_column_of_a_lease_is_documented(records):
    with records.transaction():
        records.dhcp_leases.save(recorded_lease())
    (facts,) = leases(records, 0.0)
    text = (ROOT / "docs/cli.md").read_text()
    table = text.partition("**A lease from a DHCP server**")[2].partition("**A repair")
    cells = re.findall(r"^\| (`.+?`) \|", table[0], re.MULTILINE)
    documented = [word for cell in cells for word in re.findall(r"`(\w+)`", cell)]
    assert sorted(documented) == sorted(facts)
    states = re.findall(r"^\| `state` \| (.*) \|$", table[0], re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", states[0])) == set(STATES)
    table = text.partition("## underlay lease")[2].partition("## underlay history")[0]
    heads = re.findall(r"^\| ([A-Z, ]+) \|", table, re.MULTILINE)
    assert ", ".join(heads).split(", ") == [*tables.LEASES]


def test_every_option_for_dhcp_servers_is_on_its_page():
    text = (ROOT / "docs/dhcp.md").read_text()
    documented = re.findall(r"^\| `-o (\w+)` \|", text, re.MULTILINE)
    assert sorted(documented) == sorted([*DHCP_KEYS, "gateway"])


def test_the_fields_of_the_status_are_those_documented(records):
    text = (ROOT / "docs/cli.md").read_text()
    table = text.partition("**`underlay status --json`**")[2].partition("**Health.**")[
        0
    ]
    cells = re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE)
    documented = {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}
    assert documented == {"service", *status.status(records)}


def test_every_column_of_the_history_is_explained_in_its_order():
    text = (ROOT / "docs/cli.md").read_text()
    table = text.partition("## underlay history")[2].partition("## underlay version")[0]
    assert re.findall(r"^\| ([A-Z]+) \|", table, re.MULTILINE) == [
        *tables.HISTORY,
        *tables.REPAIRS,
    ]


def test_status_sample_has_the_columns_of_the_command():
    text = (ROOT / "README.md").read_text()
    for title, columns in tables.STATUS.items():
        heads = re.findall(rf"^{title}\n([A-Z ]+)$", text, re.MULTILINE)
        assert [head.split() for head in heads] == [[*columns]], title


def test_tested_engines_are_those_the_readme_names():
    text = " ".join((ROOT / "README.md").read_text().split())
    (named,) = re.findall(r"the tests run containers on ([\d., and]+\d)\.", text)
    oldest, *_, newest = ENGINES
    assert re.findall(r"\d+\.\d+", named) == [*ENGINES]
    assert f"Docker Engine {oldest} to {newest.partition('.')[0]}:" in text
    (replayed,) = re.findall(r"recorded calls of ([\d.]+);", text)
    recordings = (ROOT / "tests/api/test_recordings.py").read_text()
    assert f'"{replayed}.' in recordings


# Texts for people, in plain English: widen by what else has been rewritten.
PLAIN = [*PAGES, ROOT / "docs/underlay.toml"]


def assert_plain(text, words=PRIVATE):
    for pattern, instead in words.items():
        found = re.search(rf"\b({pattern})\b.*", text, re.IGNORECASE)
        assert not found, f"{found[0]!r}: say {instead!r}"


@pytest.mark.parametrize("page", PLAIN, ids=name_of)
def test_pages_use_the_field_s_words(page):
    assert_plain(re.sub(r"`[^`\n]+`", "``", BLOCKS.sub("", page.read_text())))


# In the short texts of logs, errors and commands, these are never needed either.
TERSE = {
    r"who|whom|whose": "a network, a program, the administrator",
    r"told": "the event itself",
    r"stands? on|stood on": "uses, is on",
    r"trying on|tries on": "retrying",
    r"bug(?! in underlay)": "internal error",
}
SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|PRAGMA|WITH)\b")


def read_by_users(path):
    """Return the texts of a module: its strings with a space, and the help of click."""
    tree = ast.parse(path.read_text())
    silent = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and path.parent.name != "cli"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = re.sub(r"{\w+}", "", node.value)
            if " " in text and id(node) not in silent and not SQL.search(text):
                yield " ".join(text.split())


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_logs_errors_and_commands_use_the_field_s_words(path):
    for text in read_by_users(path):
        assert_plain(text, PRIVATE | TERSE)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_docstrings_and_comments_use_the_field_s_words(path):
    source = path.read_text()
    texts = [ast.get_docstring(node) or "" for node in documented(ast.parse(source))]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        texts += [token.string] * (token.type == tokenize.COMMENT)
    assert_plain(re.sub(r"`[^`]+`", "``", "\n".join(texts)), IN_CODE)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_names_in_docstrings_are_names_of_their_module(path):
    tree = ast.parse(ast.unparse(ast.parse(path.read_text())))
    named = {}
    for node in documented(tree):
        text = ast.get_docstring(node) or ""
        if text and not isinstance(node, ast.Module):
            named |= dict.fromkeys(re.findall(r"`([a-z]\w*)`", text), node.name)
            node.body[0].value = ast.Constant("")
    code = set(re.findall(r"\w+", ast.unparse(tree)))
    assert not {name: where for name, where in named.items() if name not in code}


def documented(tree):
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]
