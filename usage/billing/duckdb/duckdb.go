// Package duckdb folds usage records with SQL over Parquet, for package billing.
//
// Invariants: each call of a share is counted once, whatever the order of files and
// of records in them; memory stays within its bound, beyond which DuckDB spills to the
// scratch folder; nothing is read from a file's statistics, which no checksum
// covers. A file whose records are none of the hour's, or negative, fails the fold.
//
// It does not check that a file is whole (package store does), price anything or keep
// state between folds. It is the only package with cgo on the way to a bill.
package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"lightcone/usage/billing"
)

// Config says what a fold may use.
type Config struct {
	Memory  int64  // bytes; besides, DuckDB takes some 100 MiB
	Threads int    // 1 or more
	Scratch string // a folder to spill to
}

// Folder folds records. Make one with Open.
type Folder struct {
	connector *duckdb.Connector
	db        *sql.DB
}

// Open starts DuckDB in memory.
func Open(ctx context.Context, config Config) (*Folder, error) {
	settings := []string{
		fmt.Sprintf("SET memory_limit = '%d KiB'", config.Memory>>10),
		fmt.Sprintf("SET threads = %d", config.Threads),
		"SET temp_directory = " + quote(config.Scratch),
		"SET preserve_insertion_order = false", // it would hold what it reads in memory
		// Statistics lie outside the pages, and so outside their checksums.
		"SET disabled_optimizers = 'statistics_propagation'",
		"SET autoinstall_known_extensions = false",
		"SET autoload_known_extensions = false",
		"SET TimeZone = 'UTC'",
	}
	connector, err := duckdb.NewConnector("", func(execer driver.ExecerContext) error {
		for _, setting := range settings {
			if _, err := execer.ExecContext(ctx, setting, nil); err != nil {
				return fmt.Errorf("%s: %w", setting, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("start DuckDB: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start DuckDB: %w", err), db.Close(), connector.Close())
	}
	return &Folder{connector: connector, db: db}, nil
}

// Close stops DuckDB.
func (f *Folder) Close() error { return errors.Join(f.db.Close(), f.connector.Close()) }

// checkQuery counts the records that cannot be billed, of all shares.
const checkQuery = `
SELECT count(*) FILTER (cpu_ns < 0 OR bytes_in < 0 OR bytes_out < 0),
  count(*) FILTER ("start" < make_timestamptz(%[2]d) OR "start" >= make_timestamptz(%[3]d))
FROM read_parquet(%[1]s, hive_partitioning = false)`

// onceQuery counts each call once. Of copies that differ, the least of each value
// counts: a choice that no order of copies changes.
const onceQuery = `
WITH once AS (
  SELECT call,
    min(tenant) AS tenant, min("function") AS "function", min(outcome) AS outcome,
    min(cpu_ns) AS cpu_ns, min(bytes_in) AS bytes_in, min(bytes_out) AS bytes_out, count(*) AS copies
  FROM read_parquet(%s, hive_partitioning = false)
  WHERE %s
  GROUP BY call
)
SELECT tenant, "function", outcome, count(*), sum(cpu_ns)::BIGINT, sum(bytes_in)::BIGINT, sum(bytes_out)::BIGINT,
  sum(copies - 1)::BIGINT, count(*) FILTER (call < %s OR call >= %s)
FROM once
GROUP BY ALL`

// filesQuery counts the calls of each file where none has a copy, and
// firstFilesQuery those that were first met in it, and of them those whose copies
// differ. The latter takes as long as onceQuery, and is seldom needed.
const (
	filesQuery = `
SELECT file_index, count(*), 0
FROM read_parquet(%s, hive_partitioning = false)
WHERE %s
GROUP BY ALL`
	firstFilesQuery = `
SELECT file, count(*), count(*) FILTER (disputed)
FROM (
  SELECT call, min(file_index) AS file, min(content) <> max(content) AS disputed
  FROM (
    SELECT call, file_index, hash(tenant, "function", outcome, cpu_ns, bytes_in, bytes_out, "start") AS content
    FROM read_parquet(%s, hive_partitioning = false)
    WHERE %s
  )
  GROUP BY call
)
GROUP BY ALL`
)

// Fold folds a share of the files' records.
func (f *Folder) Fold(ctx context.Context, files []string, hour time.Time, share billing.Share) (billing.Folded, error) {
	folded := billing.Folded{Billed: make([]int64, len(files))}
	if len(files) == 0 {
		return folded, nil
	}
	ours := "true"
	if share.Of > 1 {
		ours = fmt.Sprintf("hash(call) %% %d = %d", share.Of, share.Index)
	}
	err := f.check(ctx, files, hour)
	var copies int64
	if err == nil {
		query := fmt.Sprintf(onceQuery, list(files), ours, firstCall(hour), firstCall(hour.Add(time.Hour)))
		err = f.each(ctx, query, func(rows *sql.Rows) error {
			var row billing.Row
			var more, strays int64
			err := rows.Scan(&row.Tenant, &row.Function, &row.Outcome, &row.Calls, &row.CPU, &row.BytesIn, &row.BytesOut, &more, &strays)
			folded.Rows = append(folded.Rows, row)
			copies += more
			folded.Strays += strays
			return err
		})
	}
	if err == nil {
		query := filesQuery
		if copies > 0 {
			query = firstFilesQuery
		}
		err = f.each(ctx, fmt.Sprintf(query, list(files), ours), func(rows *sql.Rows) error {
			var file, calls, disputed int64
			if err := rows.Scan(&file, &calls, &disputed); err != nil {
				return err
			}
			if file < 0 || file >= int64(len(files)) {
				return fmt.Errorf("calls of file %d, of %d", file, len(files))
			}
			folded.Billed[file] = calls
			folded.Disputed += disputed
			return nil
		})
	}
	if err != nil {
		return billing.Folded{}, fmt.Errorf("fold %d files: %w", len(files), blame(err))
	}
	return folded, nil
}

// each visits the rows of a query's answer.
func (f *Folder) each(ctx context.Context, query string, visit func(*sql.Rows) error) (err error) {
	rows, err := f.db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := visit(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (f *Folder) check(ctx context.Context, files []string, hour time.Time) error {
	var negative, elsewhen int64
	query := fmt.Sprintf(checkQuery, list(files), hour.UnixMicro(), hour.Add(time.Hour).UnixMicro())
	if err := f.db.QueryRowContext(ctx, query).Scan(&negative, &elsewhen); err != nil {
		return err
	}
	switch {
	case negative > 0:
		return fmt.Errorf("%w: %d are of less than nothing", billing.ErrRecords, negative)
	case elsewhen > 0:
		return fmt.Errorf("%w: %d do not start in the hour from %v", billing.ErrRecords, elsewhen, hour)
	}
	return nil
}

// around are DuckDB's failures that say nothing about the records.
var around = []duckdb.ErrorType{
	duckdb.ErrorTypeOutOfMemory, duckdb.ErrorTypeIO, duckdb.ErrorTypeInterrupt, duckdb.ErrorTypeFatal, duckdb.ErrorTypeInternal,
	duckdb.ErrorTypeConnection, duckdb.ErrorTypeSettings, duckdb.ErrorTypePermission,
}

// blame marks a failure that the records are to blame for.
func blame(err error) error {
	var failure *duckdb.Error
	if errors.Is(err, billing.ErrRecords) || !errors.As(err, &failure) || slices.Contains(around, failure.Type) {
		return err
	}
	return fmt.Errorf("%w: %w", billing.ErrRecords, err)
}

// sumQuery counts every record, copies too.
const sumQuery = `
SELECT tenant, "function", outcome, count(*), sum(cpu_ns)::BIGINT, sum(bytes_in)::BIGINT, sum(bytes_out)::BIGINT
FROM read_parquet(%s, hive_partitioning = false)
GROUP BY ALL`

// Sum adds up the files' records without looking for copies of a call: an upper
// bound, in a quarter of the time.
func (f *Folder) Sum(ctx context.Context, files []string) (sums []billing.Row, err error) {
	if len(files) == 0 {
		return nil, nil
	}
	err = f.each(ctx, fmt.Sprintf(sumQuery, list(files)), func(rows *sql.Rows) error {
		var row billing.Row
		err := rows.Scan(&row.Tenant, &row.Function, &row.Outcome, &row.Calls, &row.CPU, &row.BytesIn, &row.BytesOut)
		sums = append(sums, row)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sum %d files: %w", len(files), blame(err))
	}
	return sums, nil
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

func list(files []string) string {
	quoted := make([]string, len(files))
	for i, file := range files {
		quoted[i] = quote(file)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote writes a string of SQL.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
