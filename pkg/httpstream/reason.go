package httpstream

// Reason says why a request that was seen did not become a Request.
type Reason uint8

// The reasons, in the order of their labels.
const (
	// Invalid: malformed or ambiguous; never replayed because two servers
	// might frame it differently (RFC 9112 sections 6.3 and 11.2).
	Invalid Reason = iota
	// HeadTooLarge: the head exceeds Config.MaxHead.
	HeadTooLarge
	// BodyTooLarge: the content exceeds Config.MaxBody.
	BodyTooLarge
	// Gap: bytes of the message were lost before they reached the parser.
	Gap
	// Incomplete: the connection ended in the middle of the message.
	Incomplete
	// Expired: the connection was given up in the middle of the message.
	Expired
	// NoMemory: the budget refused to hold the message.
	NoMemory
	// Connect: a CONNECT request, the start of a tunnel.
	Connect
	// Upgraded: a request to change the protocol of the connection.
	Upgraded
	// Interrupted: the parser was stopped in the middle of the message.
	Interrupted
	// NumReasons is the number of reasons.
	NumReasons
)

var reasonNames = [NumReasons]string{
	"invalid", "header_too_large", "body_too_large", "gap", "incomplete",
	"expired", "memory", "connect", "upgrade", "shutdown",
}

// String is the reason as it is written in the account.
func (r Reason) String() string { return reasonNames[r] }

// Protocol is what a connection turned out to carry instead of HTTP/1.
type Protocol uint8

// What makes a connection be ignored.
const (
	// TLS: the first bytes are a TLS record (RFC 8446 section 5.1).
	TLS Protocol = iota
	// HTTP2: the connection preface of RFC 9113 section 3.4.
	HTTP2
	// Upgrade: switched to another protocol, or made a tunnel.
	Upgrade
	// NotHTTP: the first bytes are nothing known.
	NotHTTP
	// Broken: an invalid message, behind which no boundary can be trusted.
	Broken
	// Subflow: one of several connections that carry one stream (Multipath TCP,
	// RFC 8684). The parser cannot see it, and is told by Ignore.
	Subflow
	// NumProtocols is the number of protocols.
	NumProtocols
)

var protocolNames = [NumProtocols]string{"tls", "http2", "upgrade", "not_http", "invalid", "mptcp"}

// String is the protocol as it is written in the account.
func (p Protocol) String() string { return protocolNames[p] }
