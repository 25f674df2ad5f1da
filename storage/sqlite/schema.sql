CREATE TABLE schema (version INTEGER NOT NULL);

CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- The words of the blocks below. Numbers are never given again; used is the day (since 1970) they were last written.
CREATE TABLE node (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	env TEXT NOT NULL, kind INTEGER NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
	api_id TEXT NOT NULL,
	used INTEGER NOT NULL,
	UNIQUE (name, namespace, kind, env));
CREATE INDEX node_api ON node (api_id);

CREATE TABLE edge (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	source INTEGER NOT NULL, target INTEGER NOT NULL, protocol INTEGER NOT NULL,
	api_id TEXT NOT NULL,
	used INTEGER NOT NULL,
	UNIQUE (source, target, protocol));
CREATE INDEX edge_api ON edge (api_id);

CREATE TABLE name (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	text TEXT NOT NULL UNIQUE,
	used INTEGER NOT NULL);

-- Compressed columns of rows: what = 0 edges, 1 details, 2 nodes; length and start in seconds; part is 0 in blocks that
-- were folded; state = 0 open, 1 closed, 2 folded into the next longer blocks, 3 unreadable and set aside. Data of a
-- block lies before until.
CREATE TABLE block (
	id INTEGER PRIMARY KEY,
	what INTEGER NOT NULL, length INTEGER NOT NULL, lane INTEGER NOT NULL, start INTEGER NOT NULL, part INTEGER NOT NULL,
	state INTEGER NOT NULL, until INTEGER NOT NULL, entries INTEGER NOT NULL,
	data BLOB NOT NULL);
CREATE UNIQUE INDEX block_key ON block (what, length, lane, start, part);
CREATE INDEX block_start ON block (length, start);
CREATE INDEX block_unfolded ON block (what, length, start, lane, part, state) WHERE state < 2;

-- What retention has dropped: no block of that kind and length starts before.
CREATE TABLE dropped (
	what INTEGER NOT NULL, length INTEGER NOT NULL, before INTEGER NOT NULL,
	PRIMARY KEY (what, length)) WITHOUT ROWID;

CREATE TABLE total (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO total VALUES ('entries', 0);

-- Times in nanoseconds since 1970, UTC.
CREATE TABLE trace (
	id INTEGER PRIMARY KEY,
	trace BLOB NOT NULL UNIQUE,
	at INTEGER NOT NULL, spans INTEGER NOT NULL,
	data BLOB NOT NULL);
CREATE INDEX trace_at ON trace (at);

CREATE TABLE example (
	id INTEGER PRIMARY KEY,
	trace BLOB NOT NULL, span BLOB NOT NULL,
	edge INTEGER NOT NULL, source INTEGER NOT NULL, target INTEGER NOT NULL,
	kind INTEGER NOT NULL, at INTEGER NOT NULL, duration INTEGER NOT NULL, failure INTEGER NOT NULL,
	UNIQUE (trace, span, edge));
CREATE INDEX example_at ON example (at, kind);
CREATE INDEX example_edge ON example (edge, at, kind);
CREATE INDEX example_source ON example (source, at, kind);
CREATE INDEX example_target ON example (target, at, kind);
