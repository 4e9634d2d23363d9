"""`underlay install` from a wheel, on a host that systemd runs, and its undoing."""

from __future__ import annotations

import json
import re
import sqlite3

import pytest

from tests.docker.conftest import refused
from tests.lab.service import wait_until
from underlay.records.migrations import MIGRATIONS, migrate

UNITS = "/etc/systemd/system"
STATE = "/var/lib/underlay"
FILES = [
    "/etc/NetworkManager/conf.d/90-underlay.conf",
    "/etc/systemd/network/05-underlay.link",
    "/etc/systemd/network/05-underlay.network",
    f"{UNITS}/underlay.service",
    f"{UNITS}/underlay.service.d/10-install.conf",
    f"{UNITS}/underlay.socket",
]
# What a run of anything leaves, and what systemd keeps for a unit while it runs.
PASSING = r"^/run/(systemd|docker|containerd|lock|log|udev|user|xtables.lock)\b|\.pyc$"


@pytest.fixture
def site(operated):
    """The same, and nothing may be left of what a test installs."""
    before = files(operated)
    yield operated
    operated.clear()
    operated.service.run("uninstall", "--purge", check=False)
    assert files(operated) == before


def files(site):
    """Return all files and directories where an installation may leave something."""
    places = "find /etc /run /var/lib/underlay /usr/lib/systemd -xdev 2>/dev/null"
    found = site.host.run("sh", "-c", places, check=False).stdout.splitlines()
    return {path for path in found if not re.search(PASSING, path)}


def text(site, path):
    return site.host.run("cat", path).stdout


def write(site, path, content):
    site.host.run("sh", "-c", f"cat >{path}", input=content)


def health(site):
    wait_until(lambda: site.service.healthz(), 20)
    return site.service.healthz()


def test_dry_run_says_each_step_and_changes_nothing(site):
    before = files(site)
    said = site.service.run("install", "--dry-run").stdout.splitlines()
    assert files(site) == before
    assert [line.split()[-1] for line in said if "would write" in line] == [
        f"{UNITS}/underlay.socket",
        f"{UNITS}/underlay.service",
        "/etc/systemd/network/05-underlay.network",
        "/etc/systemd/network/05-underlay.link",
        "/etc/NetworkManager/conf.d/90-underlay.conf",
        f"{UNITS}/underlay.service.d/10-install.conf",
    ]
    assert said[-1] == "would systemctl start underlay.socket underlay.service"


def test_installed_service_runs_and_a_second_install_keeps_its_networks(site):
    said = site.service.run("install").stdout
    assert re.search(r"^the service is running, pid \d+, since ", said, re.MULTILINE)
    assert set(FILES) <= files(site)
    listed = json.loads(text(site, f"{STATE}/installed.json"))
    assert sorted(listed["files"]) == FILES
    for unit in ("underlay.socket", "underlay.service"):
        assert site.service.systemctl("is-enabled", unit) == "enabled\n"
    site.network("lan")
    site.run("c1", "lan")
    before = site.attached("c1", "lan")
    pids = site.service.pids()
    said = site.service.run("install").stdout
    assert "write" not in said
    assert not set(site.service.pids()) & set(pids)
    assert site.attached("c1", "lan") == before
    assert text(site, f"{STATE}/installed.json") == json.dumps(listed, indent=2) + "\n"
    site.ping_from("c1", "10.77.0.1")


def test_install_and_uninstall_work_while_docker_is_stopped(site):
    site.service.systemctl("stop", "docker.socket", "docker.service")
    try:
        site.service.run("install")
        assert health(site)["ok"]
        site.service.run("uninstall", "--purge")
    finally:
        site.service.systemctl("start", "docker.socket", "docker.service")


def test_uninstall_refuses_while_networks_exist_and_names_them(site):
    site.service.run("install")
    site.network("lan")
    named = ("network", "show", "lan")
    wait_until(lambda: site.service.run(*named, check=False).returncode == 0, 10)
    said = refused(site.service.run("uninstall", check=False))
    assert said.startswith("E-522 networks still use underlay: lan. Without the")
    assert health(site)["ok"]
    site.docker("network", "rm", "lan")
    site.service.run("uninstall")


