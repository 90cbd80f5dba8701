package duckdb

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"lightcone/usage/billing"
)

// A fold's views and tables are a transaction's, and go with it.
//
// Nearly all calls are in the records once, and need no search for copies. So first
// come the hashes of ids that are met more than once; then records of such a hash are
// grouped by the call, and the others counted as they are. Equal calls have equal
// hashes, so no copy is missed; different calls of one hash are only looked at more
// closely.
const (
	recordsView = `
CREATE TEMP VIEW records AS
SELECT *, file_index AS file, hash(call) AS key, false AS disputed
FROM read_parquet(%s, hive_partitioning = false)`

	// checkQuery counts the records that cannot be billed, of all shares.
	checkQuery = `
SELECT count(*) FILTER (cpu_ns < 0 OR bytes_in < 0 OR bytes_out < 0),
  count(*) FILTER ("start" < make_timestamptz(%d) OR "start" >= make_timestamptz(%d))
FROM records`

	repeatedTable = `
CREATE TEMP TABLE repeated AS
SELECT key FROM records WHERE %s
GROUP BY key HAVING count(*) > 1`

	usedTable = `
CREATE TEMP TABLE used (
  tenant VARCHAR, "function" VARCHAR, outcome VARCHAR, calls BIGINT, cpu_ns HUGEINT, bytes_in HUGEINT, bytes_out HUGEINT, strays BIGINT
)`
	metTable = `CREATE TEMP TABLE met (file BIGINT, calls BIGINT, disputed BIGINT)`

	singleView = `
CREATE OR REPLACE TEMP VIEW single AS
SELECT * FROM records ANTI JOIN (SELECT key FROM repeated WHERE %[1]s) USING (key)
WHERE %[1]s`

	// copiedTable has the calls with copies. Of copies that differ, the least of each value
	// counts: a choice that no order of copies changes.
	copiedTable = `
CREATE OR REPLACE TEMP TABLE copied AS
SELECT call,
  min(tenant) AS tenant, min("function") AS "function", min(outcome) AS outcome,
  min(cpu_ns) AS cpu_ns, min(bytes_in) AS bytes_in, min(bytes_out) AS bytes_out,
  min(file) AS file, min(content) <> max(content) AS disputed
FROM (
  SELECT * EXCLUDE (disputed), hash(tenant, "function", outcome, cpu_ns, bytes_in, bytes_out, "start") AS content
  FROM records SEMI JOIN (SELECT key FROM repeated WHERE %[1]s) USING (key)
  WHERE %[1]s
)
GROUP BY call`

	// usedQuery and metQuery add calls that are in a table once, the latter by the file
	// that they were first met in. Single and copied calls are added one after the other: below
	// a UNION ALL, DuckDB reads columns that nobody asked for.
	usedQuery = `
INSERT INTO used
SELECT tenant, "function", outcome, count(*), sum(cpu_ns), sum(bytes_in), sum(bytes_out), count(*) FILTER (call < %[2]s OR call >= %[3]s)
FROM %[1]s
GROUP BY ALL`
	metQuery = `INSERT INTO met SELECT file, count(*), count(*) FILTER (disputed) FROM %s GROUP BY ALL`

	usedSums = `
SELECT tenant, "function", outcome, sum(calls)::BIGINT, sum(cpu_ns)::BIGINT, sum(bytes_in)::BIGINT, sum(bytes_out)::BIGINT, sum(strays)::BIGINT
FROM used
GROUP BY ALL`
	metSums = `SELECT file, sum(calls)::BIGINT, sum(disputed)::BIGINT FROM met GROUP BY ALL`
)

// repeatBytes is the memory that a call with copies takes, and more. A share with more of
// them than fit is folded in parts: DuckDB does not spill soon enough what it groups them by.
const repeatBytes = 512

// Fold folds a share of the files' records.
func (f *Folder) Fold(ctx context.Context, files []string, hour time.Time, share billing.Share) (billing.Folded, error) {
	folded := billing.Folded{Billed: make([]int64, len(files))}
	if len(files) == 0 {
		return folded, nil
	}
	transaction, err := f.db.BeginTx(ctx, nil)
	if err == nil {
		one := fold{in: transaction, hour: hour, memory: f.memory}
		err = errors.Join(one.run(ctx, files, share, &folded), transaction.Rollback())
	}
	if err != nil {
		return billing.Folded{}, fmt.Errorf("fold %d files: %w", len(files), blame(err))
	}
	return folded, nil
}

