// Package replay sends copies of requests to shadow destinations without ever
// being able to hurt whoever captured them.
//
// A [Mirror] is one destination. Submit never waits: a copy is queued or
// refused, within bounds in number and bytes. Behind the queue a bounded set
// of workers does one exchange at a time each, over persistent connections,
// and throws the answers away. Nothing is retried: a copy reaches the shadow
// at most once, as Envoy's do, and whatever happens to it is counted exactly
// once.
//
// One mutex guards all of a mirror's state, and a copy takes it twice: once to
// be queued, once to be settled, which is also when its worker fetches the
// next one. Nothing under it waits or allocates per copy; the most it does is
// wake one worker. That is cheaper than channels and counters of their own,
// and it makes the counts add up at every instant they are read.
package replay
