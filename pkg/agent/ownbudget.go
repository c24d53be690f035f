package agent

import "sync/atomic"

// ownBudget is what the agent takes of the budget for the mirrors' own use, not
// for what some source has sent. It is bounded as if it were one source more.
type ownBudget struct {
	*budget
	held atomic.Int64
}

// reserve takes n bytes, or none and reports false.
func (o *ownBudget) reserve(n int) bool {
	held := o.held.Add(int64(n))
	used := o.used.Add(int64(n))
	if free := o.limit - used; free >= 0 && (used <= free || held <= free) {
		return true
	}
	o.release(n)
	return false
}

func (o *ownBudget) release(n int) {
	o.used.Add(int64(-n))
	o.held.Add(int64(-n))
}
