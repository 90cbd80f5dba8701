package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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

// Inspect says how many records are in an object of records, or why it cannot be
// trusted: cut short, changed, another kind of file, or of another node or sequence
// than its name says. It reads the footer and every page's header, and compares every page's checksum;
// it does not decode the records.
//
// Checksums cover pages and not what describes them. So whatever decides how a page
// is read has to agree with the rest: the pages lie end to end from the first byte
// to the last, and their values are as many as the footer's rows and the ledger's.
// What is not checked, statistics, may not be used by whoever reads the records.
func Inspect(object []byte, node string, sequence uint64) (rows int64, err error) {
	footer, data, err := readFooter(object)
	if err != nil {
		return 0, err
	}
	if err := checkSchema(footer.Schema); err != nil {
		return 0, err
	}
	if err := checkMetadata(footer, node, sequence); err != nil {
		return 0, err
	}
	position := int64(len(magic))
	for i := range footer.RowGroups {
		group := &footer.RowGroups[i]
		if len(group.Columns) != len(columns) {
			return 0, fmt.Errorf("row group %d has %d columns, want %d", i, len(group.Columns), len(columns))
		}
		for c := range group.Columns {
			chunk := &group.Columns[c].MetaData
			if err := checkChunk(data, position, columns[c], chunk, group.NumRows); err != nil {
				return 0, fmt.Errorf("row group %d, column %s: %w", i, columns[c].name, err)
			}
			position += chunk.TotalCompressedSize
		}
		rows += group.NumRows
	}
	if rows != footer.NumRows {
		return 0, fmt.Errorf("the row groups have %d rows, the footer says %d", rows, footer.NumRows)
	}
	return rows, nil
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

// checkChunk walks a column's pages, which begin at a position.
func checkChunk(data []byte, position int64, c column, chunk *format.ColumnMetaData, rows int64) error {
	switch {
	case chunk.Type != c.kind || len(chunk.PathInSchema) != 1 || chunk.PathInSchema[0] != c.name:
		return fmt.Errorf("its description is that of %v of type %v", chunk.PathInSchema, chunk.Type)
	case chunk.Codec != format.Zstd:
		return fmt.Errorf("compressed with %v, want %v", chunk.Codec, format.Zstd)
	case rows < 0 || chunk.NumValues != rows:
		return fmt.Errorf("%d values in %d rows", chunk.NumValues, rows)
	case chunk.TotalCompressedSize < 0 || chunk.TotalCompressedSize > int64(len(data))-position:
		return fmt.Errorf("%d bytes at %d, beyond the end of the pages at %d", chunk.TotalCompressedSize, position, len(data))
	}
	pages := pageReader{column: c, data: data[position : position+chunk.TotalCompressedSize], firstData: -1}
	for pages.at < len(pages.data) {
		if err := pages.next(); err != nil {
			return fmt.Errorf("the page at %d: %w", position+int64(pages.at), err)
		}
	}
	dictionary := int64(0)
	if pages.dictionary {
		dictionary = position
	}
	switch {
	case pages.values != rows:
		return fmt.Errorf("its pages have %d values, want %d", pages.values, rows)
	case chunk.DictionaryPageOffset != dictionary:
		return fmt.Errorf("its dictionary is said to be at %d, and is at %d", chunk.DictionaryPageOffset, dictionary)
	case pages.firstData >= 0 && chunk.DataPageOffset != position+int64(pages.firstData):
		return fmt.Errorf("its first page is said to be at %d, and is at %d", chunk.DataPageOffset, position+int64(pages.firstData))
	}
	return nil
}

// pageReader goes from page to page of a column.
type pageReader struct {
	column     column
	data       []byte
	at         int
	values     int64
	dictionary bool
	firstData  int // -1 before it is found
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
	if dictionary := encoding == format.RLEDictionary || encoding == format.PlainDictionary; dictionary && !p.dictionary {
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
	case format.RLEDictionary, format.PlainDictionary, format.DeltaBinaryPacked, format.DeltaLengthByteArray, format.DeltaByteArray:
	default:
		return fmt.Errorf("encoded as %v, which the ledger does not write", encoding)
	}
	return nil
}
