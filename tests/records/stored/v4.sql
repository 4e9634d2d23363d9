BEGIN TRANSACTION;
CREATE TABLE claim (
            id      TEXT PRIMARY KEY,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            network TEXT NOT NULL DEFAULT '',
            since   REAL NOT NULL
        ) STRICT
        ;
INSERT INTO "claim" VALUES('default/10.77.0.0/24/627f8af63d43',1,2,'f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d',1.79605880424750661847e+09);
INSERT INTO "claim" VALUES('default/fd77::/64/cacba3b52061',2,3,'f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d',1.79605880425462508202e+09);
INSERT INTO "claim" VALUES('default/10.79.0.0/24/58d181a73382',3,4,'e6a1cf0c78bdd704754188d7a4e0830d29cb293830baa418a843e14b6799a9ce',1.79605880429962062837e+09);
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
INSERT INTO "endpoint" VALUES('3532a71cd881640ba3335e6de863a834626423e41d6935119850290e1c38da43','f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d','10.77.0.64/24','fd77::2/64','76:79:35:89:7a:7c','{}','web',1.79605880449220180507e+09);
INSERT INTO "endpoint" VALUES('fd6cdb7d071cb5a43fa3b39c7c3e73b804d91be3288c3e9ffd8e2fbb912062a1','f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d','10.77.0.66/24','fd77::3/64','4e:d1:08:7b:9b:fb','{}','db',1.79605880467600607878e+09);
INSERT INTO "endpoint" VALUES('3445e343d3a985833246096fc6461b512914fc61d88e27fd093a4bac0822d502','e6a1cf0c78bdd704754188d7a4e0830d29cb293830baa418a843e14b6799a9ce','10.79.0.2/32','','3a:31:15:b9:56:1f','{}','far',1.79605880506416225438e+09);
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
        , here TEXT NOT NULL DEFAULT '[]', mac TEXT NOT NULL DEFAULT '') STRICT
        ;
INSERT INTO "network" VALUES('f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d','{"parent": "eth0"}',0,'[["10.77.0.0/24", "10.77.0.1", ["10.77.0.65"], true], ["fd77::/64", "fd77::1", [], true]]','eth0','lan',1.79605880425737237933e+09,'["10.77.0.11/24", "fd77::11/64"]','e2:0b:d4:72:73:44');
INSERT INTO "network" VALUES('e6a1cf0c78bdd704754188d7a4e0830d29cb293830baa418a843e14b6799a9ce','{"mode": "routed"}',0,'[["10.79.0.0/24", "10.79.0.1", [], true]]','','routed',1.79605880430319952969e+09,'[]','');
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
CREATE TABLE sandbox (
            endpoint TEXT PRIMARY KEY REFERENCES endpoint (id) ON DELETE CASCADE,
            path     TEXT NOT NULL,
            left     INTEGER NOT NULL DEFAULT 0
        ) STRICT
        ;
INSERT INTO "sandbox" VALUES('3532a71cd881640ba3335e6de863a834626423e41d6935119850290e1c38da43','/var/run/docker/netns/de96987d05d9',0);
INSERT INTO "sandbox" VALUES('fd6cdb7d071cb5a43fa3b39c7c3e73b804d91be3288c3e9ffd8e2fbb912062a1','/var/run/docker/netns/ce4a768527a1',0);
INSERT INTO "sandbox" VALUES('3445e343d3a985833246096fc6461b512914fc61d88e27fd093a4bac0822d502','/var/run/docker/netns/5cd72cbf6104',0);
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
INSERT INTO "tenure" VALUES(1,'10.77.0.1','gateway',1,'default/10.77.0.0/24/627f8af63d43','f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d','','','',1.79605880425006270411e+09,0.0);
INSERT INTO "tenure" VALUES(2,'10.77.0.65','aux',1,'default/10.77.0.0/24/627f8af63d43','f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d','','','',1.79605880425214242939e+09,0.0);
INSERT INTO "tenure" VALUES(3,'fd77::1','gateway',2,'default/fd77::/64/cacba3b52061','f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d','','','',1.796058804255764246e+09,0.0);
INSERT INTO "tenure" VALUES(4,'10.79.0.1','gateway',3,'default/10.79.0.0/24/58d181a73382','e6a1cf0c78bdd704754188d7a4e0830d29cb293830baa418a843e14b6799a9ce','','','',1.79605880430169200902e+09,0.0);
INSERT INTO "tenure" VALUES(5,'10.77.0.64','endpoint',1,'default/10.77.0.0/24/627f8af63d43','f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d','3532a71cd881640ba3335e6de863a834626423e41d6935119850290e1c38da43','76:79:35:89:7a:7c','web',1.79605880445365047454e+09,0.0);
INSERT INTO "tenure" VALUES(6,'fd77::2','endpoint',2,'default/fd77::/64/cacba3b52061','f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d','3532a71cd881640ba3335e6de863a834626423e41d6935119850290e1c38da43','76:79:35:89:7a:7c','web',1.79605880445597076416e+09,0.0);
INSERT INTO "tenure" VALUES(7,'10.77.0.66','endpoint',1,'default/10.77.0.0/24/627f8af63d43','f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d','fd6cdb7d071cb5a43fa3b39c7c3e73b804d91be3288c3e9ffd8e2fbb912062a1','4e:d1:08:7b:9b:fb','db',1.79605880467203688618e+09,0.0);
INSERT INTO "tenure" VALUES(8,'fd77::3','endpoint',2,'default/fd77::/64/cacba3b52061','f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d','fd6cdb7d071cb5a43fa3b39c7c3e73b804d91be3288c3e9ffd8e2fbb912062a1','4e:d1:08:7b:9b:fb','db',1.79605880467388081545e+09,0.0);
INSERT INTO "tenure" VALUES(9,'10.77.0.67','endpoint',1,'default/10.77.0.0/24/627f8af63d43','f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d','46a2005877a5a115c8b25541d773b129775011d082842481843686ac4bf8d279','52:08:18:13:7e:8c','',1.79605880485188484189e+09,1.79605880528095126144e+09);
INSERT INTO "tenure" VALUES(10,'fd77::4','endpoint',2,'default/fd77::/64/cacba3b52061','f0308923b24c3b59c989df79fa6b3c267dbe8735cd421441271a19ddfd6ee19d','46a2005877a5a115c8b25541d773b129775011d082842481843686ac4bf8d279','52:08:18:13:7e:8c','',1.79605880485373520846e+09,1.79605880528324460981e+09);
INSERT INTO "tenure" VALUES(11,'10.79.0.2','endpoint',3,'default/10.79.0.0/24/58d181a73382','e6a1cf0c78bdd704754188d7a4e0830d29cb293830baa418a843e14b6799a9ce','3445e343d3a985833246096fc6461b512914fc61d88e27fd093a4bac0822d502','3a:31:15:b9:56:1f','far',1.7960588050606632232e+09,0.0);
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
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('pool',3);
INSERT INTO "sqlite_sequence" VALUES('freed',2);
COMMIT;
PRAGMA user_version = 4;
