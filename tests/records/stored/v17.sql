BEGIN TRANSACTION;
CREATE TABLE awaited (network TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE boot (
            one      INTEGER PRIMARY KEY CHECK (one = 1),
            identity TEXT NOT NULL
        ) STRICT
        ;
INSERT INTO "boot" VALUES(1,'8f0d483d-9984-47ce-bf76-c929df393202/c5eb000000000000');
CREATE TABLE claim (
            id      TEXT PRIMARY KEY,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            network TEXT NOT NULL DEFAULT '',
            since   REAL NOT NULL
        , probe INTEGER NOT NULL DEFAULT 1, share TEXT NOT NULL DEFAULT '', source TEXT NOT NULL DEFAULT 'pool') STRICT
        ;
INSERT INTO "claim" VALUES('default/10.77.0.0/24/387c41bd711c',1,2,'69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a',1.7961300485645885468e+09,1,'10.77.0.64','pool');
INSERT INTO "claim" VALUES('default/fd77::/64/f5e4223ef967',2,3,'69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a',1.79613004857448172561e+09,1,'fd77::6f55','pool');
INSERT INTO "claim" VALUES('default/10.79.0.0/24/3d9f9c649e83',3,4,'7f2bed7684e16d707b5b20a40e620a7a4ce37994c3d7223e17935f1ca4939078',1.79613004887229537956e+09,1,'10.79.0.250','pool');
CREATE TABLE dhcp_lease (
            id         INTEGER PRIMARY KEY,
            uplink     TEXT NOT NULL,
            kind       TEXT NOT NULL,
            value      TEXT NOT NULL,
            mac        TEXT NOT NULL,
            client_id  BLOB NOT NULL,
            hostname   TEXT NOT NULL,
            network    TEXT NOT NULL DEFAULT '',
            endpoint   TEXT NOT NULL DEFAULT '',
            address    TEXT NOT NULL DEFAULT '',
            server     TEXT NOT NULL DEFAULT '',
            server_mac TEXT NOT NULL DEFAULT '',
            router     TEXT NOT NULL DEFAULT '',
            options    BLOB NOT NULL DEFAULT x'',
            since      REAL NOT NULL DEFAULT 0,
            renew      REAL NOT NULL DEFAULT 0,
            rebind     REAL NOT NULL DEFAULT 0,
            expires    REAL NOT NULL DEFAULT 0,
            uptime     REAL NOT NULL DEFAULT 0,
            boot       TEXT NOT NULL DEFAULT '',
            gone       REAL NOT NULL DEFAULT 0,
            former     TEXT NOT NULL DEFAULT '',
            container  TEXT NOT NULL DEFAULT '',
            UNIQUE (uplink, kind, value)
        ) STRICT
        ;
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
INSERT INTO "endpoint" VALUES('9c91ca7fd88dba03f7a84748c20a1edceeb83c303c2b80be6ff40c4a5372f2ee','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','10.77.0.64/24','fd77::6f55/64','56:ad:70:e4:8c:f0','{}','web',1.79613004911195325852e+09);
INSERT INTO "endpoint" VALUES('625a9224a611ffd4dad023c169c1158f329112352aa8a5a4b8c30794d31eb3da','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','10.77.0.66/24','fd77::6f56/64','2e:fa:8f:68:55:fd','{}','db',1.79613004936789393429e+09);
INSERT INTO "endpoint" VALUES('864a30562d0987ab83a754ce0a5a6de4699a06666406ef912fd0ea7363707d78','7f2bed7684e16d707b5b20a40e620a7a4ce37994c3d7223e17935f1ca4939078','10.79.0.250/32','','96:fb:ca:c1:d1:8e','{}','far',1.79613004988071775437e+09);
CREATE TABLE freed (
            turn    INTEGER PRIMARY KEY AUTOINCREMENT,
            pool    INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            slice   INTEGER NOT NULL REFERENCES slice (id),
            address BLOB NOT NULL,
            UNIQUE (pool, address)
        ) STRICT
        ;
CREATE TABLE fresh (
            pool  INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            last  BLOB NOT NULL,
            first BLOB NOT NULL,
            PRIMARY KEY (pool, last)
        ) STRICT, WITHOUT ROWID
        ;
INSERT INTO "fresh" VALUES(1,X'0A4D003F',X'0A4D0002');
INSERT INTO "fresh" VALUES(1,X'0A4D00FE',X'0A4D0044');
INSERT INTO "fresh" VALUES(2,X'FD770000000000000000000000006F54',X'FD770000000000000000000000000002');
INSERT INTO "fresh" VALUES(2,X'FD77000000000000FFFFFFFFFFFFFFFF',X'FD770000000000000000000000006F58');
INSERT INTO "fresh" VALUES(3,X'0A4F00F9',X'0A4F0002');
INSERT INTO "fresh" VALUES(3,X'0A4F00FE',X'0A4F00FB');
CREATE TABLE host (one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT NOT NULL) STRICT;
INSERT INTO "host" VALUES(1,'814fa5ca98406a903e22b43d9b610105');
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
INSERT INTO "network" VALUES('69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','{"parent": "eth0"}',0,'[["10.77.0.0/24", "10.77.0.1", ["10.77.0.65"], true], ["fd77::/64", "fd77::1", [], true]]','eth0','lan',1.79613004858072733884e+09,'["10.77.0.11/24", "fd77::11/64"]','96:b7:ee:79:25:3a','["eth0", "veth", "96:b7:ee:79:25:3a", "", 0]','',1500,'','["docker0"]');
INSERT INTO "network" VALUES('7f2bed7684e16d707b5b20a40e620a7a4ce37994c3d7223e17935f1ca4939078','{"mode": "routed"}',0,'[["10.79.0.0/24", "10.79.0.1", [], true]]','','routed',1.79613004887650680539e+09,'[]','','','',1500,'','[]');
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
CREATE TABLE reservation (
            domain  TEXT NOT NULL,
            place   BLOB NOT NULL,
            address TEXT NOT NULL,
            name    TEXT NOT NULL,
            origin  TEXT NOT NULL,
            network TEXT NOT NULL,
            mac     TEXT NOT NULL,
            since   REAL NOT NULL,
            gone    REAL NOT NULL DEFAULT 0,
            idle    INTEGER NOT NULL,
            PRIMARY KEY (domain, place)
        ) STRICT, WITHOUT ROWID
        ;
INSERT INTO "reservation" VALUES('default',X'0A4D0040','10.77.0.64','web','drawn','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','56:ad:70:e4:8c:f0',1.79613004909229063985e+09,0.0,0);
INSERT INTO "reservation" VALUES('default',X'0A4D0042','10.77.0.66','db','drawn','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','2e:fa:8f:68:55:fd',1.79613004935764479638e+09,0.0,0);
INSERT INTO "reservation" VALUES('default',X'0A4D0043','10.77.0.67','gone','drawn','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','32:35:47:37:37:7a',1.7961300496118628979e+09,0.0,1);
INSERT INTO "reservation" VALUES('default',X'0A4F00FA','10.79.0.250','far','drawn','7f2bed7684e16d707b5b20a40e620a7a4ce37994c3d7223e17935f1ca4939078','96:fb:ca:c1:d1:8e',1.7961300498649184704e+09,0.0,0);
INSERT INTO "reservation" VALUES('default',X'FD770000000000000000000000006F55','fd77::6f55','web','drawn','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','56:ad:70:e4:8c:f0',1.79613004910300016409e+09,0.0,0);
INSERT INTO "reservation" VALUES('default',X'FD770000000000000000000000006F56','fd77::6f56','db','drawn','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','2e:fa:8f:68:55:fd',1.7961300493621656895e+09,0.0,0);
INSERT INTO "reservation" VALUES('default',X'FD770000000000000000000000006F57','fd77::6f57','gone','drawn','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','32:35:47:37:37:7a',1.79613004961546111112e+09,0.0,1);
CREATE TABLE sandbox (
            endpoint TEXT PRIMARY KEY REFERENCES endpoint (id) ON DELETE CASCADE,
            path     TEXT NOT NULL,
            left     INTEGER NOT NULL DEFAULT 0
        , device TEXT NOT NULL DEFAULT '', mtu INTEGER NOT NULL DEFAULT 0, defaults TEXT NOT NULL DEFAULT '', settings TEXT NOT NULL DEFAULT '[]', without TEXT NOT NULL DEFAULT '', beside TEXT NOT NULL DEFAULT '[]') STRICT
        ;
INSERT INTO "sandbox" VALUES('9c91ca7fd88dba03f7a84748c20a1edceeb83c303c2b80be6ff40c4a5372f2ee','/var/run/docker/netns/e421ed04c2ba',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('625a9224a611ffd4dad023c169c1158f329112352aa8a5a4b8c30794d31eb3da','/var/run/docker/netns/6b84cc45be66',0,'eth0',1500,'46','[]','','[]');
INSERT INTO "sandbox" VALUES('864a30562d0987ab83a754ce0a5a6de4699a06666406ef912fd0ea7363707d78','/var/run/docker/netns/92c1001748f1',0,'eth0',1500,'4','["net/ipv6/conf/*/disable_ipv6=1"]','6','[]');
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
        , returned INTEGER NOT NULL DEFAULT 0, fixed INTEGER NOT NULL DEFAULT 0, fixed_mac INTEGER NOT NULL DEFAULT 0) STRICT
        ;
INSERT INTO "tenure" VALUES(1,'10.77.0.1','gateway',1,'default/10.77.0.0/24/387c41bd711c','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','','','',1.79613004856777644154e+09,0.0,0,1,0);
INSERT INTO "tenure" VALUES(2,'10.77.0.65','aux',1,'default/10.77.0.0/24/387c41bd711c','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','','','',1.7961300485707128048e+09,0.0,0,1,0);
INSERT INTO "tenure" VALUES(3,'fd77::1','gateway',2,'default/fd77::/64/f5e4223ef967','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','','','',1.79613004857678532598e+09,0.0,0,1,0);
INSERT INTO "tenure" VALUES(4,'10.79.0.1','gateway',3,'default/10.79.0.0/24/3d9f9c649e83','7f2bed7684e16d707b5b20a40e620a7a4ce37994c3d7223e17935f1ca4939078','','','',1.79613004887428975107e+09,0.0,0,0,0);
INSERT INTO "tenure" VALUES(5,'10.77.0.64','endpoint',1,'default/10.77.0.0/24/387c41bd711c','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','9c91ca7fd88dba03f7a84748c20a1edceeb83c303c2b80be6ff40c4a5372f2ee','56:ad:70:e4:8c:f0','web',1.79613004909229063985e+09,0.0,0,0,0);
INSERT INTO "tenure" VALUES(6,'fd77::6f55','endpoint',2,'default/fd77::/64/f5e4223ef967','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','9c91ca7fd88dba03f7a84748c20a1edceeb83c303c2b80be6ff40c4a5372f2ee','56:ad:70:e4:8c:f0','web',1.79613004910300016409e+09,0.0,0,0,0);
INSERT INTO "tenure" VALUES(7,'10.77.0.66','endpoint',1,'default/10.77.0.0/24/387c41bd711c','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','625a9224a611ffd4dad023c169c1158f329112352aa8a5a4b8c30794d31eb3da','2e:fa:8f:68:55:fd','db',1.79613004935764479638e+09,0.0,0,0,0);
INSERT INTO "tenure" VALUES(8,'fd77::6f56','endpoint',2,'default/fd77::/64/f5e4223ef967','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','625a9224a611ffd4dad023c169c1158f329112352aa8a5a4b8c30794d31eb3da','2e:fa:8f:68:55:fd','db',1.7961300493621656895e+09,0.0,0,0,0);
INSERT INTO "tenure" VALUES(9,'10.77.0.67','endpoint',1,'default/10.77.0.0/24/387c41bd711c','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','6a6806d2b2337fbaeffea78561a5329380985ab24c08f30cf10495cd8c134011','32:35:47:37:37:7a','gone',1.7961300496118628979e+09,1.79613005015768718722e+09,1,0,0);
INSERT INTO "tenure" VALUES(10,'fd77::6f57','endpoint',2,'default/fd77::/64/f5e4223ef967','69a3189682c365bf8bec290e11f59456e64ada832295409fb6c9fa06dd35ba4a','6a6806d2b2337fbaeffea78561a5329380985ab24c08f30cf10495cd8c134011','32:35:47:37:37:7a','gone',1.79613004961546111112e+09,1.79613005015768718722e+09,1,0,0);
INSERT INTO "tenure" VALUES(11,'10.79.0.250','endpoint',3,'default/10.79.0.0/24/3d9f9c649e83','7f2bed7684e16d707b5b20a40e620a7a4ce37994c3d7223e17935f1ca4939078','864a30562d0987ab83a754ce0a5a6de4699a06666406ef912fd0ea7363707d78','96:fb:ca:c1:d1:8e','far',1.7961300498649184704e+09,0.0,0,0,0);
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
CREATE INDEX reservation_name ON reservation (domain, name);
CREATE INDEX reservation_gone ON reservation (domain, gone) WHERE idle = 1;
CREATE INDEX reservation_since ON reservation (domain, since) WHERE idle = 1;
CREATE INDEX dhcp_lease_endpoint ON dhcp_lease (endpoint);
CREATE INDEX dhcp_lease_address ON dhcp_lease (address);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('pool',3);
COMMIT;
PRAGMA user_version = 17;
