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
INSERT INTO "claim" VALUES('default/10.77.0.0/24/396a3c606178',1,2,'8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104',1.79605880676823854449e+09);
INSERT INTO "claim" VALUES('default/fd77::/64/8e28a072c637',2,3,'8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104',1.79605880677348804476e+09);
INSERT INTO "claim" VALUES('default/10.79.0.0/24/4f90ec3b10ce',3,4,'dccca8c45d0bcb1f99b23b3615e9de592e4d9c67ed634a1af4114ca224cdc442',1.79605880681572198862e+09);
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
INSERT INTO "endpoint" VALUES('bddbd2d2d469c2965d34d782083d94cbba64152fdaf185a85a21b11a1ecba7f8','8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104','10.77.0.64/24','fd77::2/64','8e:86:5b:53:93:3a','{}','web',1.79605880694630885125e+09);
INSERT INTO "endpoint" VALUES('1f889cb3c7eec7949fc66ca9e6f41d2ffb2bbbf6a22e7ba0312abb69967d75a2','8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104','10.77.0.66/24','fd77::3/64','16:82:57:d8:1d:cd','{}','db',1.79605880712972974778e+09);
INSERT INTO "endpoint" VALUES('225536e8a1c95f48325524165d2c69974e57c6500d0877a7fd98cbbfd01a4d86','dccca8c45d0bcb1f99b23b3615e9de592e4d9c67ed634a1af4114ca224cdc442','10.79.0.2/32','','46:fc:ea:42:66:5e','{}','far',1.79605880750957560536e+09);
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
INSERT INTO "network" VALUES('8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104','{"parent": "eth0"}',0,'[["10.77.0.0/24", "10.77.0.1", ["10.77.0.65"], true], ["fd77::/64", "fd77::1", [], true]]','eth0','lan',1.79605880677602457997e+09,'["10.77.0.11/24", "fd77::11/64"]','02:83:bb:80:89:b7','["eth0", "veth", "02:83:bb:80:89:b7", "", 0]','',1500);
INSERT INTO "network" VALUES('dccca8c45d0bcb1f99b23b3615e9de592e4d9c67ed634a1af4114ca224cdc442','{"mode": "routed"}',0,'[["10.79.0.0/24", "10.79.0.1", [], true]]','','routed',1.79605880681784772874e+09,'[]','','','',0);
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
INSERT INTO "sandbox" VALUES('bddbd2d2d469c2965d34d782083d94cbba64152fdaf185a85a21b11a1ecba7f8','/var/run/docker/netns/b2b198acbf86',0,'eth0',1500,'46','[]');
INSERT INTO "sandbox" VALUES('1f889cb3c7eec7949fc66ca9e6f41d2ffb2bbbf6a22e7ba0312abb69967d75a2','/var/run/docker/netns/0e8ab7b040a1',0,'eth0',1500,'46','[]');
INSERT INTO "sandbox" VALUES('225536e8a1c95f48325524165d2c69974e57c6500d0877a7fd98cbbfd01a4d86','/var/run/docker/netns/71107769b010',0,'',0,'','[]');
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
INSERT INTO "tenure" VALUES(1,'10.77.0.1','gateway',1,'default/10.77.0.0/24/396a3c606178','8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104','','','',1.79605880677008795734e+09,0.0);
INSERT INTO "tenure" VALUES(2,'10.77.0.65','aux',1,'default/10.77.0.0/24/396a3c606178','8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104','','','',1.79605880677166032796e+09,0.0);
INSERT INTO "tenure" VALUES(3,'fd77::1','gateway',2,'default/fd77::/64/8e28a072c637','8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104','','','',1.79605880677453231815e+09,0.0);
INSERT INTO "tenure" VALUES(4,'10.79.0.1','gateway',3,'default/10.79.0.0/24/4f90ec3b10ce','dccca8c45d0bcb1f99b23b3615e9de592e4d9c67ed634a1af4114ca224cdc442','','','',1.79605880681693458561e+09,0.0);
INSERT INTO "tenure" VALUES(5,'10.77.0.64','endpoint',1,'default/10.77.0.0/24/396a3c606178','8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104','bddbd2d2d469c2965d34d782083d94cbba64152fdaf185a85a21b11a1ecba7f8','8e:86:5b:53:93:3a','web',1.79605880694274377823e+09,0.0);
INSERT INTO "tenure" VALUES(6,'fd77::2','endpoint',2,'default/fd77::/64/8e28a072c637','8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104','bddbd2d2d469c2965d34d782083d94cbba64152fdaf185a85a21b11a1ecba7f8','8e:86:5b:53:93:3a','web',1.79605880694424176213e+09,0.0);
INSERT INTO "tenure" VALUES(7,'10.77.0.66','endpoint',1,'default/10.77.0.0/24/396a3c606178','8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104','1f889cb3c7eec7949fc66ca9e6f41d2ffb2bbbf6a22e7ba0312abb69967d75a2','16:82:57:d8:1d:cd','db',1.79605880712648344034e+09,0.0);
INSERT INTO "tenure" VALUES(8,'fd77::3','endpoint',2,'default/fd77::/64/8e28a072c637','8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104','1f889cb3c7eec7949fc66ca9e6f41d2ffb2bbbf6a22e7ba0312abb69967d75a2','16:82:57:d8:1d:cd','db',1.79605880712796115872e+09,0.0);
INSERT INTO "tenure" VALUES(9,'10.77.0.67','endpoint',1,'default/10.77.0.0/24/396a3c606178','8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104','b61123d27aa08277387bd72c65de7b87525e70798ed6516935b2b08f1464c547','8a:f8:28:96:18:cc','',1.79605880731113767626e+09,1.79605880774824786189e+09);
INSERT INTO "tenure" VALUES(10,'fd77::4','endpoint',2,'default/fd77::/64/8e28a072c637','8b4150e9c569757640648d20e8d28162ab83eb6cfcd196d3f44056c1c5ca2104','b61123d27aa08277387bd72c65de7b87525e70798ed6516935b2b08f1464c547','8a:f8:28:96:18:cc','',1.79605880731460070603e+09,1.79605880776464128497e+09);
INSERT INTO "tenure" VALUES(11,'10.79.0.2','endpoint',3,'default/10.79.0.0/24/4f90ec3b10ce','dccca8c45d0bcb1f99b23b3615e9de592e4d9c67ed634a1af4114ca224cdc442','225536e8a1c95f48325524165d2c69974e57c6500d0877a7fd98cbbfd01a4d86','46:fc:ea:42:66:5e','far',1.79605880750558114054e+09,0.0);
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
PRAGMA user_version = 6;
