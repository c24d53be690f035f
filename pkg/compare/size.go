package compare

// What the entries of a report take of memory in bytes if all that is in them is
// as long as it may be; measured, and on the high side.
const (
	mirrorCost      = 16 << 10
	routeCost       = 3 << 9
	placeCost       = 9 << 8
	combinationCost = 320
	sampleCost      = 800
)

// Size returns how many bytes of memory the report takes at most as it is: 16
// MiB if all of its tables are full. It may be called concurrently.
func (c *Comparer) Size() int64 { return c.size.Load() }

func (r *Route) size() int64 {
	return int64(routeCost + len(r.Places)*placeCost + len(r.Combinations)*combinationCost + len(r.Requests)*sampleCost)
}

// routesSize looks at each route. The caller holds details.
func (c *Comparer) routesSize() (n int64) {
	for _, r := range c.report.Routes {
		n += r.size()
	}
	return n
}
