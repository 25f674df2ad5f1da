package ingest

// Jaeger's clients say on a trace's first span alone with which probability they sample, so what that span says holds
// for the trace. rates remembers it for traces whose spans are still coming; the zero value is ready.
type rates struct {
	m     map[rateKey]float64
	queue []rateKey // by arrival
}

type rateKey struct{ hi, lo uint64 }

// maxRates bounds the traces of a shard whose rates are remembered: the oldest are forgotten.
const maxRates = 10_000

func (r *rates) put(h *half, weight float64) {
	k := rateKey{h.traceHi, h.traceLo}
	if r.m == nil {
		r.m = map[rateKey]float64{}
	}
	if _, known := r.m[k]; !known {
		if len(r.queue) >= maxRates {
			delete(r.m, r.queue[0])
			r.queue = append(r.queue[:0], r.queue[1:]...)
		}
		r.queue = append(r.queue, k)
	}
	r.m[k] = weight
}

// inherit gives a half that says nothing of sampling what its trace says, and to what is below it.
func (p *pairer) inherit(s *shard, h *half, b *batch) {
	if w, known := s.rates.m[rateKey{h.traceHi, h.traceLo}]; known {
		p.reweigh(s, h, w, b, 0)
	}
}

func (p *pairer) reweigh(s *shard, h *half, w float64, b *batch, depth int) {
	if depth > 0 && h.weight != 1 {
		return // it and what is below it were told
	}
	if weight := whole(w, h.id); h.weight == 1 && weight != 1 {
		if h.in.source != 0 {
			b.in(h, h.in, -1)
		}
		if h.out.target != 0 {
			b.out(h, h.out, -1)
		}
		h.weight = weight
		if h.in.source != 0 {
			b.in(h, h.in, 1)
		}
		if h.out.target != 0 {
			b.out(h, h.out, 1)
		}
	}
	if depth < maxTreeDepth {
		s.children(h, h.id, func(c *half) bool {
			p.reweigh(s, c, w, b, depth+1)
			return true
		})
	}
}
