package sqlite

import (
	"encoding/binary"
	"fmt"
)

// A pack is the minutes of ten in one block, one after the other: an edge's day at a minute's step is then read from 144
// blocks instead of 1,440, whose cost does not depend on their size. Minutes are packed when they are folded into their
// ten. What comes later for one of them makes a block of its own, beside the pack.

const (
	packVersion = 2
	// packPart is the part of a pack; minutes of edges are part 0.
	packPart = 1
	perPack  = int(tenMin / minute)
)

// pack is what a pack is made from: up to perPack compressed blocks of edges, by the minute within the ten.
type pack [perPack][]byte

// encode appends the pack, compressed.
func (p *pack) encode(dst []byte) ([]byte, error) {
	raw := []byte{packVersion}
	var b []byte
	for _, data := range p {
		b = b[:0]
		if data != nil {
			var err error
			if b, err = decompress(b, data); err != nil {
				return nil, err
			}
		}
		raw = append(binary.AppendUvarint(raw, uint64(len(b))), b...)
	}
	return compress(dst, raw), nil
}

// unpack returns the blocks of a pack, not compressed, nil where there is none. They share r's memory.
func (r *blockReader) unpack(data []byte) (blocks [perPack][]byte, err error) {
	if r.packed, err = decompress(r.packed, data); err != nil {
		return blocks, err
	}
	b := r.packed
	if len(b) == 0 || b[0] != packVersion {
		return blocks, errBlock
	}
	b = b[1:]
	for i := range blocks {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return blocks, errBlock
		}
		if n > 0 {
			blocks[i] = b[w:][:n]
		}
		b = b[w+int(n):]
	}
	if len(b) > 0 {
		return blocks, fmt.Errorf("%w: %d bytes behind a pack", errBlock, len(b))
	}
	return blocks, nil
}
