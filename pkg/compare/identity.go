package compare

// Identity digests what identifies a request beside its method, target and
// host: its content, and the header fields that may decide the answer. Two
// requests of the same identity are the same question, so where production
// answers them differently, its answers vary by themselves. The zero value is
// ready for one request.
type Identity struct{ header, content uint64 }

// Field takes a header field of the request. Fields that differ from request to
// request and decide nothing, such as those of tracing, are left out; a field
// that is not known counts, since an answer that depends on it is no noise.
func (d *Identity) Field(name, value []byte) {
	if identityIgnores.hasFold(name) {
		return
	}
	// A sum does not depend on the order of fields.
	d.header += mix(hash(hashFold(hashSeed, name), value))
}

// Content takes the content of the request, all of it or the next part.
func (d *Identity) Content(b []byte) {
	for _, c := range b {
		d.content = (d.content ^ uint64(c) + 1) * hashPrime
	}
}

// Sum returns the identity for Pair.Request. It is not 0.
func (d *Identity) Sum() uint64 { return max(hashInt(d.header, d.content), 1) }
