package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// Keys of an object's metadata: who wrote it, and how many records are in it.
const (
	keyNode     = "lightcone.node"
	keySequence = "lightcone.seq"
	keyRows     = "lightcone.rows"
	keyVersion  = "lightcone.version"
)

const layoutVersion = "1" // of the records, as this package reads them

// LongestObject is what an object of records may have in bytes: twice what the
// longest segment makes.
const LongestObject = 256 << 20

const magic = "PAR1"

// Records are an object of records that has been inspected.
type Records struct {
	Rows int64

	pages  []byte // with the magic before them
	groups []format.RowGroup
}

// Inspect says what is in an object of records, or why it cannot be trusted: cut short, changed, another kind of file, or of another node or sequence
// than its name says. It reads the footer and every page's header, and compares every page's checksum;
// it does not decode the records.
//
// Checksums cover pages and not what describes them. So whatever decides how a page
// is read has to agree with the rest: the pages lie end to end from the first byte
// to the last, and their values are as many as the footer's rows and the ledger's.
// What cannot be checked, such as statistics, is not in what Parquet makes.
func Inspect(object []byte, node string, sequence uint64) (*Records, error) {
	footer, data, err := readFooter(object)
	if err != nil {
		return nil, err
	}
	if err := checkSchema(footer.Schema); err != nil {
		return nil, err
	}
	if err := checkMetadata(footer, node, sequence); err != nil {
		return nil, err
	}
	records := &Records{pages: data}
	position := int64(len(magic))
	for i := range footer.RowGroups {
		group := &footer.RowGroups[i]
		if len(group.Columns) != len(columns) {
			return nil, fmt.Errorf("row group %d has %d columns, want %d", i, len(group.Columns), len(columns))
		}
		checked := format.RowGroup{NumRows: group.NumRows}
		for c := range group.Columns {
			said := &group.Columns[c].MetaData
			chunk, err := checkChunk(data, position, columns[c], said, group.NumRows)
			if err != nil {
				return nil, fmt.Errorf("row group %d, column %s: %w", i, columns[c].name, err)
			}
			checked.Columns = append(checked.Columns, format.ColumnChunk{MetaData: chunk})
			checked.TotalByteSize += chunk.TotalUncompressedSize
			position += chunk.TotalCompressedSize
		}
		records.groups = append(records.groups, checked)
		records.Rows += group.NumRows
	}
	if records.Rows != footer.NumRows {
		return nil, fmt.Errorf("the row groups have %d rows, the footer says %d", records.Rows, footer.NumRows)
	}
	return records, nil
}

// Parquet is the object with a footer made anew, of nothing but what has been
// checked: for a reader to whom a changed footer could do harm.
func (r *Records) Parquet() ([]byte, error) {
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), &format.FileMetaData{Version: 1, Schema: schema(), NumRows: r.Rows, RowGroups: r.groups})
	if err != nil {
		return nil, fmt.Errorf("write a Parquet footer: %w", err)
	}
	file := make([]byte, 0, len(r.pages)+len(footer)+8)
	file = append(append(file, r.pages...), footer...)
	file = binary.LittleEndian.AppendUint32(file, uint32(len(footer)))
	return append(file, magic...), nil
}

// readFooter is the file's metadata, and its bytes before them.
func readFooter(object []byte) (*format.FileMetaData, []byte, error) {
	const tail = 4 + len(magic)
	if len(object) < len(magic)+tail || string(object[:len(magic)]) != magic {
		return nil, nil, errors.New("not a Parquet file")
	}
	if string(object[len(object)-len(magic):]) != magic {
		return nil, nil, errors.New("cut short: a Parquet file's end is missing")
	}
	length := int64(binary.LittleEndian.Uint32(object[len(object)-tail:]))
	start := int64(len(object)-tail) - length
	if start < int64(len(magic)) {
		return nil, nil, fmt.Errorf("the footer says that it has %d bytes, the file has %d", length, len(object))
	}
	var decoder format.FooterDecoder
	footer, read, err := decoder.Decode(object[start : start+length])
	if err != nil {
		return nil, nil, err
	}
	if int64(read) != length {
		return nil, nil, fmt.Errorf("the footer has %d bytes, %d could be read", length, read)
	}
	return footer, object[:start], nil
}

func checkMetadata(footer *format.FileMetaData, node string, sequence uint64) error {
	want := map[string]string{
		keyNode:     node,
		keySequence: strconv.FormatUint(sequence, 10),
		keyRows:     strconv.FormatInt(footer.NumRows, 10),
		keyVersion:  layoutVersion,
	}
	for _, pair := range footer.KeyValueMetadata {
		if expected, ours := want[pair.Key]; ours {
			if pair.Value != expected {
				return fmt.Errorf("its %s is %q, want %q", pair.Key, pair.Value, expected)
			}
			delete(want, pair.Key)
		}
	}
	for _, key := range []string{keyVersion, keyNode, keySequence, keyRows} {
		if _, missing := want[key]; missing {
			return fmt.Errorf("its %s is missing: not an object of the ledger's", key)
		}
	}
	return nil
}

