-- How often parts of windows were written, by kind as in block and by their start; of windows of ten seconds that are not
-- kept any more, by their minute. A sum of a stretch of time that was added up when the counts were the same is still
-- right. There were stores before this table was: it is added to them.
CREATE TABLE IF NOT EXISTS writes (
	what INTEGER NOT NULL, start INTEGER NOT NULL, times INTEGER NOT NULL,
	PRIMARY KEY (what, start)) WITHOUT ROWID;
