package compare

import "strconv"

// Bounds of a Report. They are part of its Format: tables that were cut at
// different sizes cannot be added up.
const (
	maxMirrors      = 64
	maxRoutes       = 128
	maxCounters     = 64 // of one kind: pairs of status codes, failures
	maxPlaces       = 32 // of a route
	maxCombinations = 48 // of a route
	maxRequests     = 32 // of a route, sampled
	maxEvidence     = 8  // places of a sampled request
	maxValues       = 4  // of production's at one place of a sampled request
	maxExamples     = 2  // of a place
	maxTogether     = 24 // places of one pair
	maxPath         = 200
	maxName         = 200 // names of mirrors and rules, hosts and targets of examples
)

// other is the key under which counters of entries are summed up that found no
// room.
const other = "other"

// keep returns the entry of key. If there is none it is made, and if there are
// then more than limit, the one of highest rank is thrown out and handed to
// evicted, or nil is returned if that is the new one.
//
// What is left is the entries of the lowest ranks among all keys there ever
// were, and each has been there since its key was first seen. So it does not
// matter in which order keys came, nor to which of several tables they came
// before these were merged.
func keep[K comparable, V any](m map[K]*V, key K, limit int, rank func(K) uint64, fresh func() *V, evicted func(*V)) *V {
	if v := m[key]; v != nil {
		return v
	}
	if len(m) >= limit {
		worst, highest := key, rank(key)
		for k := range m {
			if r := rank(k); r > highest {
				worst, highest = k, r
			}
		}
		if worst == key {
			return nil
		}
		evicted(m[worst])
		delete(m, worst)
	}
	v := fresh()
	m[key] = v
	return v
}

// count adds n to the counter of key, or to that of other, as keep does.
func count(m map[string]uint64, key string, n uint64) {
	if _, ok := m[key]; ok || key == other {
		m[key] += n
		return
	}
	m[key] = n
	size := len(m)
	if _, ok := m[other]; ok {
		size--
	}
	if size <= maxCounters {
		return
	}
	worst, highest := "", uint64(0)
	for k := range m {
		if r := rankName(k); k != other && r >= highest {
			worst, highest = k, r
		}
	}
	n = m[worst]
	delete(m, worst)
	m[other] += n
}

// rankName ranks names of which none is better than another.
func rankName(name string) uint64 { return mix(hash(hashSeed, name)) }

// rankID ranks what is a hash already.
func rankID(id uint64) uint64 { return id }

// forget is for entries whose counts are also in a total.
func forget[V any](*V) {}

// clip bounds a name that comes from outside. What is cut off is still told
// apart.
func clip(name string) string {
	if len(name) <= maxName {
		return name
	}
	return name[:maxName-17] + "~" + strconv.FormatUint(mix(hash(hashSeed, name)), 16)
}
