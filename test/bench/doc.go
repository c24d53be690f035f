// Package bench measures what a mirrored request costs, beside what it costs
// a bare client to send the same request, in one run: only the ratio means
// anything on another machine. `make bench` prints the table.
package bench
