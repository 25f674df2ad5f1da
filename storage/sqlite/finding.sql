-- Times in nanoseconds since 1970, UTC. edge is 0 where the finding is at a node, which then is source and target; n is
-- what it rests on. There were stores before there were findings: this table is added to them.
CREATE TABLE IF NOT EXISTS finding (
	id INTEGER PRIMARY KEY,
	rule TEXT NOT NULL,
	edge INTEGER NOT NULL, source INTEGER NOT NULL, target INTEGER NOT NULL,
	subject TEXT NOT NULL,
	level INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL,
	sentence TEXT NOT NULL,
	value REAL, n INTEGER NOT NULL,
	UNIQUE (edge, source, rule, subject, since));
CREATE INDEX IF NOT EXISTS finding_until ON finding (until);
CREATE INDEX IF NOT EXISTS finding_since ON finding (since);
CREATE INDEX IF NOT EXISTS finding_target ON finding (target, until);
