package store

import (
	"fmt"
	"slices"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// schema is that of columns, as a footer has it.
func schema() []format.SchemaElement {
	elements := []format.SchemaElement{{Name: "record", NumChildren: thrift.New(int32(len(columns)))}}
	for _, c := range columns {
		element := format.SchemaElement{Name: c.name, Type: thrift.New(c.kind), RepetitionType: thrift.New(format.Required), LogicalType: c.annotation}
		if c.kind == format.FixedLenByteArray {
			element.TypeLength = thrift.New(int32(callLength))
		}
		elements = append(elements, element)
	}
	return elements
}

// column is how a value of a record lies in an object.
type column struct {
	name      string
	kind      format.Type
	logical   []string // what it may be annotated with; "" is nothing
	converted []deprecated.ConvertedType

	annotation format.LogicalType // what Parquet writes
}

const callLength = 16

// width is a value's bytes, or 0 if values differ in length.
func (c column) width() int64 {
	switch c.kind {
	case format.FixedLenByteArray:
		return callLength
	case format.Int64:
		return 8
	default:
		return 0
	}
}

func stringColumn(name string) column {
	return column{
		name: name, kind: format.ByteArray, logical: []string{"STRING"}, converted: []deprecated.ConvertedType{deprecated.UTF8},
		annotation: format.LogicalType{Value: new(format.StringType)},
	}
}

func integerColumn(name string) column {
	return column{name: name, kind: format.Int64, logical: []string{"", "INT(64,true)"}, converted: []deprecated.ConvertedType{deprecated.Int64}}
}

// columns are those of an object of records, in their order. None may be null.
var columns = []column{
	{name: "call", kind: format.FixedLenByteArray, logical: []string{""}},
	stringColumn("tenant"),
	stringColumn("function"),
	stringColumn("outcome"),
	integerColumn("cpu_ns"),
	integerColumn("bytes_in"),
	integerColumn("bytes_out"),
	{
		name: "start", kind: format.Int64, logical: []string{"TIMESTAMP(isAdjustedToUTC=true,unit=MICROS)"},
		converted:  []deprecated.ConvertedType{deprecated.TimestampMicros},
		annotation: format.LogicalType{Value: &format.TimestampType{IsAdjustedToUTC: true, Unit: format.TimeUnit{Value: new(format.MicroSeconds)}}},
	},
	integerColumn("duration_ns"),
}

func checkSchema(schema []format.SchemaElement) error {
	if len(schema) != len(columns)+1 || schema[0].NumChildren.V != int32(len(columns)) {
		return fmt.Errorf("its schema has %d columns, want %d: not an object of the ledger's", len(schema)-1, len(columns))
	}
	for i, c := range columns {
		element := schema[i+1]
		if element.Name != c.name {
			return fmt.Errorf("its column %d is %q, want %q", i, element.Name, c.name)
		}
		kind, hasKind := element.Type.Get()
		length := element.TypeLength.V
		if !hasKind || kind != c.kind || kind == format.FixedLenByteArray && length != callLength {
			return fmt.Errorf("its column %s is of type %v(%d), want %v", c.name, kind, length, c.kind)
		}
		if repetition, said := element.RepetitionType.Get(); !said || repetition != format.Required {
			return fmt.Errorf("its column %s is not required", c.name)
		}
		if logical := element.LogicalType.String(); !slices.Contains(c.logical, logical) {
			return fmt.Errorf("its column %s is annotated %q, want one of %q", c.name, logical, c.logical)
		}
		if converted, said := element.ConvertedType.Get(); said && !slices.Contains(c.converted, converted) {
			return fmt.Errorf("its column %s is annotated %v, want one of %v", c.name, converted, c.converted)
		}
	}
	return nil
}
