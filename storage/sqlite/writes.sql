-- How often parts of windows were written that start in a minute, by kind as in block. A sum of a span that was added up
-- when the counts were the same is still right. There were stores before this table was: it is added to them.
CREATE TABLE IF NOT EXISTS writes (
	what INTEGER NOT NULL, minute INTEGER NOT NULL, times INTEGER NOT NULL,
	PRIMARY KEY (what, minute)) WITHOUT ROWID;
