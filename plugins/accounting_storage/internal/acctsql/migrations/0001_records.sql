-- Runs of jobs, their steps, and the losses of nodes.
-- Times are Unix seconds, 0 is "never". contrib/docs/reference/accounting.md explains each column.

CREATE TABLE clusters (
	id    {{serial}},
	name  TEXT   NOT NULL UNIQUE,
	acked BIGINT NOT NULL -- the highest record number of the last batch
);

-- A row is one run of a job: a job that was requeued has one for each run.
CREATE TABLE job_runs (
	id         {{serial}},
	cluster    BIGINT   NOT NULL,
	job        BIGINT   NOT NULL,
	submitted  BIGINT   NOT NULL,
	restarts   BIGINT   NOT NULL,
	phase      SMALLINT NOT NULL, -- 0 waits, 1 runs or is suspended, 2 over
	number     BIGINT   NOT NULL, -- of the record that this row shows
	hidden     SMALLINT NOT NULL, -- 1: an array's record whose tasks all have rows of their own
	array_job  BIGINT   NOT NULL, -- 0: not of an array
	array_task BIGINT   NOT NULL, -- -1: the array's waiting tasks, or not of an array
	het_job    BIGINT   NOT NULL, -- the first component's id; 0: not of a heterogeneous job
	state      SMALLINT NOT NULL,
	flags      BIGINT   NOT NULL,
	eligible   BIGINT   NOT NULL,
	started    BIGINT   NOT NULL,
	ended      BIGINT   NOT NULL, -- 9223372036854775807: not over
	user_id    BIGINT   NOT NULL,
	group_id   BIGINT   NOT NULL,
	user_name  TEXT     NOT NULL,
	account    TEXT     NOT NULL,
	partition  TEXT     NOT NULL,
	qos        TEXT     NOT NULL,
	wckey      TEXT     NOT NULL,
	name       TEXT     NOT NULL,
	cpus       BIGINT   NOT NULL, -- allocated
	nodes      BIGINT   NOT NULL, -- allocated
	node_list  TEXT     NOT NULL,
	tres       TEXT     NOT NULL, -- allocated
	status     BIGINT   NOT NULL, -- as wait(2) has it
	record     {{blob}} NOT NULL  -- the whole sluice.wlm.v1.Job
);
CREATE UNIQUE INDEX job_runs_key ON job_runs (cluster, job, submitted, restarts);
CREATE INDEX job_runs_time ON job_runs (cluster, ended, submitted);
CREATE INDEX job_runs_user ON job_runs (cluster, user_id, ended, submitted);
CREATE INDEX job_runs_array ON job_runs (cluster, array_job) WHERE array_job <> 0;
CREATE INDEX job_runs_het ON job_runs (cluster, het_job) WHERE het_job <> 0;

-- Moments at which runs were stopped (suspended = 1) and went on (0).
CREATE TABLE job_suspensions (
	cluster   BIGINT   NOT NULL,
	job       BIGINT   NOT NULL,
	submitted BIGINT   NOT NULL,
	restarts  BIGINT   NOT NULL,
	moment    BIGINT   NOT NULL,
	suspended SMALLINT NOT NULL,
	PRIMARY KEY (cluster, job, submitted, restarts, moment, suspended)
) {{clustered}};

CREATE TABLE job_steps (
	cluster   BIGINT   NOT NULL,
	job       BIGINT   NOT NULL,
	submitted BIGINT   NOT NULL, -- the run's
	restarts  BIGINT   NOT NULL, -- the run's
	step      BIGINT   NOT NULL, -- -6 interactive, -5 batch, -4 extern, else the number
	phase     SMALLINT NOT NULL,
	number    BIGINT   NOT NULL,
	state     SMALLINT NOT NULL,
	started   BIGINT   NOT NULL,
	ended     BIGINT   NOT NULL, -- 9223372036854775807: not over
	name      TEXT     NOT NULL,
	cpus      BIGINT   NOT NULL,
	node_list TEXT     NOT NULL,
	tres      TEXT     NOT NULL,
	status    BIGINT   NOT NULL,
	record    {{blob}} NOT NULL, -- the whole sluice.wlm.v1.Step
	PRIMARY KEY (cluster, job, submitted, restarts, step)
) {{clustered}};

CREATE TABLE node_events (
	cluster     BIGINT   NOT NULL,
	node        TEXT     NOT NULL,
	moment      BIGINT   NOT NULL,
	up          SMALLINT NOT NULL, -- 0: went down, 1: came back
	number      BIGINT   NOT NULL,
	state       SMALLINT NOT NULL,
	flags       BIGINT   NOT NULL,
	reason      TEXT     NOT NULL,
	reason_user BIGINT   NOT NULL,
	cpus        BIGINT   NOT NULL,
	PRIMARY KEY (cluster, node, moment, up)
) {{clustered}};
CREATE INDEX node_events_time ON node_events (cluster, moment);
