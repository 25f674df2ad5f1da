package sqlite

import (
	"errors"
	"slices"
)

// span is a stretch of time that is answered from blocks of one length: those that start in [from, to), and whatever
// shorter ones start there and are not folded yet.
type span struct {
	length, from, to int64
	kept             bool // its sum is added up apart, to be kept
}

// plan says from which tier each stretch of [from, to) is answered. Lengths are a kind's, before says up to where each has
// been dropped, and until returns where the data of the blocks of a length that start at a time ends, 0 when there are
// none. With a step, no blocks are used that do not fit into it, where finer ones are left.
func plan(lengths []int64, before map[int64]int64, from, to, step int64, until func(length, start int64) (int64, error)) ([]span, error) {
	coarsest := 0
	for i, l := range lengths {
		if step == 0 || step%l == 0 {
			coarsest = i
		}
	}
	var out []span
	var cover func(level, finest int, a, b int64) error
	cover = func(level, finest int, a, b int64) error {
		if a >= b {
			return nil
		}
		l := lengths[level]
		if level <= finest {
			out = append(out, span{length: l, from: a, to: b})
			return nil
		}
		first, last := floor(a+l-1, l), floor(b, l)
		if last >= first && last < b && b == to {
			// What begins here has not ended; it may serve all the same, when nothing in it is too late.
			end, err := until(l, last)
			if err != nil {
				return err
			}
			if end > 0 && end <= b {
				last = b
			}
		}
		if first >= last {
			return cover(level-1, finest, a, b)
		}
		out = append(out, span{length: l, from: first, to: last})
		return errors.Join(cover(level-1, finest, a, first), cover(level-1, finest, last, b))
	}
	// From the oldest stretch, of which only the longest blocks are left, to the newest.
	start := from
	for finest := range slices.Backward(lengths) {
		end := to
		if finest > 0 {
			end = min(to, before[lengths[finest-1]])
		}
		if start < end {
			if err := cover(max(coarsest, finest), finest, start, end); err != nil {
				return nil, err
			}
			start = end
		}
	}
	return out, nil
}
