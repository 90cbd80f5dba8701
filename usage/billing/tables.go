package billing

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/parquet-go/parquet-go"
)

// encodeTable makes Parquet of rows. The same rows make the same bytes.
func encodeTable[T any](rows []T) ([]byte, error) {
	var table bytes.Buffer
	writer := parquet.NewGenericWriter[T](&table, parquet.Compression(&parquet.Zstd), parquet.CreatedBy("lightcone", "1", "billing"))
	if _, err := writer.Write(rows); err != nil {
		return nil, fmt.Errorf("write Parquet: %w", err)
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("write Parquet: %w", err)
	}
	return table.Bytes(), nil
}

// decodeTable reads what encodeTable made. The caller has checked by a digest that
// it is the same.
func decodeTable[T any](table []byte) ([]T, error) {
	reader := parquet.NewGenericReader[T](bytes.NewReader(table))
	defer func() { _ = reader.Close() }()
	rows := make([]T, reader.NumRows())
	for read := 0; read < len(rows); {
		n, err := reader.Read(rows[read:])
		read += n
		if err != nil && (!errors.Is(err, io.EOF) || read < len(rows)) {
			return nil, fmt.Errorf("read Parquet: %w", err)
		}
	}
	return rows, nil
}

// encodeDocument makes indented JSON, for programs and people.
func encodeDocument(document any) ([]byte, error) {
	text, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	return append(text, '\n'), nil
}

// encodeRows makes CSV (RFC 4180, but lines end as on Unix) of a bill's rows.
func encodeRows(rows []Row) ([]byte, error) {
	return encodeCSV([]string{"tenant", "function", "outcome", "calls", "cpu_ns", "bytes_in", "bytes_out"}, rows, func(r Row) []string {
		return []string{r.Tenant, r.Function, r.Outcome, decimal(r.Calls), decimal(r.CPU), decimal(r.BytesIn), decimal(r.BytesOut)}
	})
}

// encodeCharges makes CSV of charges.
func encodeCharges(charges []Charge) ([]byte, error) {
	head := []string{"tenant", "meter", "prices_from", "unit", "quantity", "free", "amount", "currency"}
	return encodeCSV(head, charges, func(c Charge) []string {
		return []string{c.Tenant, c.Meter, c.PricesFrom, c.Unit, c.Quantity, c.Free, c.Amount, c.Currency}
	})
}

func encodeCSV[T any](head []string, rows []T, cells func(T) []string) ([]byte, error) {
	var table bytes.Buffer
	writer := csv.NewWriter(&table)
	if err := writer.Write(head); err != nil {
		return nil, fmt.Errorf("write CSV: %w", err)
	}
	for _, row := range rows {
		if err := writer.Write(cells(row)); err != nil {
			return nil, fmt.Errorf("write CSV: %w", err)
		}
	}
	writer.Flush()
	return table.Bytes(), writer.Error()
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
