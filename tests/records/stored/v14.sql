BEGIN TRANSACTION;
CREATE TABLE awaited (network TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE boot (
            one      INTEGER PRIMARY KEY CHECK (one = 1),
            identity TEXT NOT NULL
        ) STRICT
        ;
INSERT INTO "boot" VALUES(1,'43a43088-4eb1-4b4a-8634-a257e467d49c/6a41000000000000');
CREATE TABLE claim (
            id      TEXT PRIMARY KEY,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            network TEXT NOT NULL DEFAULT '',
            since   REAL NOT NULL
        ) STRICT
        ;
INSERT INTO "claim" VALUES('default/10.77.0.0/24/85abd980612a',1,2,'f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941',1.79605882960488724706e+09);
INSERT INTO "claim" VALUES('default/fd77::/64/e98f0c8d2484',2,3,'f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941',1.79605882960928606986e+09);
INSERT INTO "claim" VALUES('default/10.79.0.0/24/5cd2a726525b',3,4,'4c4497e0018acf58bd107170a557572d92fca805c714d1c5a0e8b7d72cba9a10',1.79605882977014875414e+09);
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
INSERT INTO "endpoint" VALUES('a297e8518638847a7f4ed5a2980d783e17dbc041f08bdffffc9013346e90f31e','f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941','10.77.0.64/24','fd77::2/64','9e:58:68:33:bc:f9','{}','',1.79605882993904685971e+09);
INSERT INTO "endpoint" VALUES('cdad9bf3b6456eb7900971c992d40463aa01f2e024ec11e6c260d60dd51aa272','f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941','10.77.0.66/24','fd77::3/64','ee:91:f3:0e:81:72','{}','',1.79605883014816260345e+09);
INSERT INTO "endpoint" VALUES('a2d06653d3ea71d1a9315d75518aec695469a00465c7babefa2091305089ad17','4c4497e0018acf58bd107170a557572d92fca805c714d1c5a0e8b7d72cba9a10','10.79.0.2/32','','f6:19:e4:bc:30:fd','{}','',1796058830.55899);
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
INSERT INTO "network" VALUES('f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941','{"parent": "eth0"}',0,'[["10.77.0.0/24", "10.77.0.1", ["10.77.0.65"], true], ["fd77::/64", "fd77::1", [], true]]','eth0','lan',1.7960588296115868091e+09,'["10.77.0.11/24", "fd77::11/64"]','c6:aa:8d:c5:5b:59','["eth0", "veth", "c6:aa:8d:c5:5b:59", "", 0]','',1500,'','["docker0"]');
INSERT INTO "network" VALUES('4c4497e0018acf58bd107170a557572d92fca805c714d1c5a0e8b7d72cba9a10','{"mode": "routed"}',0,'[["10.79.0.0/24", "10.79.0.1", [], true]]','','routed',1.79605882977322268492e+09,'[]','','','',1500,'','[]');
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
INSERT INTO "repair" VALUES(1,1.79605882975975418092e+09,'underlay::shim/eth0','','','nft add chain ip underlay nat-ul-501eba9ff49d { type nat hook postrouting priority 99; iifname { "docker0" } oifname "ul-501eba9ff49d" ip daddr 10.77.0.0/24 snat to 10.77.0.11; iifname { "docker0" } oifname "ul-501eba9ff49d" snat to 10.77.0.11 }',1.95253298000352515373e-01,'','','');
CREATE TABLE sandbox (
            endpoint TEXT PRIMARY KEY REFERENCES endpoint (id) ON DELETE CASCADE,
            path     TEXT NOT NULL,
            left     INTEGER NOT NULL DEFAULT 0
        , device TEXT NOT NULL DEFAULT '', mtu INTEGER NOT NULL DEFAULT 0, defaults TEXT NOT NULL DEFAULT '', settings TEXT NOT NULL DEFAULT '[]', without TEXT NOT NULL DEFAULT '', beside TEXT NOT NULL DEFAULT '[]') STRICT
        ;
INSERT INTO "sandbox" VALUES('a297e8518638847a7f4ed5a2980d783e17dbc041f08bdffffc9013346e90f31e','/var/run/docker/netns/f2acc8b53b39',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('cdad9bf3b6456eb7900971c992d40463aa01f2e024ec11e6c260d60dd51aa272','/var/run/docker/netns/de86795d5185',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('a2d06653d3ea71d1a9315d75518aec695469a00465c7babefa2091305089ad17','/var/run/docker/netns/fccd2950f6eb',0,'eth0',1500,'4','["net/ipv6/conf/*/disable_ipv6=1"]','6','[]');
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
INSERT INTO "tenure" VALUES(1,'10.77.0.1','gateway',1,'default/10.77.0.0/24/85abd980612a','f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941','','','',1.79605882960647749899e+09,0.0,0);
INSERT INTO "tenure" VALUES(2,'10.77.0.65','aux',1,'default/10.77.0.0/24/85abd980612a','f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941','','','',1.79605882960768055908e+09,0.0,0);
INSERT INTO "tenure" VALUES(3,'fd77::1','gateway',2,'default/fd77::/64/e98f0c8d2484','f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941','','','',1.79605882961017370227e+09,0.0,0);
INSERT INTO "tenure" VALUES(4,'10.79.0.1','gateway',3,'default/10.79.0.0/24/5cd2a726525b','4c4497e0018acf58bd107170a557572d92fca805c714d1c5a0e8b7d72cba9a10','','','',1.79605882977181839947e+09,0.0,0);
INSERT INTO "tenure" VALUES(5,'10.77.0.64','endpoint',1,'default/10.77.0.0/24/85abd980612a','f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941','a297e8518638847a7f4ed5a2980d783e17dbc041f08bdffffc9013346e90f31e','9e:58:68:33:bc:f9','',1.7960588299349906445e+09,0.0,0);
INSERT INTO "tenure" VALUES(6,'fd77::2','endpoint',2,'default/fd77::/64/e98f0c8d2484','f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941','a297e8518638847a7f4ed5a2980d783e17dbc041f08bdffffc9013346e90f31e','9e:58:68:33:bc:f9','',1.7960588299363110065e+09,0.0,0);
INSERT INTO "tenure" VALUES(7,'10.77.0.66','endpoint',1,'default/10.77.0.0/24/85abd980612a','f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941','cdad9bf3b6456eb7900971c992d40463aa01f2e024ec11e6c260d60dd51aa272','ee:91:f3:0e:81:72','',1.79605883014342927934e+09,0.0,0);
INSERT INTO "tenure" VALUES(8,'fd77::3','endpoint',2,'default/fd77::/64/e98f0c8d2484','f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941','cdad9bf3b6456eb7900971c992d40463aa01f2e024ec11e6c260d60dd51aa272','ee:91:f3:0e:81:72','',1.79605883014491581918e+09,0.0,0);
INSERT INTO "tenure" VALUES(9,'10.77.0.67','endpoint',1,'default/10.77.0.0/24/85abd980612a','f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941','bd0b2904dcf5affb27dd9b17c6d68fe1b595bead3b747250d95007429f4316a7','d6:fd:0c:ca:9d:3c','',1.79605883035801053041e+09,1.79605883077117347724e+09,1);
INSERT INTO "tenure" VALUES(10,'fd77::4','endpoint',2,'default/fd77::/64/e98f0c8d2484','f15a879b271457e3f2f7937880ead47949431e2dc25912583e48ac586fda7941','bd0b2904dcf5affb27dd9b17c6d68fe1b595bead3b747250d95007429f4316a7','d6:fd:0c:ca:9d:3c','',1.79605883035966658592e+09,1.79605883077117347724e+09,1);
INSERT INTO "tenure" VALUES(11,'10.79.0.2','endpoint',3,'default/10.79.0.0/24/5cd2a726525b','4c4497e0018acf58bd107170a557572d92fca805c714d1c5a0e8b7d72cba9a10','a2d06653d3ea71d1a9315d75518aec695469a00465c7babefa2091305089ad17','f6:19:e4:bc:30:fd','',1.79605883055054116248e+09,0.0,0);
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
PRAGMA user_version = 14;
