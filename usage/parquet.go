package usage

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"lightcone"
	"lightcone/usage/store"
)

// Row is a record as Parquet has it: the columns of an object.
type Row struct {
	Call     [16]byte `parquet:"call"`
	Tenant   string   `parquet:"tenant,dict"`
	Function string   `parquet:"function,dict"`
	Outcome  string   `parquet:"outcome,dict"`
	CPU      int64    `parquet:"cpu_ns"`
	BytesIn  int64    `parquet:"bytes_in"`
	BytesOut int64    `parquet:"bytes_out"`
	Start    int64    `parquet:"start,timestamp(microsecond)"` // Unix microseconds
	Duration int64    `parquet:"duration_ns"`
}

// RowOf is a record's row.
func RowOf(r lightcone.UsageRecord) Row {
	return Row{
		Call: r.Call, Tenant: string(r.Tenant), Function: string(r.Function), Outcome: string(r.Outcome), CPU: int64(r.Used.CPU),
		BytesIn: r.Used.BytesIn, BytesOut: r.Used.BytesOut, Start: r.Start.UnixMicro(), Duration: int64(r.Duration),
	}
}

// Record is the record that the row was made of, its Start in UTC.
func (r Row) Record() lightcone.UsageRecord {
	return lightcone.UsageRecord{
		Call: r.Call, Tenant: lightcone.TenantID(r.Tenant), Function: lightcone.FunctionName(r.Function), Outcome: lightcone.Outcome(r.Outcome),
		Used:  lightcone.Usage{CPU: time.Duration(r.CPU), BytesIn: r.BytesIn, BytesOut: r.BytesOut},
		Start: time.UnixMicro(r.Start).UTC(), Duration: time.Duration(r.Duration),
	}
}

// Encoder makes Parquet of rows, and keeps its compressor and its rows from one
// object to the next. Make it with NewEncoder; it is for one goroutine.
type Encoder struct {
	options []parquet.WriterOption
	batch   [batchRows]Row
}

// Rows go in and out of Parquet so many at a time.
const batchRows = 512

// NewEncoder is an Encoder of zstd-compressed Parquet.
func NewEncoder() *Encoder {
	return &Encoder{options: []parquet.WriterOption{
		parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}), parquet.CreatedBy("lightcone", "1", "usage"),
	}}
}

// Encode appends an object with these rows, and returns how many there were. The
// same rows make the same bytes.
func (e *Encoder) Encode(into *bytes.Buffer, o Object, rows iter.Seq[Row]) (int, error) {
	// One writer an object: Reset wipes the columns' names, which all writers of one
	// type share (parquet-go v0.32.0, format.ColumnMetaData.Reset).
	writer := parquet.NewGenericWriter[Row](into, e.options...)
	count, held := 0, 0
	for row := range rows {
		e.batch[held] = row
		if held++; held == batchRows {
			if _, err := writer.Write(e.batch[:]); err != nil {
				return 0, fmt.Errorf("write %s as Parquet: %w", o.Key(), err)
			}
			count, held = count+held, 0
		}
	}
	if _, err := writer.Write(e.batch[:held]); err != nil {
		return 0, fmt.Errorf("write %s as Parquet: %w", o.Key(), err)
	}
	count += held
	writer.SetKeyValueMetadata("lightcone.node", o.Node)
	writer.SetKeyValueMetadata("lightcone.seq", strconv.FormatUint(o.Sequence, 10))
	writer.SetKeyValueMetadata("lightcone.rows", strconv.Itoa(count))
	writer.SetKeyValueMetadata("lightcone.version", "1")
	if err := writer.Close(); err != nil {
		return 0, fmt.Errorf("write %s as Parquet: %w", o.Key(), err)
	}
	return count, nil
}

// Decode visits an object's rows, and checks that it is the object that its key
// says, whole: every page's checksum, its metadata, its number of rows, and that each
// started in its hour. The object may come from anywhere. The Parquet library is given
// it only with a footer made of what was checked: one that is damaged can make it
// write where it must not.
func Decode(content []byte, o Object, visit func(*Row) error) (err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("read %s as Parquet: it is damaged: %v", o.Key(), broken)
		} else if err != nil {
			err = fmt.Errorf("read %s as Parquet: %w", o.Key(), err)
		}
	}()
	checked, err := store.Inspect(content, o.Node, o.Sequence)
	if err != nil {
		return err
	}
	if content, err = checked.Parquet(); err != nil {
		return err
	}
	file, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	reader := parquet.NewGenericReader[Row](file)
	defer func() { _ = reader.Close() }()
	rows, count := make([]Row, batchRows), int64(0)
	for {
		n, err := reader.Read(rows)
		for i := range rows[:n] {
			if !HourOf(time.UnixMicro(rows[i].Start)).Equal(o.Hour) {
				return fmt.Errorf("call %s started at %s, in another hour", lightcone.CallID(rows[i].Call), time.UnixMicro(rows[i].Start).UTC())
			}
			if err := visit(&rows[i]); err != nil {
				return err
			}
		}
		count += int64(n)
		if err == io.EOF && count == file.NumRows() {
			return nil
		}
		if err == nil && n == 0 {
			err = io.ErrNoProgress
		}
		if err != nil {
			return fmt.Errorf("after %d of %d rows: %w", count, file.NumRows(), err)
		}
	}
}
