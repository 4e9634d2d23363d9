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
INSERT INTO "claim" VALUES('default/10.77.0.0/24/0b57bf1c6cb0',1,2,'76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638',1.79605881468456339837e+09);
INSERT INTO "claim" VALUES('default/fd77::/64/22342be8d8e3',2,3,'76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638',1.79605881468908691405e+09);
INSERT INTO "claim" VALUES('default/10.79.0.0/24/a59e70c02ddb',3,4,'6c3ae089e8f0594343ab15af83c87e27b8e364b23083ec3a326100d51a71dabd',1.79605881473015975948e+09);
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
INSERT INTO "endpoint" VALUES('74eb770df5bea33a50b2ecd77916138c648990f97d837d4f44dd019c57353de7','76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638','10.77.0.64/24','fd77::2/64','5a:cd:49:33:a2:c9','{}','web',1.79605881487980532647e+09);
INSERT INTO "endpoint" VALUES('da3c310324dc572ac729d3c01f5d213690d43fe14ad6e015c8ceb428cf3a55f4','76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638','10.77.0.66/24','fd77::3/64','22:3b:bf:29:95:da','{}','db',1.79605881510400629047e+09);
INSERT INTO "endpoint" VALUES('30f3d02dfdabeaae1f48e0c0337a61e33b8ab86b7094b18e99dbca62c7eeb297','6c3ae089e8f0594343ab15af83c87e27b8e364b23083ec3a326100d51a71dabd','10.79.0.2/32','','8e:eb:ee:e8:76:5b','{}','far',1.79605881548404908176e+09);
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
INSERT INTO "network" VALUES('76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638','{"parent": "eth0"}',0,'[["10.77.0.0/24", "10.77.0.1", ["10.77.0.65"], true], ["fd77::/64", "fd77::1", [], true]]','eth0','lan',1.79605881469132733349e+09,'["10.77.0.11/24", "fd77::11/64"]','1e:ad:9e:fe:bb:39','["eth0", "veth", "1e:ad:9e:fe:bb:39", "", 0]','',1500);
INSERT INTO "network" VALUES('6c3ae089e8f0594343ab15af83c87e27b8e364b23083ec3a326100d51a71dabd','{"mode": "routed"}',0,'[["10.79.0.0/24", "10.79.0.1", [], true]]','','routed',1.79605881473266196244e+09,'[]','','','',0);
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
INSERT INTO "sandbox" VALUES('74eb770df5bea33a50b2ecd77916138c648990f97d837d4f44dd019c57353de7','/var/run/docker/netns/77905f966351',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('da3c310324dc572ac729d3c01f5d213690d43fe14ad6e015c8ceb428cf3a55f4','/var/run/docker/netns/c9090e0b75c4',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('30f3d02dfdabeaae1f48e0c0337a61e33b8ab86b7094b18e99dbca62c7eeb297','/var/run/docker/netns/1b4678b7d42c',0,'eth0',1500,'4','["net/ipv6/conf/*/disable_ipv6=1"]','6','[]');
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
INSERT INTO "tenure" VALUES(1,'10.77.0.1','gateway',1,'default/10.77.0.0/24/0b57bf1c6cb0','76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638','','','',1.79605881468627834318e+09,0.0);
INSERT INTO "tenure" VALUES(2,'10.77.0.65','aux',1,'default/10.77.0.0/24/0b57bf1c6cb0','76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638','','','',1.79605881468750786782e+09,0.0);
INSERT INTO "tenure" VALUES(3,'fd77::1','gateway',2,'default/fd77::/64/22342be8d8e3','76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638','','','',1.79605881468997597696e+09,0.0);
INSERT INTO "tenure" VALUES(4,'10.79.0.1','gateway',3,'default/10.79.0.0/24/a59e70c02ddb','6c3ae089e8f0594343ab15af83c87e27b8e364b23083ec3a326100d51a71dabd','','','',1.79605881473148345939e+09,0.0);
INSERT INTO "tenure" VALUES(5,'10.77.0.64','endpoint',1,'default/10.77.0.0/24/0b57bf1c6cb0','76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638','74eb770df5bea33a50b2ecd77916138c648990f97d837d4f44dd019c57353de7','5a:cd:49:33:a2:c9','web',1.79605881487403774257e+09,0.0);
INSERT INTO "tenure" VALUES(6,'fd77::2','endpoint',2,'default/fd77::/64/22342be8d8e3','76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638','74eb770df5bea33a50b2ecd77916138c648990f97d837d4f44dd019c57353de7','5a:cd:49:33:a2:c9','web',1.79605881487755918504e+09,0.0);
INSERT INTO "tenure" VALUES(7,'10.77.0.66','endpoint',1,'default/10.77.0.0/24/0b57bf1c6cb0','76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638','da3c310324dc572ac729d3c01f5d213690d43fe14ad6e015c8ceb428cf3a55f4','22:3b:bf:29:95:da','db',1.79605881509918880465e+09,0.0);
INSERT INTO "tenure" VALUES(8,'fd77::3','endpoint',2,'default/fd77::/64/22342be8d8e3','76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638','da3c310324dc572ac729d3c01f5d213690d43fe14ad6e015c8ceb428cf3a55f4','22:3b:bf:29:95:da','db',1.79605881510078430173e+09,0.0);
INSERT INTO "tenure" VALUES(9,'10.77.0.67','endpoint',1,'default/10.77.0.0/24/0b57bf1c6cb0','76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638','ffd160e3729a3dc0687379c77c1c5718b77e8c283f6dd9ce1bc78bfaeef25f83','b6:d0:02:e7:04:c7','',1.79605881527102136606e+09,1.79605881570873570436e+09);
INSERT INTO "tenure" VALUES(10,'fd77::4','endpoint',2,'default/fd77::/64/22342be8d8e3','76f1c997b6b384321be0a89689994b62f429af34aede590fa9521f9a235c6638','ffd160e3729a3dc0687379c77c1c5718b77e8c283f6dd9ce1bc78bfaeef25f83','b6:d0:02:e7:04:c7','',1.79605881527267551424e+09,1.79605881571047544479e+09);
INSERT INTO "tenure" VALUES(11,'10.79.0.2','endpoint',3,'default/10.79.0.0/24/a59e70c02ddb','6c3ae089e8f0594343ab15af83c87e27b8e364b23083ec3a326100d51a71dabd','30f3d02dfdabeaae1f48e0c0337a61e33b8ab86b7094b18e99dbca62c7eeb297','8e:eb:ee:e8:76:5b','far',1.7960588154818460941e+09,0.0);
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
PRAGMA user_version = 9;
