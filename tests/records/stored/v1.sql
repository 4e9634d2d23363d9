BEGIN TRANSACTION;
CREATE TABLE claim (
            id      TEXT PRIMARY KEY,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            network TEXT NOT NULL DEFAULT '',
            since   REAL NOT NULL
        ) STRICT
        ;
INSERT INTO "claim" VALUES('default/10.77.0.0/24/41cd508f70b1',1,2,'8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532',1.79605879938842821121e+09);
INSERT INTO "claim" VALUES('default/fd77::/64/483e5e69b868',2,3,'8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532',1.79605879939462113382e+09);
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
INSERT INTO "endpoint" VALUES('45d89d822a5c4a0b8f6d2f79a578c2d1bd29a35d5232d830461c13d235593602','8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532','10.77.0.64/24','fd77::2/64','ee:ae:97:91:5b:33','{}','',1.79605879958446288105e+09);
INSERT INTO "endpoint" VALUES('9e5ef4f4dfe8261c7326a9f8a01f83108039a52b8d8677769d9bcd97bcc1ecd2','8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532','10.77.0.66/24','fd77::3/64','b2:f3:74:7f:72:f6','{}','',1.7960587998034508228e+09);
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
        ) STRICT
        ;
INSERT INTO "network" VALUES('8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532','{"parent": "eth0"}',0,'[["10.77.0.0/24", "10.77.0.1", ["10.77.0.65"], true], ["fd77::/64", "fd77::1", [], true]]','eth0','',1.7960587994001374245e+09);
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
INSERT INTO "pool" VALUES(1,'default','10.77.0.0/24',4,X'0A4D0000',X'0A4D00FF','[]');
INSERT INTO "pool" VALUES(2,'default','fd77::/64',6,X'FD770000000000000000000000000000',X'FD77000000000000FFFFFFFFFFFFFFFF','[]');
CREATE TABLE sandbox (
            endpoint TEXT PRIMARY KEY REFERENCES endpoint (id) ON DELETE CASCADE,
            path     TEXT NOT NULL,
            left     INTEGER NOT NULL DEFAULT 0
        ) STRICT
        ;
INSERT INTO "sandbox" VALUES('45d89d822a5c4a0b8f6d2f79a578c2d1bd29a35d5232d830461c13d235593602','/var/run/docker/netns/00e53e9b69ed',0);
INSERT INTO "sandbox" VALUES('9e5ef4f4dfe8261c7326a9f8a01f83108039a52b8d8677769d9bcd97bcc1ecd2','/var/run/docker/netns/fee585e0fc6b',0);
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
INSERT INTO "tenure" VALUES(1,'10.77.0.1','gateway',1,'default/10.77.0.0/24/41cd508f70b1','8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532','','','',1.79605879939092063905e+09,0.0);
INSERT INTO "tenure" VALUES(2,'10.77.0.65','aux',1,'default/10.77.0.0/24/41cd508f70b1','8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532','','','',1796058799.39242,0.0);
INSERT INTO "tenure" VALUES(3,'fd77::1','gateway',2,'default/fd77::/64/483e5e69b868','8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532','','','',1.79605879939662671082e+09,0.0);
INSERT INTO "tenure" VALUES(4,'10.77.0.64','endpoint',1,'default/10.77.0.0/24/41cd508f70b1','8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532','45d89d822a5c4a0b8f6d2f79a578c2d1bd29a35d5232d830461c13d235593602','ee:ae:97:91:5b:33','',1.79605879958097839352e+09,0.0);
INSERT INTO "tenure" VALUES(5,'fd77::2','endpoint',2,'default/fd77::/64/483e5e69b868','8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532','45d89d822a5c4a0b8f6d2f79a578c2d1bd29a35d5232d830461c13d235593602','ee:ae:97:91:5b:33','',1.79605879958261156086e+09,0.0);
INSERT INTO "tenure" VALUES(6,'10.77.0.66','endpoint',1,'default/10.77.0.0/24/41cd508f70b1','8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532','9e5ef4f4dfe8261c7326a9f8a01f83108039a52b8d8677769d9bcd97bcc1ecd2','b2:f3:74:7f:72:f6','',1.79605879979370331766e+09,0.0);
INSERT INTO "tenure" VALUES(7,'fd77::3','endpoint',2,'default/fd77::/64/483e5e69b868','8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532','9e5ef4f4dfe8261c7326a9f8a01f83108039a52b8d8677769d9bcd97bcc1ecd2','b2:f3:74:7f:72:f6','',1.79605879979972600938e+09,0.0);
INSERT INTO "tenure" VALUES(8,'10.77.0.67','endpoint',1,'default/10.77.0.0/24/41cd508f70b1','8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532','814378008f79a29fc3ed21e8244280e992baaad93613d84d54e2b2e2871edd2f','9e:61:fc:95:1a:37','',1.79605880001905798912e+09,1.79605880026012325288e+09);
INSERT INTO "tenure" VALUES(9,'fd77::4','endpoint',2,'default/fd77::/64/483e5e69b868','8109c25036f61fbe5d60b8f0f86bdf1f122b048a478a032f5277363306309532','814378008f79a29fc3ed21e8244280e992baaad93613d84d54e2b2e2871edd2f','9e:61:fc:95:1a:37','',1.79605880002175164224e+09,1.79605880026189970973e+09);
CREATE TABLE trouble (mark TEXT PRIMARY KEY, text TEXT NOT NULL, since REAL NOT NULL) STRICT;
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
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('pool',2);
INSERT INTO "sqlite_sequence" VALUES('freed',2);
COMMIT;
PRAGMA user_version = 1;
