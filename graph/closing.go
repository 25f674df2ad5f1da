package graph

import (
	"slices"
	"unsafe"
)

// Closed parts that the store does not take wait in memory: so many at most, which is about two hours of windows and
// minutes, and no more than fit into so many bytes, which is less than that where there are many edges.
const (
	maxClosing      = 900
	maxClosingBytes = 128 << 20
)

// closing are parts that are closed and not yet kept, the longest closed first. Their content does not change any more.
type closing struct {
	parts []Part
	sizes []int // of parts, in bytes
	bytes int
}

// add adds a part.
func (c *closing) add(p *Part) {
	size := p.memory()
	c.parts, c.sizes, c.bytes = append(c.parts, *p), append(c.sizes, size), c.bytes+size
}

// forget leaves out the parts that are kept.
func (c *closing) forget(kept map[PartKey]bool) {
	n := 0
	for i := range c.parts {
		if kept[c.parts[i].Key()] {
			c.bytes -= c.sizes[i]
			continue
		}
		c.parts[n], c.sizes[n] = c.parts[i], c.sizes[i]
		n++
	}
	clear(c.parts[n:])
	c.parts, c.sizes = c.parts[:n], c.sizes[:n]
}

// bound gives up those that have waited longest, until the others are few and small enough, and returns how many.
func (c *closing) bound(parts, bytes int) (dropped int) {
	for dropped < len(c.parts) && (len(c.parts)-dropped > parts || c.bytes > bytes) {
		c.bytes -= c.sizes[dropped]
		dropped++
	}
	c.parts, c.sizes = slices.Delete(c.parts, 0, dropped), slices.Delete(c.sizes, 0, dropped)
	return dropped
}

// memory returns about how many bytes a part takes, without the names, which others have too.
func (p *Part) memory() int {
	n := int(unsafe.Sizeof(*p)) + len(p.Edges)*int(unsafe.Sizeof(EdgeRow{})) +
		len(p.Details)*int(unsafe.Sizeof(DetailRow{})) + len(p.Nodes)*int(unsafe.Sizeof(NodeRow{}))
	for i := range p.Edges {
		n += p.Edges[i].Stats.Client.Memory() + p.Edges[i].Stats.Server.Memory()
	}
	for i := range p.Details {
		n += p.Details[i].Detail.Latency.Memory()
	}
	return n
}