// fold is one fold's transaction.
type fold struct {
	in     *sql.Tx
	hour   time.Time
	memory int64 // bytes
}

func (f fold) run(ctx context.Context, files []string, share billing.Share, folded *billing.Folded) error {
	if err := f.execute(ctx, fmt.Sprintf(recordsView, list(files))); err != nil {
		return err
	}
	if err := f.check(ctx); err != nil {
		return err
	}
	if err := f.execute(ctx, fmt.Sprintf(repeatedTable, keyIn(share.Index, share.Of)), usedTable, metTable); err != nil {
		return err
	}
	var repeated int64
	if err := f.in.QueryRowContext(ctx, "SELECT count(*) FROM repeated").Scan(&repeated); err != nil {
		return err
	}
	parts := int(1 + repeated*repeatBytes/f.memory)
	for part := range parts {
		// Of the hashes that are in the share, a part.
		ours := keyIn(share.Index+part*share.Of, share.Of*parts)
		if err := f.add(ctx, ours, repeated > 0); err != nil {
			return err
		}
	}
	return f.read(ctx, folded)
}

// check fails if there are records that cannot be billed.
func (f fold) check(ctx context.Context) error {
	var negative, elsewhen int64
	query := fmt.Sprintf(checkQuery, f.hour.UnixMicro(), f.hour.Add(time.Hour).UnixMicro())
	if err := f.in.QueryRowContext(ctx, query).Scan(&negative, &elsewhen); err != nil {
		return err
	}
	switch {
	case negative > 0:
		return fmt.Errorf("%w: %d are of less than nothing", billing.ErrRecords, negative)
	case elsewhen > 0:
		return fmt.Errorf("%w: %d do not start in the hour from %v", billing.ErrRecords, elsewhen, f.hour)
	}
	return nil
}

// add adds the calls whose keys are ours to the sums.
func (f fold) add(ctx context.Context, ours string, repeated bool) error {
	tables := []string{"single", "copied"}
	statements := []string{fmt.Sprintf(singleView, ours), fmt.Sprintf(copiedTable, ours)}
	if !repeated { // a join with nothing would cost a quarter of the fold
		tables, statements = []string{"records WHERE " + ours}, nil
	}
	for _, table := range tables {
		statements = append(statements, fmt.Sprintf(usedQuery, table, firstCall(f.hour), firstCall(f.hour.Add(time.Hour))), fmt.Sprintf(metQuery, table))
	}
	return f.execute(ctx, statements...)
}

// read reads the sums.
func (f fold) read(ctx context.Context, folded *billing.Folded) error {
	err := each(ctx, f.in, usedSums, func(rows *sql.Rows) error {
		var row billing.Row
		var strays int64
		err := rows.Scan(&row.Tenant, &row.Function, &row.Outcome, &row.Calls, &row.CPU, &row.BytesIn, &row.BytesOut, &strays)
		folded.Rows = append(folded.Rows, row)
		folded.Strays += strays
		return err
	})
	if err != nil {
		return err
	}
	return each(ctx, f.in, metSums, func(rows *sql.Rows) error {
		var file, calls, disputed int64
		if err := rows.Scan(&file, &calls, &disputed); err != nil {
			return err
		}
		if file < 0 || file >= int64(len(folded.Billed)) {
			return fmt.Errorf("calls of file %d, of %d", file, len(folded.Billed))
		}
		folded.Billed[file] = calls
		folded.Disputed += disputed
		return nil
	})
}

func (f fold) execute(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := f.in.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// keyIn is the condition that a record is in one of several shares of the calls.
func keyIn(index, of int) string {
	if of == 1 {
		return "true"
	}
	return fmt.Sprintf("key %% %d = %d", of, index)
}

// firstCall is the least id of a call that arrives at t, as a literal: ids begin
// with their milliseconds.
func firstCall(t time.Time) string {
	var id [16]byte
	var stamp [8]byte
	binary.BigEndian.PutUint64(stamp[:], uint64(t.UnixMilli()))
	copy(id[:], stamp[2:])
	var literal strings.Builder
	for _, b := range id {
		fmt.Fprintf(&literal, `\x%02X`, b)
	}
	return "'" + literal.String() + "'::BLOB"
}