def test_uninstall_removes_what_was_made_and_keeps_the_records(site):
    before = files(site)
    site.service.run("install")
    said = site.service.run("uninstall").stdout
    assert f"keep the records in {STATE}" in said
    left = files(site) - before
    records = {f"{STATE}/underlay.db{end}" for end in ("", "-wal", "-shm")}
    assert left <= records | {STATE, f"{STATE}/lock"}
    assert f"{STATE}/underlay.db" in left
    sockets = "ls /run/docker/plugins/underlay.sock /run/underlay"
    assert site.host.run("sh", "-c", sockets, check=False).returncode == 2
    again = refused(site.service.run("uninstall", check=False))
    assert again.startswith("E-524 there is nothing to uninstall")
    said = site.service.run("uninstall", "--purge").stdout
    assert said == f"remove the records in {STATE}\n"
    assert files(site) == before


@pytest.mark.parametrize("first", ["disable", "leave"])
def test_uninstall_that_ended_halfway_can_be_repeated(site, first):
    before = files(site)
    site.service.run("install")
    units = "underlay.socket", "underlay.service"
    if first == "disable":
        site.service.systemctl("disable", "--now", *units)
    else:  # only the files are gone, and the service runs on
        wants = f"{UNITS}/*.wants"
        site.host.run("sh", "-c", f"rm {wants}/underlay.*; rmdir {wants} || true")
    site.host.run("sh", "-c", f"rm {UNITS}/underlay.socket {UNITS}/underlay.service")
    site.service.systemctl("daemon-reload")
    site.service.run("uninstall", "--purge")
    assert files(site) == before
    states = site.host.run("systemctl", "is-active", *units, check=False).stdout
    assert states.split() == ["inactive", "inactive"]


def test_file_of_the_administrator_is_not_overwritten(site):
    own = f"{UNITS}/underlay.service"
    write(site, own, "[Service]\nExecStart=/bin/true\n")
    text_of_refusal = refused(site.service.run("install", check=False))
    assert text_of_refusal.startswith(f"E-521 {own} exists, and `underlay install` did")
    assert text(site, own) == "[Service]\nExecStart=/bin/true\n"
    assert not {f"{STATE}/installed.json", f"{UNITS}/underlay.socket"} & files(site)
    site.host.run("rm", own)


def test_file_changed_after_the_install_is_kept_by_everyone(site):
    site.service.run("install")
    [unit] = [f for f in FILES if f.endswith(".network")]
    write(site, unit, "# mine\n")
    for words in (("install",), ("uninstall",)):
        said = site.service.run(*words).stdout
        assert f"keep {unit}, which was changed since it was installed" in said
    assert text(site, unit) == "# mine\n"
    site.host.run("rm", unit)


def test_install_over_an_older_version_updates_and_removes_its_files(site):
    """As if an older version had written another unit, and one more."""
    site.service.run("install")
    site.network("lan")
    older = {f"{UNITS}/underlay.service": text(site, f"{UNITS}/underlay.service")}
    change = (
        "import hashlib, json, pathlib, sys\n"
        f"listed = pathlib.Path('{STATE}/installed.json')\n"
        "facts = json.loads(listed.read_text())\n"
        f"for path in ('{UNITS}/underlay.service', '{UNITS}/underlay.timer'):\n"
        "    pathlib.Path(path).write_text('# older\\n')\n"
        "    facts['files'][path] = hashlib.sha256(b'# older\\n').hexdigest()\n"
        "listed.write_text(json.dumps(facts))\n"
    )
    site.host.run("python3", "-", input=change)
    said = site.service.run("install").stdout.splitlines()
    assert f"update {UNITS}/underlay.service" in said
    assert f"remove {UNITS}/underlay.timer" in said
    [(unit, content)] = older.items()
    assert text(site, unit) == content
    assert f"{UNITS}/underlay.timer" not in files(site)
    site.run("c1", "lan")


def test_records_are_copied_before_an_upgrade_migrates_them(site, tmp_path):
    older, number = tmp_path / "older.db", len(MIGRATIONS) - 1
    db = sqlite3.connect(older, isolation_level=None)
    migrate(db, older, MIGRATIONS[:number])
    db.execute("INSERT INTO host VALUES (1, 'before')")
    db.close()
    site.host.run("install", "-d", "-m700", STATE)
    site.host.run("cp", f"/outer{older}", f"{STATE}/underlay.db")
    copy = f"{STATE}/underlay.db.v{number}"
    said = site.service.run("install").stdout.splitlines()
    [line] = [line for line in said if line.startswith("copy ")]
    assert line.startswith(f"copy {STATE}/underlay.db to {copy}, ")
    assert health(site)["ok"]
    versions = "import sqlite3, sys; print(*(sqlite3.connect(p).execute('PRAGMA user_version').fetchone()[0] for p in sys.argv[1:]))"  # noqa: E501
    shown = site.host.run("python3", "-c", versions, f"{STATE}/underlay.db", copy)
    assert shown.stdout == f"{number + 1} {number}\n"


