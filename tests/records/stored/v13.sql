BEGIN TRANSACTION;
CREATE TABLE awaited (network TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE boot (
            one      INTEGER PRIMARY KEY CHECK (one = 1),
            identity TEXT NOT NULL
        ) STRICT
        ;
INSERT INTO "boot" VALUES(1,'43a43088-4eb1-4b4a-8634-a257e467d49c/5441000000000000');
CREATE TABLE claim (
            id      TEXT PRIMARY KEY,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            network TEXT NOT NULL DEFAULT '',
            since   REAL NOT NULL
        ) STRICT
        ;
INSERT INTO "claim" VALUES('default/10.77.0.0/24/bb2ca5421c2c',1,2,'08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f',1.79605882651571035386e+09);
INSERT INTO "claim" VALUES('default/fd77::/64/a98513dcb4b5',2,3,'08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f',1.79605882652655625343e+09);
INSERT INTO "claim" VALUES('default/10.79.0.0/24/7be8ef7835ce',3,4,'cfe3497204b6c34c969b9b0a185ffa06a7d427d44b321587bc7c1bff6ed541a0',1.79605882669443845745e+09);
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
INSERT INTO "endpoint" VALUES('31f87a0c1a1b34421705b9b85b1c46f8adcf1e87e6e4e1e839fa6848b23d1be1','08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f','10.77.0.64/24','fd77::2/64','76:39:40:dc:5a:33','{}','web',1.79605882690511369707e+09);
INSERT INTO "endpoint" VALUES('9882c9467fd6466e13db1786f2723f00dca5cb8b0c1aa12d4cc685366b74fda0','08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f','10.77.0.66/24','fd77::3/64','c6:9c:33:f4:ac:13','{}','db',1.79605882715564131729e+09);
INSERT INTO "endpoint" VALUES('7bc66f0f9421fcae4d3a3223a6a6c05cfb3866d49aba65aa2df2bf967ecc9ff9','cfe3497204b6c34c969b9b0a185ffa06a7d427d44b321587bc7c1bff6ed541a0','10.79.0.2/32','','3a:dd:db:46:d8:6d','{}','far',1.79605882767030692096e+09);
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
        , here TEXT NOT NULL DEFAULT '[]', mac TEXT NOT NULL DEFAULT '', base TEXT NOT NULL DEFAULT '', absent TEXT NOT NULL DEFAULT '', mtu INTEGER NOT NULL DEFAULT 0, halt TEXT NOT NULL DEFAULT '', inward TEXT NOT NULL DEFAULT '[]') STRICT
        ;
INSERT INTO "network" VALUES('08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f','{"parent": "eth0"}',0,'[["10.77.0.0/24", "10.77.0.1", ["10.77.0.65"], true], ["fd77::/64", "fd77::1", [], true]]','eth0','lan',1.79605882653157758717e+09,'["10.77.0.11/24", "fd77::11/64"]','8e:6f:2b:65:ab:ee','["eth0", "veth", "8e:6f:2b:65:ab:ee", "", 0]','',1500,'','["docker0"]');
INSERT INTO "network" VALUES('cfe3497204b6c34c969b9b0a185ffa06a7d427d44b321587bc7c1bff6ed541a0','{"mode": "routed"}',0,'[["10.79.0.0/24", "10.79.0.1", [], true]]','','routed',1.79605882670041871072e+09,'[]','','','',1500,'','[]');
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
INSERT INTO "repair" VALUES(1,1.79605882666469454764e+09,'underlay::shim/eth0','','','nft add chain ip underlay nat-ul-501eba9ff49d { type nat hook postrouting priority 99; iifname { "docker0" } oifname "ul-501eba9ff49d" ip daddr 10.77.0.0/24 snat to 10.77.0.11; iifname { "docker0" } oifname "ul-501eba9ff49d" snat to 10.77.0.11 }',1.05051447000732878223e-01,'','','');
CREATE TABLE sandbox (
            endpoint TEXT PRIMARY KEY REFERENCES endpoint (id) ON DELETE CASCADE,
            path     TEXT NOT NULL,
            left     INTEGER NOT NULL DEFAULT 0
        , device TEXT NOT NULL DEFAULT '', mtu INTEGER NOT NULL DEFAULT 0, defaults TEXT NOT NULL DEFAULT '', settings TEXT NOT NULL DEFAULT '[]', without TEXT NOT NULL DEFAULT '', beside TEXT NOT NULL DEFAULT '[]') STRICT
        ;
