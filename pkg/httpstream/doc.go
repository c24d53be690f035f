// Package httpstream frames HTTP/1.0 and HTTP/1.1 requests (RFC 9112) out of
// reassembled byte streams.
//
// It is incremental, strict and passive. Incremental: a RequestParser is fed
// whatever bytes have arrived and keeps its place, with no goroutine per
// connection. Strict: a message that two implementations could frame
// differently is reported as invalid and never becomes a Request, because a
// copy of it would be a guess. Passive: nothing can be asked of the client
// again, so after a loss the parser follows the framing it still knows or
// waits for evidence of the next message's start.
//
// A Request keeps the bytes it was sent with; nothing is normalised.
package httpstream
