package compare

// The hash must be the same in every agent and every version, since ranks are
// made of it. So it is none of hash/maphash: FNV-1a, with the finalizer of
// SplitMix64 where the bits must be spread.
const (
	hashSeed  uint64 = 14695981039346656037
	hashPrime uint64 = 1099511628211
)

func hash[T ~string | ~[]byte](h uint64, s T) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * hashPrime
	}
	// Ends the value, so that "ab" + "c" is not "a" + "bc".
	return (h ^ 0xff) * hashPrime
}

// hashFold hashes without regard to the case of ASCII letters.
func hashFold[T ~string | ~[]byte](h uint64, s T) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(lower(s[i]))) * hashPrime
	}
	return (h ^ 0xff) * hashPrime
}

func hashInt(h, v uint64) uint64 { return mix(h ^ v*hashPrime) }

func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
