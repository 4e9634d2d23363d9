BEGIN TRANSACTION;
CREATE TABLE claim (
            id      TEXT PRIMARY KEY,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            network TEXT NOT NULL DEFAULT '',
            since   REAL NOT NULL
        ) STRICT
        ;
INSERT INTO "claim" VALUES('default/10.77.0.0/24/73404836d84e',1,2,'da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa',1.79605880176397371284e+09);
INSERT INTO "claim" VALUES('default/fd77::/64/ca47b8de0036',2,3,'da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa',1.79605880177222943308e+09);
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
INSERT INTO "endpoint" VALUES('c6cf0b09ef6b87b656d926c5f9eeafbc0876c1383c11e0c52352b2204636a098','da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa','10.77.0.64/24','fd77::2/64','22:31:b3:77:f1:c8','{}','',1.79605880200432872773e+09);
INSERT INTO "endpoint" VALUES('e89997b5a1e02aa92aed3938e192d807355b360f91ae389fb28fe74d6cc864ed','da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa','10.77.0.66/24','fd77::3/64','42:65:d5:42:a8:ed','{}','',1.79605880219641184806e+09);
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
INSERT INTO "network" VALUES('da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa','{"parent": "eth0"}',0,'[["10.77.0.0/24", "10.77.0.1", ["10.77.0.65"], true], ["fd77::/64", "fd77::1", [], true]]','eth0','',1.79605880179034876819e+09);
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
INSERT INTO "sandbox" VALUES('c6cf0b09ef6b87b656d926c5f9eeafbc0876c1383c11e0c52352b2204636a098','/var/run/docker/netns/861bd97987e6',0);
INSERT INTO "sandbox" VALUES('e89997b5a1e02aa92aed3938e192d807355b360f91ae389fb28fe74d6cc864ed','/var/run/docker/netns/cff3654586d5',0);
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
INSERT INTO "tenure" VALUES(1,'10.77.0.1','gateway',1,'default/10.77.0.0/24/73404836d84e','da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa','','','',1.79605880176752543452e+09,0.0);
INSERT INTO "tenure" VALUES(2,'10.77.0.65','aux',1,'default/10.77.0.0/24/73404836d84e','da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa','','','',1.79605880177064156531e+09,0.0);
INSERT INTO "tenure" VALUES(3,'fd77::1','gateway',2,'default/fd77::/64/ca47b8de0036','da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa','','','',1.79605880177338624002e+09,0.0);
INSERT INTO "tenure" VALUES(4,'10.77.0.64','endpoint',1,'default/10.77.0.0/24/73404836d84e','da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa','c6cf0b09ef6b87b656d926c5f9eeafbc0876c1383c11e0c52352b2204636a098','22:31:b3:77:f1:c8','',1.79605880199836945537e+09,0.0);
INSERT INTO "tenure" VALUES(5,'fd77::2','endpoint',2,'default/fd77::/64/ca47b8de0036','da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa','c6cf0b09ef6b87b656d926c5f9eeafbc0876c1383c11e0c52352b2204636a098','22:31:b3:77:f1:c8','',1.79605880200059819223e+09,0.0);
INSERT INTO "tenure" VALUES(6,'10.77.0.66','endpoint',1,'default/10.77.0.0/24/73404836d84e','da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa','e89997b5a1e02aa92aed3938e192d807355b360f91ae389fb28fe74d6cc864ed','42:65:d5:42:a8:ed','',1.79605880219300699236e+09,0.0);
INSERT INTO "tenure" VALUES(7,'fd77::3','endpoint',2,'default/fd77::/64/ca47b8de0036','da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa','e89997b5a1e02aa92aed3938e192d807355b360f91ae389fb28fe74d6cc864ed','42:65:d5:42:a8:ed','',1.79605880219474196434e+09,0.0);
INSERT INTO "tenure" VALUES(8,'10.77.0.67','endpoint',1,'default/10.77.0.0/24/73404836d84e','da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa','797dc78d01dd5502cbaaadee187ac8b2966f7ae61cc51ea090c08f3268f2cc3a','66:d4:1a:5e:ab:99','',1.79605880237327957156e+09,1.79605880262781620023e+09);
INSERT INTO "tenure" VALUES(9,'fd77::4','endpoint',2,'default/fd77::/64/ca47b8de0036','da046743a0334ad6d7286cc76b726e8eca4e828c29dd0b620fdf68dcc727e4fa','797dc78d01dd5502cbaaadee187ac8b2966f7ae61cc51ea090c08f3268f2cc3a','66:d4:1a:5e:ab:99','',1.79605880237625694273e+09,1.7960588026294498444e+09);
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
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('pool',2);
INSERT INTO "sqlite_sequence" VALUES('freed',2);
COMMIT;
PRAGMA user_version = 2;
