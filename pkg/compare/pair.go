package compare

import "time"

// Field is a header or trailer field line (RFC 9110 section 5).
type Field struct{ Name, Value string }

// Answer is one final response (RFC 9110 section 15), as far as it was kept.
type Answer struct {
	// Status is the status code.
	Status int
	// Header are the field lines in order, names in their case, values without
	// the whitespace around them.
	Header []Field
	// Body is the content without the transfer coding, at most as much as was
	// kept.
	Body []byte
	// Length is that of the whole content in bytes. If it is more than
	// len(Body), not all was kept.
	Length int64
	// Digest is of the whole content, computed alike and with the same seed on
	// both sides. It is looked at only where not all was kept.
	Digest uint64
	// Trailers are the trailer field lines, as in Header.
	Trailers []Field
	// Latency is the time from the first byte of the request to the last of
	// the answer; 0 if it is not known.
	Latency time.Duration
}

// complete reports whether all of the content was kept.
func (a *Answer) complete() bool { return a.Length <= int64(len(a.Body)) }

// Pair is one mirrored request with what became of it on both sides. What it
// refers to is only read during Add, and not kept.
type Pair struct {
	// Time is when the request was seen.
	Time time.Time
	// Method, Target and Host are as production got them.
	Method, Target, Host string
	// Request is the Identity of the request, 0 if it is not known: then
	// nothing is learnt from the pair about what is noise.
	Request uint64
	// Rule and Mirror are names of objects, of which there are few.
	Rule, Mirror string
	// Production is nil if it is not known; Missed should say why.
	Production *Answer
	// Shadow is nil if there was no answer; Failure should say why.
	Shadow *Answer
	// Failure is what became of the copy instead of an answer: the name of an
	// outcome or refusal of pkg/replay, such as "timeout" or "circuit_open".
	Failure string
	// Missed says why the two cannot be compared, Compared if they can.
	Missed Reason
}

// Reason says why a pair cannot be compared. Its strings are a fixed set of
// labels.
type Reason uint8

// The reasons, in the order of their labels.
const (
	// Compared is no reason: the pair can be compared.
	Compared Reason = iota
	// NoProductionAnswer: production's answer was not seen.
	NoProductionAnswer
	// Gap: bytes of production's answer were lost on their way to the agent.
	Gap
	// Incomplete: production's connection ended inside its answer.
	Incomplete
	// TooLarge: an answer is larger than what may be looked at.
	TooLarge
	// Memory: the budget refused the memory to keep an answer.
	Memory
	// NotTried: the shadow never got the request, so it cannot be blamed.
	NotTried
	// Busy: too many pairs were waiting to be compared.
	Busy
	// HandedOver: another agent took over while the pair was incomplete.
	HandedOver
	// Shutdown: the agent stopped while the pair was incomplete.
	Shutdown
	// Panic: comparing it met with a defect of the agent.
	Panic
	// NumReasons is the number of reasons.
	NumReasons
)

var reasonNames = [NumReasons]string{
	"compared", "no_production_answer", "gap", "incomplete", "too_large",
	"memory", "not_tried", "busy", "handed_over", "shutdown", "panic",
}

// String is the reason as it is written in the report.
func (r Reason) String() string {
	if r >= NumReasons {
		return "unknown"
	}
	return reasonNames[r]
}

// missed returns why the pair cannot be compared. Where the copy was not sent
// the shadow did not fail; the names are those of pkg/replay.
func (p *Pair) missed() Reason {
	switch {
	case p.Missed != Compared:
		return p.Missed
	case p.Production == nil:
		return NoProductionAnswer
	case p.Shadow != nil:
		return Compared
	}
	switch p.Failure {
	case "circuit_open", "no_endpoints", "queue_full":
		return NotTried
	case "memory":
		return Memory
	case "shutdown":
		return Shutdown
	case "panic":
		return Panic
	}
	return Compared
}
