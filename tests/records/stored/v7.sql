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
INSERT INTO "claim" VALUES('default/10.77.0.0/24/f93f8fec289e',1,2,'67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea',1.7960588094771475792e+09);
INSERT INTO "claim" VALUES('default/fd77::/64/c216160d4fca',2,3,'67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea',1.79605880948340582842e+09);
INSERT INTO "claim" VALUES('default/10.79.0.0/24/f635f4930a27',3,4,'9af13a539720540ba25fdbdcb5bd8d74c9e6ad8e0153ee4a591293e13f6cf9b8',1.79605880953279876703e+09);
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
INSERT INTO "endpoint" VALUES('42e40ca0904bb338c6bdabba2e3ad5a72a39d00c74d9a1b0ecb62ba3c5aa25bb','67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea','10.77.0.64/24','fd77::2/64','ce:01:b1:fe:9f:4b','{}','web',1.79605880971607422824e+09);
INSERT INTO "endpoint" VALUES('3719bc886c32ada5a869735b22faba7e8e984b178aae8087ccd15b1614c30f61','67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea','10.77.0.66/24','fd77::3/64','b6:f7:5e:20:0c:05','{}','db',1.79605880997264909749e+09);
INSERT INTO "endpoint" VALUES('d37ba7a7da0383170324d764cbbd3d1223d7a697b0604c54af294d926c0fdcdc','9af13a539720540ba25fdbdcb5bd8d74c9e6ad8e0153ee4a591293e13f6cf9b8','10.79.0.2/32','','5a:0b:59:51:b0:e0','{}','far',1.79605881039419960974e+09);
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
        , here TEXT NOT NULL DEFAULT '[]', mac TEXT NOT NULL DEFAULT '', base TEXT NOT NULL DEFAULT '', absent TEXT NOT NULL DEFAULT '', mtu INTEGER NOT NULL DEFAULT 0) STRICT
        ;
INSERT INTO "network" VALUES('67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea','{"parent": "eth0"}',0,'[["10.77.0.0/24", "10.77.0.1", ["10.77.0.65"], true], ["fd77::/64", "fd77::1", [], true]]','eth0','lan',1.79605880948582220073e+09,'["10.77.0.11/24", "fd77::11/64"]','72:2e:d2:6f:9b:1d','["eth0", "veth", "72:2e:d2:6f:9b:1d", "", 0]','',1500);
INSERT INTO "network" VALUES('9af13a539720540ba25fdbdcb5bd8d74c9e6ad8e0153ee4a591293e13f6cf9b8','{"mode": "routed"}',0,'[["10.79.0.0/24", "10.79.0.1", [], true]]','','routed',1.79605880953537273402e+09,'[]','','','',0);
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
        , device TEXT NOT NULL DEFAULT '', mtu INTEGER NOT NULL DEFAULT 0, defaults TEXT NOT NULL DEFAULT '', settings TEXT NOT NULL DEFAULT '[]') STRICT
        ;
INSERT INTO "sandbox" VALUES('42e40ca0904bb338c6bdabba2e3ad5a72a39d00c74d9a1b0ecb62ba3c5aa25bb','/var/run/docker/netns/97ec26e316ba',0,'eth0',1500,'46','[]');
INSERT INTO "sandbox" VALUES('3719bc886c32ada5a869735b22faba7e8e984b178aae8087ccd15b1614c30f61','/var/run/docker/netns/404927bf872f',0,'eth0',1500,'46','[]');
INSERT INTO "sandbox" VALUES('d37ba7a7da0383170324d764cbbd3d1223d7a697b0604c54af294d926c0fdcdc','/var/run/docker/netns/3269d97760c4',0,'eth0',1500,'4','["net/ipv6/conf/*/disable_ipv6=1"]');
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
        ) STRICT
        ;
