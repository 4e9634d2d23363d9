BEGIN TRANSACTION;
CREATE TABLE awaited (network TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE boot (
            one      INTEGER PRIMARY KEY CHECK (one = 1),
            identity TEXT NOT NULL
        ) STRICT
        ;
INSERT INTO "boot" VALUES(1,'85d53291-9733-4884-98bc-2999b7b5ddd6/7735000000000000');
CREATE TABLE claim (
            id      TEXT PRIMARY KEY,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            network TEXT NOT NULL DEFAULT '',
            since   REAL NOT NULL
        ) STRICT
        ;
INSERT INTO "claim" VALUES('default/10.77.0.0/24/e96e88139581',1,2,'087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63',1.79606987048834204675e+09);
INSERT INTO "claim" VALUES('default/fd77::/64/6d70682da76c',2,3,'087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63',1.79606987049719715116e+09);
INSERT INTO "claim" VALUES('default/10.79.0.0/24/6da697f722da',3,4,'d67a19fa2a5e3bfe1836b7359b4034e7cef5f3b17088696c2bfec029825e3ac4',1.79606987074898719787e+09);
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
INSERT INTO "endpoint" VALUES('f2f556f2f4a1b31077497376f2826e61b2f0d6281c274abef58e132791bee33a','087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63','10.77.0.64/24','fd77::2/64','a6:42:75:89:8c:23','{}','web',1.79606987094282889369e+09);
INSERT INTO "endpoint" VALUES('6a69c05271af5c692df0a3d84710aefa5efec551922c48278506ce39a158bf1c','087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63','10.77.0.66/24','fd77::3/64','5e:47:a9:af:4f:6d','{}','db',1.79606987119765639307e+09);
INSERT INTO "endpoint" VALUES('67c13c9e70a57971b5ca3a8aaab0cbf8db2e2e895c560b3309f884b0d174051e','d67a19fa2a5e3bfe1836b7359b4034e7cef5f3b17088696c2bfec029825e3ac4','10.79.0.2/32','','1e:b2:04:e8:4f:bf','{}','far',1.7960698716713917255e+09);
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
INSERT INTO "network" VALUES('087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63','{"parent": "eth0"}',0,'[["10.77.0.0/24", "10.77.0.1", ["10.77.0.65"], true], ["fd77::/64", "fd77::1", [], true]]','eth0','lan',1.79606987050182461741e+09,'["10.77.0.11/24", "fd77::11/64"]','82:96:e9:ec:02:27','["eth0", "veth", "82:96:e9:ec:02:27", "", 0]','',1500,'','["docker0"]');
INSERT INTO "network" VALUES('d67a19fa2a5e3bfe1836b7359b4034e7cef5f3b17088696c2bfec029825e3ac4','{"mode": "routed"}',0,'[["10.79.0.0/24", "10.79.0.1", [], true]]','','routed',1.79606987075412273405e+09,'[]','','','',1500,'','[]');
CREATE TABLE notice (
            found TEXT NOT NULL,
            place TEXT NOT NULL,
            text  TEXT NOT NULL,
            since REAL NOT NULL,
            PRIMARY KEY (found, place, text)
        ) STRICT
        ;
CREATE TABLE obstacle (
            network TEXT PRIMARY KEY,
            text    TEXT NOT NULL,
            since   REAL NOT NULL
        ) STRICT
        ;
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
INSERT INTO "sandbox" VALUES('f2f556f2f4a1b31077497376f2826e61b2f0d6281c274abef58e132791bee33a','/var/run/docker/netns/bb104e492add',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('6a69c05271af5c692df0a3d84710aefa5efec551922c48278506ce39a158bf1c','/var/run/docker/netns/a62ad5552dfb',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('67c13c9e70a57971b5ca3a8aaab0cbf8db2e2e895c560b3309f884b0d174051e','/var/run/docker/netns/75a56a57c6e9',0,'eth0',1500,'4','["net/ipv6/conf/*/disable_ipv6=1"]','6','[]');
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
INSERT INTO "tenure" VALUES(1,'10.77.0.1','gateway',1,'default/10.77.0.0/24/e96e88139581','087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63','','','',1.79606987049121189121e+09,0.0,0);
INSERT INTO "tenure" VALUES(2,'10.77.0.65','aux',1,'default/10.77.0.0/24/e96e88139581','087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63','','','',1.7960698704935383797e+09,0.0,0);
INSERT INTO "tenure" VALUES(3,'fd77::1','gateway',2,'default/fd77::/64/6d70682da76c','087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63','','','',1.79606987049891424178e+09,0.0,0);
INSERT INTO "tenure" VALUES(4,'10.79.0.1','gateway',3,'default/10.79.0.0/24/6da697f722da','d67a19fa2a5e3bfe1836b7359b4034e7cef5f3b17088696c2bfec029825e3ac4','','','',1.79606987075159549717e+09,0.0,0);
INSERT INTO "tenure" VALUES(5,'10.77.0.64','endpoint',1,'default/10.77.0.0/24/e96e88139581','087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63','f2f556f2f4a1b31077497376f2826e61b2f0d6281c274abef58e132791bee33a','a6:42:75:89:8c:23','web',1.79606987093339681626e+09,0.0,0);
INSERT INTO "tenure" VALUES(6,'fd77::2','endpoint',2,'default/fd77::/64/6d70682da76c','087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63','f2f556f2f4a1b31077497376f2826e61b2f0d6281c274abef58e132791bee33a','a6:42:75:89:8c:23','web',1.79606987093719482418e+09,0.0,0);
INSERT INTO "tenure" VALUES(7,'10.77.0.66','endpoint',1,'default/10.77.0.0/24/e96e88139581','087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63','6a69c05271af5c692df0a3d84710aefa5efec551922c48278506ce39a158bf1c','5e:47:a9:af:4f:6d','db',1.7960698711895418167e+09,0.0,0);
INSERT INTO "tenure" VALUES(8,'fd77::3','endpoint',2,'default/fd77::/64/6d70682da76c','087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63','6a69c05271af5c692df0a3d84710aefa5efec551922c48278506ce39a158bf1c','5e:47:a9:af:4f:6d','db',1.79606987119308424e+09,0.0,0);
INSERT INTO "tenure" VALUES(9,'10.77.0.67','endpoint',1,'default/10.77.0.0/24/e96e88139581','087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63','e538c557e3040dd0b1a9d6b073a8a25750f312479df6ec03cc096cd6bba54fb0','82:1e:b6:4b:04:6d','',1.79606987139855313294e+09,1.79606987196018242835e+09,1);
INSERT INTO "tenure" VALUES(10,'fd77::4','endpoint',2,'default/fd77::/64/6d70682da76c','087687d2f8adba531376d008d0021adcdc86a22c5d43cf0476b288d453a1ab63','e538c557e3040dd0b1a9d6b073a8a25750f312479df6ec03cc096cd6bba54fb0','82:1e:b6:4b:04:6d','',1.79606987140121412277e+09,1.79606987196018242835e+09,1);
INSERT INTO "tenure" VALUES(11,'10.79.0.2','endpoint',3,'default/10.79.0.0/24/6da697f722da','d67a19fa2a5e3bfe1836b7359b4034e7cef5f3b17088696c2bfec029825e3ac4','67c13c9e70a57971b5ca3a8aaab0cbf8db2e2e895c560b3309f884b0d174051e','1e:b2:04:e8:4f:bf','far',1.79606987165571737284e+09,0.0,0);
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
PRAGMA user_version = 15;
