"""The schema, as the ordered list of changes that made it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from underlay.errors import RecordsDamaged, RecordsTooNew

# Records, and copies of them, are for their owner alone.
MODE = 0o600
Migration = tuple[str, ...]

# Addresses are kept packed (4 or 16 bytes), so that their order is the order of bytes.
MIGRATIONS: tuple[Migration, ...] = (
    (
        "CREATE TABLE host (one INTEGER PRIMARY KEY CHECK (one = 1),"
        " identity TEXT NOT NULL) STRICT",
        """
        CREATE TABLE network (
            id       TEXT PRIMARY KEY,
            options  TEXT NOT NULL,
            internal INTEGER NOT NULL,
            segments TEXT NOT NULL,
            parent   TEXT NOT NULL,
            name     TEXT NOT NULL DEFAULT '',
            created  REAL NOT NULL
        ) STRICT
        """,
        "CREATE INDEX network_parent ON network (parent)",
        """
        CREATE TABLE endpoint (
            id        TEXT PRIMARY KEY,
            network   TEXT NOT NULL REFERENCES network (id) ON DELETE CASCADE,
            ipv4      TEXT NOT NULL,
            ipv6      TEXT NOT NULL,
            mac       TEXT NOT NULL,
            options   TEXT NOT NULL,
            container TEXT NOT NULL DEFAULT '',
            created   REAL NOT NULL
        ) STRICT
        """,
        "CREATE INDEX endpoint_network ON endpoint (network)",
        "CREATE INDEX endpoint_mac ON endpoint (mac)",
        """
        CREATE TABLE sandbox (
            endpoint TEXT PRIMARY KEY REFERENCES endpoint (id) ON DELETE CASCADE,
            path     TEXT NOT NULL,
            left     INTEGER NOT NULL DEFAULT 0
        ) STRICT
        """,
        """
        CREATE TABLE pool (
            id      INTEGER PRIMARY KEY AUTOINCREMENT,
            domain  TEXT NOT NULL,
            subnet  TEXT NOT NULL,
            family  INTEGER NOT NULL,
            first   BLOB NOT NULL,
            last    BLOB NOT NULL,
            holders TEXT NOT NULL DEFAULT '[]',
            UNIQUE (domain, subnet)
        ) STRICT
        """,
        "CREATE INDEX pool_subnet ON pool (subnet)",
        "CREATE INDEX pool_place ON pool (domain, family, first)",
        # What automatic addresses are drawn from: the whole pool, or an --ip-range.
        # Slices are CIDR blocks, hence nested or apart, never half over each other.
        """
        CREATE TABLE slice (
            id    INTEGER PRIMARY KEY,
            pool  INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            first BLOB NOT NULL,
            last  BLOB NOT NULL,
            UNIQUE (pool, first, last)
        ) STRICT
        """,
        """
        CREATE TABLE claim (
            id      TEXT PRIMARY KEY,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            network TEXT NOT NULL DEFAULT '',
            since   REAL NOT NULL
        ) STRICT
        """,
        "CREATE INDEX claim_pool ON claim (pool)",
        "CREATE INDEX claim_slice ON claim (slice)",
        "CREATE INDEX claim_network ON claim (network)",
        # Never leased yet, as disjoint intervals: a /64 is one row.
        """
        CREATE TABLE fresh (
            pool  INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            last  BLOB NOT NULL,
            first BLOB NOT NULL,
            PRIMARY KEY (pool, last)
        ) STRICT, WITHOUT ROWID
        """,
        # Leased once and free again; `turn` is the queue. Each waits in the narrowest
        # slice that has it, so that the head of a slice is one index look-up.
        """
        CREATE TABLE freed (
            turn    INTEGER PRIMARY KEY AUTOINCREMENT,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            address BLOB NOT NULL,
            UNIQUE (pool, address)
        ) STRICT
        """,
        "CREATE INDEX freed_queue ON freed (slice, turn)",
        # `pool` is no foreign key: history outlives the pool, and its id never returns.
        """
        CREATE TABLE tenure (
            id        INTEGER PRIMARY KEY,
            address   TEXT NOT NULL,
            role      TEXT NOT NULL,
            pool      INTEGER,
            claim     TEXT NOT NULL DEFAULT '',
            network   TEXT NOT NULL DEFAULT '',
            endpoint  TEXT NOT NULL DEFAULT '',
            mac       TEXT NOT NULL DEFAULT '',
            container TEXT NOT NULL DEFAULT '',
            since     REAL NOT NULL,
            until     REAL NOT NULL DEFAULT 0
        ) STRICT
        """,
        "CREATE UNIQUE INDEX tenure_one_owner ON tenure (pool, address)"
        " WHERE until = 0 AND role = 'endpoint'",
        "CREATE INDEX tenure_live ON tenure (pool, address) WHERE until = 0",
        "CREATE INDEX tenure_gateway ON tenure (pool)"
        " WHERE until = 0 AND role = 'gateway'",
        "CREATE INDEX tenure_claim ON tenure (claim) WHERE until = 0",
        "CREATE INDEX tenure_endpoint ON tenure (endpoint) WHERE until = 0",
        "CREATE INDEX tenure_address ON tenure (address)",
        "CREATE INDEX tenure_mac ON tenure (mac)",
        "CREATE INDEX tenure_container ON tenure (container)",
        "CREATE INDEX tenure_until ON tenure (until)",
        "CREATE TABLE trouble (mark TEXT PRIMARY KEY, text TEXT NOT NULL,"
        " since REAL NOT NULL) STRICT",
    ),
    (
        # Our VLANs under a network, `height` from the lowest: whether a network is the
        # last one on a VLAN is one index look-up.
        """
        CREATE TABLE vlan (
            network TEXT NOT NULL REFERENCES network (id) ON DELETE CASCADE,
            height  INTEGER NOT NULL,
            name    TEXT NOT NULL,
            PRIMARY KEY (network, height)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX vlan_name ON vlan (name)",
    ),
    (
        # Sysctls of the host that were changed, with their values before, until they
        # are restored.
        """
        CREATE TABLE setting (
            path   TEXT PRIMARY KEY,
            reason TEXT NOT NULL,
            before TEXT NOT NULL,
            value  TEXT NOT NULL,
            turn   INTEGER NOT NULL
        ) STRICT
        """,
        # The host's own addresses on the parent, and the parent's MAC, as last seen.
        "ALTER TABLE network ADD COLUMN here TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE network ADD COLUMN mac TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX network_mode ON network (json_extract(options, '$.mode'))",
    ),
    (
        # Our bridges on devices of the host, with the entries that move between the
        # two: written before anything is moved.
        """
        CREATE TABLE takeover (
            parent   TEXT PRIMARY KEY,
            bridge   TEXT NOT NULL UNIQUE,
            state    TEXT NOT NULL,
            facts    TEXT NOT NULL,
            settings TEXT NOT NULL
        ) STRICT
        """,
    ),
    (
        # The state of a device in its sandbox when Docker had finished with it.
        "ALTER TABLE sandbox ADD COLUMN device TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE sandbox ADD COLUMN mtu INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE sandbox ADD COLUMN defaults TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE sandbox ADD COLUMN settings TEXT NOT NULL DEFAULT '[]'",
        "CREATE INDEX sandbox_path ON sandbox (path)",
        "CREATE INDEX sandbox_leaving ON sandbox (endpoint) WHERE left = 1",
        "CREATE INDEX sandbox_unsettled ON sandbox (endpoint) WHERE device = ''",
        # What identifies the device under a network, and why there is none.
        "ALTER TABLE network ADD COLUMN base TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE network ADD COLUMN absent TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE network ADD COLUMN mtu INTEGER NOT NULL DEFAULT 0",
        # The repair log: bounded, newest last.
        """
        CREATE TABLE repair (
            id        INTEGER PRIMARY KEY AUTOINCREMENT,
            at        REAL NOT NULL,
            mark      TEXT NOT NULL,
            place     TEXT NOT NULL,
            before    TEXT NOT NULL,
            step      TEXT NOT NULL,
            seconds   REAL NOT NULL,
            error     TEXT NOT NULL,
            network   TEXT NOT NULL,
            container TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX repair_mark ON repair (mark)",
        "CREATE INDEX repair_container ON repair (container)",
        "CREATE INDEX repair_network ON repair (network)",
    ),
    (
        # Networks that Docker lists and the records lack: '' stands for all of them,
        # until Docker was asked.
        "CREATE TABLE awaited (network TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
    ),
    (
        # Devices that Docker left in a sandbox when their endpoints ended, until they
        # are gone. No foreign key: endpoint and network are off the record.
        "CREATE TABLE remnant (endpoint TEXT PRIMARY KEY, network TEXT NOT NULL,"
        " path TEXT NOT NULL) STRICT, WITHOUT ROWID",
    ),
    (
        # The IP families switched off on a device in its sandbox.
        "ALTER TABLE sandbox ADD COLUMN without TEXT NOT NULL DEFAULT ''",
    ),
    (
        # Link-local addresses that Docker gave a device besides the endpoint's own.
        "ALTER TABLE sandbox ADD COLUMN beside TEXT NOT NULL DEFAULT '[]'",
    ),
    (
        # Why the device under a network passes nothing: it is down, or has no carrier.
        "ALTER TABLE network ADD COLUMN halt TEXT NOT NULL DEFAULT ''",
    ),
    (
        # For ended leases only: with live ones in it, SQLite used it for any query of
        # live leases, and read all of them.
        "DROP INDEX tenure_until",
        "CREATE INDEX tenure_until ON tenure (until) WHERE until > 0",
        # Docker released the address while the endpoint lived, and will not again.
        "ALTER TABLE tenure ADD COLUMN returned INTEGER NOT NULL DEFAULT 0",
    ),
    (
        # Changed sysctls, and sandboxes, belong to one boot.
        """
        CREATE TABLE boot (
            one      INTEGER PRIMARY KEY CHECK (one = 1),
            identity TEXT NOT NULL
        ) STRICT
        """,
    ),
    (
        # The host's bridges of containers: their traffic to a shim is masqueraded.
        "ALTER TABLE network ADD COLUMN inward TEXT NOT NULL DEFAULT '[]'",
    ),
    (
        # Networks whose containers the host's firewall cuts off.
        """
        CREATE TABLE obstacle (
            network TEXT PRIMARY KEY,
            text    TEXT NOT NULL,
            since   REAL NOT NULL
        ) STRICT
        """,
    ),
    (
        # What quick checks of the host found.
        """
        CREATE TABLE notice (
            found TEXT NOT NULL,
            place TEXT NOT NULL,
            text  TEXT NOT NULL,
            since REAL NOT NULL,
            PRIMARY KEY (found, place, text)
        ) STRICT
        """,
    ),
    (
        # Which container an address is kept for. No foreign keys: it outlives network
        # and pool, which Docker may create again.
        """
        CREATE TABLE reservation (
            domain  TEXT NOT NULL,
            place   BLOB NOT NULL,
            address TEXT NOT NULL,
            name    TEXT NOT NULL,
            origin  TEXT NOT NULL,
            network TEXT NOT NULL,
            mac     TEXT NOT NULL,
            since   REAL NOT NULL,
            gone    REAL NOT NULL DEFAULT 0,
            idle    INTEGER NOT NULL,
            PRIMARY KEY (domain, place)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX reservation_name ON reservation (domain, name)",
        "CREATE INDEX reservation_gone ON reservation (domain, gone) WHERE idle = 1",
        "CREATE INDEX reservation_since ON reservation (domain, since) WHERE idle = 1",
        # Docker asked for the address (--ip), for the MAC.
        "ALTER TABLE tenure ADD COLUMN fixed INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE tenure ADD COLUMN fixed_mac INTEGER NOT NULL DEFAULT 0",
        # Whether the segment is asked for addresses, and which share of the range this
        # host draws from.
        "ALTER TABLE claim ADD COLUMN probe INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE claim ADD COLUMN share TEXT NOT NULL DEFAULT ''",
        # Containers keep the addresses and the MACs that they have.
        """
        INSERT OR IGNORE INTO reservation
        SELECT p.domain, packed(t.address), t.address, t.container, 'drawn', t.network,
               t.mac, t.since, 0, t.until > 0
        FROM tenure t JOIN pool p ON p.id = t.pool
        WHERE t.role = 'endpoint' AND t.container <> ''
        AND (t.until = 0 OR t.until > strftime('%s', 'now') - 7 * 86400.0 AND t.id =
             (SELECT max(id) FROM tenure WHERE container = t.container
              AND pool = t.pool AND role = 'endpoint'))
        AND NOT EXISTS (SELECT 1 FROM tenure WHERE pool = t.pool AND until = 0
                        AND address = t.address AND t.until > 0)
        ORDER BY t.until = 0 DESC, t.until DESC
        """,
        "DELETE FROM freed WHERE EXISTS (SELECT 1 FROM reservation r JOIN pool p"
        " ON p.domain = r.domain WHERE p.id = freed.pool AND r.place = freed.address)",
    ),
    (
        # Where the addresses of a claim come from: pool, or dhcp.
        "ALTER TABLE claim ADD COLUMN source TEXT NOT NULL DEFAULT 'pool'",
        # What a container is to DHCP servers, and what they gave it. It outlives its
        # network: the same name on the same parent has the same MAC and address again.
        """
        CREATE TABLE dhcp_lease (
            id         INTEGER PRIMARY KEY,
            uplink     TEXT NOT NULL,
            kind       TEXT NOT NULL,
            value      TEXT NOT NULL,
            mac        TEXT NOT NULL,
            client_id  BLOB NOT NULL,
            hostname   TEXT NOT NULL,
            network    TEXT NOT NULL DEFAULT '',
            endpoint   TEXT NOT NULL DEFAULT '',
            address    TEXT NOT NULL DEFAULT '',
            server     TEXT NOT NULL DEFAULT '',
            server_mac TEXT NOT NULL DEFAULT '',
            router     TEXT NOT NULL DEFAULT '',
            options    BLOB NOT NULL DEFAULT x'',
            since      REAL NOT NULL DEFAULT 0,
            renew      REAL NOT NULL DEFAULT 0,
            rebind     REAL NOT NULL DEFAULT 0,
            expires    REAL NOT NULL DEFAULT 0,
            uptime     REAL NOT NULL DEFAULT 0,
            boot       TEXT NOT NULL DEFAULT '',
            gone       REAL NOT NULL DEFAULT 0,
            former     TEXT NOT NULL DEFAULT '',
            container  TEXT NOT NULL DEFAULT '',
            UNIQUE (uplink, kind, value)
        ) STRICT
        """,
        "CREATE INDEX dhcp_lease_endpoint ON dhcp_lease (endpoint)",
        "CREATE INDEX dhcp_lease_address ON dhcp_lease (address)",
    ),
    (
        # The same for DHCPv6: an address for a container that runs already.
        """
        CREATE TABLE dhcpv6_lease (
            id        INTEGER PRIMARY KEY,
            uplink    TEXT NOT NULL,
            kind      TEXT NOT NULL,
            value     TEXT NOT NULL,
            mac       TEXT NOT NULL,
            client_id BLOB NOT NULL,
            hostname  TEXT NOT NULL,
            network   TEXT NOT NULL,
            endpoint  TEXT NOT NULL,
            address   TEXT NOT NULL,
            server    TEXT NOT NULL,
            duid      BLOB NOT NULL,
            since     REAL NOT NULL,
            renew     REAL NOT NULL,
            rebind    REAL NOT NULL,
            preferred REAL NOT NULL,
            expires   REAL NOT NULL,
            uptime    REAL NOT NULL,
            boot      TEXT NOT NULL,
            gone      REAL NOT NULL,
            silent    REAL NOT NULL,
            former    TEXT NOT NULL,
            container TEXT NOT NULL,
            UNIQUE (uplink, kind, value)
        ) STRICT
        """,
        "CREATE INDEX dhcpv6_lease_endpoint ON dhcpv6_lease (endpoint)",
        "CREATE INDEX dhcpv6_lease_address ON dhcpv6_lease (address)",
    ),
)


