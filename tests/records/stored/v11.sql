BEGIN TRANSACTION;
CREATE TABLE awaited (network TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE claim (
            id      TEXT PRIMARY KEY,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            network TEXT NOT NULL DEFAULT '',
            since   REAL NOT NULL
        ) STRICT
        ;
INSERT INTO "claim" VALUES('default/10.77.0.0/24/41e60c9c526f',1,2,'0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5',1.79605882013383817675e+09);
INSERT INTO "claim" VALUES('default/fd77::/64/145a0d639b18',2,3,'0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5',1.79605882013896751402e+09);
INSERT INTO "claim" VALUES('default/10.79.0.0/24/05c0370f6396',3,4,'26f03470dcf9e043e0ddf004071b866470f7dd431a8284a44ca48f92166c3e75',1.79605882020488524441e+09);
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
        ;
INSERT INTO "endpoint" VALUES('82c9afb3e1a1ec6a8377a8bd67c8e69a38de581168b698fc4870721795cbaf7e','0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5','10.77.0.64/24','fd77::2/64','86:88:21:9c:08:1c','{}','web',1.79605882037923526763e+09);
INSERT INTO "endpoint" VALUES('b87a59d54e14ead97477d7f30363a06f29de2b6a9a32b6e82e27b16e9ab2011b','0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5','10.77.0.66/24','fd77::3/64','36:58:e3:7d:76:d0','{}','db',1.79605882065193676955e+09);
INSERT INTO "endpoint" VALUES('dab1dda30f47170287399d6390580f80d82c7bccfd19ce2ae2cc6d40183848ea','26f03470dcf9e043e0ddf004071b866470f7dd431a8284a44ca48f92166c3e75','10.79.0.2/32','','12:8b:26:78:80:4f','{}','far',1.79605882112713265423e+09);
CREATE TABLE freed (
            turn    INTEGER PRIMARY KEY AUTOINCREMENT,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            address BLOB NOT NULL,
            UNIQUE (pool, address)
        ) STRICT
        ;
INSERT INTO "freed" VALUES(1,1,2,X'0A4D0043');
INSERT INTO "freed" VALUES(2,2,3,X'FD770000000000000000000000000004');
CREATE TABLE fresh (
            pool  INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            last  BLOB NOT NULL,
            first BLOB NOT NULL,
            PRIMARY KEY (pool, last)
        ) STRICT, WITHOUT ROWID
        ;
INSERT INTO "fresh" VALUES(1,X'0A4D003F',X'0A4D0002');
INSERT INTO "fresh" VALUES(1,X'0A4D00FE',X'0A4D0044');
INSERT INTO "fresh" VALUES(2,X'FD77000000000000FFFFFFFFFFFFFFFF',X'FD770000000000000000000000000005');
INSERT INTO "fresh" VALUES(3,X'0A4F00FE',X'0A4F0003');
CREATE TABLE host (one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT NOT NULL) STRICT;
INSERT INTO "host" VALUES(1,'3d1219c7c4c5404aaa1f6d2a48adfda4');
CREATE TABLE network (
            id       TEXT PRIMARY KEY,
            options  TEXT NOT NULL,
            internal INTEGER NOT NULL,
            segments TEXT NOT NULL,
            parent   TEXT NOT NULL,
            name     TEXT NOT NULL DEFAULT '',
            created  REAL NOT NULL
        , here TEXT NOT NULL DEFAULT '[]', mac TEXT NOT NULL DEFAULT '', base TEXT NOT NULL DEFAULT '', absent TEXT NOT NULL DEFAULT '', mtu INTEGER NOT NULL DEFAULT 0, halt TEXT NOT NULL DEFAULT '') STRICT
        ;
INSERT INTO "network" VALUES('0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5','{"parent": "eth0"}',0,'[["10.77.0.0/24", "10.77.0.1", ["10.77.0.65"], true], ["fd77::/64", "fd77::1", [], true]]','eth0','lan',1.79605882014335870738e+09,'["10.77.0.11/24", "fd77::11/64"]','82:60:22:38:7f:36','["eth0", "veth", "82:60:22:38:7f:36", "", 0]','',1500,'');
INSERT INTO "network" VALUES('26f03470dcf9e043e0ddf004071b866470f7dd431a8284a44ca48f92166c3e75','{"mode": "routed"}',0,'[["10.79.0.0/24", "10.79.0.1", [], true]]','','routed',1.79605882020999693864e+09,'[]','','','',1500,'');
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
        ;
INSERT INTO "pool" VALUES(1,'default','10.77.0.0/24',4,X'0A4D0000',X'0A4D00FF','["lan"]');
INSERT INTO "pool" VALUES(2,'default','fd77::/64',6,X'FD770000000000000000000000000000',X'FD77000000000000FFFFFFFFFFFFFFFF','["lan"]');
INSERT INTO "pool" VALUES(3,'default','10.79.0.0/24',4,X'0A4F0000',X'0A4F00FF','["routed"]');
CREATE TABLE remnant (endpoint TEXT PRIMARY KEY, network TEXT NOT NULL, path TEXT NOT NULL) STRICT, WITHOUT ROWID;
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
        ;
CREATE TABLE sandbox (
            endpoint TEXT PRIMARY KEY REFERENCES endpoint (id) ON DELETE CASCADE,
            path     TEXT NOT NULL,
            left     INTEGER NOT NULL DEFAULT 0
        , device TEXT NOT NULL DEFAULT '', mtu INTEGER NOT NULL DEFAULT 0, defaults TEXT NOT NULL DEFAULT '', settings TEXT NOT NULL DEFAULT '[]', without TEXT NOT NULL DEFAULT '', beside TEXT NOT NULL DEFAULT '[]') STRICT
        ;
INSERT INTO "sandbox" VALUES('82c9afb3e1a1ec6a8377a8bd67c8e69a38de581168b698fc4870721795cbaf7e','/var/run/docker/netns/688421b07c1f',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('b87a59d54e14ead97477d7f30363a06f29de2b6a9a32b6e82e27b16e9ab2011b','/var/run/docker/netns/7561ad828589',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('dab1dda30f47170287399d6390580f80d82c7bccfd19ce2ae2cc6d40183848ea','/var/run/docker/netns/ed967ce4892e',0,'eth0',1500,'4','["net/ipv6/conf/*/disable_ipv6=1"]','6','[]');
CREATE TABLE setting (
            path   TEXT PRIMARY KEY,
            reason TEXT NOT NULL,
            before TEXT NOT NULL,
            value  TEXT NOT NULL,
            turn   INTEGER NOT NULL
        ) STRICT
        ;
INSERT INTO "setting" VALUES('net/ipv4/ip_forward','forwarding/4','1','1',0);
CREATE TABLE slice (
            id    INTEGER PRIMARY KEY,
            pool  INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            first BLOB NOT NULL,
            last  BLOB NOT NULL,
            UNIQUE (pool, first, last)
        ) STRICT
        ;
INSERT INTO "slice" VALUES(1,1,X'0A4D0001',X'0A4D00FE');
INSERT INTO "slice" VALUES(2,1,X'0A4D0040',X'0A4D005F');
INSERT INTO "slice" VALUES(3,2,X'FD770000000000000000000000000001',X'FD77000000000000FFFFFFFFFFFFFFFF');
INSERT INTO "slice" VALUES(4,3,X'0A4F0001',X'0A4F00FE');
CREATE TABLE takeover (
            parent   TEXT PRIMARY KEY,
            bridge   TEXT NOT NULL UNIQUE,
            state    TEXT NOT NULL,
            facts    TEXT NOT NULL,
            settings TEXT NOT NULL
        ) STRICT
        ;
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
        , returned INTEGER NOT NULL DEFAULT 0) STRICT
        ;
INSERT INTO "tenure" VALUES(1,'10.77.0.1','gateway',1,'default/10.77.0.0/24/41e60c9c526f','0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5','','','',1.79605882013598251341e+09,0.0,0);
INSERT INTO "tenure" VALUES(2,'10.77.0.65','aux',1,'default/10.77.0.0/24/41e60c9c526f','0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5','','','',1.79605882013734221465e+09,0.0,0);
INSERT INTO "tenure" VALUES(3,'fd77::1','gateway',2,'default/fd77::/64/145a0d639b18','0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5','','','',1.79605882014019441607e+09,0.0,0);
INSERT INTO "tenure" VALUES(4,'10.79.0.1','gateway',3,'default/10.79.0.0/24/05c0370f6396','26f03470dcf9e043e0ddf004071b866470f7dd431a8284a44ca48f92166c3e75','','','',1.79605882020878124239e+09,0.0,0);
INSERT INTO "tenure" VALUES(5,'10.77.0.64','endpoint',1,'default/10.77.0.0/24/41e60c9c526f','0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5','82c9afb3e1a1ec6a8377a8bd67c8e69a38de581168b698fc4870721795cbaf7e','86:88:21:9c:08:1c','web',1.79605882037527942655e+09,0.0,0);
INSERT INTO "tenure" VALUES(6,'fd77::2','endpoint',2,'default/fd77::/64/145a0d639b18','0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5','82c9afb3e1a1ec6a8377a8bd67c8e69a38de581168b698fc4870721795cbaf7e','86:88:21:9c:08:1c','web',1.79605882037694287297e+09,0.0,0);
INSERT INTO "tenure" VALUES(7,'10.77.0.66','endpoint',1,'default/10.77.0.0/24/41e60c9c526f','0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5','b87a59d54e14ead97477d7f30363a06f29de2b6a9a32b6e82e27b16e9ab2011b','36:58:e3:7d:76:d0','db',1.7960588206483957767e+09,0.0,0);
INSERT INTO "tenure" VALUES(8,'fd77::3','endpoint',2,'default/fd77::/64/145a0d639b18','0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5','b87a59d54e14ead97477d7f30363a06f29de2b6a9a32b6e82e27b16e9ab2011b','36:58:e3:7d:76:d0','db',1.79605882065002942088e+09,0.0,0);
INSERT INTO "tenure" VALUES(9,'10.77.0.67','endpoint',1,'default/10.77.0.0/24/41e60c9c526f','0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5','af3dc662f030d0657306e9f4a569e2ef0f7b7bb32d447f1ab4491771252ae3ab','ca:dc:d7:f6:05:f7','',1.79605882085668802257e+09,1.7960588213724267483e+09,0);
INSERT INTO "tenure" VALUES(10,'fd77::4','endpoint',2,'default/fd77::/64/145a0d639b18','0305fc1561c81bd422b79c664b847de3088ae2fe87371627d434b7b4fadc25b5','af3dc662f030d0657306e9f4a569e2ef0f7b7bb32d447f1ab4491771252ae3ab','ca:dc:d7:f6:05:f7','',1.79605882085883879662e+09,1.79605882137420058254e+09,0);
INSERT INTO "tenure" VALUES(11,'10.79.0.2','endpoint',3,'default/10.79.0.0/24/05c0370f6396','26f03470dcf9e043e0ddf004071b866470f7dd431a8284a44ca48f92166c3e75','dab1dda30f47170287399d6390580f80d82c7bccfd19ce2ae2cc6d40183848ea','12:8b:26:78:80:4f','far',1.79605882112444806102e+09,0.0,0);
CREATE TABLE trouble (mark TEXT PRIMARY KEY, text TEXT NOT NULL, since REAL NOT NULL) STRICT;
CREATE TABLE vlan (
            network TEXT NOT NULL REFERENCES network (id) ON DELETE CASCADE,
            height  INTEGER NOT NULL,
            name    TEXT NOT NULL,
            PRIMARY KEY (network, height)
        ) STRICT, WITHOUT ROWID
        ;
CREATE INDEX network_parent ON network (parent);
CREATE INDEX endpoint_network ON endpoint (network);
CREATE INDEX endpoint_mac ON endpoint (mac);
CREATE INDEX pool_subnet ON pool (subnet);
CREATE INDEX pool_place ON pool (domain, family, first);
CREATE INDEX claim_pool ON claim (pool);
CREATE INDEX claim_slice ON claim (slice);
CREATE INDEX claim_network ON claim (network);
CREATE INDEX freed_queue ON freed (slice, turn);
CREATE UNIQUE INDEX tenure_one_owner ON tenure (pool, address) WHERE until = 0 AND role = 'endpoint';
CREATE INDEX tenure_live ON tenure (pool, address) WHERE until = 0;
CREATE INDEX tenure_gateway ON tenure (pool) WHERE until = 0 AND role = 'gateway';
CREATE INDEX tenure_claim ON tenure (claim) WHERE until = 0;
CREATE INDEX tenure_endpoint ON tenure (endpoint) WHERE until = 0;
CREATE INDEX tenure_address ON tenure (address);
CREATE INDEX tenure_mac ON tenure (mac);
CREATE INDEX tenure_container ON tenure (container);
CREATE INDEX vlan_name ON vlan (name);
CREATE INDEX network_mode ON network (json_extract(options, '$.mode'));
CREATE INDEX sandbox_path ON sandbox (path);
CREATE INDEX sandbox_leaving ON sandbox (endpoint) WHERE left = 1;
CREATE INDEX sandbox_unsettled ON sandbox (endpoint) WHERE device = '';
CREATE INDEX repair_mark ON repair (mark);
CREATE INDEX repair_container ON repair (container);
CREATE INDEX repair_network ON repair (network);
CREATE INDEX tenure_until ON tenure (until) WHERE until > 0;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('pool',3);
INSERT INTO "sqlite_sequence" VALUES('freed',2);
COMMIT;
PRAGMA user_version = 11;
