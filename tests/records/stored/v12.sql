BEGIN TRANSACTION;
CREATE TABLE awaited (network TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE boot (
            one      INTEGER PRIMARY KEY CHECK (one = 1),
            identity TEXT NOT NULL
        ) STRICT
        ;
INSERT INTO "boot" VALUES(1,'43a43088-4eb1-4b4a-8634-a257e467d49c/4241000000000000');
CREATE TABLE claim (
            id      TEXT PRIMARY KEY,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            network TEXT NOT NULL DEFAULT '',
            since   REAL NOT NULL
        ) STRICT
        ;
INSERT INTO "claim" VALUES('default/10.77.0.0/24/0c6254349bdf',1,2,'e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c',1.79605882331052279466e+09);
INSERT INTO "claim" VALUES('default/fd77::/64/f90239d9a1c8',2,3,'e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c',1.79605882331541204452e+09);
INSERT INTO "claim" VALUES('default/10.79.0.0/24/fab26343d0ce',3,4,'5ec40d1b05bae9540c40b2ea315e0258207243756651213612a8ff0b2af23002',1.79605882335628700254e+09);
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
INSERT INTO "endpoint" VALUES('015486ca44e809d4df40e7ec4db7b70d8b0ff5812dc49899a1b19b1ced919c7f','e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c','10.77.0.64/24','fd77::2/64','ae:f4:1a:f1:5d:9d','{}','web',1.79605882353627514837e+09);
INSERT INTO "endpoint" VALUES('8b237cb7a866b90ef3ef142f89e31cc4a19e8c93c8046dcdd8b9eb280646f19c','e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c','10.77.0.66/24','fd77::3/64','6e:9d:63:0a:b6:5b','{}','db',1.79605882380426239968e+09);
INSERT INTO "endpoint" VALUES('7ef4849d9eb3bea05611d224886eaf3c65badf462cd132fb3b1511fb88305744','5ec40d1b05bae9540c40b2ea315e0258207243756651213612a8ff0b2af23002','10.79.0.2/32','','92:77:21:80:cc:3e','{}','far',1.7960588243529648781e+09);
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
INSERT INTO "network" VALUES('e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c','{"parent": "eth0"}',0,'[["10.77.0.0/24", "10.77.0.1", ["10.77.0.65"], true], ["fd77::/64", "fd77::1", [], true]]','eth0','lan',1.79605882331831264494e+09,'["10.77.0.11/24", "fd77::11/64"]','5a:02:e3:a1:f0:88','["eth0", "veth", "5a:02:e3:a1:f0:88", "", 0]','',1500,'');
INSERT INTO "network" VALUES('5ec40d1b05bae9540c40b2ea315e0258207243756651213612a8ff0b2af23002','{"mode": "routed"}',0,'[["10.79.0.0/24", "10.79.0.1", [], true]]','','routed',1.79605882335878849027e+09,'[]','','','',1500,'');
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
INSERT INTO "sandbox" VALUES('015486ca44e809d4df40e7ec4db7b70d8b0ff5812dc49899a1b19b1ced919c7f','/var/run/docker/netns/a772c89f316b',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('8b237cb7a866b90ef3ef142f89e31cc4a19e8c93c8046dcdd8b9eb280646f19c','/var/run/docker/netns/b73a2e8e9f68',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('7ef4849d9eb3bea05611d224886eaf3c65badf462cd132fb3b1511fb88305744','/var/run/docker/netns/9b86046d3495',0,'eth0',1500,'4','["net/ipv6/conf/*/disable_ipv6=1"]','6','[]');
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
INSERT INTO "tenure" VALUES(1,'10.77.0.1','gateway',1,'default/10.77.0.0/24/0c6254349bdf','e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c','','','',1.79605882331239151959e+09,0.0,0);
INSERT INTO "tenure" VALUES(2,'10.77.0.65','aux',1,'default/10.77.0.0/24/0c6254349bdf','e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c','','','',1.79605882331368827816e+09,0.0,0);
INSERT INTO "tenure" VALUES(3,'fd77::1','gateway',2,'default/fd77::/64/f90239d9a1c8','e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c','','','',1.79605882331657624247e+09,0.0,0);
INSERT INTO "tenure" VALUES(4,'10.79.0.1','gateway',3,'default/10.79.0.0/24/fab26343d0ce','5ec40d1b05bae9540c40b2ea315e0258207243756651213612a8ff0b2af23002','','','',1.79605882335750627514e+09,0.0,0);
INSERT INTO "tenure" VALUES(5,'10.77.0.64','endpoint',1,'default/10.77.0.0/24/0c6254349bdf','e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c','015486ca44e809d4df40e7ec4db7b70d8b0ff5812dc49899a1b19b1ced919c7f','ae:f4:1a:f1:5d:9d','web',1.79605882351993846896e+09,0.0,0);
INSERT INTO "tenure" VALUES(6,'fd77::2','endpoint',2,'default/fd77::/64/f90239d9a1c8','e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c','015486ca44e809d4df40e7ec4db7b70d8b0ff5812dc49899a1b19b1ced919c7f','ae:f4:1a:f1:5d:9d','web',1796058823.52307,0.0,0);
INSERT INTO "tenure" VALUES(7,'10.77.0.66','endpoint',1,'default/10.77.0.0/24/0c6254349bdf','e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c','8b237cb7a866b90ef3ef142f89e31cc4a19e8c93c8046dcdd8b9eb280646f19c','6e:9d:63:0a:b6:5b','db',1.79605882380010485653e+09,0.0,0);
INSERT INTO "tenure" VALUES(8,'fd77::3','endpoint',2,'default/fd77::/64/f90239d9a1c8','e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c','8b237cb7a866b90ef3ef142f89e31cc4a19e8c93c8046dcdd8b9eb280646f19c','6e:9d:63:0a:b6:5b','db',1.79605882380181264878e+09,0.0,0);
INSERT INTO "tenure" VALUES(9,'10.77.0.67','endpoint',1,'default/10.77.0.0/24/0c6254349bdf','e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c','d42e945a7c241805fb90e0fbac7706e847996f74592114f176c15ff715ea1513','d2:1f:83:e5:64:c2','',1.79605882407756686208e+09,1.79605882460512828822e+09,0);
INSERT INTO "tenure" VALUES(10,'fd77::4','endpoint',2,'default/fd77::/64/f90239d9a1c8','e9e96f58b493ce3c0d8133ce509037bf3e9c03dd26a55633ca0051b0a25bed8c','d42e945a7c241805fb90e0fbac7706e847996f74592114f176c15ff715ea1513','d2:1f:83:e5:64:c2','',1796058824.07946,1.79605882460698151586e+09,0);
INSERT INTO "tenure" VALUES(11,'10.79.0.2','endpoint',3,'default/10.79.0.0/24/fab26343d0ce','5ec40d1b05bae9540c40b2ea315e0258207243756651213612a8ff0b2af23002','7ef4849d9eb3bea05611d224886eaf3c65badf462cd132fb3b1511fb88305744','92:77:21:80:cc:3e','far',1.7960588243387677669e+09,0.0,0);
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
PRAGMA user_version = 12;