def migrate(
    db: sqlite3.Connection, path: Path, migrations: Sequence[Migration] = MIGRATIONS
) -> None:
    """Migrate the database, each change in one transaction with its version.

    An older database is copied to `<path>.v<version>` first; one that is newer than
    this program is refused.
    """
    db.create_function("packed", 1, lambda text: ip_address(text).packed)
    found = check_version(db, path, len(migrations))
    if 0 < found < len(migrations):
        _back_up(db, path.with_name(f"{path.name}.v{found}"))
    for number, statements in enumerate(migrations, start=1):
        db.execute("BEGIN IMMEDIATE")
        try:
            if _version(db) < number:
                for statement in statements:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number}")
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")


def check_version(
    db: sqlite3.Connection, path: Path, known: int = len(MIGRATIONS)
) -> int:
    """Return the version of the database; refuse one that is newer than `known`."""
    found = _version(db)
    if found > known:
        raise RecordsTooNew(path=path, found=found, known=known)
    return found


def copy_before_migration(path: Path, *, dry_run: bool = False) -> Path | None:
    """Copy records that this program will migrate; return the copy, or None.

    Raises RecordsTooNew, RecordsDamaged. `dry_run`: only return its path.
    """
    if not path.exists():
        return None
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        found = check_version(db, path)
        if not 0 < found < len(MIGRATIONS):
            return None
        copy = path.with_name(f"{path.name}.v{found}")
        if not dry_run:
            _back_up(db, copy)
    except sqlite3.Error as error:
        raise RecordsDamaged(path=path, why=error) from error
    else:
        return copy
    finally:
        db.close()


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _back_up(db: sqlite3.Connection, path: Path) -> None:
    with suppress(OSError):  # SQLite says why it cannot be made
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, MODE))
        path.chmod(MODE)
    copy = sqlite3.connect(path)
    try:
        db.backup(copy)
    finally:
        copy.close()
