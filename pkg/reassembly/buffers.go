package reassembly

// classes are the capacities of the buffers that hold out-of-order bytes: a
// fragment of a segment, a segment, a capture record, a run of segments.
var classes = [...]int{256, 2 << 10, 16 << 10, 64 << 10}

// fragmentCost is charged for each buffer on top of its capacity, for its
// place in the queue, whose array may be four times as long as it is full.
const fragmentCost = 256

// maxCached bounds the free buffers, in bytes: no budget knows them, and there
// may be many Assemblers.
const maxCached = 1 << 20

// bufferPool hands out buffers of the capacities in classes within a bound on
// the bytes in use. It keeps free ones for reuse, up to an eighth of that or
// maxCached.
type bufferPool struct {
	max     int
	used    int
	peak    int
	cached  int // capacity of free buffers
	free    [len(classes)][][]byte
	reserve func(source uint32, held, n int) bool
	release func(source uint32, n int)
}

// class is the index of the smallest class that holds n bytes, or of the
// largest.
func class(n int) int {
	for i, size := range classes {
		if n <= size {
			return i
		}
	}
	return len(classes) - 1
}

// cost is what a buffer of class c counts in every bound.
func cost(c int) int { return classes[c] + fragmentCost }

// get returns an empty buffer of class c for a flow that holds held bytes, or
// nil if a bound is reached.
func (b *bufferPool) get(c int, source uint32, held int) []byte {
	n := cost(c)
	if b.used+n > b.max || !b.reserve(source, held, n) {
		return nil
	}
	b.used += n
	b.peak = max(b.peak, b.used)
	if last := len(b.free[c]) - 1; last >= 0 {
		p := b.free[c][last]
		b.free[c][last] = nil
		b.free[c] = b.free[c][:last]
		b.cached -= classes[c]
		return p
	}
	return make([]byte, 0, classes[c])
}

// put takes back a buffer of get and returns what it had cost.
func (b *bufferPool) put(p []byte, source uint32) int {
	c := class(cap(p))
	n := cost(c)
	b.used -= n
	b.release(source, n)
	if b.cached+classes[c] <= min(b.max/8, maxCached) {
		b.free[c] = append(b.free[c], p[:0])
		b.cached += classes[c]
	}
	return n
}
