// Package torture turns the promises of the program into figures. It sends
// the shipped binary requests that it made itself from a seed, over a network
// that reorders, repeats, contradicts, truncates and loses, and prints what
// became of every single one:
//
//	make torture                                100,000 requests
//	make torture TORTURE_REQUESTS=1000000       more of them
//	make torture TORTURE_SEED=7                 the same ones again, or others
//	go test ./test/torture                      a few thousand
//
// A request must reach the shadow exactly once and byte for byte, or the
// account must say that it was dropped, for the reason that the generator
// knows to be true. The generator knows because it decided which bytes the
// tap gets; oracle_test.go works out what can be known from them, and knows
// nothing of the program but what it documents. What else happens is counted
// as unexplained, which must be 0: a copy that is missing, doubled, corrupt
// or should not exist, and any count of the account that differs.
//
// Most of it is fed as a capture, written on the fly into the program's
// standard input: there the order and the time of every packet are the
// seed's. live_test.go does the same with the kernel's TCP. ailment_test.go has
// the shadow fail in every way it can: then copies may fail, for the reason that
// is true, and nothing else. outage_test.go is about agents that stall, starve,
// die, or replace one another, and about programs of others around theirs.
// Which requests an agent must have seen then is known from the kernel's
// counters, read over and over beside it.
package torture
