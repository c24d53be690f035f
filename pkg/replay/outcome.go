package replay

import (
	"time"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// Outcome says how a copy ended. Its strings are a bounded set of labels.
type Outcome uint8

// The outcomes. Those up to Answered5xx say that a final response arrived.
const (
	Answered1xx Outcome = iota // 101, the one final status of its class
	Answered2xx
	Answered3xx
	Answered4xx
	Answered5xx // and anything above: RFC 9110 section 15
	// Connect: no connection could be made.
	Connect
	// Resolve: the name of the endpoint could not be resolved.
	Resolve
	// Timeout: the exchange exceeded Config.Timeout.
	Timeout
	// Reset: the connection ended before the response was complete.
	Reset
	// Protocol: what came back is no HTTP/1 response, or its head exceeds
	// the bound; or the copy's head contradicts its body.
	Protocol
	// TLSFailed: the handshake failed, verification included.
	TLSFailed
	// NoEndpoint: the endpoints went away after the copy was queued.
	NoEndpoint
	// CircuitOpen: it was not tried, because no endpoint had answered lately,
	// or all were left out for their answers.
	CircuitOpen
	// Memory: there was none for its connection or its answer.
	Memory
	// Panic: a defect of ours, met with this copy.
	Panic
	// Shutdown: Drain gave up waiting.
	Shutdown
	// NumOutcomes is the number of outcomes.
	NumOutcomes
)

var outcomeNames = [NumOutcomes]string{
	"1xx", "2xx", "3xx", "4xx", "5xx",
	"connect", "dns", "timeout", "reset", "protocol", "tls", "no_endpoints",
	"circuit_open", "memory", "panic", "shutdown",
}

// String is the outcome as it is written in the account.
func (o Outcome) String() string { return outcomeNames[o] }

// Answered reports whether a final response arrived.
func (o Outcome) Answered() bool { return o <= Answered5xx }

// classOf is the outcome of a response with the given status.
func classOf(status int) Outcome {
	return Outcome(min(status/100, 5) - 1)
}

// Refusal says why a copy was not queued.
type Refusal uint8

// What Submit answers.
const (
	// Accepted: the copy is queued; exactly one outcome follows.
	Accepted Refusal = iota
	// QueueFull: a bound in number or bytes is reached.
	QueueFull
	// NoEndpoints: the mirror has none.
	NoEndpoints
	// Closed: Drain was called.
	Closed
	numRefusals
)

var refusalNames = [numRefusals]string{"accepted", "queue_full", "no_endpoints", "shutdown"}

// String is the refusal as it is written in the account.
func (r Refusal) String() string { return refusalNames[r] }

// Result is what became of one copy.
type Result struct {
	// Request is the original, valid only during the call.
	Request *httpstream.Request
	// Shaper is what Submit was given with it.
	Shaper Shaper
	// Endpoint is where the copy went; zero if it came to no endpoint.
	Endpoint Endpoint
	Outcome  Outcome
	// Status is the final status code, 0 if there is none.
	Status int
	// Latency is the time from the first byte of the copy to the last byte
	// of the response; 0 unless answered.
	Latency time.Duration
	// Sent and Received are the bytes written and read, without TLS.
	Sent, Received int64
	// Unsent says that the answer came before all of the copy was sent. It is an
	// answer like any other: a 413, say.
	Unsent bool
	// Partial says that the answer is longer than Config.MaxResponse.
	Partial bool
	// Response is what was kept of the answer: nil unless Config.Keep is set,
	// if there was none, or for want of memory. It is the receiver's to
	// Release. It is the whole answer only if the copy was Answered and not
	// Partial.
	Response *httpstream.Response
	// Err says more about an outcome that is no answer.
	Err error
}