INSERT INTO "sandbox" VALUES('31f87a0c1a1b34421705b9b85b1c46f8adcf1e87e6e4e1e839fa6848b23d1be1','/var/run/docker/netns/3311249addad',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('9882c9467fd6466e13db1786f2723f00dca5cb8b0c1aa12d4cc685366b74fda0','/var/run/docker/netns/0ba9da8acced',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('7bc66f0f9421fcae4d3a3223a6a6c05cfb3866d49aba65aa2df2bf967ecc9ff9','/var/run/docker/netns/ab85ba854371',0,'eth0',1500,'4','["net/ipv6/conf/*/disable_ipv6=1"]','6','[]');
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
INSERT INTO "tenure" VALUES(1,'10.77.0.1','gateway',1,'default/10.77.0.0/24/bb2ca5421c2c','08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f','','','',1.79605882651768517495e+09,0.0,0);
INSERT INTO "tenure" VALUES(2,'10.77.0.65','aux',1,'default/10.77.0.0/24/bb2ca5421c2c','08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f','','','',1.79605882651932835577e+09,0.0,0);
INSERT INTO "tenure" VALUES(3,'fd77::1','gateway',2,'default/fd77::/64/a98513dcb4b5','08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f','','','',1.79605882652774119382e+09,0.0,0);
INSERT INTO "tenure" VALUES(4,'10.79.0.1','gateway',3,'default/10.79.0.0/24/7be8ef7835ce','cfe3497204b6c34c969b9b0a185ffa06a7d427d44b321587bc7c1bff6ed541a0','','','',1.79605882669891476631e+09,0.0,0);
INSERT INTO "tenure" VALUES(5,'10.77.0.64','endpoint',1,'default/10.77.0.0/24/bb2ca5421c2c','08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f','31f87a0c1a1b34421705b9b85b1c46f8adcf1e87e6e4e1e839fa6848b23d1be1','76:39:40:dc:5a:33','web',1.79605882690042448039e+09,0.0,0);
INSERT INTO "tenure" VALUES(6,'fd77::2','endpoint',2,'default/fd77::/64/a98513dcb4b5','08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f','31f87a0c1a1b34421705b9b85b1c46f8adcf1e87e6e4e1e839fa6848b23d1be1','76:39:40:dc:5a:33','web',1.79605882690229797359e+09,0.0,0);
INSERT INTO "tenure" VALUES(7,'10.77.0.66','endpoint',1,'default/10.77.0.0/24/bb2ca5421c2c','08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f','9882c9467fd6466e13db1786f2723f00dca5cb8b0c1aa12d4cc685366b74fda0','c6:9c:33:f4:ac:13','db',1.79605882715158748624e+09,0.0,0);
INSERT INTO "tenure" VALUES(8,'fd77::3','endpoint',2,'default/fd77::/64/a98513dcb4b5','08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f','9882c9467fd6466e13db1786f2723f00dca5cb8b0c1aa12d4cc685366b74fda0','c6:9c:33:f4:ac:13','db',1.7960588271531488895e+09,0.0,0);
INSERT INTO "tenure" VALUES(9,'10.77.0.67','endpoint',1,'default/10.77.0.0/24/bb2ca5421c2c','08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f','dda7ec04d6f664e807cd40868bc5fb23eb2fa9d857d9e5de98c6c9b009cdd5df','1a:07:64:a9:4a:bd','',1.7960588273924248219e+09,1.79605882790329265596e+09,1);
INSERT INTO "tenure" VALUES(10,'fd77::4','endpoint',2,'default/fd77::/64/a98513dcb4b5','08e995a2bc04dca5e0ffb59e4d08a6efa7a2ebadbbc29ad31fd8c3f6d499a98f','dda7ec04d6f664e807cd40868bc5fb23eb2fa9d857d9e5de98c6c9b009cdd5df','1a:07:64:a9:4a:bd','',1.79605882739431047434e+09,1.79605882790329265596e+09,1);
INSERT INTO "tenure" VALUES(11,'10.79.0.2','endpoint',3,'default/10.79.0.0/24/7be8ef7835ce','cfe3497204b6c34c969b9b0a185ffa06a7d427d44b321587bc7c1bff6ed541a0','7bc66f0f9421fcae4d3a3223a6a6c05cfb3866d49aba65aa2df2bf967ecc9ff9','3a:dd:db:46:d8:6d','far',1.79605882765953755379e+09,0.0,0);
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
INSERT INTO "sqlite_sequence" VALUES('repair',1);
INSERT INTO "sqlite_sequence" VALUES('freed',2);
COMMIT;
PRAGMA user_version = 13;