INSERT INTO "tenure" VALUES(1,'10.77.0.1','gateway',1,'default/10.77.0.0/24/f93f8fec289e','67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea','','','',1.79605880947909688945e+09,0.0);
INSERT INTO "tenure" VALUES(2,'10.77.0.65','aux',1,'default/10.77.0.0/24/f93f8fec289e','67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea','','','',1.79605880948050594331e+09,0.0);
INSERT INTO "tenure" VALUES(3,'fd77::1','gateway',2,'default/fd77::/64/c216160d4fca','67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea','','','',1.79605880948433494566e+09,0.0);
INSERT INTO "tenure" VALUES(4,'10.79.0.1','gateway',3,'default/10.79.0.0/24/f635f4930a27','9af13a539720540ba25fdbdcb5bd8d74c9e6ad8e0153ee4a591293e13f6cf9b8','','','',1.79605880953418374059e+09,0.0);
INSERT INTO "tenure" VALUES(5,'10.77.0.64','endpoint',1,'default/10.77.0.0/24/f93f8fec289e','67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea','42e40ca0904bb338c6bdabba2e3ad5a72a39d00c74d9a1b0ecb62ba3c5aa25bb','ce:01:b1:fe:9f:4b','web',1.79605880970812511448e+09,0.0);
INSERT INTO "tenure" VALUES(6,'fd77::2','endpoint',2,'default/fd77::/64/c216160d4fca','67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea','42e40ca0904bb338c6bdabba2e3ad5a72a39d00c74d9a1b0ecb62ba3c5aa25bb','ce:01:b1:fe:9f:4b','web',1.79605880971386504176e+09,0.0);
INSERT INTO "tenure" VALUES(7,'10.77.0.66','endpoint',1,'default/10.77.0.0/24/f93f8fec289e','67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea','3719bc886c32ada5a869735b22faba7e8e984b178aae8087ccd15b1614c30f61','b6:f7:5e:20:0c:05','db',1.79605880996958804131e+09,0.0);
INSERT INTO "tenure" VALUES(8,'fd77::3','endpoint',2,'default/fd77::/64/c216160d4fca','67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea','3719bc886c32ada5a869735b22faba7e8e984b178aae8087ccd15b1614c30f61','b6:f7:5e:20:0c:05','db',1.79605880997111201288e+09,0.0);
INSERT INTO "tenure" VALUES(9,'10.77.0.67','endpoint',1,'default/10.77.0.0/24/f93f8fec289e','67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea','4d3d6faae4697de86b73802502d5f13b507d3e8af013df355f6c841b0a66c03b','72:24:c1:a9:c0:bc','gone',1.79605881016471314432e+09,1.79605881066733574866e+09);
INSERT INTO "tenure" VALUES(10,'fd77::4','endpoint',2,'default/fd77::/64/c216160d4fca','67e898aca9cc69b099873f4a326ebbee6dd32ea7c0a3197d1b46a1bc96e9f7ea','4d3d6faae4697de86b73802502d5f13b507d3e8af013df355f6c841b0a66c03b','72:24:c1:a9:c0:bc','gone',1.79605881016656732562e+09,1.7960588106685271263e+09);
INSERT INTO "tenure" VALUES(11,'10.79.0.2','endpoint',3,'default/10.79.0.0/24/f635f4930a27','9af13a539720540ba25fdbdcb5bd8d74c9e6ad8e0153ee4a591293e13f6cf9b8','d37ba7a7da0383170324d764cbbd3d1223d7a697b0604c54af294d926c0fdcdc','5a:0b:59:51:b0:e0','far',1.79605881039190101626e+09,0.0);
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
CREATE INDEX tenure_until ON tenure (until);
CREATE INDEX vlan_name ON vlan (name);
CREATE INDEX network_mode ON network (json_extract(options, '$.mode'));
CREATE INDEX sandbox_path ON sandbox (path);
CREATE INDEX sandbox_leaving ON sandbox (endpoint) WHERE left = 1;
CREATE INDEX sandbox_unsettled ON sandbox (endpoint) WHERE device = '';
CREATE INDEX repair_mark ON repair (mark);
CREATE INDEX repair_container ON repair (container);
CREATE INDEX repair_network ON repair (network);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('pool',3);
INSERT INTO "sqlite_sequence" VALUES('freed',2);
COMMIT;
PRAGMA user_version = 7;