// checkChunk walks a column's pages, which begin at a position, and describes them
// by what it has found.
func checkChunk(data []byte, position int64, c column, chunk *format.ColumnMetaData, rows int64) (format.ColumnMetaData, error) {
	none := format.ColumnMetaData{}
	switch {
	case chunk.Type != c.kind || len(chunk.PathInSchema) != 1 || chunk.PathInSchema[0] != c.name:
		return none, fmt.Errorf("its description is that of %v of type %v", chunk.PathInSchema, chunk.Type)
	case chunk.Codec != format.Zstd:
		return none, fmt.Errorf("compressed with %v, want %v", chunk.Codec, format.Zstd)
	case rows < 0 || chunk.NumValues != rows:
		return none, fmt.Errorf("%d values in %d rows", chunk.NumValues, rows)
	case chunk.TotalCompressedSize < 0 || chunk.TotalCompressedSize > int64(len(data))-position:
		return none, fmt.Errorf("%d bytes at %d, beyond the end of the pages at %d", chunk.TotalCompressedSize, position, len(data))
	}
	pages := pageReader{column: c, data: data[position : position+chunk.TotalCompressedSize], firstData: -1}
	for pages.at < len(pages.data) {
		if err := pages.next(); err != nil {
			return none, fmt.Errorf("the page at %d: %w", position+int64(pages.at), err)
		}
	}
	dictionary := int64(0)
	if pages.dictionary {
		dictionary = position
	}
	switch {
	case pages.values != rows:
		return none, fmt.Errorf("its pages have %d values, want %d", pages.values, rows)
	case chunk.DictionaryPageOffset != dictionary:
		return none, fmt.Errorf("its dictionary is said to be at %d, and is at %d", chunk.DictionaryPageOffset, dictionary)
	case pages.firstData >= 0 && chunk.DataPageOffset != position+int64(pages.firstData):
		return none, fmt.Errorf("its first page is said to be at %d, and is at %d", chunk.DataPageOffset, position+int64(pages.firstData))
	}
	found := format.ColumnMetaData{
		Type: c.kind, PathInSchema: []string{c.name}, Codec: format.Zstd, NumValues: rows, Encoding: pages.encodings,
		TotalUncompressedSize: pages.uncompressed, TotalCompressedSize: chunk.TotalCompressedSize,
		DataPageOffset: position + int64(max(0, pages.firstData)), DictionaryPageOffset: dictionary,
	}
	return found, nil
}

// pageReader goes from page to page of a column.
type pageReader struct {
	column     column
	data       []byte
	at         int
	values     int64
	dictionary bool
	firstData  int // -1 before it is found

	uncompressed int64
	encodings    []format.Encoding
}

func (p *pageReader) next() error {
	reader := new(thrift.CompactProtocol).NewReaderFromBytes(p.data[p.at:])
	var header format.PageHeader
	if err := thrift.NewDecoder(reader).Decode(&header); err != nil {
		return err
	}
	start := p.at + reader.BytesRead()
	size := int(header.CompressedPageSize)
	if size < 0 || size > len(p.data)-start {
		return fmt.Errorf("it is said to have %d bytes, of %d", size, len(p.data)-start)
	}
	if sum := crc32.ChecksumIEEE(p.data[start : start+size]); sum != uint32(header.CRC) {
		return fmt.Errorf("its checksum is %08x, want %08x: it was changed", sum, uint32(header.CRC))
	}
	if err := p.check(&header); err != nil {
		return err
	}
	p.uncompressed += int64(start-p.at) + int64(header.UncompressedPageSize)
	p.at = start + size
	return nil
}

// check compares what a page's header says with what the column allows.
func (p *pageReader) check(header *format.PageHeader) error {
	if header.Type == format.DictionaryPage {
		if p.dictionary || p.at != 0 || !header.DictionaryPageHeader.Valid {
			return errors.New("a dictionary that is not the column's first page")
		}
		p.dictionary = true
		return p.checkValues(header.DictionaryPageHeader.V.NumValues, format.Plain, header.UncompressedPageSize)
	}
	var values int32
	var encoding format.Encoding
	switch {
	case header.Type == format.DataPage && header.DataPageHeader.Valid:
		values, encoding = header.DataPageHeader.V.NumValues, header.DataPageHeader.V.Encoding
	case header.Type == format.DataPageV2 && header.DataPageHeaderV2.Valid:
		v2 := header.DataPageHeaderV2.V
		values, encoding = v2.NumValues, v2.Encoding
		compressed, said := v2.IsCompressed.Get()
		if v2.NumNulls != 0 || v2.NumRows != v2.NumValues || v2.DefinitionLevelsByteLength != 0 || v2.RepetitionLevelsByteLength != 0 || said && !compressed {
			return errors.New("it has levels, nulls or no compression, in a column of required values")
		}
	default:
		return fmt.Errorf("of type %v, without the header of one", header.Type)
	}
	if p.firstData < 0 {
		p.firstData = p.at
	}
	if dictionary := encoding == format.RLEDictionary; dictionary && !p.dictionary {
		return errors.New("it refers to a dictionary that is not there")
	}
	p.values += int64(values)
	return p.checkValues(values, encoding, header.UncompressedPageSize)
}

// checkValues refuses a count of values that cannot be in a page of that size.
func (p *pageReader) checkValues(values int32, encoding format.Encoding, size int32) error {
	if values < 0 || size < 0 {
		return fmt.Errorf("%d values in %d bytes", values, size)
	}
	switch encoding {
	case format.Plain:
		if width := p.column.width(); width > 0 && int64(values)*width != int64(size) {
			return fmt.Errorf("%d values of %d bytes in %d bytes", values, width, size)
		}
	case format.RLEDictionary, format.DeltaBinaryPacked, format.DeltaLengthByteArray, format.DeltaByteArray:
	default:
		return fmt.Errorf("encoded as %v, which the ledger does not write", encoding)
	}
	if !slices.Contains(p.encodings, encoding) {
		p.encodings = append(p.encodings, encoding)
	}
	return nil
}