def test_newer_records_stop_an_install_before_it_changes_anything(site):
    site.service.run("install")
    main = ("show", "--value", "-p", "MainPID", "underlay.service")
    pid, known = site.service.systemctl(*main), len(MIGRATIONS)
    change = "import sqlite3; sqlite3.connect('{}').execute('PRAGMA user_version = {}')"
    newer, back = (change.format(f"{STATE}/underlay.db", n) for n in (99, known))
    site.host.run("python3", "-c", newer)
    try:
        said = refused(site.service.run("install", check=False))
        assert said.startswith(f"E-502 the records in {STATE}/underlay.db were written")
        assert f"{STATE}/underlay.db.v{known}" in said
        assert site.service.systemctl(*main) == pid
    finally:
        site.host.run("python3", "-c", back)


def test_service_without_systemd_s_sockets_gives_way_to_the_units(site):
    """The unit that the settings page of version 0.1.0 told to write."""
    write(site, f"{UNITS}/underlay.service", (
        "[Service]\nType=notify\nNotifyAccess=all\nKillMode=mixed\n"
        f"ExecStart={site.service.program} serve\n"
    ))  # fmt: skip
    site.service.systemctl("daemon-reload")
    site.service.systemctl("start", "underlay.service")
    assert refused(site.service.run("install", check=False)).startswith("E-521 ")
    site.host.run("rm", f"{UNITS}/underlay.service")
    site.service.run("install")
    assert site.service.systemctl("is-active", "underlay.socket") == "active\n"
    assert health(site)["ok"]


def test_running_service_of_someone_else_is_not_pushed_aside(site):
    start = f"{site.service.program} serve >/run/log-own 2>&1 </dev/null & echo $!"
    pid = site.host.run("sh", "-c", start).stdout.strip()
    wait_until(lambda: site.service.healthz(), 20)
    assert refused(site.service.run("install", check=False)).startswith("E-503 ")
    assert health(site)["pid"] == int(pid)
    site.host.run("kill", pid)
    # It stops answering some time before it gives the records up.
    running = ("kill", "-0", pid)
    wait_until(lambda: site.host.run(*running, check=False).returncode != 0, 20)
    site.host.run("rm", "-r", "/run/log-own", "/run/underlay")


def test_units_verify_silently_and_expose_little(site):
    site.service.run("install")
    names = ("underlay.service", "underlay.socket")
    done = site.host.run("systemd-analyze", "verify", *names)
    assert (done.stdout, done.stderr) == ("", "")
    shown = site.host.run("systemd-analyze", "security", "underlay.service").stdout
    [level] = re.findall(r"exposure level for underlay.service: ([\d.]+)", shown)
    assert float(level) <= 3.0


def test_own_status_address_is_served_beside_systemd_s_sockets(site):
    site.host.run("mkdir", "-p", "/etc/underlay")
    write(site, "/etc/underlay/underlay.toml", 'status_listen = "127.0.0.1:9157"\n')
    site.service.run("install")
    told = site.host.run("curl", "-s", "http://127.0.0.1:9157/healthz").stdout
    assert json.loads(told)["ok"]
    site.host.run("rm", "-r", "/etc/underlay")


@pytest.mark.parametrize(
    ("change", "back", "why"),
    [
        ("chown 1000", "chown 0", "it belongs to user 1000"),
        ("chmod 777", "chmod 755", "its mode is 0777"),
    ],
)
def test_program_that_users_may_change_is_not_installed(site, change, back, why):
    site.host.run(*change.split(), "/opt/underlay/bin")
    try:
        said = refused(site.service.run("install", check=False))
    finally:
        site.host.run(*back.split(), "/opt/underlay/bin")
    assert said.startswith("E-525 /opt/underlay/bin can be changed by other users")
    assert why in said
